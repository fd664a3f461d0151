//! Bytes that the disk refused: whoever is told that they are safe can cut the power, and whoever cannot be told so
//! hears it each time he asks.

use super::durability::{content_of, quarantined};
use super::fragile_disk::{Call, Fault, FragileDisk, Left, Trouble};
use super::*;

const NEW: &[u8] = b"what was written";

async fn rig_on(durability: Durability) -> (Rig, Arc<FragileDisk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "first");
    let rig = Rig::start_on(disk.clone(), dir, Arc::default(), durability).await;
    (rig.unwrap(), disk)
}

async fn written(rig: &Rig, name: &str) -> (NodeId, HandleId) {
    let made = rig
        .vfs
        .create(NodeId::ROOT, name, 0o644, WRITE, false)
        .await;
    let (attr, handle) = made.unwrap();
    let bytes = Bytes::from_static(NEW);
    rig.vfs.write(handle, 0, bytes).await.unwrap();
    (attr.node, handle)
}

/// What a power cut leaves of a file, with the drive out of reach.
async fn after_a_cut(disk: &FragileDisk, name: &str) -> Result<Vec<u8>, VfsError> {
    let dir = tempfile::tempdir().unwrap();
    disk.now().lay(Left::LEAST, dir.path());
    let disk = FragileDisk::over(dir.path(), "second");
    let rig = Rig::start_on(disk, dir, Arc::default(), Durability::Close).await;
    let rig = rig.unwrap();
    rig.get(NodeId::ROOT, name).await
}

/// Has each call of the disk fail in turn while a file is made safe three times, the disk being well before the
/// third; and each time that is said to have worked, cuts the power.
async fn walk(
    durability: Durability,
    fault: fn(usize) -> Fault,
    make_safe: impl AsyncFn(&Vfs, HandleId) -> Result<(), VfsError>,
) {
    for at in 0.. {
        let (rig, disk) = rig_on(durability).await;
        let (_, handle) = written(&rig, "a").await;
        disk.fail(fault(disk.calls() + at), Trouble::Broken);
        let mut struck = 0;
        for attempt in 0..3 {
            if attempt == 2 {
                struck = disk.heal().len();
                // A journal that could not be written is tried again each second.
                while rig
                    .vfs
                    .ledger()
                    .journal()
                    .everything()
                    .durable()
                    .await
                    .is_err()
                {}
            }
            let safe = make_safe(&rig.vfs, handle).await;
            let what = format!("{durability:?}, call {at}, attempt {attempt}");
            match safe {
                Ok(()) => {
                    let left = after_a_cut(&disk, "a").await;
                    assert_eq!(left.ok().as_deref(), Some(NEW), "{what}");
                }
                Err(error) => assert!(attempt < 2, "{what}: {error:?}"),
            }
        }
        if struck == 0 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_says_so_is_safe_whatever_the_one_before_it_said() {
    for fault in [Fault::Once, Fault::From] {
        let close = async |vfs: &Vfs, handle| vfs.flush(handle).await;
        walk(Durability::Close, fault, close).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fsync_that_says_so_is_safe_whatever_the_one_before_it_said() {
    for durability in [Durability::Close, Durability::Fsync] {
        for fault in [Fault::Once, Fault::From] {
            let sync = async |vfs: &Vfs, handle| vfs.fsync(handle).await;
            walk(durability, fault, sync).await;
        }
    }
}

/// Has the disk refuse the bytes of what was promised.
async fn refuse(disk: &FragileDisk, rig: &Rig, files: usize) {
    while rig.vfs.store().refused().left().len() < files {
        let written = rig.vfs.ledger().journal().everything();
        written.durable().await.ok();
    }
    disk.heal();
}

/// Files that were closed, with `durability = "fsync"`, and whose bytes the disk then refused.
async fn closed_and_refused(disk: &FragileDisk, rig: &Rig) {
    disk.fail(Fault::Each(Call::SyncFile), Trouble::Broken);
    for name in ["a", "b"] {
        let (_, handle) = written(rig, name).await;
        rig.vfs.release(handle).await;
    }
    refuse(disk, rig, 2).await;
    rig.vfs.quiesce(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_copied_by_a_task_of_its_own() {
    let (rig, disk) = rig_on(Durability::Fsync).await;
    let stop = CancellationToken::new();
    closed_and_refused(&disk, &rig).await;
    let keeping = tokio::spawn(rig.vfs.clone().keep_refused(stop.clone()));
    let all_copied = async {
        while !rig.vfs.store().refused().left().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_copied)
        .await
        .expect("they are copied");
    stop.cancel();
    keeping.await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(after_a_cut(&disk, name).await.unwrap(), NEW, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_fsync_of_the_folder_copies_what_was_closed_and_refused() {
    let (rig, disk) = rig_on(Durability::Fsync).await;
    closed_and_refused(&disk, &rig).await;
    rig.vfs.fsync_dir().await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(after_a_cut(&disk, name).await.unwrap(), NEW, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_and_is_in_memory_no_more_is_put_aside_and_each_fsync_says_so() {
    let (rig, disk) = rig_on(Durability::Fsync).await;
    disk.fail(Fault::Each(Call::SyncFile), Trouble::Broken);
    let (node, handle) = written(&rig, "a").await;
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.keep_promise(node).await.unwrap();
    let content = content_of(&rig, node, &rig.dir);
    refuse(&disk, &rig, 1).await;
    let left = b"what was writteX";
    std::fs::write(&content, left).unwrap();
    for _ in 0..2 {
        let refused = rig.vfs.fsync(handle).await;
        assert!(matches!(refused, Err(VfsError::Damaged(_))), "{refused:?}");
    }
    assert_eq!(quarantined(rig.dir.path()), [left]);
    let parked = rig.vfs.status().parked;
    assert_eq!(parked.len(), 1);
    assert!(parked[0].why.contains("quarantine"), "{}", parked[0].why);
    // What is written now is another content, which the disk takes.
    let bytes = Bytes::from_static(NEW);
    let refused = rig.vfs.write(handle, 0, bytes.clone()).await;
    assert!(matches!(refused, Err(VfsError::Damaged(_))), "{refused:?}");
}
