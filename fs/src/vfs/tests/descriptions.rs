//! What the service tells of a file, where it is not what the file is.

use std::time::UNIX_EPOCH;

use super::*;

/// Reads a file from its start to its end, and on until it counts as whole: its last bytes may be read before.
async fn read_through(rig: &Rig, id: NodeId, bytes: &[u8]) {
    let handle = rig.vfs.open(id, READ).await.unwrap();
    let mut at = 0;
    while at < bytes.len() {
        let part = rig.vfs.read(handle, at as u64, 1 << 20).await.unwrap();
        assert_eq!(part, bytes[at..(at + (1 << 20)).min(bytes.len())]);
        at += part.len();
    }
    while rig.vfs.fills.lock().contains_key(&id) {
        rig.vfs.read(handle, 0, 1).await.unwrap();
    }
    rig.vfs.release(handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_whose_hash_is_of_another_stream_is_kept_once_it_came_twice() {
    let rig = Rig::new().await;
    let bytes: Vec<u8> = (0..9 << 20).map(|n: u32| (n % 251) as u8).collect();
    let item = rig.drive.put(ROOT, "large.heic", &bytes);
    rig.drive.tell_another_hash(&item);
    let id = rig
        .vfs
        .lookup(NodeId::ROOT, "large.heic")
        .await
        .unwrap()
        .node;
    read_through(&rig, id, &bytes).await;
    read_through(&rig, id, &bytes).await;
    rig.drive.calls();
    read_through(&rig, id, &bytes).await;
    assert_eq!(rig.drive.calls(), [""; 0], "it is here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_whose_hash_is_of_another_stream_is_kept_at_once() {
    let rig = Rig::new().await;
    let item = rig.drive.put(ROOT, "small.heic", b"what is sent");
    rig.drive.tell_another_hash(&item);
    let read = rig.get(NodeId::ROOT, "small.heic").await.unwrap();
    assert_eq!(read, b"what is sent");
    rig.drive.calls();
    rig.get(NodeId::ROOT, "small.heic").await.unwrap();
    assert_eq!(rig.drive.calls(), [""; 0], "it is here");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_change_alone_are_no_new_content() {
    let rig = Rig::new().await;
    rig.put(NodeId::ROOT, "a.gif", b"first").await;
    rig.drain().await;
    let item = rig.item(NodeId::ROOT, "a.gif").await;
    rig.age(&item);
    rig.drive.retag(&item);
    rig.sync.round().await.unwrap();
    rig.drive.calls();
    assert_eq!(rig.get(NodeId::ROOT, "a.gif").await.unwrap(), b"first");
    assert_eq!(rig.drive.calls(), [""; 0], "it is still here");
    // Nobody has told us of the next tag when we write.
    rig.drive.retag(&item);
    rig.put(NodeId::ROOT, "a.gif", b"second").await;
    rig.drain().await;
    rig.outbox.retry(None);
    rig.drain().await;
    rig.drive_has(&[("a.gif", Some(b"second"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_the_drive_cuts_to_seconds_is_not_sent_again() {
    let rig = Rig::new().await;
    let id = rig.put(NodeId::ROOT, "a.gif", b"a").await;
    rig.drain().await;
    rig.sync.round().await.unwrap();
    let taken = UNIX_EPOCH + Duration::from_millis(1_700_000_000_750);
    let times = SetAttr {
        mtime: Some(taken),
        ..SetAttr::default()
    };
    rig.vfs.set_attr(id, times, None).await.unwrap();
    rig.drive.calls();
    rig.drain().await;
    let item = rig.item(NodeId::ROOT, "a.gif").await;
    assert_eq!(rig.drive.calls(), [format!("update {item}")]);
    rig.age(&item);
    rig.sync.round().await.unwrap();
    rig.drain().await;
    assert_eq!(rig.drive.calls(), ["delta"]);
    let seen = rig.vfs.lookup(NodeId::ROOT, "a.gif").await.unwrap();
    assert_eq!(seen.mtime, taken, "here it is as it was given");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notebook_is_not_shown_and_its_name_is_not_given_to_another() {
    let rig = Rig::new().await;
    let notebook = rig.drive.notebook("Notes");
    rig.sync.round().await.unwrap();
    let listed = rig.vfs.list(NodeId::ROOT).await.unwrap();
    assert_eq!(listed.len(), 0, "it cannot be read as a folder");
    assert!(matches!(
        rig.vfs.mkdir(NodeId::ROOT, "Notes", 0o755).await,
        Err(VfsError::Exists)
    ));
    assert!(matches!(
        rig.vfs.rmdir(NodeId::ROOT, "Notes").await,
        Err(VfsError::NotFound)
    ));
    rig.drain().await;
    assert_eq!(rig.drive.version(&notebook), 1, "nobody touched it");
}
