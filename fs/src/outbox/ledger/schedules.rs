//! Changes of the tree by several at once, in many orders: the journal has them in the order of the tree.

use std::path::Path;
use std::time::SystemTime;

use shuttle::future::block_on;

use super::super::journal::{Contents, Durability};
use super::*;
use crate::threads::thread;
use crate::threads::tried::in_many_orders;
use crate::tree::{Kind, Stored};
use crate::vfs::tests::fragile_disk::{FragileDisk, Left};

/// No contents at all.
struct Nothing;

impl Contents for Nothing {
    fn make_durable(&self, _contents: &[ContentId]) -> Vec<(ContentId, std::io::Error)> {
        Vec::new()
    }

    fn remove(&self, _content: ContentId) {}
}

fn open(dir: &Path, disk: Arc<FragileDisk>, durability: Durability) -> Ledger {
    let path = dir.join("journal.redb");
    let (journal, mut found) = Journal::open(&path, durability, Arc::new(Nothing), disk).unwrap();
    let stored: Stored = found.take_stored();
    let tree = Tree::load(stored, "host".into(), SystemTime::UNIX_EPOCH);
    Ledger::new(tree, journal, "/mount")
}

fn nodes(ledger: &Ledger) -> Vec<Node> {
    let books = ledger.books();
    let mut all: Vec<Node> = books.tree.nodes().cloned().collect();
    all.sort_by_key(|node| node.id.0);
    all
}

#[test]
fn g8_the_journal_has_the_tree_that_everybody_saw_whoever_changed_it_when() {
    let title = "changes of one name by several, in many orders";
    in_many_orders("G8-ledger", title, || {
        let now = SystemTime::UNIX_EPOCH;
        for durability in [Durability::Close, Durability::Fsync] {
            let dir = tempfile::tempdir().unwrap();
            let disk = FragileDisk::over(dir.path(), "boot");
            let ledger = Arc::new(open(dir.path(), disk.clone(), durability));
            let all: Vec<_> = (0..3)
                .map(|_| {
                    let ledger = ledger.clone();
                    thread::spawn(move || {
                        let (made, ticket) = ledger.change(|books| {
                            books
                                .tree
                                .create(NodeId::ROOT, "a", Kind::Directory, now)
                                .is_ok()
                        });
                        block_on(ticket.promised()).unwrap();
                        let (gone, ticket) =
                            ledger.change(|books| books.tree.rmdir(NodeId::ROOT, "a", now).is_ok());
                        block_on(ticket.durable()).unwrap();
                        (made, gone)
                    })
                })
                .collect();
            let done: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
            let made = done.iter().filter(|(made, _)| *made).count();
            let gone = done.iter().filter(|(_, gone)| *gone).count();
            let left = usize::from(ledger.books().tree.child(NodeId::ROOT, "a").is_some());
            assert_eq!(made, gone + left);
            let seen = nodes(&ledger);
            block_on(ledger.journal().everything().durable()).unwrap();
            ledger.journal().close();
            let cut = tempfile::tempdir().unwrap();
            disk.now().lay(Left::LEAST, cut.path());
            let disk = FragileDisk::over(cut.path(), "boot");
            let again = open(cut.path(), disk, durability);
            assert_eq!(nodes(&again), seen);
            again.journal().close();
        }
    });
}
