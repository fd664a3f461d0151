//! What a start gives numbers to: no file gets one that another has, also where only the intent log knows of it.

use std::collections::BTreeMap;

use super::durability::left_behind;
use super::*;

/// All files with their bytes.
async fn files(rig: &Rig) -> BTreeMap<String, Vec<u8>> {
    let files = super::model::listing(rig).await;
    let only_files = files.into_iter();
    only_files
        .filter_map(|(path, bytes)| Some((path, bytes?)))
        .collect()
}

/// A writer that has read a version which the drive has replaced since, and another file that was made after
/// that and has no record: what a kill leaves of both.
async fn two_writers(durability: Durability, closed: bool) -> Rig {
    let rig = Rig::start_with(tempfile::tempdir().unwrap(), Arc::default(), durability).await;
    let root = NodeId::ROOT;
    rig.drive.put(ROOT, "a.gif", b"base");
    let id = rig.vfs.lookup(root, "a.gif").await.unwrap().node;
    rig.sync.round().await.unwrap();
    let outdated = rig.vfs.open(id, WRITE).await.unwrap();
    rig.vfs.read(outdated, 0, 4).await.unwrap();
    rig.drive.put(ROOT, "a.gif", b"theirs");
    rig.sync.round().await.unwrap();
    let ours = Bytes::from_static(b", ours");
    rig.vfs.write(outdated, 4, ours).await.unwrap();
    let new = rig.vfs.create(root, "new.gif", 0o644, WRITE, false).await;
    let (_, new) = new.unwrap();
    let bytes = Bytes::from_static(b"new");
    rig.vfs.write(new, 0, bytes).await.unwrap();
    if closed {
        rig.vfs.flush(outdated).await.unwrap();
        rig.vfs.flush(new).await.unwrap();
    }
    Rig::start_with(left_behind(&rig), rig.drive.clone(), durability).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_copy_that_a_start_makes_takes_no_number_of_a_file_without_a_record() {
    for (durability, closed) in [(Durability::Close, false), (Durability::Fsync, true)] {
        let rig = two_writers(durability, closed).await;
        let files = files(&rig).await;
        assert_eq!(files["a.gif"], b"theirs", "{durability:?}");
        assert_eq!(files["new.gif"], b"new", "{durability:?}");
        let copy = files
            .iter()
            .find(|(name, _)| name.starts_with("a (conflict"));
        assert_eq!(copy.unwrap().1, b"base, ours", "{durability:?}");
        assert_eq!(files.len(), 3, "{durability:?}: {:?}", rig.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_from_a_damaged_journal_takes_no_number_of_a_file_that_was_open() {
    for durability in [Durability::Close, Durability::Fsync] {
        let rig = Rig::start_with(tempfile::tempdir().unwrap(), Arc::default(), durability).await;
        let root = NodeId::ROOT;
        let folder = rig.vfs.mkdir(root, "2026", 0o755).await.unwrap().node;
        rig.put(root, "a.gif", b"a").await;
        rig.put(folder, "b.gif", b"b").await;
        rig.vfs.quiesce(Duration::from_secs(10)).await;
        rig.vfs.fsync_dir().await.unwrap();
        let open = rig
            .vfs
            .create(folder, "open.gif", 0o644, WRITE, false)
            .await;
        let (_, open) = open.unwrap();
        let bytes = Bytes::from_static(b"open");
        rig.vfs.write(open, 0, bytes).await.unwrap();
        let left = left_behind(&rig);
        let journal = left.path().join("journal.redb");
        let mut bytes = std::fs::read(&journal).unwrap();
        bytes[..512].fill(0);
        std::fs::write(&journal, bytes).unwrap();
        let rig = Rig::start_with(left, rig.drive.clone(), durability).await;
        rig.sync.round().await.unwrap();
        let files = files(&rig).await;
        let at = |end: &str| files.iter().find(|(path, _)| path.ends_with(end)).unwrap();
        for (end, bytes) in [
            ("/a.gif", b"a".as_slice()),
            ("/2026/b.gif", b"b"),
            ("/open.gif", b"open"),
        ] {
            let (path, found) = at(end);
            assert!(path.starts_with("recovered "), "{path}");
            assert_eq!(found, bytes, "{path} with {durability:?}");
        }
        assert_eq!(files.len(), 3, "{durability:?}: {files:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_refused_before_it_touches_anything() {
    let rig = Rig::new().await;
    rig.put(NodeId::ROOT, "a", b"a").await;
    let leaf = rig.dir.path().join("content/00/00");
    let fetched = leaf.join("00000000000000ff.fill");
    std::fs::write(&fetched, b"on its way").unwrap();
    let path = rig.dir.path().to_owned();
    let now = SystemTime::now();
    let second = tokio::task::spawn_blocking(move || {
        recover(
            &path,
            Arc::new(Host),
            "host",
            "/mount",
            Durability::Close,
            now,
        )
        .err()
    });
    let refused = second.await.unwrap().unwrap().to_string();
    assert!(refused.contains("in use"), "{refused}");
    assert_eq!(std::fs::read(fetched).unwrap(), b"on its way");
}
