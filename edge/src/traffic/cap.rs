//! How much may go out in a day and in a month: what has been used up, and until when.
//!
//! Pure: amounts and the time come as arguments. A day and a month are the calendar's, in the machine's
//! time zone; what counts is what visitors were sent, since that is what home lines and cheap servers
//! are throttled or billed for.

use std::time::Duration;

use jiff::{ToSpan as _, Zoned};
use serde::Serialize;

/// The most that may go out; `None` for as much as anybody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// In a day.
    pub per_day: Option<u64>,
    /// In a month.
    pub per_month: Option<u64>,
}

/// A span of the calendar that has its amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// Today.
    Day,
    /// This month.
    Month,
}

/// What went out so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Today.
    pub day: u64,
    /// This month, today included.
    pub month: u64,
}

impl Caps {
    /// Whether there is any.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// What is used up; of both the month, which lasts longer.
    #[must_use]
    pub fn used_up(self, sent: Sent) -> Option<Span> {
        let over = |cap: Option<u64>, sent: u64| cap.is_some_and(|cap| sent >= cap);
        if over(self.per_month, sent.month) {
            return Some(Span::Month);
        }
        over(self.per_day, sent.day).then_some(Span::Day)
    }
}

impl Span {
    /// How long it still lasts; nothing where the calendar ends.
    #[must_use]
    pub fn left(self, now: &Zoned) -> Duration {
        let next = match self {
            Self::Day => now.date().tomorrow(),
            Self::Month => now.date().first_of_month().checked_add(1.month()),
        };
        let end = next.and_then(|date| date.to_zoned(now.time_zone().clone()));
        end.map_or(Duration::ZERO, |end| {
            Duration::try_from(now.duration_until(&end)).unwrap_or_default()
        })
    }

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().expect("a time")
    }

    #[test]
    fn what_reaches_its_cap_is_used_up_and_the_month_comes_first() {
        let caps = Caps {
            per_day: Some(100),
            per_month: Some(1000),
        };
        let used_up = |day, month| caps.used_up(Sent { day, month });
        assert_eq!(used_up(99, 999), None);
        assert_eq!(used_up(100, 999), Some(Span::Day));
        assert_eq!(used_up(0, 1000), Some(Span::Month));
        assert_eq!(used_up(100, 1000), Some(Span::Month));
        let (day, month) = (u64::MAX, u64::MAX);
        assert_eq!(Caps::default().used_up(Sent { day, month }), None);
    }

    #[test]
    fn a_span_ends_with_the_calendar_also_where_the_clocks_change() {
        let hours = |span: Span, now: &str| span.left(&at(now)).as_secs() / 3600;
        let noon = "2026-12-31T12:00:00[Asia/Shanghai]";
        assert_eq!(hours(Span::Day, noon), 12);
        assert_eq!(hours(Span::Month, noon), 12);
        assert_eq!(hours(Span::Month, "2026-02-27T00:00:00[Asia/Shanghai]"), 48);
        assert_eq!(hours(Span::Day, "2026-03-29T00:00:00[Europe/Berlin]"), 23);
    }
}
