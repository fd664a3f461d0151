//! A cache disk without room.

use super::fragile_disk::{Fault, FragileDisk, Trouble};
use super::*;
use crate::content::room::least;

/// A rig on a disk with room for so many bytes of contents.
async fn narrow(bytes: u64) -> (Rig, Arc<FragileDisk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let rig = Rig::start_on(disk.clone(), dir, Arc::default(), Durability::Close).await;
    // Half of what is to stay free where it can be is the journal's.
    disk.set_room(least(0) / 2 + bytes);
    (rig.unwrap(), disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_does_not_fit_takes_the_room_of_what_the_drive_has() {
    let (rig, _disk) = narrow(300_000).await;
    let (one, two) = (vec![1; 200_000], vec![2; 250_000]);
    rig.put(NodeId::ROOT, "one.gif", &one).await;
    rig.drain().await;
    assert_eq!(rig.vfs.status().cached_files, 1);
    rig.put(NodeId::ROOT, "two.gif", &two).await;
    assert_eq!(rig.vfs.status().cached_files, 0, "the first made room");
    assert_eq!(rig.get(NodeId::ROOT, "two.gif").await.unwrap(), two);
    rig.drain().await;
    assert_eq!(rig.get(NodeId::ROOT, "one.gif").await.unwrap(), one);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_nowhere_is_refused_before_it_is_half_written_and_nothing_else_suffers() {
    let (rig, disk) = narrow(300_000).await;
    let root = NodeId::ROOT;
    let one = vec![1; 200_000];
    let node = rig.put(root, "one.gif", &one).await;
    let (_, two) = rig
        .vfs
        .create(root, "two.gif", 0o644, WRITE, false)
        .await
        .unwrap();
    let data = Bytes::from(vec![2; 200_000]);
    let refused = rig.vfs.write(two, 0, data.clone()).await.unwrap_err();
    assert!(refused.is_full(), "{refused}");
    assert_eq!(rig.vfs.lookup(root, "two.gif").await.unwrap().size, 0);
    let handle = rig.vfs.open(node, WRITE).await.unwrap();
    let refused = rig.vfs.write(handle, 0, data.clone()).await.unwrap_err();
    assert!(refused.is_full(), "a change would need a copy: {refused}");
    rig.vfs.release(handle).await;
    assert_eq!(rig.get(root, "one.gif").await.unwrap(), one);

    disk.set_room(0);
    let mut refused = rig.vfs.create(root, "new.gif", 0o644, WRITE, false).await;
    while refused.is_ok() {
        // What was granted before is still good.
        let (_, handle) = refused.unwrap();
        assert!(
            rig.vfs
                .write(handle, 0, data.clone())
                .await
                .unwrap_err()
                .is_full()
        );
        rig.vfs.release(handle).await;
        rig.vfs.unlink(root, "new.gif").await.unwrap();
        refused = rig.vfs.create(root, "new.gif", 0o644, WRITE, false).await;
    }
    assert!(refused.unwrap_err().is_full());
    assert!(matches!(
        rig.vfs.lookup(root, "new.gif").await,
        Err(VfsError::NotFound)
    ));
    rig.vfs.mkdir(root, "2026", 0o755).await.unwrap();
    rig.vfs
        .rename(root, "one.gif", root, "1.gif", RenameFlags::default())
        .await
        .unwrap();

    disk.set_room(least(0));
    rig.vfs.write(two, 0, data.clone()).await.unwrap();
    rig.vfs.flush(two).await.unwrap();
    rig.vfs.release(two).await;
    rig.drain().await;
    rig.drive_has(&[
        ("1.gif", Some(&one)),
        ("2026/", None),
        ("two.gif", Some(&data)),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_does_not_know_to_be_on_the_drive_is_not_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let rig = Rig::start_on(disk.clone(), dir, Arc::default(), Durability::Close).await;
    let rig = rig.unwrap();
    let later = SystemTime::now() + Duration::from_hours(2);
    let node = rig.put(NodeId::ROOT, "one.gif", b"one").await;
    let held = rig.vfs.ledger().books().node(node).unwrap().held.clone();
    // Open already, as that disk refuses to open anything.
    let _open = rig.vfs.store().load(held.unwrap().content).unwrap();
    disk.fail(Fault::From(disk.calls()), Trouble::Full);
    rig.drain().await;
    rig.drive_has(&[("one.gif", Some(b"one"))]);
    assert_eq!(
        rig.vfs.evict(later).0.len(),
        0,
        "to a start it is the only copy"
    );
    disk.heal();
    let journal = rig.vfs.ledger().journal();
    journal.everything().durable().await.unwrap();
    rig.put(NodeId::ROOT, "two.gif", b"two").await;
    rig.drain().await;
    assert_eq!(rig.vfs.evict(later).0.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_file_wait_for_room_together_and_not_one_after_the_other() {
    let (rig, disk) = narrow(100_000).await;
    let made = rig.vfs.create(NodeId::ROOT, "a", 0o644, WRITE, false).await;
    let (_, handle) = made.unwrap();
    let before = disk.asked_for_room();
    let data = Bytes::from(vec![1; 200_000]);
    let writers = (0..20).map(|_| rig.vfs.write(handle, 0, data.clone()));
    for refused in futures_util::future::join_all(writers).await {
        assert!(refused.unwrap_err().is_full());
    }
    let looks = disk.asked_for_room() - before;
    // Each looks twice, and makes room in between, which looks, too; the first one for as long as anybody waits.
    assert!(looks < 20 * 3 + 40, "{looks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_of_a_large_file_is_read_while_the_disk_is_full() {
    let (rig, disk) = narrow(64 << 20).await;
    let large = vec![7; 40 << 20];
    rig.drive.put(ROOT, "large", &large);
    let node = rig.vfs.lookup(NodeId::ROOT, "large").await.unwrap().node;
    let handle = rig.vfs.open(node, READ).await.unwrap();
    assert_eq!(rig.vfs.read(handle, 0, 4096).await.unwrap(), large[..4096]);
    disk.set_room(0);
    // Until what was granted before is used up.
    let elsewhere = async |at: usize| rig.vfs.read(handle, at as u64, 4096).await;
    let mut at = 16 << 20;
    while elsewhere(at).await.is_ok() {
        at += 4 << 20;
    }
    let refused = elsewhere(at).await.unwrap_err();
    assert!(refused.is_full(), "{refused:?}");
    assert_eq!(rig.vfs.read(handle, 0, 4096).await.unwrap(), large[..4096]);
}
