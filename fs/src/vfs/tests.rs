//! The use cases over a drive in memory: what applications see, what the drive gets, and what a
//! restart keeps.

mod agree;
mod damage;
mod decay;
mod descriptions;
mod durability;
mod faults;
pub(crate) mod fragile_disk;
mod full;
#[path = "../../../tests/harness/gate.rs"]
#[expect(unreachable_pub, reason = "the tests from outside use it, too")]
pub(crate) mod gate;
mod lost_replies;
mod memory_drive;
mod model;
mod numbers;
mod outdated;
mod overlap;
mod parked;
mod power;
mod refused;
mod remote;
mod room;
mod shared;
mod starts;
mod through;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use memory_drive::{MemoryDrive, ROOT};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::content::{Disk, Host};
use crate::outbox::drain::OutboxConfig;
use crate::outbox::feed::What;
use crate::outbox::journal::Durability;
use crate::sync::{Sync, SyncConfig};
use crate::tree::{Baseline, Generation, ItemId};

const WRITE: OpenMode = OpenMode {
    read: true,
    write: true,
    truncate: false,
};
const READ: OpenMode = OpenMode {
    read: true,
    write: false,
    truncate: false,
};

/// More than this many removals at once are held back.
const GUARD: usize = 6;

struct Rig {
    dir: tempfile::TempDir,
    drive: Arc<MemoryDrive>,
    vfs: Arc<Vfs>,
    sync: Sync,
    report: Vec<String>,
    outbox: Arc<Outbox>,
    disk: Arc<dyn Disk>,
    /// Readers who have a file open that the kernel reads by itself.
    held: Mutex<Vec<HandleId>>,
}

impl Rig {
    async fn new() -> Self {
        Self::start(tempfile::tempdir().unwrap(), Arc::default()).await
    }

    async fn start(dir: tempfile::TempDir, drive: Arc<MemoryDrive>) -> Self {
        Self::start_with(dir, drive, Durability::Close).await
    }

    async fn start_with(
        dir: tempfile::TempDir,
        drive: Arc<MemoryDrive>,
        durability: Durability,
    ) -> Self {
        Self::start_on(Arc::new(Host), dir, drive, durability)
            .await
            .unwrap()
    }

    async fn start_on(
        disk: Arc<dyn Disk>,
        dir: tempfile::TempDir,
        drive: Arc<MemoryDrive>,
        durability: Durability,
    ) -> Result<Self, StartError> {
        let path = dir.path().to_owned();
        let under = disk.clone();
        let recovery = tokio::task::spawn_blocking(move || {
            recover(&path, disk, "host", "/mount", durability, SystemTime::now())
        })
        .await
        .unwrap()?;
        let ledger = recovery.ledger.clone();
        let ((), _ticket) = ledger.change(|books| {
            books.tree.edit(NodeId::ROOT, SystemTime::now(), |root| {
                root.baseline = Some(Baseline {
                    item: ItemId::new(ROOT),
                    parent: ItemId::new("above"),
                    name: "mount".into(),
                    etag: None,
                    ctag: None,
                    size: 0,
                    hash: None,
                    generation: Generation(0),
                });
            });
        });
        let outbox = Arc::new(Outbox::new(
            ledger.clone(),
            recovery.store.clone(),
            drive.clone(),
            OutboxConfig {
                settle: Duration::ZERO,
                uploads: 4,
                grace: Duration::from_secs(2),
                drive_has_versions: false,
            },
        ));
        let budget = Budget {
            max_size: 1 << 30,
            max_age: Duration::from_hours(1),
            min_free: 0,
        };
        let config = VfsConfig {
            timeout: Duration::from_secs(5),
            read_only: false,
            drive_has_versions: false,
            guard: Some(GUARD),
            budget,
            patience: Duration::from_millis(20),
        };
        let link = recovery.fact(crate::sync::LINK_FACT);
        let vfs = Vfs::new(
            ledger,
            recovery.store.clone(),
            recovery.intents.clone(),
            drive.clone(),
            outbox.clone(),
            config,
        );
        vfs.pass_through();
        let sync = Sync::new(
            vfs.clone(),
            drive.clone(),
            SyncConfig {
                poll: Duration::from_secs(10),
                delta: true,
            },
            link,
        );
        Ok(Self {
            dir,
            drive,
            vfs,
            sync,
            report: recovery.report,
            outbox,
            disk: under,
            held: Mutex::default(),
        })
    }

