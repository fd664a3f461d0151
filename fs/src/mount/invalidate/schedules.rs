//! Changes, notices and opens, in many orders.

use super::*;
use crate::threads::thread;
use crate::threads::tried::in_many_orders;

const FILE: NodeId = NodeId(2);

/// How often the file has changed on the drive, and as of which change the kernel has pages at most.
#[derive(Default)]
struct Seen {
    changed: AtomicU64,
    dropped: AtomicU64,
}

struct Kernel(Arc<Seen>);

impl Forgets for Kernel {
    fn entry(&self, _parent: NodeId, _name: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn node(&self, _node: NodeId, pages: bool) -> io::Result<()> {
        if pages {
            let now = self.0.changed.load(Ordering::SeqCst);
            self.0.dropped.fetch_max(now, Ordering::SeqCst);
        }
        Ok(())
    }
}

#[test]
fn g8_no_open_keeps_pages_from_before_a_change_and_every_change_is_told() {
    let title = "changes, notices and opens, in many orders";
    in_many_orders("G8-kernel", title, || {
        let (memory, seen) = (Arc::new(KernelMemory::default()), Arc::new(Seen::default()));
        memory.tell(Kernel(seen.clone())).unwrap();
        let (teller, changes) = (memory.clone(), seen.clone());
        let told = Arc::new(AtomicU64::new(0));
        let tells = told.clone();
        let changing = thread::spawn(move || {
            for change in 1..=3 {
                changes.changed.store(change, Ordering::SeqCst);
                teller.node(FILE, true);
                tells.store(change, Ordering::SeqCst);
                teller.entry(NodeId::ROOT, "a");
            }
        });
        for _ in 0..4 {
            let told = told.load(Ordering::SeqCst);
            if memory.keeps_pages(FILE) {
                let dropped = seen.dropped.load(Ordering::SeqCst);
                assert!(told <= dropped, "kept pages of {dropped} after {told}");
            }
        }
        changing.join().unwrap();
        // Whatever is waiting is told without anything else happening.
        while !memory.keeps_pages(FILE) {
            thread::yield_now();
        }
        assert_eq!(seen.dropped.load(Ordering::SeqCst), 3);
        memory.over();
    });
}

/// Forgets what was answered.
struct Forgetful(Arc<AtomicU64>);

/// Nothing in mind.
const NONE: u64 = u64::MAX;

impl Forgets for Forgetful {
    fn entry(&self, _parent: NodeId, _name: &[u8]) -> io::Result<()> {
        self.0.store(NONE, Ordering::SeqCst);
        Ok(())
    }

    fn node(&self, _node: NodeId, _pages: bool) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn g8_an_answer_that_is_remembered_was_made_from_the_last_state_that_was_told() {
    let title = "answers and notices, in many orders";
    in_many_orders("G8-answers", title, || {
        let (memory, seen) = (Arc::new(KernelMemory::default()), Arc::new(Seen::default()));
        let mind = Arc::new(AtomicU64::new(NONE));
        memory.tell(Forgetful(mind.clone())).unwrap();
        let (teller, changes) = (memory.clone(), seen.clone());
        let changing = thread::spawn(move || {
            for change in 1..=2 {
                changes.changed.store(change, Ordering::SeqCst);
                teller.entry(NodeId::ROOT, "a");
            }
        });
        for _ in 0..3 {
            let came = memory.came();
            let state = seen.changed.load(Ordering::SeqCst);
            memory.send(came, |remember| {
                if remember > Duration::ZERO {
                    mind.store(state, Ordering::SeqCst);
                }
            });
        }
        changing.join().unwrap();
        // Once all is told, what is in mind is the last state, or nothing.
        loop {
            let now = mind.load(Ordering::SeqCst);
            if now == NONE || now == 2 {
                break;
            }
            thread::yield_now();
        }
        memory.over();
    });
}
