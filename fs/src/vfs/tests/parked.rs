//! What the drive refuses, and a person gives up or tries again.

use super::memory_drive::Quirk;
use super::*;
use crate::vfs::DiscardError;

const TOP: NodeId = NodeId::ROOT;

/// Pictures that the drive has, and that are known here.
async fn known(names: &[&str]) -> Rig {
    let rig = Rig::new().await;
    for name in names {
        rig.drive.put(ROOT, name, b"theirs");
    }
    rig.sync.round().await.unwrap();
    assert_eq!(rig.vfs.list(TOP).await.unwrap().len(), names.len());
    rig
}

/// Everything that is pending is refused; the drive is well again afterwards.
async fn refused(rig: &Rig) -> Vec<String> {
    rig.drive.set(Quirk::Refusing);
    rig.drain().await;
    rig.drive.clear(Quirk::Refusing);
    let parked = rig.vfs.status().parked;
    let mut paths: Vec<String> = parked.into_iter().map(|parked| parked.path).collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_that_were_refused_is_tried_again_by_its_path() {
    let rig = Rig::new().await;
    for name in ["a.gif", "b.gif"] {
        rig.put(TOP, name, b"ours").await;
    }
    assert_eq!(refused(&rig).await, ["a.gif", "b.gif"]);
    assert_eq!(rig.vfs.retry_parked(Some("c.gif")), 0);
    assert_eq!(rig.vfs.retry_parked(Some("/b.gif")), 1);
    rig.drain().await;
    rig.drive_has(&[("b.gif", Some(b"ours"))]);
    assert_eq!(rig.get(TOP, "a.gif").await.unwrap(), b"ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_that_is_given_up_is_deleted_and_nothing_else_is() {
    let rig = Rig::new().await;
    for name in ["a.gif", "b.gif"] {
        rig.put(TOP, name, b"ours").await;
    }
    assert_eq!(refused(&rig).await, ["a.gif", "b.gif"]);
    rig.vfs.discard_parked("a.gif").await.unwrap();
    let gone = rig.vfs.lookup(TOP, "a.gif").await;
    assert!(matches!(gone, Err(VfsError::NotFound)), "{gone:?}");
    assert_eq!(rig.vfs.retry_parked(None), 1);
    rig.drain().await;
    rig.drive_has(&[("b.gif", Some(b"ours"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_that_is_given_up_is_the_drives_again_also_after_a_restart() {
    let rig = known(&["a.gif"]).await;
    rig.put(TOP, "a.gif", b"ours, and longer").await;
    assert_eq!(refused(&rig).await, ["a.gif"]);
    rig.vfs.discard_parked("/a.gif").await.unwrap();
    assert_eq!(rig.vfs.status().pending, 0);
    assert_eq!(rig.vfs.lookup(TOP, "a.gif").await.unwrap().size, 6);
    assert_eq!(rig.get(TOP, "a.gif").await.unwrap(), b"theirs");
    let rig = rig.restart().await;
    assert_eq!(rig.get(TOP, "a.gif").await.unwrap(), b"theirs");
    rig.drain().await;
    rig.drive_has(&[("a.gif", Some(b"theirs"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_is_given_up_shows_the_file_where_the_drive_has_it() {
    let rig = known(&["a.gif"]).await;
    rig.vfs
        .rename(TOP, "a.gif", TOP, "b.gif", RenameFlags::default())
        .await
        .unwrap();
    assert_eq!(refused(&rig).await, ["b.gif"]);
    rig.vfs.discard_parked("b.gif").await.unwrap();
    assert_eq!(rig.get(TOP, "a.gif").await.unwrap(), b"theirs");
    let old = rig.vfs.lookup(TOP, "b.gif").await;
    assert!(matches!(old, Err(VfsError::NotFound)), "{old:?}");
    assert_eq!(rig.vfs.status().pending, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_given_up_shows_the_file_again() {
    let rig = known(&["a.gif"]).await;
    rig.vfs.unlink(TOP, "a.gif").await.unwrap();
    assert_eq!(refused(&rig).await, ["a.gif"]);
    assert!(rig.vfs.status().parked[0].deleted);
    rig.vfs.discard_parked("a.gif").await.unwrap();
    assert_eq!(rig.get(TOP, "a.gif").await.unwrap(), b"theirs");
    rig.drain().await;
    rig.drive_has(&[("a.gif", Some(b"theirs"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_up_that_is_not_parked_or_is_open_or_while_the_drive_cannot_be_asked() {
    let rig = known(&["a.gif"]).await;
    rig.put(TOP, "a.gif", b"ours").await;
    let pending = rig.vfs.discard_parked("a.gif").await;
    assert!(
        matches!(pending, Err(DiscardError::NotParked(_))),
        "{pending:?}"
    );
    assert_eq!(refused(&rig).await, ["a.gif"]);
    rig.drive.set_offline(true);
    let unknown = rig.vfs.discard_parked("a.gif").await;
    assert!(
        matches!(unknown, Err(DiscardError::Unknown { .. })),
        "{unknown:?}"
    );
    rig.drive.set_offline(false);
    let id = rig.vfs.lookup(TOP, "a.gif").await.unwrap().node;
    let reader = rig.vfs.open(id, READ).await.unwrap();
    let open = rig.vfs.discard_parked("a.gif").await;
    assert!(matches!(open, Err(DiscardError::Open(_))), "{open:?}");
    rig.vfs.release(reader).await;
    assert_eq!(rig.get(TOP, "a.gif").await.unwrap(), b"ours");
    assert_eq!(rig.vfs.status().parked.len(), 1);
}
