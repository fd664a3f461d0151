//! What changed, for those who keep copies: the edges.
//!
//! A ring of recent events, numbered. A reader that comes back with the last number it saw gets
//! what it missed, or learns that it missed too much and has to revalidate all it has.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::broadcast;

/// How many events are kept for readers that come back: an hour of a busy host at one a second.
const KEPT: usize = 4096;

/// How far a reader may fall behind before it has to come back by number.
const LAG: usize = 1024;

/// Something that happened to pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// New content, sealed.
    Put {
        /// Path with prefix, decoded.
        path: String,
        /// Validator, when it is known.
        etag: Option<String>,
        /// Bytes.
        size: u64,
    },
    /// A file is gone from this path.
    Delete {
        /// Path with prefix, decoded.
        path: String,
    },
    /// A folder is gone from this path, with all that was below.
    DeletePrefix {
        /// Path with prefix, decoded.
        path: String,
    },
}

/// An event and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeEvent {
    /// Grows by one an event, and never repeats, over restarts included.
    pub cursor: u64,
    /// What happened.
    pub what: What,
}

/// Recent events, and those to come.
pub struct Feed {
    prefix: String,
    ring: Mutex<Ring>,
    live: broadcast::Sender<ChangeEvent>,
}

struct Ring {
    next: u64,
    events: VecDeque<ChangeEvent>,
}

impl Feed {
    /// A feed whose paths begin with `prefix`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        // Numbers begin at the microsecond of the start, so that a number of an earlier run is
        // lower than all of this one, and is found to be too old.
        let start = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let next = u64::try_from(start.as_micros()).unwrap_or(u64::MAX / 2);
        Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
            ring: Mutex::new(Ring {
                next,
                events: VecDeque::with_capacity(KEPT),
            }),
            live: broadcast::Sender::new(LAG),
        }
    }

    /// Adds an event; its path comes without the prefix.
    pub fn push(&self, mut what: What) {
        let (What::Put { path, .. } | What::Delete { path } | What::DeletePrefix { path }) =
            &mut what;
        *path = format!("{}/{path}", self.prefix);
        let mut ring = self.ring.lock();
        let event = ChangeEvent {
            cursor: ring.next,
            what,
        };
        ring.next += 1;
        if ring.events.len() == KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(event.clone());
        // Sent under the lock, so that a reader's snapshot and its live events meet without a gap.
        let _ = self.live.send(event);
    }

    /// Events from now on; with `after`, also those since that number. `None`: too old.
    #[must_use]
    pub fn follow(
        &self,
        after: Option<u64>,
    ) -> (Option<Vec<ChangeEvent>>, broadcast::Receiver<ChangeEvent>) {
        let ring = self.ring.lock();
        let live = self.live.subscribe();
        let Some(after) = after else {
            return (Some(Vec::new()), live);
        };
        let oldest = ring.events.front().map_or(ring.next, |event| event.cursor);
        let known = after
            .checked_add(1)
            .is_some_and(|from| from >= oldest && from <= ring.next);
        let missed = ring
            .events
            .iter()
            .filter(|event| event.cursor > after)
            .cloned()
            .collect();
        (known.then_some(missed), live)
    }

    /// The number of the newest event.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.ring.lock().next - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_comes_back_gets_what_it_missed_or_hears_that_it_is_too_late() {
        let feed = Feed::new("/mount");
        let start = feed.cursor();
        for n in 0..3 {
            feed.push(What::Delete {
                path: format!("{n}"),
            });
        }
        let missed = feed.follow(Some(start + 1)).0.unwrap();
        let paths: Vec<_> = missed.iter().map(|event| event.what.clone()).collect();
        assert_eq!(
            paths,
            [
                What::Delete {
                    path: "/mount/1".into()
                },
                What::Delete {
                    path: "/mount/2".into()
                }
            ]
        );
        assert_eq!(feed.follow(Some(start + 3)).0.unwrap(), []);
        assert_eq!(feed.follow(Some(start - 1)).0, None, "of an earlier run");
        assert_eq!(feed.follow(Some(start + 4)).0, None, "of a later run");
        for n in 0..KEPT {
            feed.push(What::Delete {
                path: format!("{n}"),
            });
        }
        assert_eq!(
            feed.follow(Some(start + 1)).0,
            None,
            "pushed out of the ring"
        );
    }
}