    /// Sends what is pending, until nothing more can be sent.
    async fn drain(&self) {
        let stop = CancellationToken::new();
        stop.cancel();
        self.outbox.clone().run(stop).await;
    }

    /// Ends this run as SIGKILL would: nothing is finished, nothing is told.
    async fn restart(self) -> Self {
        let Self {
            dir,
            drive,
            vfs,
            sync,
            outbox,
            ..
        } = self;
        vfs.quiesce(Duration::from_secs(10)).await;
        vfs.ledger().journal().close();
        drop((vfs, sync, outbox));
        Self::start(dir, drive).await
    }

    async fn put(&self, parent: NodeId, name: &str, bytes: &[u8]) -> NodeId {
        let (attr, handle) = self
            .vfs
            .create(parent, name, 0o644, WRITE, false)
            .await
            .unwrap();
        self.vfs
            .set_attr(
                attr.node,
                SetAttr {
                    size: Some(0),
                    ..SetAttr::default()
                },
                Some(handle),
            )
            .await
            .unwrap();
        self.vfs
            .write(handle, 0, Bytes::copy_from_slice(bytes))
            .await
            .unwrap();
        self.vfs.flush(handle).await.unwrap();
        self.vfs.release(handle).await;
        attr.node
    }

    async fn get(&self, parent: NodeId, name: &str) -> Result<Vec<u8>, VfsError> {
        let attr = self.vfs.lookup(parent, name).await?;
        let handle = self.vfs.open(attr.node, READ).await?;
        let bytes = self.vfs.read(handle, 0, 1 << 20).await;
        self.vfs.release(handle).await;
        let bytes = bytes?.to_vec();
        // Of a file that was not here, the drive may have told an older size.
        assert_eq!(bytes.len() as u64, self.vfs.attr(attr.node).await?.size);
        Ok(bytes)
    }

    /// The item that a name stands for.
    async fn item(&self, parent: NodeId, name: &str) -> ItemId {
        let node = self.vfs.lookup(parent, name).await.unwrap().node;
        let books = self.vfs.ledger().books();
        books.tree.item_of(node).unwrap().clone()
    }

    /// Makes an item older than the time for which our own writes outweigh what is listed.
    fn age(&self, item: &ItemId) {
        self.vfs.ledger().books().tree.outlive(item);
    }

    /// Lets two minutes pass for what a request may have made and nobody has found.
    /// As if the drive had had the time that it may take to show everything.
    fn give_up_seeking(&self) {
        let ((), _ticket) = self.vfs.ledger().change(|books| {
            books.tree.age(Duration::from_mins(3));
            let graves: Vec<_> = books.tree.graves().cloned().collect();
            for mut grave in graves.into_iter().filter(|grave| grave.sought) {
                grave.since -= Duration::from_mins(3);
                books.tree.set_grave(grave.item.clone(), Some(grave));
            }
        });
    }

