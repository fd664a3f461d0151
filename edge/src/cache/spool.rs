//! A body on its way in, and everyone who reads along.
//!
//! As long as the disk takes it, readers read the file at their own pace, and the fetch waits for
//! none of them. When the disk does not (full, failing) or the response must not be kept, the rest
//! passes through a short window in memory instead: then the fetch goes as fast as the slowest
//! reader, within reason. The last byte is shown only once the whole has been verified, so nobody
//! ever gets a complete answer that is wrong.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How much of a passing body is held for slower readers. A few round trips of a home line; and
/// a hundred such bodies at once still fit a small machine.
const WINDOW: usize = 2 * 1024 * 1024;

/// How long the others wait for one slow reader of a passing body before it is cut off. Beyond the
/// listener's own patience with a stalled visitor, who is gone by then as a rule.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is read from the file at once: large enough to make the trip to another thread cheap,
/// small enough that a thousand readers are no burden.
const PIECE: u64 = 128 * 1024;

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    readable: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Growing,
    Whole,
    Cut,
}

/// The body broke off: the reader has to break off as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub struct Cut;

/// Nobody reads a passing body any more: there is no reason to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deserted;

/// The body, written by one and read by many.
pub(super) struct Spool {
    file: OnceLock<File>,
    shared: Mutex<Shared>,
    extent: watch::Sender<Extent>,
    moved: Notify,
    patience: Duration,
}

#[derive(Default)]
struct Shared {
    /// Bytes in the file; what follows passes through memory.
    filed: u64,
    /// Where the first piece in memory begins.
    passing_from: u64,
    passing: VecDeque<Bytes>,
    passing_bytes: usize,
    readers: HashMap<u64, u64>,
    next_reader: u64,
}

impl Spool {
    /// Empty, and nothing known yet.
    #[must_use]
    pub(super) fn new() -> Arc<Self> {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> Arc<Self> {
        let extent = Extent {
            readable: 0,
            end: End::Growing,
        };
        Arc::new(Self {
            file: OnceLock::new(),
            shared: Mutex::default(),
            extent: watch::Sender::new(extent),
            moved: Notify::new(),
            patience,
        })
    }

    /// A reader at the beginning; `None` when that has passed already.
    #[must_use]
    pub(super) fn attach(self: &Arc<Self>) -> Option<Reader> {
        let mut shared = self.shared.lock();
        if shared.passing_from > shared.filed {
            return None;
        }
        let id = shared.next_reader;
        shared.next_reader += 1;
        shared.readers.insert(id, 0);
        drop(shared);
        let extent = self.extent.subscribe();
        Some(Reader {
            spool: Arc::clone(self),
            id,
            at: 0,
            until: u64::MAX,
            extent,
        })
    }

    /// From now on the body goes into this file.
    pub(super) fn keep_in(&self, file: File) {
        let _ = self.file.set(file); // set once a spool: a fill makes one file
    }

    /// So many bytes stand in the file; readers may see those up to `readable`.
    pub(super) fn filed(&self, bytes: u64, readable: u64) {
        {
            let mut shared = self.shared.lock();
            shared.filed = bytes;
            shared.passing_from = bytes;
        }
        self.show(readable);
    }

    /// Takes a piece that the file does not, and waits while too much lies in the window.
    ///
    /// # Errors
    /// All readers have left.
    pub(super) async fn pass(&self, piece: Bytes, readable: u64) -> Result<(), Deserted> {
        {
            let mut shared = self.shared.lock();
            shared.passing_bytes += piece.len();
            shared.passing.push_back(piece);
        }
        self.show(readable);
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable(); // before looking, or a move in between would be missed
            {
                let mut shared = self.shared.lock();
                shared.forget_passed();
                if shared.readers.is_empty() {
                    return Err(Deserted);
                }
                if shared.passing_bytes <= WINDOW {
                    return Ok(());
                }
            }
            if timeout(self.patience, moved).await.is_err() {
                self.shared.lock().drop_slowest();
                self.extent.send_modify(|_| {}); // wakes them, to see that they are out
            }
        }
    }

