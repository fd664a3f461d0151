//! Bytes on their way up: how many in one request, and read from the disk as they go.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::bandwidth::Limit;
use crate::ports::DriveError;

/// Sizes of fragments have to be multiples of this (section 7.3): others are taken, and fail at
/// the commit.
pub(super) const STEP: u64 = 327_680;

/// The first fragment of a session, at the end of the recommended span of 5 to 10 MiB.
const FIRST: u64 = 32 * STEP;

/// The largest: below 60 MiB, which is what the service takes (section 7.3).
const LARGEST: u64 = 191 * STEP;

const _: () = assert!(LARGEST < 60 << 20 && FIRST.is_multiple_of(STEP));

/// What a broken line costs at most: a fragment that breaks off counts for nothing.
const TAKES: u64 = 5;

/// Fragments that fit into the day that a session lives, at two seconds for each besides its
/// bytes, with most of the day left for these (trap T10).
const MOST_FRAGMENTS: u64 = 10_000;

/// Read and handed on at a time.
const PIECE: u64 = 256 << 10;

/// The same where bytes are to go slowly, so that they go evenly.
const SLOW_PIECE: u64 = 32 << 10;

/// How fast the line up is, as the last fragments went.
pub(super) struct Speed(AtomicU64);

impl Speed {
    /// Starts from a limit, if there is one.
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self(AtomicU64::new(limit.unwrap_or(0)))
    }

    /// A fragment went in this time.
    pub(super) fn saw(&self, bytes: u64, took: Duration) {
        if bytes < STEP {
            return; // too short to tell
        }
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let now = bytes.saturating_mul(1000) / millis;
        // Half of what is new: a hiccup does not rule the rest.
        let held = self.0.load(Ordering::Relaxed);
        let mixed = if held == 0 { now } else { held / 2 + now / 2 };
        self.0.store(mixed.max(1), Ordering::Relaxed);
    }

    /// The size of the next fragment of a file, after one of this size.
    pub(super) fn fragment(&self, size: u64, last: Option<u64>) -> u64 {
        let speed = Some(self.0.load(Ordering::Relaxed)).filter(|speed| *speed > 0);
        fragment(speed, size, last)
    }
}

/// A few seconds' worth, grown by at most twice a time.
fn fragment(speed: Option<u64>, size: u64, last: Option<u64>) -> u64 {
    let worth = speed.map_or(FIRST, |speed| speed.saturating_mul(TAKES));
    let grown = last.map_or(FIRST, |last| last.saturating_mul(2));
    let wanted = worth.min(grown).max(size / MOST_FRAGMENTS);
    (wanted.div_ceil(STEP) * STEP).clamp(STEP, LARGEST)
}

/// A span of a file, to be sent.
pub(super) struct Pieces {
    file: Arc<File>,
    start: u64,
    end: u64,
    limit: Arc<Limit>,
    fault: Arc<Mutex<Option<io::Error>>>,
}

impl Pieces {
    pub(super) fn new(file: &Arc<File>, start: u64, end: u64, limit: &Arc<Limit>) -> Self {
        Self {
            file: Arc::clone(file),
            start,
            end,
            limit: Arc::clone(limit),
            fault: Arc::default(),
        }
    }

    /// How many bytes.
    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// A body that reads them as they go, no faster than the limit.
    pub(super) fn body(&self) -> reqwest::Body {
        let (file, fault, limit) = (
            Arc::clone(&self.file),
            Arc::clone(&self.fault),
            Arc::clone(&self.limit),
        );
        let (mut at, end) = (self.start, self.end);
        let piece = if limit.is_set() { SLOW_PIECE } else { PIECE };
        reqwest::Body::wrap_stream(async_stream::stream! {
            while at < end {
                let len = piece.min(end - at);
                match read(&file, at, len).await {
                    Ok(bytes) => {
                        limit.spend(bytes.len()).await;
                        at += len;
                        yield Ok(bytes);
                    }
                    Err(error) => {
                        let kind = error.kind();
                        *fault.lock() = Some(error);
                        yield Err(io::Error::from(kind));
                        return;
                    }
                }
            }
        })
    }

    /// What our own disk failed with, if it was that.
    pub(super) fn fault(&self) -> Option<DriveError> {
        self.fault.lock().take().map(DriveError::Disk)
    }
}

/// Reads what is to be sent, all of it or none.
pub(super) async fn read(file: &Arc<File>, offset: u64, len: u64) -> io::Result<Bytes> {
    let file = Arc::clone(file);
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(Bytes::from(bytes))
    });
    read.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn fragments_are_a_few_seconds_of_the_line_in_whole_steps_below_60_mib() {
        assert_eq!(fragment(None, 100 * MIB, None), FIRST);
        // A slow line: less than a minute of work is lost when it breaks.
        assert_eq!(fragment(Some(100_000), 100 * MIB, None), 2 * STEP);
        assert_eq!(fragment(Some(1), 100 * MIB, None), STEP);
        // A fast one gets there step by step.
        let mut last = fragment(Some(1 << 30), 100 * MIB, None);
        for _ in 0..5 {
            let next = fragment(Some(1 << 30), 100 * MIB, Some(last));
            assert!(next <= 2 * last && next < 60 * MIB && next.is_multiple_of(STEP));
            last = next;
        }
        assert_eq!(last, LARGEST);
    }

    #[test]
    fn the_largest_file_fits_into_the_day_that_a_session_lives() {
        let size = 250_000_000_000_u64;
        let fragment = fragment(Some(STEP), size, Some(STEP));
        assert!(size.div_ceil(fragment) <= MOST_FRAGMENTS, "{fragment}");
    }

    #[test]
    fn the_speed_follows_the_line() {
        let speed = Speed::new(None);
        speed.saw(10 * MIB, Duration::from_secs(10));
        assert_eq!(speed.0.load(Ordering::Relaxed), MIB);
        speed.saw(100, Duration::from_secs(10)); // tells nothing
        assert_eq!(speed.0.load(Ordering::Relaxed), MIB);
        speed.saw(10 * MIB, Duration::from_secs(5));
        assert_eq!(speed.0.load(Ordering::Relaxed), MIB * 3 / 2);
    }
}
