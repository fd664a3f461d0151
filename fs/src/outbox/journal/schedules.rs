//! The committer and those who wait for it, in many orders: every ticket is answered, what is
//! promised is there, and a stop ends.

use std::time::SystemTime;

use shuttle::future::block_on;

use super::*;
use crate::threads::thread;
use crate::threads::tried::in_many_orders;
use crate::tree::{Kind, Place, QuickXorHash, encode};
use crate::vfs::tests::fragile_disk::{Fault, FragileDisk, Left, Trouble};

/// Contents of which it is known whether they were synced.
#[derive(Default)]
struct Shelf(Mutex<BTreeSet<ContentId>>);

impl Contents for Shelf {
    fn make_durable(&self, contents: &[ContentId]) -> Vec<(ContentId, io::Error)> {
        thread::yield_now();
        self.0.lock().extend(contents);
        Vec::new()
    }

    fn remove(&self, _content: ContentId) {}
}

struct Desk {
    _dir: tempfile::TempDir,
    disk: Arc<FragileDisk>,
    shelf: Arc<Shelf>,
    journal: Arc<Journal>,
    /// As the tree's lock: changes come in one order.
    order: Mutex<()>,
}

impl Desk {
    fn new(durability: Durability) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (disk, shelf) = (
            FragileDisk::over(dir.path(), "boot"),
            Arc::<Shelf>::default(),
        );
        let journal = open(&dir, durability, shelf.clone(), disk.clone()).0;
        Self {
            _dir: dir,
            disk,
            shelf,
            journal: Arc::new(journal),
            order: Mutex::new(()),
        }
    }

    fn commit(&self, id: u64) -> Ticket {
        let _order = self.order.lock();
        self.journal.commit(seals(id))
    }

    /// What a start finds after a kill, or after a power cut.
    fn left(&self, left: Left) -> BTreeSet<u64> {
        let dir = tempfile::tempdir().unwrap();
        self.disk.now().lay(left, dir.path());
        let disk = FragileDisk::over(dir.path(), "boot");
        let (journal, found) = open(&dir, Durability::Close, Arc::default(), disk);
        journal.close();
        found.nodes.keys().map(|node| node.0).collect()
    }
}

fn open(
    dir: &tempfile::TempDir,
    durability: Durability,
    shelf: Arc<Shelf>,
    disk: Arc<FragileDisk>,
) -> (Journal, Recovered) {
    Journal::open(&dir.path().join("journal.redb"), durability, shelf, disk).unwrap()
}

fn seals(id: u64) -> Batch {
    let place = Place {
        parent: NodeId::ROOT,
        name: format!("f{id}"),
    };
    let node = Node::new(NodeId(id), place, Kind::File, SystemTime::UNIX_EPOCH);
    Batch {
        nodes: vec![(node.id, Some(encode(&node)))],
        seals: vec![Seal {
            node: node.id,
            content: ContentId(id),
            size: 1,
            hash: QuickXorHash([0; 20]),
            before: None,
        }],
        ..Batch::default()
    }
}

#[test]
fn g8_whoever_is_told_that_a_change_is_durable_finds_it_after_a_power_cut() {
    let title = "closes in groups, in many orders";
    in_many_orders("G8-groups", title, || {
        let desk = Arc::new(Desk::new(Durability::Close));
        let writers: Vec<_> = (2..5)
            .map(|id| {
                let desk = desk.clone();
                thread::spawn(move || {
                    block_on(desk.commit(id).promised()).unwrap();
                    assert!(desk.shelf.0.lock().contains(&ContentId(id)));
                    assert!(desk.left(Left::LEAST).contains(&id));
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        desk.journal.close();
        assert_eq!(desk.left(Left::LEAST), BTreeSet::from([2, 3, 4]));
    });
}

#[test]
fn g8_a_stop_ends_and_every_ticket_is_answered_whenever_it_comes() {
    let title = "changes, waits and a stop, in many orders";
    in_many_orders("G8-stop", title, || {
        for durability in [Durability::Close, Durability::Fsync] {
            let desk = Arc::new(Desk::new(durability));
            let writers: Vec<_> = (2..5)
                .map(|id| {
                    let desk = desk.clone();
                    thread::spawn(move || {
                        let ticket = desk.commit(id);
                        // One of them wants to be sure; with `fsync` the others have been promised.
                        let kept = if id == 2 {
                            block_on(ticket.durable())
                        } else {
                            block_on(ticket.promised())
                        };
                        kept.is_ok().then_some(id)
                    })
                })
                .collect();
            desk.journal.close();
            let kept: BTreeSet<u64> = writers
                .into_iter()
                .filter_map(|writer| writer.join().unwrap())
                .collect();
            let found = desk.left(Left::MOST);
            assert!(found.is_superset(&kept), "{found:?} and not {kept:?}");
        }
    });
}

#[test]
fn g8_changes_that_nobody_waits_for_are_written_and_a_wait_for_all_covers_them() {
    let title = "`fsync`: changes, and a wait for all, in many orders";
    in_many_orders("G8-hurry", title, || {
        let desk = Arc::new(Desk::new(Durability::Fsync));
        let writers: Vec<_> = (2..4)
            .map(|id| {
                let desk = desk.clone();
                thread::spawn(move || {
                    let ticket = desk.commit(id);
                    block_on(desk.journal.everything().durable()).unwrap();
                    assert!(desk.left(Left::LEAST).contains(&id));
                    drop(ticket);
                })
            })
            .collect();
        let alone = desk.commit(9);
        // Without hurry: after a while it is written all the same.
        block_on(alone.outcome).unwrap().unwrap();
        assert!(desk.left(Left::LEAST).contains(&9));
        for writer in writers {
            writer.join().unwrap();
        }
        desk.journal.close();
    });
}

#[test]
fn g8_while_the_disk_fails_nobody_waits_for_ever_and_afterwards_everything_is_written() {
    let title = "a disk that fails and gets well, in many orders";
    in_many_orders("G8-failing", title, || {
        let desk = Arc::new(Desk::new(Durability::Close));
        desk.disk
            .fail(Fault::From(desk.disk.calls() + 3), Trouble::Broken);
        let writers: Vec<_> = (2..4)
            .map(|id| {
                let desk = desk.clone();
                thread::spawn(move || {
                    let done = block_on(desk.commit(id).promised());
                    if done.is_ok() {
                        assert!(desk.left(Left::LEAST).contains(&id));
                    }
                })
            })
            .collect();
        let healer = desk.clone();
        let healing = thread::spawn(move || drop(healer.disk.heal()));
        for one in writers.into_iter().chain([healing]) {
            one.join().unwrap();
        }
        // Refused or not, all of them are written in the end: the tree has them.
        block_on(desk.journal.everything().durable()).unwrap();
        assert!(desk.journal.failing().is_none());
        assert_eq!(desk.left(Left::LEAST), BTreeSet::from([2, 3]));
        desk.journal.close();
    });
}
