//! An open file: the bytes behind it, which stay the same until the last close.
//!
//! A sealed content never changes (invariant 3). The first write after a seal therefore begins a
//! new content file: a copy, or an empty one when the file is cut to nothing. The sealed one goes
//! on being what the journal names and what uploads read, until the next seal takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::NodeId;
use super::through::{Kept, Scratch, Through};
use crate::content::fill::Fill;
use crate::content::intents::Base;
use crate::content::readahead::ReadAhead;
use crate::content::store::Blob;
use crate::tree::{ContentId, Generation};

/// The bytes behind an open file.
#[derive(Clone)]
pub(super) enum Source {
    /// Nobody has asked for them yet.
    Unknown,
    /// All of them, sealed: to be copied before a write.
    Sealed(Arc<Blob>),
    /// All of them, being written.
    Live(Arc<Blob>),
    /// Some of them; the rest is fetched as it is asked for.
    Partial(Generation, Arc<Fill>),
}

/// A node that is open, however many times.
pub(super) struct Opened {
    pub(super) node: NodeId,
    /// One writer, or one seal, at a time.
    pub(super) gate: tokio::sync::Mutex<()>,
    inner: Mutex<Inner>,
    /// Written since the last seal.
    changed: AtomicBool,
    /// What is being written began from a content that the drive has replaced since.
    outdated: AtomicBool,
    /// Closed, and acknowledged before it was sealed.
    promised: AtomicBool,
    /// The version that the content that is being written began from.
    base: Mutex<Option<Base>>,
    /// The copy beside the drive's version, where what is written here goes since there are two.
    beside: Mutex<Option<NodeId>>,
    /// What is known of the file that applications write to by themselves.
    scratch: Mutex<Option<Scratch>>,
}

/// How those who have it open get at the bytes; the same for all, until the last close.
enum Way {
    /// No application has opened it yet.
    Undecided,
    /// By asking us.
    Asking,
    /// By themselves.
    Through(Arc<Through>),
}

struct Inner {
    way: Way,
    handles: usize,
    /// Handles that may write.
    writers: usize,
    source: Source,
}

