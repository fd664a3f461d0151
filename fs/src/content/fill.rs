//! Content on its way from the drive.
//!
//! A [`Fill`] is a sparse file and the knowledge of which of its bytes have come. A reader waits
//! for just the bytes it wants; what is missing is fetched by ranges, each by a task of its own
//! that all who want its bytes wait for. A reader that gives up takes nothing from the others. A
//! fetch that fails fails those who wait for it, and the next read tries again.

mod fetch;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::blob::Blob;
use super::readahead::ReadAhead;
use super::span::{Span, Spans};
use super::store::Store;
use crate::ports::{Drive, DriveError};
use crate::tree::ItemId;

/// How many ranges of one file are fetched at once. The service takes four to eight without
/// throttling; with half of that, two files that are read at once do not throttle each other.
const LANES: usize = 4;

/// The most that one request asks for. What fails is asked for again as a whole, so more would
/// waste more; with less, fast lines would wait for round trips. Smaller files cost one request.
const PIECE: u64 = 16 * 1024 * 1024;

/// How long the drive may keep silent. The adapter has limits of its own, which are shorter: this
/// one keeps a fetch from holding its lane for ever, should they fail.
const PATIENCE: Duration = Duration::from_mins(2);

/// Why bytes did not come.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FillError {
    /// The drive did not give them.
    #[error("cannot fetch the content")]
    Drive(#[source] Arc<DriveError>),
    /// Our disk did not take them.
    #[error("cannot keep fetched bytes on our disk")]
    Disk(#[source] Arc<io::Error>),
    /// The content is longer or shorter than the item said: another version, or another stream
    /// (trap T5). Ask for the item again; if it says the same, only [`Fill::complete`] can tell.
    #[error("the content on the drive is not the one that its item described")]
    Changed,
}

impl From<DriveError> for FillError {
    fn from(error: DriveError) -> Self {
        Self::Drive(Arc::new(error))
    }
}

impl From<io::Error> for FillError {
    fn from(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

/// One version of one item's content, being fetched. Dropping it gives up what is not complete.
pub struct Fill {
    work: Arc<Work>,
    /// The fetches; they end when the fill is dropped.
    tasks: Mutex<JoinSet<()>>,
    claimed: AtomicBool,
}

/// What the fill shares with its tasks.
struct Work {
    store: Store,
    drive: Arc<dyn Drive>,
    item: ItemId,
    blob: Arc<Blob>,
    patience: Duration,
    lanes: Semaphore,
    state: Mutex<State>,
    /// Told whenever the state has changed.
    progress: Notify,
}

struct State {
    /// Length of the whole content, as far as is known.
    size: u64,
    length: Length,
    /// The version that the pieces are of, where the storage host tells one.
    version: Option<String>,
    held: Spans,
    running: Vec<Arc<Attempt>>,
    phase: Phase,
}

/// How sure the size is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    /// The item says so; what the storage host says must agree.
    Expected,
    /// The item says so, but the storage host knows better.
    Open,
    /// The storage host has said so.
    Told,
    /// The storage host has contradicted.
    Contradicted,
}

/// How far the file is.
enum Phase {
    /// Bytes are missing, or have just come.
    Filling,
    /// All bytes are here; they are being made durable and named.
    Finishing(Arc<Attempt>),
    /// A content like any other. Until somebody was given it, nobody can have a record of it.
    Complete { given: bool },
}

/// Something that is being tried, once, for all who wait for it.
struct Attempt {
    span: Span,
    outcome: OnceLock<Result<(), FillError>>,
}

impl Attempt {
    fn at(span: Span) -> Arc<Self> {
        Arc::new(Self {
            span,
            outcome: OnceLock::new(),
        })
    }

    fn failure(&self) -> Option<FillError> {
        self.outcome.get()?.as_ref().err().cloned()
    }
}

impl Fill {
    /// Makes room for an item's content; nothing is fetched yet.
    ///
    /// # Errors
    /// The disk fails or is full.
    pub fn start(
        store: &Store,
        drive: Arc<dyn Drive>,
        item: ItemId,
        size: u64,
    ) -> io::Result<Arc<Self>> {
        Self::start_with(store, drive, item, size, PATIENCE)
    }

    fn start_with(
        store: &Store,
        drive: Arc<dyn Drive>,
        item: ItemId,
        size: u64,
        patience: Duration,
    ) -> io::Result<Arc<Self>> {
        let state = State {
            size,
            length: Length::Expected,
            version: None,
            held: Spans::new(),
            running: Vec::new(),
            phase: Phase::Filling,
        };
        let work = Work {
            store: store.clone(),
            drive,
            item,
            blob: store.create_fill()?,
            patience,
            lanes: Semaphore::new(LANES),
            state: Mutex::new(state),
            progress: Notify::new(),
        };
        Ok(Arc::new(Self {
            work: Arc::new(work),
            tasks: Mutex::default(),
            claimed: AtomicBool::new(false),
        }))
    }

    /// Reads `len` bytes; fewer only at the end of the content. Waits until just these are here,
    /// and sees to it that what the reader will want next is on its way. The plan is made at the
    /// call: the future does not borrow `ahead`.
    ///
    /// It is ready at its first poll when the bytes are here. How long it may wait is for the
    /// caller to say; dropping it leaves the fetches running.
    ///
    /// # Errors
    /// See [`FillError`].
    pub fn read<'a>(
        &'a self,
        offset: u64,
        len: usize,
        ahead: &mut ReadAhead,
    ) -> impl Future<Output = Result<Bytes, FillError>> + Send + use<'a> {
        let want = Span::at(offset, len as u64);
        let reach = ahead.reach(offset, len as u64, self.size());
        async move {
            self.hold(want, reach, usize::MAX).await?;
            let here = usize::try_from(want.before(self.size()).len()).unwrap_or(len);
            Ok(self.work.blob.read_at(offset, here)?)
        }
    }

    /// Fetches whatever is missing, in one request when nothing is here and the content is not
    /// large, and makes a lasting content of it: durable, under its final name, with a number that
    /// may be written down. When nothing has come yet, the length is what the storage host says;
    /// see [`size`](Self::size) afterwards (trap T5).
    ///
    /// # Errors
    /// See [`FillError`]. What has come stays; another call goes on from there.
    pub async fn complete(&self) -> Result<Arc<Blob>, FillError> {
        self.work.state.lock().open_length();
        let whole = Span::new(0, u64::MAX);
        loop {
            // One lane stays free for a reader that cannot wait.
            self.hold(whole, whole, LANES - 1).await?;
            if let Some(blob) = self.is_complete() {
                return Ok(blob);
            }
            if let Some(finishing) = self.work.finish() {
                self.settled(&finishing).await?;
            }
        }
    }

    /// The content, once it is complete.
    #[must_use]
    pub fn is_complete(&self) -> Option<Arc<Blob>> {
        match &mut self.work.state.lock().phase {
            Phase::Complete { given } => {
                *given = true;
                Some(Arc::clone(&self.work.blob))
            }
            Phase::Filling | Phase::Finishing(_) => None,
        }
    }

    /// Whether a read would find all its bytes here.
    #[must_use]
    pub fn holds(&self, offset: u64, len: usize) -> bool {
        let state = self.work.state.lock();
        state
            .held
            .contains(Span::at(offset, len as u64).before(state.size))
    }

    /// Says that the caller takes the complete content over: `true` for the first one alone.
    #[must_use]
    pub fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    /// How many bytes are here.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.work.state.lock().held.bytes()
    }

    /// Length of the whole content: what the item said, or the storage host where it knew better.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.work.state.lock().size
    }

    /// Waits until the bytes of `want` are here, and starts fetching those of `reach`, with no
    /// more than `at_once` fetches running.
    async fn hold(&self, want: Span, reach: Span, at_once: usize) -> Result<(), FillError> {
        let mut reach = reach;
        let mut joined: Vec<Arc<Attempt>> = Vec::new();
        loop {
            let mut changed = pin!(self.work.progress.notified());
            changed.as_mut().enable(); // from here on nothing is missed
            {
                let mut state = self.work.state.lock();
                let missing = state.held.missing(want.before(state.size));
                if missing.is_empty() {
                    return Ok(());
                }
                let wanted =
                    |attempt: &Attempt| missing.iter().any(|span| span.overlaps(attempt.span));
                let mut mine = joined.iter().filter(|attempt| wanted(attempt));
                if let Some(failure) = mine.find_map(|attempt| attempt.failure()) {
                    return Err(failure);
                }
                if state.length == Length::Contradicted {
                    return Err(FillError::Changed);
                }
                self.launch(&mut state, reach, at_once);
                // Reading ahead is tried once; whoever needs those bytes will ask for them.
                reach = want;
                joined = state
                    .running
                    .iter()
                    .filter(|one| wanted(one))
                    .cloned()
                    .collect();
            }
            changed.await;
        }
    }

    /// Starts fetching what is neither here nor on its way.
    fn launch(&self, state: &mut State, reach: Span, at_once: usize) {
        // Until the length is known, a second request might be for bytes that do not exist.
        let at_once = if state.length == Length::Open {
            1
        } else {
            at_once
        };
        let mut busy = Spans::new();
        state
            .running
            .iter()
            .for_each(|attempt| busy.insert(attempt.span));
        let gaps = state.held.missing(reach.before(state.size));
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {} // those that have ended
        for gap in gaps.into_iter().flat_map(|gap| busy.missing(gap)) {
            let mut start = gap.start;
            while start < gap.end && state.running.len() < at_once {
                let attempt = Attempt::at(Span::new(start, gap.end.min(start + PIECE)));
                start = attempt.span.end;
                state.running.push(Arc::clone(&attempt));
                tasks.spawn(Arc::clone(&self.work).fetch(attempt));
            }
        }
    }

    async fn settled(&self, attempt: &Attempt) -> Result<(), FillError> {
        loop {
            let mut changed = pin!(self.work.progress.notified());
            changed.as_mut().enable();
            if let Some(outcome) = attempt.outcome.get() {
                return outcome.clone();
            }
            changed.await;
        }
    }
}

impl State {
    /// Whoever wants the whole content takes it as long as it is, unless some of it is here
    /// already, which then must fit.
    fn open_length(&mut self) {
        let untouched = self.held.bytes() == 0 && self.running.is_empty();
        if untouched || self.length == Length::Expected {
            self.length = Length::Open;
        }
    }

    fn is_full(&self) -> bool {
        self.held.contains(Span::new(0, self.size))
    }
}
