//! How fast bytes may travel: a daily timetable, and the bucket that keeps to it.
//!
//! [`Timetable`] says which limit holds at a time of day, the [`Bucket`] how long to wait before
//! the next bytes; both take the time as an argument. [`Limit`] waits.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tuyun_chassis::settings::Size;

/// The least that makes sense: slower than this, exchanges end by their deadlines.
const LEAST: u64 = 16 << 10;

/// What may be caught up after a pause: short enough that nobody at the same line notices.
const BURST: Duration = Duration::from_millis(250);

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Bytes a second by time of day: `"2MiB"` always, `"08:00,2MiB 23:00,off"` by day only, empty
/// for no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timetable(Vec<Entry>);

/// From this minute of the day on, at most so many bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    from: u16,
    limit: Option<Size>,
}

impl Timetable {
    /// The limit at a minute of the day.
    #[must_use]
    pub fn at(&self, minute: u16) -> Option<u64> {
        let now = self.0.iter().rfind(|entry| entry.from <= minute);
        // Before the first entry of the day, the last one of the day before holds.
        now.or(self.0.last())?.limit.map(Size::bytes)
    }

    /// The lowest limit of the day.
    fn lowest(&self) -> Option<u64> {
        self.0
            .iter()
            .filter_map(|entry| entry.limit)
            .min()
            .map(Size::bytes)
    }
}

impl FromStr for Timetable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut entries = Vec::new();
        for word in text.split_whitespace() {
            let (from, limit) = match word.split_once(',') {
                Some((time, limit)) => (minute(time)?, limit),
                None if entries.is_empty() && text.trim() == word => (0, word),
                None => {
                    return Err(format!(
                        "`{word}` names no time; write it like \"08:00,2MiB\""
                    ));
                }
            };
            if entries.last().is_some_and(|last: &Entry| last.from >= from) {
                return Err(format!("`{word}` is not later than the entry before it"));
            }
            entries.push(Entry {
                from,
                limit: rate(limit)?,
            });
        }
        Ok(Self(entries))
    }
}

fn minute(time: &str) -> Result<u16, String> {
    let odd = || format!("`{time}` is not a time of day; write it like \"08:00\"");
    let (hour, minute) = time.split_once(':').ok_or_else(odd)?;
    let (hour, minute): (u16, u16) = (
        hour.parse().map_err(|_| odd())?,
        minute.parse().map_err(|_| odd())?,
    );
    let at = hour.saturating_mul(60).saturating_add(minute);
    if minute < 60 && at < DAY {
        Ok(at)
    } else {
        Err(odd())
    }
}

fn rate(text: &str) -> Result<Option<Size>, String> {
    if text == "off" {
        return Ok(None);
    }
    let size: Size = text.parse()?;
    if size.bytes() < LEAST {
        return Err(format!(
            "`{text}` is too slow to work; give \"16KiB\" or more, or \"off\""
        ));
    }
    Ok(Some(size))
}

impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, entry) in self.0.iter().enumerate() {
            let gap = if at == 0 { "" } else { " " };
            write!(f, "{gap}{:02}:{:02},", entry.from / 60, entry.from % 60)?;
            match entry.limit {
                Some(size) => write!(f, "{size}")?,
                None => f.write_str("off")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Timetable {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Timetable> for String {
    fn from(table: Timetable) -> Self {
        table.to_string()
    }
}

/// When what was let through so far would have passed at the limit.
struct Bucket {
    free_at: Instant,
}

impl Bucket {
    /// How long to wait before bytes go on, after these.
    fn spend(&mut self, bytes: u64, rate: u64, now: Instant) -> Duration {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.free_at = self.free_at.max(earliest) + takes;
        self.free_at.saturating_duration_since(now)
    }
}

/// Keeps bytes of one direction to a timetable.
pub(super) struct Limit {
    table: Timetable,
    bucket: Mutex<Bucket>,
}

impl Limit {
    pub(super) fn new(table: Timetable) -> Self {
        let free_at = Instant::now();
        Self {
            table,
            bucket: Mutex::new(Bucket { free_at }),
        }
    }

    /// Whether there is a limit at any time of the day.
    pub(super) fn is_set(&self) -> bool {
        self.lowest().is_some()
    }

    /// The lowest limit of the day.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.table.lowest()
    }

    /// Counts bytes, and waits as long as they may take.
    pub(super) async fn spend(&self, bytes: usize) {
        if !self.is_set() {
            return;
        }
        let Some(rate) = self.table.at(minute_of_day()) else {
            return;
        };
        let wait = self.bucket.lock().spend(bytes as u64, rate, Instant::now());
        tokio::time::sleep(wait).await;
    }
}

/// By the clock on the wall here.
fn minute_of_day() -> u16 {
    let now = jiff::Zoned::now();
    u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Timetable {
        text.parse().unwrap()
    }

    #[test]
    fn a_timetable_says_what_holds_at_a_minute_of_the_day() {
        let day = table("08:00,2MiB 23:30,off");
        assert_eq!(day.at(8 * 60), Some(2 << 20));
        assert_eq!(day.at(23 * 60 + 29), Some(2 << 20));
        assert_eq!(day.at(23 * 60 + 30), None);
        assert_eq!(day.at(0), None, "the last entry of the day before");
        let night = table("01:00,off 08:00,1MiB");
        assert_eq!(night.at(30), Some(1 << 20));
        assert_eq!(table("500KB").at(700), Some(500_000));
        assert_eq!(table("").at(700), None);
        assert_eq!(table("off").lowest(), None);
    }

    #[test]
    fn a_timetable_reads_back_what_it_wrote_and_odd_ones_are_refused() {
        for text in ["", "08:00,2MiB 23:00,off", "00:00,16KiB"] {
            assert_eq!(table(text).to_string(), text);
        }
        for odd in [
            "2MiB 3MiB",
            "25:00,1MiB",
            "08:60,1MiB",
            "8,1MiB",
            "1KiB",
            "9:00,1MiB 8:00,off",
        ] {
            assert!(odd.parse::<Timetable>().is_err(), "{odd}");
        }
    }

    #[test]
    fn bytes_pass_at_the_limit_and_no_faster_after_a_pause() {
        let start = Instant::now();
        let mut bucket = Bucket { free_at: start };
        assert_eq!(bucket.spend(1000, 1000, start), Duration::from_secs(1));
        assert_eq!(bucket.spend(500, 1000, start), Duration::from_millis(1500));
        let later = start + Duration::from_mins(1);
        assert_eq!(bucket.spend(250, 1000, later), Duration::ZERO, "the burst");
        assert_eq!(bucket.spend(1000, 1000, later), Duration::from_secs(1));
    }
}
