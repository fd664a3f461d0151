//! May a response be kept, and is a kept one still good?
//!
//! Two questions of RFC 9111, answered from plain facts: what the origin said, and what time it is.
//! Fetching is `fill`'s work; forgetting is `eviction`'s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Head, Moment};

/// How long a response without any word about its life is good for. An image host rewrites a
/// picture hardly ever, and a conditional request is cheap: an hour bounds how long a rewritten
/// one is shown wrongly, and twice as much would save little.
const UNSAID: Duration = Duration::from_hours(1);

/// The longest life guessed from `Last-Modified` (a tenth of its age, RFC 9111 section 4.2.2).
const GUESSED_AT_MOST: Duration = Duration::from_hours(24);

/// The longest life believed. A year is what RFC 2616 allowed and what `max-age` is set to in
/// practice; longer ones only make arithmetic dangerous.
const AT_MOST: Duration = Duration::from_hours(24 * 365);

/// How far a stored date may lie ahead of our clock before the clock is not believed any more. A
/// minute is what machines without NTP drift in weeks.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

/// How long a response is good for, decided once, when it arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Served without asking, counted from when the response was made.
    pub fresh_secs: u64,
    /// Beyond that, still served at once while the origin is asked.
    #[serde(default)]
    pub while_revalidate_secs: u64,
    /// Never served stale, not even with the origin down.
    #[serde(default)]
    pub strict: bool,
}

/// What the cache may do with an entry it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fresh: serve it and leave the origin alone.
    Fresh,
    /// Just past its life: serve it, and ask the origin meanwhile.
    FreshEnough,
    /// Past its life: ask the origin first, and serve it only if that fails.
    Stale,
    /// Past its life and not to be served so: ask the origin, or fail.
    Spent,
}

/// Judges an entry at a moment.
#[must_use]
pub fn judge(head: &Head, now: Moment) -> Verdict {
    let life = &head.lifetime;
    let stale = if life.strict {
        Verdict::Spent
    } else {
        Verdict::Stale
    };
    // Made in the future: a clock has jumped back. Which one was right is not known, so ask.
    if head.made.since(now) > CLOCK_SLACK {
        return stale;
    }
    let age = head.age(now).as_secs();
    if age < life.fresh_secs {
        Verdict::Fresh
    } else if !life.strict && age < life.fresh_secs.saturating_add(life.while_revalidate_secs) {
        Verdict::FreshEnough
    } else {
        stale
    }
}

/// Seconds of life left, below zero when stale: the `ttl` of `Cache-Status`.
#[must_use]
pub fn ttl(head: &Head, now: Moment) -> i64 {
    let life = i64::try_from(head.lifetime.fresh_secs).unwrap_or(i64::MAX);
    life.saturating_sub(i64::try_from(head.age(now).as_secs()).unwrap_or(i64::MAX))
}

/// The headers of a response that decide its life.
#[derive(Clone, Debug, Default)]
pub struct Said<'a> {
    /// `Cache-Control`, all its lines joined by commas.
    pub cache_control: Option<&'a str>,
    /// `Expires`; the outer option is its presence, the inner one whether it is a date.
    pub expires: Option<Option<Moment>>,
    /// `Date`.
    pub date: Option<Moment>,
    /// `Last-Modified`.
    pub last_modified: Option<Moment>,
    /// `Age`: how long it has been in caches before ours.
    pub age: Option<Duration>,
    /// `Vary` names something: we hold one answer for all visitors and cannot keep apart.
    pub varies: bool,
}

/// The life of a response that just arrived, and when it was made; `None` when it must not be kept.
#[must_use]
pub fn admit(said: &Said<'_>, now: Moment) -> Option<(Lifetime, Moment)> {
    let told = Directives::parse(said.cache_control.unwrap_or_default());
    if told.no_store || told.private || said.varies {
        return None;
    }
    // `Age` alone, not the time since `Date` (RFC 9111 4.2.3 takes the larger): on boxes that boot
    // without a clock that would make every new response stale on arrival.
    let age = said.age.unwrap_or_default().min(AT_MOST);
    let fresh = told
        .s_maxage
        .or(told.max_age)
        .or_else(|| {
            said.expires
                .map(|at| lasts_until(at, said.date.unwrap_or(now)))
        })
        .unwrap_or_else(|| guess(said, now))
        .min(AT_MOST);
    let life = Lifetime {
        fresh_secs: if told.no_cache { 0 } else { fresh.as_secs() },
        while_revalidate_secs: told
            .while_revalidate
            .unwrap_or_default()
            .min(AT_MOST)
            .as_secs(),
        strict: told.must_revalidate || told.no_cache,
    };
    Some((life, now.before(age)))
}

fn lasts_until(expires: Option<Moment>, date: Moment) -> Duration {
    // An unreadable date, `0` above all, means "already past".
    expires.map_or(Duration::ZERO, |at| at.since(date))
}

fn guess(said: &Said<'_>, now: Moment) -> Duration {
    let date = said.date.unwrap_or(now);
    said.last_modified.map_or(UNSAID, |changed| {
        (date.since(changed) / 10).min(GUESSED_AT_MOST)
    })
}

/// The directives of `Cache-Control` that a shared cache heeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a directive is said or not said"
)]
struct Directives {
    no_store: bool,
    no_cache: bool,
    private: bool,
    must_revalidate: bool,
    max_age: Option<Duration>,
    s_maxage: Option<Duration>,
    while_revalidate: Option<Duration>,
}

impl Directives {
    fn parse(text: &str) -> Self {
        let mut told = Self::default();
        for directive in split_unquoted(text) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => told.no_store = true,
                // With field names it speaks of those fields only (RFC 9111 5.2.2.4, 5.2.2.7).
                "no-cache" => told.no_cache |= value.is_empty(),
                "private" => told.private |= value.is_empty(),
                "must-revalidate" | "proxy-revalidate" => told.must_revalidate = true,
                "max-age" => told.max_age = told.max_age.or(Some(seconds(value))),
                "s-maxage" => told.s_maxage = told.s_maxage.or(Some(seconds(value))),
                "stale-while-revalidate" => told.while_revalidate = Some(seconds(value)),
                _ => {}
            }
        }
        told
    }
}

/// Commas inside quotes belong to a list of field names, not to the list of directives.
fn split_unquoted(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

/// What cannot be read is no life at all (RFC 9111 4.2.1); what is too large is as much as we take.
fn seconds(text: &str) -> Duration {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits {
        text.parse().map_or(AT_MOST, Duration::from_secs)
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests;
