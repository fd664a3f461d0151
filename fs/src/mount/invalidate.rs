//! What the kernel remembers of us, and how it is told to forget.
//!
//! Answers let the kernel remember names, absences and attributes for long, because whatever
//! changes without its doing is told to it. Two races would break that, and are closed here:
//!
//! * A notice waits for locks that a request in flight may hold, and that request may be waiting
//!   for us. So a thread of its own sends them (`fuse-kernel.md` section 5).
//! * An answer made from the old state may reach the kernel after the notice of the new one. So
//!   an answer is remembered only if nothing changed since its request came, which is checked
//!   under a gate that the notifying thread passes before each batch.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::ports::Invalidate;
use crate::tree::{NodeId, shown};

/// How long the kernel may remember. An hour bounds the harm of a notice that got lost; a tenth
/// of it would already cost a request for every picture that is looked at now and then.
const REMEMBER: Duration = Duration::from_hours(1);

/// What the kernel may have in mind, and the way to tell it otherwise.
#[derive(Default)]
pub(super) struct KernelMemory {
    /// Grows with every change that the kernel did not make.
    changes: AtomicU64,
    /// Held for reading while an answer that may be remembered is sent.
    gate: RwLock<()>,
    news: Mutex<News>,
    wake: Condvar,
    /// Files whose pages in the kernel are known to be old, and not yet dropped.
    stale: Mutex<HashSet<NodeId>>,
}

/// Each thing once, so a burst of news is no longer than what is known of the drive.
#[derive(Default)]
struct News {
    entries: HashSet<(NodeId, String)>,
    /// With `true`, their pages too.
    nodes: HashMap<NodeId, bool>,
    over: bool,
}

/// When a request came.
#[derive(Clone, Copy)]
pub(super) struct Came(u64);

impl KernelMemory {
    /// To be asked before the state is looked at.
    pub(super) fn came(&self) -> Came {
        Came(self.changes.load(Ordering::SeqCst))
    }

    /// Sends an answer, and says how long it may be remembered.
    pub(super) fn send(&self, came: Came, send: impl FnOnce(Duration)) {
        let _gate = self.gate.read();
        let unchanged = self.changes.load(Ordering::SeqCst) == came.0;
        send(if unchanged { REMEMBER } else { Duration::ZERO });
    }

    /// Whether pages that the kernel holds of a file are good.
    pub(super) fn keeps_pages(&self, node: NodeId) -> bool {
        !self.stale.lock().contains(&node)
    }

    /// Starts the thread that tells the kernel.
    pub(super) fn tell(self: &Arc<Self>, notifier: Notifier) -> std::io::Result<()> {
        let this = self.clone();
        let run = move || {
            while let Some(news) = this.next() {
                // From here on no answer made before these changes is on its way.
                drop(this.gate.write());
                this.pass_on(&news, &notifier);
            }
        };
        // Nobody waits for it: it may hang in the kernel for as long as a request does.
        std::thread::Builder::new()
            .name("invalidate".into())
            .spawn(run)
            .map(drop)
    }

    /// Ends the thread.
    pub(super) fn over(&self) {
        self.news.lock().over = true;
        self.wake.notify_all();
    }

    fn next(&self) -> Option<News> {
        let mut news = self.news.lock();
        while news.entries.is_empty() && news.nodes.is_empty() && !news.over {
            self.wake.wait(&mut news);
        }
        if news.over {
            None
        } else {
            Some(std::mem::take(&mut *news))
        }
    }

    fn pass_on(&self, news: &News, notifier: &Notifier) {
        for (parent, name) in &news.entries {
            let name = shown(name);
            report(notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(&name)));
        }
        for (node, content) in &news.nodes {
            // A negative offset leaves the pages alone and drops the attributes.
            let offset = if *content { 0 } else { -1 };
            report(notifier.inval_inode(INodeNo(node.0), offset, 0));
            if *content
                && !self
                    .news
                    .lock()
                    .nodes
                    .get(node)
                    .is_some_and(|content| *content)
            {
                self.stale.lock().remove(node);
            }
        }
    }

    fn add(&self, add: impl FnOnce(&mut News)) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        add(&mut self.news.lock());
        self.wake.notify_all();
    }
}

impl Invalidate for KernelMemory {
    fn entry(&self, parent: NodeId, name: &str) {
        self.add(|news| {
            news.entries.insert((parent, name.to_owned()));
        });
    }

    fn node(&self, node: NodeId, content: bool) {
        if content {
            self.stale.lock().insert(node);
        }
        self.add(|news| *news.nodes.entry(node).or_default() |= content);
    }
}

/// What the kernel does not remember is no error; a mount that is gone ends the session anyway.
fn report(told: std::io::Result<()>) {
    if let Err(error) = told {
        tracing::debug!(%error, "the kernel did not take a notice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(memory: &KernelMemory, came: Came) -> Duration {
        let mut for_how_long = None;
        memory.send(came, |ttl| for_how_long = Some(ttl));
        for_how_long.unwrap()
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_remembered() {
        let memory = KernelMemory::default();
        let before = memory.came();
        assert_eq!(remembered(&memory, before), REMEMBER);
        memory.entry(NodeId(1), "a");
        assert_eq!(remembered(&memory, before), Duration::ZERO);
        assert_eq!(remembered(&memory, memory.came()), REMEMBER);
    }

    #[test]
    fn pages_are_not_kept_over_an_open_until_the_kernel_has_dropped_them() {
        let memory = KernelMemory::default();
        memory.node(NodeId(2), false);
        assert!(memory.keeps_pages(NodeId(2)));
        memory.node(NodeId(2), true);
        assert!(!memory.keeps_pages(NodeId(2)));
    }

    #[test]
    fn a_burst_is_told_as_each_thing_once() {
        let memory = KernelMemory::default();
        for _ in 0..1000 {
            memory.entry(NodeId(1), "a");
            memory.node(NodeId(2), false);
        }
        memory.node(NodeId(2), true);
        memory.node(NodeId(2), false);
        let news = memory.next().unwrap();
        assert_eq!(news.entries.len(), 1);
        assert_eq!(news.nodes, HashMap::from([(NodeId(2), true)]));
        memory.over();
        assert!(memory.next().is_none());
    }
}
