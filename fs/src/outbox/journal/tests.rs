//! The database and the committer, on a real disk.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::*;
use crate::content::Host;
use crate::tree::{Generation, Held, Kind, Place, QuickXorHash, encode};
use crate::vfs::tests::fragile_disk::{Call, Fault, FragileDisk, Left, Trouble};

/// Contents that are only counted, and that the disk refuses on demand.
#[derive(Default)]
struct Shelf {
    synced: Mutex<Vec<ContentId>>,
    removed: Mutex<Vec<ContentId>>,
    refused: Mutex<HashSet<ContentId>>,
}

impl Contents for Shelf {
    fn make_durable(&self, contents: &[ContentId]) -> Vec<(ContentId, io::Error)> {
        let refused = self.refused.lock();
        self.synced.lock().extend(contents);
        contents
            .iter()
            .filter(|content| refused.contains(content))
            .map(|content| (*content, io::Error::other("lost")))
            .collect()
    }

    fn remove(&self, content: ContentId) {
        self.removed.lock().push(content);
    }
}

struct Desk {
    dir: tempfile::TempDir,
    shelf: Arc<Shelf>,
}

impl Desk {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            shelf: Arc::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal.redb")
    }

    fn open(&self) -> (Journal, Recovered) {
        self.open_for(Durability::Close)
    }

    fn open_for(&self, durability: Durability) -> (Journal, Recovered) {
        Journal::open(&self.path(), durability, self.shelf.clone(), Arc::new(Host)).unwrap()
    }

    /// What a start finds after the daemon was killed: nothing of the state is written any more.
    fn killed(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        Self {
            dir,
            shelf: Arc::default(),
        }
    }

    fn removed(&self) -> Vec<ContentId> {
        std::mem::take(&mut *self.shelf.removed.lock())
    }
}

fn node(id: u64, name: &str) -> Node {
    let place = Place {
        parent: NodeId::ROOT,
        name: name.to_owned(),
    };
    Node::new(NodeId(id), place, Kind::File, SystemTime::UNIX_EPOCH)
}

fn writes(node: &Node) -> Batch {
    Batch {
        nodes: vec![(node.id, Some(encode(node)))],
        ..Batch::default()
    }
}

fn seals(content: u64, before: Option<u64>) -> Batch {
    let mut batch = writes(&node(2, "sealed"));
    batch.seals.push(Seal {
        node: NodeId(2),
        content: ContentId(content),
        size: 3,
        hash: QuickXorHash([7; 20]),
        before: before.map(|content| Held {
            content: ContentId(content),
            generation: Generation(content),
            size: 3,
            hash: None,
        }),
    });
    batch
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let desk = Desk::new();
    let (journal, found) = desk.open();
    assert!(found.nodes.is_empty());
    let tickets: Vec<Ticket> = (2..52)
        .map(|id| journal.commit(writes(&node(id, &format!("f{id}")))))
        .collect();
    for ticket in tickets {
        ticket.durable().await.unwrap();
    }
    let (_journal, found) = desk.killed().open();
    assert_eq!(found.nodes.len(), 50);
    assert_eq!(found.nodes[&NodeId(2)], node(2, "f2"));
}

#[test]
fn a_second_daemon_on_one_journal_is_refused() {
    let desk = Desk::new();
    let _first = desk.open();
    assert!(matches!(
        Journal::open(
            &desk.path(),
            Durability::Close,
            desk.shelf.clone(),
            Arc::new(Host)
        ),
        Err(JournalError::InUse(_))
    ));
}

#[tokio::test]
async fn garbage_is_removed_once_it_is_durable_and_told_again_until_then() {
    let desk = Desk::new();
    let (journal, _) = desk.open();
    let batch = Batch {
        garbage: vec![ContentId(7)],
        ..Batch::default()
    };
    journal.commit(batch).durable().await.unwrap();
    assert_eq!(desk.removed(), [ContentId(7)]);
    drop(journal);
    let (_journal, found) = desk.open();
    assert!(
        found.garbage.iter().eq(&[ContentId(7)]),
        "the row goes with the next batch"
    );
}