    /// The body is whole and verified.
    pub(super) fn finish(&self, bytes: u64) {
        self.extent.send_replace(Extent {
            readable: bytes,
            end: End::Whole,
        });
    }

    /// The body broke off. What has ended already stays as it ended.
    pub(super) fn cut(&self) {
        self.extent.send_if_modified(|extent| {
            let growing = extent.end == End::Growing;
            if growing {
                extent.end = End::Cut;
            }
            growing
        });
    }

    fn show(&self, readable: u64) {
        self.extent.send_modify(|extent| extent.readable = readable);
    }
}

impl Shared {
    fn forget_passed(&mut self) {
        let slowest = self.readers.values().copied().min().unwrap_or(u64::MAX);
        while let Some(first) = self.passing.front() {
            let end = self.passing_from + first.len() as u64;
            if end > slowest {
                break;
            }
            self.passing_bytes -= first.len();
            self.passing_from = end;
            self.passing.pop_front();
        }
    }

    fn drop_slowest(&mut self) {
        let slowest = self.readers.values().copied().min();
        self.readers.retain(|_, at| Some(*at) != slowest);
    }

    /// The bytes in memory that begin here.
    fn passing_at(&self, at: u64) -> Option<Bytes> {
        let mut from = self.passing_from;
        for piece in &self.passing {
            let end = from + piece.len() as u64;
            if at >= from && at < end {
                return Some(piece.slice(usize::try_from(at - from).ok()?..));
            }
            from = end;
        }
        None
    }
}

/// One who reads along.
pub struct Reader {
    spool: Arc<Spool>,
    id: u64,
    at: u64,
    until: u64,
    extent: watch::Receiver<Extent>,
}

impl Reader {
    /// Reads only `from..until`; before the first piece.
    pub fn narrow(&mut self, from: u64, until: u64) {
        self.at = from;
        self.until = until;
        self.report();
    }

    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// The body broke off, or this reader was so slow that the others could not wait.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            if self.at >= self.until {
                return Ok(None);
            }
            let Extent { readable, end } = *self.extent.borrow_and_update();
            let limit = readable.min(self.until);
            if self.at < limit {
                let piece = self.load(limit).await?;
                self.at += piece.len() as u64;
                self.report();
                return Ok(Some(piece));
            }
            match end {
                End::Whole => return Ok(None),
                End::Cut => return Err(Cut),
                End::Growing => self.extent.changed().await.map_err(|_| Cut)?,
            }
        }
    }

    async fn load(&self, limit: u64) -> Result<Bytes, Cut> {
        let want = limit - self.at;
        let filed = {
            let shared = self.spool.shared.lock();
            if !shared.readers.contains_key(&self.id) {
                return Err(Cut);
            }
            if self.at >= shared.filed {
                let piece = shared.passing_at(self.at).ok_or(Cut)?;
                let want = usize::try_from(want).unwrap_or(usize::MAX);
                return Ok(piece.slice(..piece.len().min(want)));
            }
            shared.filed
        };
        let want = want.min(filed - self.at).min(PIECE);
        let (spool, at) = (Arc::clone(&self.spool), self.at);
        tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; usize::try_from(want).map_err(|_| Cut)?];
            let file = spool.file.get().ok_or(Cut)?;
            file.read_exact_at(&mut piece, at).map_err(|_| Cut)?;
            Ok(Bytes::from(piece))
        })
        .await
        .map_err(|_| Cut)?
    }

    fn report(&self) {
        if let Some(at) = self.spool.shared.lock().readers.get_mut(&self.id) {
            *at = self.at;
        }
        self.spool.moved.notify_waiters();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.spool.shared.lock().readers.remove(&self.id);
        self.spool.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
