//! A drive without room: what takes none goes on, and nothing is lost or refused here.

use super::memory_drive::Quirk;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_drive_is_full_deletions_go_on_and_uploads_wait_for_room() {
    let rig = Rig::new().await;
    rig.put(NodeId::ROOT, "old.gif", b"old").await;
    rig.drain().await;
    rig.drive.set(Quirk::Full);
    rig.put(NodeId::ROOT, "new.gif", b"new").await;
    rig.drain().await;
    let status = rig.vfs.status();
    assert_eq!(status.pending, 1);
    assert!(status.parked.is_empty());
    let why = status.paused.unwrap();
    assert!(why.starts_with("the drive is full"), "{why}");

    let root = NodeId::ROOT;
    rig.vfs.mkdir(root, "2026", 0o755).await.unwrap();
    rig.vfs.unlink(root, "old.gif").await.unwrap();
    rig.drain().await;
    rig.drive_has(&[("2026/", None)]);
    assert_eq!(rig.get(root, "new.gif").await.unwrap(), b"new");
    assert!(rig.vfs.status().paused.is_some());

    rig.drive.clear(Quirk::Full);
    assert_eq!(rig.vfs.retry_parked(None), 0);
    rig.drain().await;
    rig.drive_has(&[("2026/", None), ("new.gif", Some(b"new"))]);
    assert_eq!(rig.vfs.status().paused, None);
}