#[tokio::test]
async fn a_damaged_row_is_reported_and_the_rest_goes_on() {
    let desk = Desk::new();
    let (journal, _) = desk.open();
    let mut batch = writes(&node(2, "good"));
    batch.nodes.push((NodeId(3), Some(b"{\"torn".to_vec())));
    journal.commit(batch).durable().await.unwrap();
    drop(journal);
    let (_journal, found) = desk.open();
    assert!(found.nodes.values().eq(&[node(2, "good")]));
    assert_eq!(found.damaged.len(), 1);
    assert_eq!(found.damaged[0].what, "node 3");
    assert_eq!(found.damaged[0].row, b"{\"torn");
}

#[tokio::test]
async fn a_journal_of_a_newer_program_is_refused_and_one_of_an_older_is_brought_here() {
    let desk = Desk::new();
    let lay = async |layout: u32| {
        let (journal, _) = desk.open();
        let mut batch = writes(&node(2, "kept"));
        batch.fact("layout", Some(&layout));
        journal.commit(batch).durable().await.unwrap();
    };
    lay(1).await;
    let (journal, found) = desk.open();
    assert!(found.nodes.values().eq(&[node(2, "kept")]));
    assert_eq!(found.fact("layout"), Some(LAYOUT));
    drop(journal);
    lay(LAYOUT + 1).await;
    assert!(matches!(
        Journal::open(&desk.path(), Durability::Close, desk.shelf.clone(), Arc::new(Host)),
        Err(JournalError::Newer { found, .. }) if found == LAYOUT + 1
    ));
}

#[tokio::test]
async fn a_seal_is_acknowledged_once_its_bytes_are_on_the_disk_and_then_what_was_before_goes() {
    let desk = Desk::new();
    let (journal, _) = desk.open();
    journal.commit(seals(5, None)).durable().await.unwrap();
    assert_eq!(*desk.shelf.synced.lock(), [ContentId(5)]);
    journal.commit(seals(6, Some(5))).durable().await.unwrap();
    assert_eq!(*desk.shelf.synced.lock(), [ContentId(5), ContentId(6)]);
    assert_eq!(desk.removed(), [ContentId(5)]);
    // A power cut right now may have taken the bytes of the last one only.
    let (_journal, found) = desk.killed().open();
    assert!(found.seals.keys().eq(&[ContentId(6)]));
    assert_eq!(found.seals[&ContentId(6)], seals(6, Some(5)).seals[0]);
}

#[tokio::test]
async fn bytes_that_the_disk_refuses_are_not_acknowledged_and_cost_nothing_that_was_before() {
    let desk = Desk::new();
    let (journal, _) = desk.open();
    journal.commit(seals(5, None)).durable().await.unwrap();
    desk.shelf.refused.lock().insert(ContentId(6));
    let refused = journal
        .commit(seals(6, Some(5)))
        .durable()
        .await
        .unwrap_err();
    assert!(refused.lost, "{refused}");
    assert!(journal.failing().is_none(), "the journal itself is well");
    journal
        .commit(writes(&node(3, "other")))
        .durable()
        .await
        .unwrap();
    assert_eq!(desk.removed(), []);
    let (_journal, found) = desk.killed().open();
    assert!(found.seals.keys().eq(&[ContentId(6)]), "still to be proven");
    // The next that the disk takes settles it.
    journal.commit(seals(7, Some(6))).durable().await.unwrap();
    assert_eq!(desk.removed(), [ContentId(5), ContentId(6)]);
}