    fn drive_has(&self, expected: &[(&str, Option<&[u8]>)]) {
        let dump = self.drive.dump();
        let seen: Vec<_> = dump
            .iter()
            .map(|(p, b)| (p.as_str(), b.as_deref()))
            .collect();
        assert_eq!(seen, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_file_is_readable_at_once_and_costs_one_request() {
    let rig = Rig::new().await;
    rig.put(NodeId::ROOT, "a.gif", b"GIF89a").await;
    assert_eq!(rig.get(NodeId::ROOT, "a.gif").await.unwrap(), b"GIF89a");
    rig.drive.calls();
    rig.drain().await;
    assert_eq!(rig.drive.calls(), ["create a.gif"]);
    rig.drive_has(&[("a.gif", Some(b"GIF89a"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_file_survives_a_restart_without_the_network() {
    let rig = Rig::new().await;
    let dir = rig
        .vfs
        .mkdir(NodeId::ROOT, "2026", 0o755)
        .await
        .unwrap()
        .node;
    rig.put(dir, "a.gif", b"GIF89a").await;
    rig.drive.set_offline(true);
    let rig = rig.restart().await;
    let dir = rig.vfs.lookup(NodeId::ROOT, "2026").await.unwrap().node;
    assert_eq!(rig.get(dir, "a.gif").await.unwrap(), b"GIF89a");
    rig.drive.set_offline(false);
    rig.drain().await;
    rig.drive_has(&[("2026/", None), ("2026/a.gif", Some(b"GIF89a"))]);
    assert_eq!(rig.report, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_and_never_closed_is_saved_after_a_kill() {
    let rig = Rig::new().await;
    let (_, handle) = rig
        .vfs
        .create(NodeId::ROOT, "a", 0o644, WRITE, false)
        .await
        .unwrap();
    rig.vfs
        .write(handle, 0, Bytes::from_static(b"half"))
        .await
        .unwrap();
    let (_, empty) = rig
        .vfs
        .create(NodeId::ROOT, "b", 0o644, WRITE, false)
        .await
        .unwrap();
    let _ = empty;
    let rig = rig.restart().await;
    assert_eq!(rig.get(NodeId::ROOT, "a").await.unwrap(), b"half");
    assert!(matches!(
        rig.vfs.lookup(NodeId::ROOT, "b").await,
        Err(VfsError::NotFound)
    ));
    assert_eq!(
        rig.report,
        ["a was open when the daemon died; what was written is saved"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_that_was_not_closed_leaves_the_sealed_content_to_the_upload() {
    let rig = Rig::new().await;
    let id = rig.put(NodeId::ROOT, "a", b"first").await;
    let handle = rig.vfs.open(id, WRITE).await.unwrap();
    rig.vfs
        .write(handle, 0, Bytes::from_static(b"FIR"))
        .await
        .unwrap();
    rig.drain().await;
    rig.drive_has(&[("a", Some(b"first"))]);
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.release(handle).await;
    rig.drain().await;
    rig.drive_has(&[("a", Some(b"FIRst"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_after_a_flush_through_the_same_handle_is_the_next_content() {
    let rig = Rig::new().await;
    let (attr, handle) = rig
        .vfs
        .create(NodeId::ROOT, "a", 0o644, WRITE, false)
        .await
        .unwrap();
    rig.vfs
        .write(handle, 0, Bytes::from_static(b"one"))
        .await
        .unwrap();
    rig.vfs.flush(handle).await.unwrap();
    rig.drain().await;
    rig.vfs
        .write(handle, 3, Bytes::from_static(b"two"))
        .await
        .unwrap();
    rig.vfs.release(handle).await;
    rig.vfs.quiesce(Duration::from_secs(5)).await;
    rig.drain().await;
    rig.drive_has(&[("a", Some(b"onetwo"))]);
    assert_eq!(rig.vfs.attr(attr.node).await.unwrap().size, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_name_stays_readable_until_its_last_close() {
    let rig = Rig::new().await;
    let id = rig.put(NodeId::ROOT, "a", b"bytes").await;
    rig.drain().await;
    let handle = rig.vfs.open(id, WRITE).await.unwrap();
    rig.vfs.unlink(NodeId::ROOT, "a").await.unwrap();
    assert!(matches!(
        rig.vfs.lookup(NodeId::ROOT, "a").await,
        Err(VfsError::NotFound)
    ));
    assert_eq!(rig.vfs.read(handle, 0, 100).await.unwrap(), "bytes");
    rig.vfs
        .write(handle, 5, Bytes::from_static(b"!"))
        .await
        .unwrap();
    assert_eq!(rig.vfs.read(handle, 0, 100).await.unwrap(), "bytes!");
    assert_eq!(rig.vfs.attr(id).await.unwrap().size, 6);
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.release(handle).await;
    // The last close is answered before it is worked off.
    rig.vfs.quiesce(Duration::from_secs(10)).await;
    rig.drain().await;
    rig.drive_has(&[]);
    assert!(matches!(rig.vfs.attr(id).await, Err(VfsError::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_by_rename_is_one_new_version_of_the_targets_item() {
    let rig = Rig::new().await;
    let item = rig.drive.put(ROOT, "doc", b"old");
    rig.put(NodeId::ROOT, "doc.tmp", b"new").await;
    rig.vfs
        .rename(
            NodeId::ROOT,
            "doc.tmp",
            NodeId::ROOT,
            "doc",
            RenameFlags::default(),
        )
        .await
        .unwrap();
    rig.drain().await;
    rig.drive_has(&[("doc", Some(b"new"))]);
    assert_eq!(rig.drive.version(&item), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_another_client_is_seen_after_a_round_and_told_to_edges() {
    let rig = Rig::new().await;
    let item = rig.drive.put(ROOT, "a", b"old");
    assert_eq!(rig.get(NodeId::ROOT, "a").await.unwrap(), b"old");
    rig.sync.round().await.unwrap();
    let (_, mut feed) = rig.vfs.ledger().feed.follow(None);
    rig.drive.put(ROOT, "a", b"newer");
    rig.drive.put(ROOT, "b", b"b");
    rig.sync.round().await.unwrap();
    assert_eq!(rig.get(NodeId::ROOT, "a").await.unwrap(), b"newer");
    assert_eq!(rig.get(NodeId::ROOT, "b").await.unwrap(), b"b");
    let paths: Vec<String> = (0..2)
        .map(|_| match feed.try_recv().unwrap().what {
            What::Put { path, .. } => path,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(paths, ["/mount/a", "/mount/b"]);
    rig.drive.remove(&item);
    rig.sync.round().await.unwrap();
    assert!(matches!(
        rig.get(NodeId::ROOT, "a").await,
        Err(VfsError::NotFound)
    ));
    assert_eq!(
        feed.try_recv().unwrap().what,
        What::Delete {
            path: "/mount/a".into()
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_on_both_sides_keeps_both() {
    let rig = Rig::new().await;
    rig.drive.put(ROOT, "a.txt", b"base");
    let id = rig.vfs.lookup(NodeId::ROOT, "a.txt").await.unwrap().node;
    let handle = rig
        .vfs
        .open(
            id,
            OpenMode {
                truncate: true,
                ..WRITE
            },
        )
        .await
        .unwrap();
    rig.vfs
        .write(handle, 0, Bytes::from_static(b"ours"))
        .await
        .unwrap();
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.release(handle).await;
    rig.drive.put(ROOT, "a.txt", b"theirs");
    rig.drain().await;
    let mut contents: Vec<_> = rig
        .drive
        .dump()
        .into_iter()
        .map(|(p, b)| (p, b.unwrap()))
        .collect();
    let plain = contents.pop().unwrap();
    assert_eq!(plain, ("a.txt".to_owned(), b"theirs".to_vec()));
    let (name, bytes) = contents.pop().unwrap();
    assert!(
        name.starts_with("a (conflict host ") && name.ends_with(").txt"),
        "{name}"
    );
    assert_eq!(bytes, b"ours");
    assert_eq!(rig.get(NodeId::ROOT, "a.txt").await.unwrap(), b"theirs");
    assert_eq!(rig.get(NodeId::ROOT, &name).await.unwrap(), b"ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_what_was_never_asked_for_is_an_error_and_never_absent() {
    let rig = Rig::new().await;
    rig.drive.put(ROOT, "a", b"x");
    rig.drive.set_offline(true);
    let absent = rig.vfs.lookup(NodeId::ROOT, "a").await;
    assert!(
        matches!(absent, Err(VfsError::Unreachable(_))),
        "{absent:?}"
    );
    rig.drive.set_offline(false);
    rig.vfs.lookup(NodeId::ROOT, "a").await.unwrap();
    rig.drive.set_offline(true);
    assert!(matches!(
        rig.get(NodeId::ROOT, "a").await,
        Err(VfsError::Unreachable(_))
    ));
    assert!(matches!(
        rig.vfs.lookup(NodeId::ROOT, "b").await,
        Err(VfsError::NotFound)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_file_is_fetched_again_and_an_unsent_one_is_never_evicted() {
    let rig = Rig::new().await;
    rig.put(NodeId::ROOT, "sent", b"sent").await;
    rig.drain().await;
    rig.put(NodeId::ROOT, "unsent", b"unsent").await;
    let later = SystemTime::now() + Duration::from_hours(2);
    assert_eq!(rig.vfs.evict(later).0.len(), 1);
    rig.drive.calls();
    assert_eq!(rig.get(NodeId::ROOT, "sent").await.unwrap(), b"sent");
    assert_eq!(rig.get(NodeId::ROOT, "unsent").await.unwrap(), b"unsent");
    assert_eq!(rig.drive.calls(), ["read I1 0..4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_removed_only_when_the_drives_children_are_gone_too() {
    let rig = Rig::new().await;
    let dir = rig.drive.mkdir(ROOT, "d");
    rig.drive.put(dir.as_str(), "f", b"x");
    assert!(matches!(
        rig.vfs.rmdir(NodeId::ROOT, "d").await,
        Err(VfsError::NotEmpty)
    ));
    let node = rig.vfs.lookup(NodeId::ROOT, "d").await.unwrap().node;
    rig.vfs.unlink(node, "f").await.unwrap();
    rig.vfs.rmdir(NodeId::ROOT, "d").await.unwrap();
    // Meanwhile somebody puts another file there: the folder stays, with that file.
    rig.drive.put(dir.as_str(), "late", b"y");
    rig.drain().await;
    rig.drive_has(&[("d/", None), ("d/late", Some(b"y"))]);
    let node = rig.vfs.lookup(NodeId::ROOT, "d").await.unwrap().node;
    assert_eq!(rig.get(node, "late").await.unwrap(), b"y");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_deletion_of_a_folder_spares_what_was_not_sent() {
    let rig = Rig::new().await;
    let dir = rig.drive.mkdir(ROOT, "d");
    rig.drive.put(dir.as_str(), "old", b"x");
    let node = rig.vfs.lookup(NodeId::ROOT, "d").await.unwrap().node;
    rig.vfs.list(node).await.unwrap();
    rig.sync.round().await.unwrap();
    rig.put(node, "new", b"new").await;
    rig.drive.remove(&dir);
    rig.sync.round().await.unwrap();
    assert_eq!(rig.get(node, "new").await.unwrap(), b"new");
    rig.drain().await;
    let dump = rig.drive.dump();
    assert!(
        dump.contains(&("d/new".into(), Some(b"new".to_vec()))),
        "{dump:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_what_the_drive_has_replaced_since_the_open_keeps_both() {
    let rig = Rig::new().await;
    rig.drive.put(ROOT, "a.txt", b"base");
    let id = rig.vfs.lookup(NodeId::ROOT, "a.txt").await.unwrap().node;
    rig.sync.round().await.unwrap();
    let handle = rig.vfs.open(id, WRITE).await.unwrap();
    assert_eq!(rig.vfs.read(handle, 0, 10).await.unwrap(), "base");
    rig.drive.put(ROOT, "a.txt", b"theirs");
    rig.sync.round().await.unwrap();
    rig.vfs
        .write(handle, 4, Bytes::from_static(b", ours"))
        .await
        .unwrap();
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.release(handle).await;
    rig.drain().await;
    let dump = rig.drive.dump();
    let contents: Vec<_> = dump.iter().map(|(_, bytes)| bytes.as_deref()).collect();
    assert_eq!(contents, [Some(b"base, ours".as_slice()), Some(b"theirs")]);
    assert!(dump[0].0.starts_with("a (conflict host "), "{dump:?}");
    assert_eq!(rig.get(NodeId::ROOT, "a.txt").await.unwrap(), b"theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_content_that_was_damaged_is_fetched_again_and_the_only_copy_is_not_passed_over() {
    let rig = Rig::new().await;
    let sent = rig.put(NodeId::ROOT, "sent", b"sent").await;
    rig.drain().await;
    let unsent = rig.put(NodeId::ROOT, "unsent", b"unsent").await;
    for id in [sent, unsent] {
        let content = {
            let books = rig.vfs.ledger().books();
            books.node(id).unwrap().held.as_ref().unwrap().content
        };
        rig.vfs.store().load(content).unwrap().set_len(2).unwrap();
    }
    assert_eq!(rig.get(NodeId::ROOT, "sent").await.unwrap(), b"sent");
    let damaged = rig.get(NodeId::ROOT, "unsent").await;
    assert!(matches!(damaged, Err(VfsError::Damaged(_))), "{damaged:?}");
    rig.drain().await;
    assert_eq!(rig.vfs.status().parked.len(), 1, "never sent, and reported");
    rig.drive_has(&[("sent", Some(b"sent"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readers_who_complete_a_large_file_together_leave_it_in_the_cache() {
    let rig = Rig::new().await;
    let bytes: Vec<u8> = (0..9 << 20).map(|n: u32| (n % 253) as u8).collect();
    rig.drive.put(ROOT, "large", &bytes);
    let id = rig.vfs.lookup(NodeId::ROOT, "large").await.unwrap().node;
    let read = || async {
        let handle = rig.vfs.open(id, READ).await.unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let part = rig.vfs.read(handle, at as u64, 1 << 20).await.unwrap();
            assert_eq!(part, bytes[at..(at + (1 << 20)).min(bytes.len())]);
            at += part.len();
        }
        rig.vfs.release(handle).await;
    };
    tokio::join!(read(), read(), read());
    rig.drive.set_offline(true);
    read().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_nothing_is_done_at_once_and_any_other_is_not() {
    let rig = Rig::new().await;
    let sealed = rig.put(NodeId::ROOT, "sealed", b"sealed").await;
    let made = rig.vfs.create(NodeId::ROOT, "a", 0o644, WRITE, false).await;
    let (attr, handle) = made.unwrap();
    rig.vfs
        .write(handle, 0, Bytes::from_static(b"0123"))
        .await
        .unwrap();
    assert_eq!(rig.vfs.write_now(handle, 2, b"AB45"), Some(4));
    assert_eq!(rig.vfs.attr(attr.node).await.unwrap().size, 6);
    assert_eq!(rig.vfs.write_now(handle, u64::MAX, b"x"), None);
    rig.vfs.flush(handle).await.unwrap();
    assert_eq!(
        rig.vfs.write_now(handle, 0, b"x"),
        None,
        "sealed: it takes a copy"
    );
    rig.vfs.release(handle).await;
    assert_eq!(rig.get(NodeId::ROOT, "a").await.unwrap(), b"01AB45");
    let reader = rig.vfs.open(sealed, READ).await.unwrap();
    assert_eq!(rig.vfs.write_now(reader, 0, b"x"), None);
    assert_eq!(rig.vfs.write_now(HandleId(999), 0, b"x"), None);
    assert_eq!(rig.get(NodeId::ROOT, "sealed").await.unwrap(), b"sealed");
}
