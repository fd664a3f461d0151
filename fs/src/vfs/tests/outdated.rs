//! What is written on the grounds of a version that the drive has replaced since: two versions keep both.

use super::*;

/// A handle that has read `base`, of a file that has `theirs` on the drive by now.
async fn outdated(rig: &Rig) -> (NodeId, HandleId) {
    rig.drive.put(ROOT, "a.txt", b"base");
    let id = rig.vfs.lookup(NodeId::ROOT, "a.txt").await.unwrap().node;
    rig.sync.round().await.unwrap();
    let handle = rig.vfs.open(id, WRITE).await.unwrap();
    assert_eq!(rig.vfs.read(handle, 0, 10).await.unwrap(), "base");
    rig.drive.put(ROOT, "a.txt", b"theirs");
    rig.sync.round().await.unwrap();
    (id, handle)
}

async fn write(rig: &Rig, handle: HandleId, offset: u64, bytes: &'static [u8]) {
    let bytes = Bytes::from_static(bytes);
    rig.vfs.write(handle, offset, bytes).await.unwrap();
}

/// What the drive has in the end: theirs under the name, ours in one copy beside it.
async fn both(rig: &Rig, ours: &[u8]) {
    rig.drain().await;
    let dump = rig.drive.dump();
    let contents: Vec<_> = dump.iter().map(|(_, bytes)| bytes.as_deref()).collect();
    assert_eq!(contents, [Some(ours), Some(b"theirs")], "{dump:?}");
    assert!(dump[0].0.starts_with("a (conflict host "), "{dump:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_read_a_file_and_cuts_it_to_write_another_does_not_replace_what_he_has_not_seen()
 {
    let rig = Rig::new().await;
    let (id, handle) = outdated(&rig).await;
    let size = Some(0);
    let cut = SetAttr {
        size,
        ..SetAttr::default()
    };
    rig.vfs.set_attr(id, cut, Some(handle)).await.unwrap();
    write(&rig, handle, 0, b"ours").await;
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.release(handle).await;
    both(&rig, b"ours").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_opens_a_file_to_overwrite_it_does_so_whatever_others_still_read() {
    let rig = Rig::new().await;
    let (id, reader) = outdated(&rig).await;
    let open = OpenMode {
        truncate: true,
        ..WRITE
    };
    let handle = rig.vfs.open(id, open).await.unwrap();
    write(&rig, handle, 0, b"ours").await;
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.release(handle).await;
    rig.vfs.release(reader).await;
    rig.drain().await;
    rig.drive_has(&[("a.txt", Some(b"ours"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_written_through_one_handle_goes_to_one_copy() {
    let rig = Rig::new().await;
    let (_, handle) = outdated(&rig).await;
    for (offset, bytes) in [(4, b", one"), (9, b", two"), (14, b", end")] {
        write(&rig, handle, offset, bytes).await;
        rig.vfs.flush(handle).await.unwrap();
        rig.drain().await;
    }
    rig.vfs.release(handle).await;
    both(&rig, b"base, one, two, end").await;
    assert_eq!(rig.get(NodeId::ROOT, "a.txt").await.unwrap(), b"theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_does_not_make_a_version_of_what_began_from_an_older_one() {
    let rig = Rig::new().await;
    let (_, handle) = outdated(&rig).await;
    write(&rig, handle, 4, b", ours").await;
    let rig = rig.restart().await;
    both(&rig, b"base, ours").await;
}
