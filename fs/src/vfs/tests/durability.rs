//! What a kill and a power cut leave, with both promises that an operator can choose.

use super::fragile_disk::{Fault, FragileDisk, Left, Trouble};
use super::model::{Step, perform};
use super::*;

/// The state directory as it is at this moment: what a kill leaves. A power cut leaves less of it.
pub(super) fn left_behind(rig: &Rig) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_all(rig.dir.path(), copy.path());
    copy
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_all(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The content file of a node below a state directory.
pub(super) fn content_of(rig: &Rig, node: NodeId, dir: &tempfile::TempDir) -> std::path::PathBuf {
    let held = rig.vfs.ledger().books().node(node).unwrap().held.clone();
    let number = held.unwrap().content.0;
    let [.., high, low, _] = number.to_be_bytes();
    dir.path()
        .join(format!("content/{high:02x}/{low:02x}/{number:016x}"))
}

pub(super) fn quarantined(dir: &std::path::Path) -> Vec<Vec<u8>> {
    let mut found: Vec<_> = std::fs::read_dir(dir.join("quarantine"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap() != "REPORT")
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    found.sort();
    found
}

async fn start(dir: tempfile::TempDir, rig: &Rig) -> Rig {
    Rig::start(dir, rig.drive.clone()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_its_bytes_gives_way_to_what_was_before() {
    let rig = Rig::new().await;
    let first = b"first content";
    let node = rig.put(NodeId::ROOT, "a", first).await;
    let handle = rig.vfs.open(node, WRITE).await.unwrap();
    rig.vfs
        .write(handle, 0, Bytes::from_static(b"second"))
        .await
        .unwrap();
    // Between the barrier of the record and that of the bytes: what was before is still there.
    let before = left_behind(&rig);
    let kept = content_of(&rig, node, &before);
    rig.vfs.flush(handle).await.unwrap();
    let cut = left_behind(&rig);
    let torn = content_of(&rig, node, &cut);
    std::fs::write(&torn, b"sec").unwrap();
    let number = kept.strip_prefix(before.path()).unwrap();
    std::fs::copy(&kept, cut.path().join(number)).unwrap();

    let after = start(cut, &rig).await;
    assert_eq!(after.get(NodeId::ROOT, "a").await.unwrap(), first);
    assert_eq!(quarantined(after.dir.path()), [b"sec"]);
    assert_eq!(after.report.len(), 1, "{:?}", after.report);
    assert!(
        after.report[0]
            .starts_with("the machine went down while a was being closed; it is as it was before"),
        "{:?}",
        after.report
    );
    // And that is where it stays: the record was put right.
    let after = after.restart().await;
    assert_eq!(after.report, [""; 0]);
    assert_eq!(after.get(NodeId::ROOT, "a").await.unwrap(), first);
    after.drain().await;
    after.drive_has(&[("a", Some(first))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gives_way_to_what_was_before_is_sent_whatever_the_file_has_replaced_since() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(dir, Arc::default(), Durability::Fsync).await;
    let root = NodeId::ROOT;
    rig.put(root, "target", b"on the drive").await;
    rig.vfs.fsync_dir().await.unwrap();
    perform(&rig, &Step::Drain).await.unwrap();
    let (attr, handle) = rig
        .vfs
        .create(root, "a", 0o644, WRITE, false)
        .await
        .unwrap();
    let node = attr.node;
    let write = rig.vfs.write(handle, 0, Bytes::from_static(b"synced"));
    write.await.unwrap();
    rig.vfs.fsync(handle).await.unwrap();
    rig.vfs.release(handle).await;
    let before = left_behind(&rig);
    let kept = content_of(&rig, node, &before);
    // Another content, whose record gets to the disk and whose bytes do not.
    let shorter = SetAttr {
        size: Some(3),
        ..SetAttr::default()
    };
    rig.vfs.set_attr(node, shorter, None).await.unwrap();
    let flags = RenameFlags::default();
    rig.vfs
        .rename(root, "a", root, "target", flags)
        .await
        .unwrap();
    let cut = left_behind(&rig);
    std::fs::write(content_of(&rig, node, &cut), b"").unwrap();
    let number = kept.strip_prefix(before.path()).unwrap();
    std::fs::copy(&kept, cut.path().join(number)).unwrap();

    let after = start(cut, &rig).await;
    assert_eq!(after.get(root, "target").await.unwrap(), b"synced");
    after.drain().await;
    after.drive_has(&[("target", Some(b"synced"))]);
    assert_eq!(after.get(root, "target").await.unwrap(), b"synced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_without_its_bytes_was_never_closed() {
    let rig = Rig::new().await;
    let node = rig.put(NodeId::ROOT, "a", b"all of it").await;
    let cut = left_behind(&rig);
    std::fs::write(content_of(&rig, node, &cut), b"all").unwrap();
    let after = start(cut, &rig).await;
    assert!(matches!(
        after.vfs.lookup(NodeId::ROOT, "a").await,
        Err(VfsError::NotFound)
    ));
    assert_eq!(quarantined(after.dir.path()), [b"all"]);
    after.drain().await;
    after.drive_has(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_drive_whose_overwrite_did_not_get_to_the_disk_is_the_drives() {
    let rig = Rig::new().await;
    let node = rig.put(NodeId::ROOT, "a", b"on the drive").await;
    rig.drain().await;
    let later = SystemTime::now() + Duration::from_hours(2);
    assert_eq!(rig.vfs.evict(later).0.len(), 1);
    rig.put(NodeId::ROOT, "b", b"").await; // the eviction is durable
    let rewritten = rig.put(NodeId::ROOT, "a", b"new").await;
    assert_eq!(rewritten, node);
    let cut = left_behind(&rig);
    std::fs::remove_file(content_of(&rig, node, &cut)).unwrap();
    let after = start(cut, &rig).await;
    assert_eq!(after.get(NodeId::ROOT, "a").await.unwrap(), b"on the drive");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proven_is_not_doubted_and_leaves_nothing_behind() {
    let rig = Rig::new().await;
    let node = rig.put(NodeId::ROOT, "a", b"first").await;
    let handle = rig.vfs.open(node, WRITE).await.unwrap();
    for bytes in [&b"second"[..], b"third"] {
        rig.vfs
            .write(handle, 0, Bytes::copy_from_slice(bytes))
            .await
            .unwrap();
        rig.vfs.flush(handle).await.unwrap();
    }
    let after = start(left_behind(&rig), &rig).await;
    assert_eq!(after.report, [""; 0]);
    assert_eq!(after.get(NodeId::ROOT, "a").await.unwrap(), b"thirdd");
    let contents = after.vfs.store().list().unwrap();
    assert_eq!(contents.len(), 1, "{contents:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fsync_what_was_closed_survives_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(dir, Arc::default(), Durability::Fsync).await;
    let make = async |name: &str, bytes: &'static [u8]| {
        let (_, handle) = rig
            .vfs
            .create(NodeId::ROOT, name, 0o644, WRITE, false)
            .await
            .unwrap();
        if !bytes.is_empty() {
            rig.vfs
                .write(handle, 0, Bytes::from_static(bytes))
                .await
                .unwrap();
        }
        rig.vfs.flush(handle).await.unwrap();
        handle
    };
    make("open", b"closed, and not yet released").await;
    make("empty", b"").await;
    let released = make("released", b"sealed").await;
    rig.vfs.release(released).await;
    let root = NodeId::ROOT;
    rig.vfs.mkdir(root, "made", 0o755).await.unwrap();
    let flags = RenameFlags::default();
    rig.vfs
        .rename(root, "open", root, "renamed", flags)
        .await
        .unwrap();
    make("gone", b"deleted").await;
    rig.vfs.unlink(root, "gone").await.unwrap();

    let after = start(left_behind(&rig), &rig).await;
    let names: Vec<String> = {
        let listed = after.vfs.list(root).await.unwrap();
        let mut names: Vec<_> = listed.iter().map(|entry| entry.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names, ["empty", "made", "released", "renamed"]);
    assert_eq!(
        after.get(root, "renamed").await.unwrap(),
        b"closed, and not yet released"
    );
    assert_eq!(after.get(root, "empty").await.unwrap(), b"");
    assert_eq!(after.get(root, "released").await.unwrap(), b"sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fsync_an_fsync_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(dir, Arc::default(), Durability::Fsync).await;
    let (_, handle) = rig
        .vfs
        .create(NodeId::ROOT, "a", 0o644, WRITE, false)
        .await
        .unwrap();
    rig.vfs
        .write(handle, 0, Bytes::from_static(b"bytes"))
        .await
        .unwrap();
    rig.vfs.fsync(handle).await.unwrap();
    // A power cut takes both logs, which nobody has waited for.
    let cut = left_behind(&rig);
    for log in ["changes.log", "intents.log"] {
        std::fs::write(cut.path().join(log), b"").unwrap();
    }
    let after = start(cut, &rig).await;
    assert_eq!(after.get(NodeId::ROOT, "a").await.unwrap(), b"bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fsync_edges_get_what_was_closed_a_moment_ago() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start_with(dir, Arc::default(), Durability::Fsync).await;
    let (_, handle) = rig
        .vfs
        .create(NodeId::ROOT, "a.gif", 0o644, WRITE, false)
        .await
        .unwrap();
    rig.vfs
        .write(handle, 0, Bytes::from_static(b"GIF89a"))
        .await
        .unwrap();
    let path = tuyun_protocol::ImagePath::parse("/a.gif").unwrap();
    assert!(matches!(
        rig.vfs.picture(&path).await,
        Err(VfsError::NotFound)
    ));
    rig.vfs.flush(handle).await.unwrap();
    assert_eq!(rig.vfs.picture(&path).await.unwrap().size, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_survives_a_power_cut_once_it_is_to_be_sent_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let drive = MemoryDrive::default();
    drive.put(ROOT, "a", b"of the drive");
    drive.put(ROOT, "b", b"replaced");
    let (rig, disk) = power::start(dir, drive, Durability::Close, "first").await;
    let root = NodeId::ROOT;
    assert_eq!(rig.get(root, "a").await.unwrap(), b"of the drive");
    let flags = RenameFlags::default();
    rig.vfs.rename(root, "a", root, "b", flags).await.unwrap();
    let cut = tempfile::tempdir().unwrap();
    disk.now().lay(Left::LEAST, cut.path());
    let after = start(cut, &rig).await;
    assert_eq!(after.get(root, "b").await.unwrap(), b"of the drive");
    after.drain().await;
    after.drive_has(&[("b", Some(b"of the drive"))]);
}

/// A disk after a kill: the names are on it, and of the contents so much as was written.
fn killed(disk: &FragileDisk, refused: bool) -> (tempfile::TempDir, Arc<FragileDisk>) {
    let dir = tempfile::tempdir().unwrap();
    disk.now().lay(Left::MOST, dir.path());
    let disk = FragileDisk::over(dir.path(), "boot");
    disk.forget_barriers("content", refused);
    (dir, disk)
}

fn cut(disk: &FragileDisk) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    disk.now().lay(Left::LEAST, dir.path());
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_has_found_whole_after_a_kill_survives_a_power_cut_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let rig = Rig::start_on(disk.clone(), dir, Arc::default(), Durability::Fsync).await;
    let rig = rig.unwrap();
    rig.put(NodeId::ROOT, "a", b"old").await;
    rig.put(NodeId::ROOT, "a", b"new").await;
    rig.vfs.quiesce(Duration::from_secs(10)).await;
    for refused in [false, true] {
        let (dir, disk) = killed(&disk, refused);
        let drive = rig.drive.clone();
        let again = Rig::start_on(disk.clone(), dir, drive, Durability::Fsync).await;
        let again = again.unwrap();
        assert_eq!(again.get(NodeId::ROOT, "a").await.unwrap(), b"new");
        let written = again.vfs.ledger().journal().everything();
        written.durable().await.unwrap();
        let last = start(cut(&disk), &again).await;
        let found = last.get(NodeId::ROOT, "a").await.unwrap();
        assert_eq!(found, b"new", "refused: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_has_not_got_to_the_disk_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let rig = Rig::start_on(disk.clone(), dir, Arc::default(), Durability::Close).await;
    let rig = rig.unwrap();
    let root = NodeId::ROOT;
    rig.put(root, "kept", b"1").await;
    rig.put(root, "moved", b"2").await;
    disk.fail(Fault::From(disk.calls()), Trouble::Full);
    let flags = RenameFlags::default();
    let renamed = rig.vfs.rename(root, "moved", root, "refused", flags).await;
    renamed.expect_err("the disk is full");

    let stop = CancellationToken::new();
    let sending = tokio::spawn(rig.outbox.clone().run(stop.clone()));
    let sent = |name: &str| rig.drive.at(name).is_some();
    let until = async |name: &str| {
        while !sent(name) || rig.outbox.sending() > 0 {
            tokio::task::yield_now().await;
        }
    };
    until("kept").await;
    rig.drive_has(&[("kept", Some(b"1"))]);
    // Once there is room the journal gets it, and so does the drive.
    disk.heal();
    until("refused").await;
    rig.drive_has(&[("kept", Some(b"1")), ("refused", Some(b"2"))]);
    stop.cancel();
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_being_written_when_its_file_took_anothers_place_is_that_file_after_a_kill() {
    let rig = Rig::new().await;
    let root = NodeId::ROOT;
    for bytes in [b"1", b"2", b"3"] {
        rig.put(root, "target", bytes).await;
        rig.drain().await;
    }
    let node = rig.put(root, "a", b"old").await;
    let handle = rig.vfs.open(node, WRITE).await.unwrap();
    let more = rig.vfs.write(handle, 3, Bytes::from_static(b" and more"));
    more.await.unwrap();
    let over = RenameFlags::default();
    let renamed = rig.vfs.rename(root, "a", root, "target", over).await;
    renamed.unwrap();
    let killed = start(left_behind(&rig), &rig).await;
    assert_eq!(killed.get(root, "target").await.unwrap(), b"old and more");
    killed.drain().await;
    killed.drive_has(&[("target", Some(b"old and more"))]);
}
