//! Whether a stop still gets somewhere: only then is the supervisor asked to wait for it.

use std::time::{Duration, Instant};

/// How long nothing may be seen to move while something does: a fragment of an upload, of ten MiB at most,
/// shows once it is whole, and that takes so long on a line of 1 Mbit/s (`graph-api.md` 7).
const SLOWEST: Duration = Duration::from_mins(2);

/// What changes when something was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes of content that the drive has taken.
    pub(super) bytes_up: u64,
    /// Changes that it does not have yet.
    pub(super) pending: usize,
}

/// What was seen last, and since when.
pub(super) struct Progress {
    last: Option<Mark>,
    since: Instant,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: None,
            since: now,
        }
    }

    /// Whether something has moved in as long as the slowest takes.
    pub(super) fn goes_on(&mut self, mark: Mark, now: Instant) -> bool {
        if self.last.replace(mark) != Some(mark) {
            self.since = now;
        }
        now.saturating_duration_since(self.since) < SLOWEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_goes_on_while_bytes_or_changes_get_to_the_drive_and_no_longer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mark = |bytes_up, pending| Mark { bytes_up, pending };
        let mut progress = Progress::new(start);
        assert!(progress.goes_on(mark(0, 2), at(0)));
        assert!(progress.goes_on(mark(0, 2), at(119)));
        assert!(progress.goes_on(mark(10, 2), at(121)), "bytes");
        assert!(progress.goes_on(mark(10, 1), at(240)), "a deletion");
        assert!(progress.goes_on(mark(10, 1), at(359)));
        assert!(!progress.goes_on(mark(10, 1), at(360)), "nothing moves");
        assert!(progress.goes_on(mark(20, 1), at(365)), "it does again");
    }
}
