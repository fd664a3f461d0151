//! What is known of a stored response, beside its bytes.
//!
//! [`Head`] is what the origin said and a visitor will hear; [`Record`] adds where the bytes lie and
//! when they were last wanted. Both are plain values: the index writes them down, others read them.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::freshness::Lifetime;

/// A moment, in whole seconds since 1970: what HTTP's dates and ages can tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    /// What the machine's clock says. A clock before 1970 counts as 1970.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// The time from `earlier` to this moment, zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// The moment this long before.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_secs()))
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        Self(since.map_or(0, |span| span.as_secs()))
    }
}

/// The name of a body's file. Never given twice: the upper half counts the starts of this cache,
/// the lower the bodies of one run, so a file that an earlier run left can be told from a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BodyId(pub u64);

impl BodyId {
    /// The `count`th body of the `run`th start.
    #[must_use]
    pub fn new(run: u32, count: u32) -> Self {
        Self(u64::from(run) << 32 | u64::from(count))
    }

    /// Which start of the cache made it.
    #[must_use]
    pub fn run(self) -> u64 {
        self.0 >> 32
    }
}

impl fmt::Display for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyId({self})")
    }
}

/// What the origin said of a picture, as far as visitors and the cache need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `Content-Type`, or what the name suggests when the origin gave none.
    pub content_type: String,
    /// `ETag` with its quotes, `W/` included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified` as it was sent, a valid HTTP date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// `Cache-Control` as it was sent; visitors get the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// When the origin made the response: our clock, less the age it had on arrival.
    pub made: Moment,
    /// How long it is good for.
    pub lifetime: Lifetime,
}

impl Head {
    /// What to ask the origin with: does this version still stand?
    #[must_use]
    pub fn validators(&self) -> Validators {
        Validators {
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
        }
    }

    /// How old the response is.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.made)
    }
}

/// The version that is held, in the words of a conditional request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// For `If-None-Match`.
    pub etag: Option<String>,
    /// For `If-Modified-Since`.
    pub last_modified: Option<String>,
}

impl Validators {
    /// Nothing to ask with: the whole body will have to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// One stored response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which file holds the body.
    pub body: BodyId,
    /// The body's length in bytes.
    pub size: u64,
    /// xxh3 of the body, checked when it is loaded into memory.
    pub sum: u64,
    /// When it was last wanted, to within [`TOUCH_EVERY`].
    pub used: Moment,
    /// In how many such spans it was wanted again.
    #[serde(default)]
    pub uses: u32,
    /// What the origin said.
    pub head: Head,
}

/// How much a record's last use may lag behind the truth. Ten minutes keep the index from being
/// written for every hit (one write per entry and ten minutes at the most), and are little beside
/// ages that are set in hours and cleaned in days.
pub(super) const TOUCH_EVERY: Duration = Duration::from_mins(10);

/// The same for the first use after it came, which is what sets an entry apart from a crawler's finds.
pub(super) const FIRST_TOUCH: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_which_run_made_it() {
        let id = BodyId::new(7, 9);
        assert_eq!(id.run(), 7);
        assert_eq!(id.to_string(), "0000000700000009");
    }

    #[test]
    fn a_moment_ahead_is_no_time_ago() {
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
        assert_eq!(Moment(9).since(Moment(5)), Duration::from_secs(4));
    }
}
