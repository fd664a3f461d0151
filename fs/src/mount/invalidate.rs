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
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use fuser::{INodeNo, Notifier};

use crate::ports::Invalidate;
use crate::threads::atomic::{AtomicU64, Ordering};
use crate::threads::{Condvar, Mutex, RwLock, thread};
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
    told: Mutex<Told>,
    wake: Condvar,
}

/// What the kernel was told, and is to be told.
#[derive(Default)]
struct Told {
    news: News,
    /// Files whose pages in the kernel are known to be old, and not yet dropped.
    stale: HashSet<NodeId>,
    over: bool,
}

/// Each thing once, so a burst of news is no longer than what is known of the drive.
#[derive(Default)]
struct News {
    entries: HashSet<(NodeId, String)>,
    /// With `true`, their pages too.
    nodes: HashMap<NodeId, bool>,
}

/// Who forgets.
pub(super) trait Forgets: Send + 'static {
    /// What a name stands for.
    fn entry(&self, parent: NodeId, name: &[u8]) -> io::Result<()>;

    /// Attributes; with `pages`, what it holds of the content, too.
    fn node(&self, node: NodeId, pages: bool) -> io::Result<()>;
}

impl Forgets for Notifier {
    fn entry(&self, parent: NodeId, name: &[u8]) -> io::Result<()> {
        self.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
    }

    fn node(&self, node: NodeId, pages: bool) -> io::Result<()> {
        // A negative offset leaves the pages alone and drops the attributes.
        self.inval_inode(INodeNo(node.0), if pages { 0 } else { -1 }, 0)
    }
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
        !self.told.lock().stale.contains(&node)
    }

    /// Starts the thread that tells the kernel.
    pub(super) fn tell(self: &Arc<Self>, kernel: impl Forgets) -> io::Result<()> {
        let this = self.clone();
        let run = move || {
            while let Some(news) = this.next() {
                // From here on no answer made before these changes is on its way.
                drop(this.gate.write());
                this.pass_on(&news, &kernel);
            }
        };
        // Nobody waits for it: it may hang in the kernel for as long as a request does.
        thread::Builder::new()
            .name("invalidate".into())
            .spawn(run)
            .map(drop)
    }

    /// Ends the thread.
    pub(super) fn over(&self) {
        self.told.lock().over = true;
        self.wake.notify_all();
    }

    fn next(&self) -> Option<News> {
        let mut told = self.told.lock();
        while told.news.entries.is_empty() && told.news.nodes.is_empty() && !told.over {
            self.wake.wait(&mut told);
        }
        if told.over {
            None
        } else {
            Some(std::mem::take(&mut told.news))
        }
    }

    fn pass_on(&self, news: &News, kernel: &impl Forgets) {
        for (parent, name) in &news.entries {
            let name = shown(name);
            report(kernel.entry(*parent, &name));
        }
        for (node, content) in &news.nodes {
            report(kernel.node(*node, *content));
            if *content {
                let mut told = self.told.lock();
                // Unless they are old again.
                if told.news.nodes.get(node) != Some(&true) {
                    told.stale.remove(node);
                }
            }
        }
    }

    fn add(&self, add: impl FnOnce(&mut Told)) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        add(&mut self.told.lock());
        self.wake.notify_all();
    }
}

impl Invalidate for KernelMemory {
    fn entry(&self, parent: NodeId, name: &str) {
        self.add(|told| {
            told.news.entries.insert((parent, name.to_owned()));
        });
    }

    fn node(&self, node: NodeId, content: bool) {
        self.add(|told| {
            *told.news.nodes.entry(node).or_default() |= content;
            if content {
                told.stale.insert(node);
            }
        });
    }
}

/// What the kernel does not remember is no error; a mount that is gone ends the session anyway.
fn report(told: io::Result<()>) {
    if let Err(error) = told {
        tracing::debug!(%error, "the kernel did not take a notice");
    }
}

#[cfg(all(test, feature = "schedules"))]
mod schedules;
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