#[tokio::test]
async fn with_fsync_a_change_is_promised_before_any_barrier_and_survives_a_kill() {
    let desk = Desk::new();
    let (journal, _) = desk.open_for(Durability::Fsync);
    let first = journal.commit(writes(&node(2, "first")));
    let second = journal.commit(seals(5, None));
    first.promised().await.unwrap();
    second.promised().await.unwrap();
    assert_eq!(*desk.shelf.synced.lock(), []);
    let killed = desk.killed();
    // Whatever the setting is then: it was acknowledged.
    let (_journal, found) = killed.open();
    assert!(found.nodes.values().eq(&[node(2, "sealed")]));
    assert!(found.seals.keys().eq(&[ContentId(5)]), "to be looked at");
    let log = std::fs::read(killed.dir.path().join("changes.log")).unwrap();
    assert!(log.is_empty(), "all of it is in the database");
}

#[tokio::test]
async fn with_fsync_whoever_asks_for_it_waits_for_the_barrier_and_nobody_else_does() {
    let desk = Desk::new();
    let (journal, _) = desk.open_for(Durability::Fsync);
    let ticket = journal.commit(seals(5, None));
    journal.everything().durable().await.unwrap();
    assert_eq!(*desk.shelf.synced.lock(), [ContentId(5)]);
    ticket.durable().await.unwrap();
    // And without anybody, soon enough.
    let ticket = journal.commit(seals(6, Some(5)));
    let outcome = tokio::time::timeout(Duration::from_secs(30), ticket.outcome).await;
    assert_eq!(outcome.unwrap().unwrap(), Ok(()));
    assert_eq!(desk.removed(), [ContentId(5)]);
}

#[tokio::test]
async fn what_is_in_the_database_is_not_taken_from_the_log_again() {
    let desk = Desk::new();
    let (journal, _) = desk.open_for(Durability::Fsync);
    journal
        .commit(writes(&node(2, "old")))
        .durable()
        .await
        .unwrap();
    let gone = Batch {
        nodes: vec![(NodeId(2), None)],
        ..Batch::default()
    };
    journal.commit(gone).durable().await.unwrap();
    let (_journal, found) = desk.killed().open_for(Durability::Fsync);
    assert!(found.nodes.is_empty());
}

/// A journal on a disk of which all barriers are known.
fn open_on(dir: &Path, disk: &Arc<FragileDisk>) -> (Journal, Recovered) {
    let path = dir.join("journal.redb");
    Journal::open(
        &path,
        Durability::Close,
        Arc::<Shelf>::default(),
        disk.clone(),
    )
    .unwrap()
}

#[tokio::test]
async fn what_is_acknowledged_after_a_barrier_that_failed_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let (journal, _) = open_on(dir.path(), &disk);
    let (first, second) = (node(2, "first"), node(3, "second"));
    disk.fail(Fault::Each(Call::SyncFile), Trouble::Broken);
    journal.commit(writes(&first)).durable().await.unwrap_err();
    disk.heal();
    while journal.commit(writes(&second)).durable().await.is_err() {}
    let left = tempfile::tempdir().unwrap();
    disk.now().lay(Left::LEAST, left.path());
    let (_, recovered) = open_on(left.path(), &FragileDisk::over(left.path(), "next"));
    let names = recovered.nodes.into_keys().collect::<Vec<_>>();
    assert_eq!(names, [first.id, second.id]);
}

#[tokio::test]
async fn what_a_start_finds_in_memory_alone_survives_a_power_cut_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let (journal, _) = open_on(dir.path(), &disk);
    let found = node(2, "found");
    journal.commit(writes(&found)).durable().await.unwrap();
    let killed = tempfile::tempdir().unwrap();
    disk.now().lay(Left::MOST, killed.path());
    let disk = FragileDisk::over(killed.path(), "boot");
    disk.forget_barriers("journal.redb", true);
    let (_again, _) = open_on(killed.path(), &disk);
    let left = tempfile::tempdir().unwrap();
    disk.now().lay(Left::LEAST, left.path());
    let (_, recovered) = open_on(left.path(), &FragileDisk::over(left.path(), "next"));
    assert_eq!(recovered.nodes.into_keys().collect::<Vec<_>>(), [found.id]);
}