impl Opened {
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            gate: tokio::sync::Mutex::new(()),
            inner: Mutex::new(Inner {
                way: Way::Undecided,
                handles: 0,
                writers: 0,
                source: Source::Unknown,
            }),
            changed: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
            promised: AtomicBool::new(false),
            base: Mutex::default(),
            beside: Mutex::default(),
            scratch: Mutex::default(),
        }
    }

    /// Decides, at the first open by an application, whether the kernel gets at the bytes by itself, as it `may` where
    /// all of them are here and sealed; and tells what was decided.
    pub(super) fn decide(&self, may: Option<&Arc<Kept>>) -> Option<Arc<Through>> {
        let mut inner = self.inner.lock();
        if matches!(inner.way, Way::Undecided) {
            let through = match (&inner.source, may) {
                (Source::Sealed(blob), Some(kept)) => {
                    kept.get(blob.id()).or_else(|| Through::to(blob))
                }
                _ => None,
            };
            inner.way = through.map_or(Way::Asking, Way::Through);
        }
        match &inner.way {
            Way::Through(through) => Some(through.clone()),
            Way::Undecided | Way::Asking => None,
        }
    }

    /// Lets the kernel get at the bytes by itself, unless that was decided otherwise, or somebody writes.
    pub(super) fn go_through(&self, through: &Arc<Through>) -> bool {
        let mut inner = self.inner.lock();
        let idle = inner.writers == 0 && matches!(inner.source, Source::Unknown);
        if idle && matches!(inner.way, Way::Undecided) {
            inner.way = Way::Through(through.clone());
        }
        matches!(&inner.way, Way::Through(it) if Arc::ptr_eq(it, through))
    }

    /// What the kernel reads and writes by itself, if so.
    pub(super) fn through(&self) -> Option<Arc<Through>> {
        match &self.inner.lock().way {
            Way::Through(through) => Some(through.clone()),
            Way::Undecided | Way::Asking => None,
        }
    }

    /// Takes another content to be written, unless the kernel has one open by itself.
    pub(super) fn begin_live(&self, blob: &Arc<Blob>) -> Result<(), Arc<Through>> {
        let mut inner = self.inner.lock();
        if let Way::Through(through) = &inner.way {
            return Err(through.clone());
        }
        inner.source = Source::Live(blob.clone());
        Ok(())
    }

    pub(super) fn scratch(&self) -> Option<Scratch> {
        *self.scratch.lock()
    }

    pub(super) fn set_scratch(&self, scratch: Option<Scratch>) {
        *self.scratch.lock() = scratch;
    }

    /// Does something with the scratch and what is known of it, if there is one: one at a time. Before the ledger's
    /// lock.
    pub(super) fn with_scratch<T>(
        &self,
        work: impl FnOnce(&mut Scratch, &Arc<Blob>) -> T,
    ) -> Option<T> {
        let mut scratch = self.scratch.lock();
        match (scratch.as_mut(), self.source()) {
            (Some(scratch), Source::Live(blob)) => Some(work(scratch, &blob)),
            _ => None,
        }
    }

    pub(super) fn source(&self) -> Source {
        self.inner.lock().source.clone()
    }

    pub(super) fn set_source(&self, source: Source) {
        self.inner.lock().source = source;
    }

    /// Sets the source unless there is one; gives the one that counts.
    pub(super) fn offer_source(&self, source: Source) -> Source {
        let mut inner = self.inner.lock();
        if matches!(inner.source, Source::Unknown) {
            inner.source = source;
        }
        inner.source.clone()
    }

    /// A partial content has become whole.
    pub(super) fn completed(&self, fill: &Arc<Fill>, blob: &Arc<Blob>) {
        let mut inner = self.inner.lock();
        if matches!(&inner.source, Source::Partial(_, it) if Arc::ptr_eq(it, fill)) {
            inner.source = Source::Sealed(blob.clone());
        }
    }

    pub(super) fn outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }

    pub(super) fn set_outdated(&self, outdated: bool) {
        self.outdated.store(outdated, Ordering::Release);
    }

    pub(super) fn base(&self) -> Option<Base> {
        *self.base.lock()
    }

    pub(super) fn set_base(&self, base: Option<Base>) {
        *self.base.lock() = base;
    }

    pub(super) fn beside(&self) -> Option<NodeId> {
        *self.beside.lock()
    }

    pub(super) fn set_beside(&self, copy: Option<NodeId>) {
        *self.beside.lock() = copy;
    }

    pub(super) fn promised(&self) -> bool {
        self.promised.load(Ordering::Acquire)
    }

    pub(super) fn set_promised(&self, promised: bool) {
        self.promised.store(promised, Ordering::Release);
    }

    pub(super) fn changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    pub(super) fn set_changed(&self, changed: bool) {
        self.changed.store(changed, Ordering::Release);
    }

    pub(super) fn enter(&self) {
        let mut inner = self.inner.lock();
        inner.handles += 1;
    }

    pub(super) fn begin_writing(&self) {
        self.inner.lock().writers += 1;
    }

    pub(super) fn end_writing(&self) {
        self.inner.lock().writers -= 1;
    }

    /// Whether a handle is left that may write, and that will seal what it writes.
    pub(super) fn is_being_written(&self) -> bool {
        self.inner.lock().writers > 0
    }

    /// Takes a handle away; tells whether that was the last one.
    pub(super) fn leave(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.handles -= 1;
        inner.handles == 0
    }

    /// The content that is being written, if any.
    pub(super) fn live_content(&self) -> Option<ContentId> {
        match &self.inner.lock().source {
            Source::Live(blob) => Some(blob.id()),
            Source::Unknown | Source::Sealed(_) | Source::Partial(..) => None,
        }
    }

    /// The size of what is open, where the tree may already know of another content.
    pub(super) fn size(&self) -> Option<u64> {
        let inner = self.inner.lock();
        match &inner.source {
            Source::Unknown => match &inner.way {
                Way::Through(through) => Some(through.size),
                Way::Undecided | Way::Asking => None,
            },
            Source::Sealed(blob) | Source::Live(blob) => blob.len().ok(),
            Source::Partial(_, fill) => Some(fill.size()),
        }
    }
}

/// One open file.
pub(super) struct Handle {
    pub(super) file: Arc<Opened>,
    pub(super) read: bool,
    pub(super) write: bool,
    /// Where this reader has been, to guess where it goes.
    pub(super) ahead: Mutex<ReadAhead>,
}
