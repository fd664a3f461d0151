//! Files that the kernel reads and writes by itself: here the test is the kernel.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::durability::{left_behind, quarantined};
use super::*;

const TRUNCATE: OpenMode = OpenMode {
    read: false,
    write: true,
    truncate: true,
};

/// A file that an application has open, and the kernel's own way to it.
struct Passed {
    handle: HandleId,
    file: File,
}

/// Opens as the kernel does: for writing where the application does.
async fn open(rig: &Rig, node: NodeId, mode: OpenMode) -> Option<Passed> {
    let handle = rig.vfs.open(node, mode).await.unwrap();
    let through = rig.vfs.through(handle).await.unwrap()?;
    let reopen = |file: &File| {
        use std::os::fd::AsRawFd as _;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        File::options().read(true).write(mode.write).open(path)
    };
    let file = reopen(&through.registered(File::try_clone).unwrap()).unwrap();
    Some(Passed { handle, file })
}

impl Passed {
    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        let len = self.file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(len);
        bytes
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
    }

    async fn close(self, rig: &Rig) {
        drop(self.file);
        rig.vfs.flush(self.handle).await.unwrap();
        rig.vfs.release(self.handle).await;
    }
}

async fn rig() -> (Rig, NodeId) {
    let rig = Rig::new().await;
    rig.vfs.pass_through();
    let node = rig.put(NodeId::ROOT, "a", b"sealed").await;
    (rig, node)
}

/// What a start after a kill shows.
async fn after_a_kill(rig: &Rig) -> (Vec<u8>, Rig) {
    let again = Rig::start(left_behind(rig), rig.drive.clone()).await;
    let bytes = again.get(NodeId::ROOT, "a").await.unwrap();
    (bytes, again)
}

/// Waits until what goes on after the last close is done.
async fn at_rest(rig: &Rig) {
    rig.vfs.quiesce(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_file_is_passed_through_to_readers_and_nothing_else_is() {
    let (rig, node) = rig().await;
    let reader = open(&rig, node, READ).await.unwrap();
    assert_eq!(reader.read(), b"sealed");
    let other = open(&rig, node, READ).await.unwrap();
    other.close(&rig).await;
    reader.close(&rig).await;
    assert!(open(&rig, node, WRITE).await.is_none(), "a writer alone");
    // As long as that one is open, for all.
    assert!(open(&rig, node, READ).await.is_none());
    rig.drive.put(ROOT, "large", &vec![7; 9 << 20]);
    rig.sync.round().await.unwrap();
    let large = rig.vfs.lookup(NodeId::ROOT, "large").await.unwrap().node;
    assert!(open(&rig, large, READ).await.is_none(), "not here yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_who_comes_while_a_file_is_read_writes_to_what_the_reader_sees_and_seals_a_copy() {
    let (rig, node) = rig().await;
    let reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    writer.write(0, b"written");
    assert_eq!(reader.read(), b"written");
    let attr = rig.vfs.attr(node).await.unwrap();
    assert_eq!(attr.size, 7);
    let listed = rig.vfs.list(NodeId::ROOT).await.unwrap();
    assert_eq!(listed[0].attr.size, 7);
    // What was acknowledged is still what was sealed.
    rig.drain().await;
    rig.drive_has(&[("a", Some(b"sealed"))]);
    rig.vfs.flush(writer.handle).await.unwrap();
    writer.write(7, b" and more");
    rig.drain().await;
    rig.drive_has(&[("a", Some(b"written"))]);
    writer.close(&rig).await;
    at_rest(&rig).await;
    rig.drain().await;
    rig.drive_has(&[("a", Some(b"written and more"))]);
    assert_eq!(reader.read(), b"written and more");
    reader.close(&rig).await;
    at_rest(&rig).await;
    assert_eq!(
        rig.get(NodeId::ROOT, "a").await.unwrap(),
        b"written and more"
    );
    let journal = rig.vfs.ledger().journal();
    journal.everything().durable().await.unwrap();
    assert_eq!(rig.vfs.store().list().unwrap().len(), 1);
    let again = rig.restart().await;
    assert_eq!(again.report, [""; 0]);
    assert_eq!(quarantined(again.dir.path()), [b""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_who_writes_nothing_leaves_no_version_and_nothing_behind() {
    let (rig, node) = rig().await;
    rig.drain().await;
    let before = rig.vfs.attr(node).await.unwrap();
    let reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    writer.close(&rig).await;
    reader.close(&rig).await;
    at_rest(&rig).await;
    let journal = rig.vfs.ledger().journal();
    journal.everything().durable().await.unwrap();
    assert_eq!(rig.vfs.status().pending, 0);
    assert_eq!(rig.vfs.attr(node).await.unwrap().mtime, before.mtime);
    assert_eq!(rig.vfs.store().list().unwrap().len(), 1);
    assert_eq!(rig.get(NodeId::ROOT, "a").await.unwrap(), b"sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_while_it_is_read_is_cut_for_its_reader_too_and_not_on_record_before_a_close()
 {
    let (rig, node) = rig().await;
    let reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, TRUNCATE).await.unwrap();
    assert_eq!(reader.read(), b"");
    assert_eq!(rig.vfs.attr(node).await.unwrap().size, 0);
    let (bytes, _) = after_a_kill(&rig).await;
    assert_eq!(bytes, b"sealed", "cut to nothing, and never closed");
    writer.write(0, b"new");
    writer.close(&rig).await;
    assert_eq!(reader.read(), b"new");
    let (bytes, _) = after_a_kill(&rig).await;
    assert_eq!(bytes, b"new");
    // By path, with nobody writing.
    let cut = SetAttr {
        size: Some(2),
        ..SetAttr::default()
    };
    rig.vfs.set_attr(node, cut, None).await.unwrap();
    assert_eq!(reader.read(), b"ne");
    let (bytes, _) = after_a_kill(&rig).await;
    assert_eq!(bytes, b"ne");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_and_not_closed_is_saved_after_a_kill_and_what_was_not_written_is_not() {
    let (rig, node) = rig().await;
    let _reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    let (bytes, again) = after_a_kill(&rig).await;
    assert_eq!(bytes, b"sealed");
    assert_eq!(again.report, [""; 0]);
    writer.write(6, b", and more");
    let (bytes, again) = after_a_kill(&rig).await;
    assert_eq!(bytes, b"sealed, and more");
    assert_eq!(again.report.len(), 1, "{:?}", again.report);
    again.drain().await;
    again.drive_has(&[("a", Some(b"sealed, and more"))]);
    // Sealed, and written on after that.
    rig.vfs.fsync(writer.handle).await.unwrap();
    writer.write(0, b"SEALED");
    let (bytes, again) = after_a_kill(&rig).await;
    assert_eq!(bytes, b"SEALED, and more");
    assert_eq!(again.vfs.list(NodeId::ROOT).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_by_a_mapping_after_the_last_close_is_sealed_once_it_is_gone() {
    let (rig, node) = rig().await;
    let reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    // A mapping keeps the file open, with no descriptor that anybody closes.
    let mapping = writer.file.try_clone().unwrap();
    writer.close(&rig).await;
    reader.close(&rig).await;
    mapping.write_all_at(b"stored", 0).unwrap();
    assert_eq!(rig.vfs.attr(node).await.unwrap().size, 6);
    drop(mapping);
    at_rest(&rig).await;
    assert_eq!(rig.get(NodeId::ROOT, "a").await.unwrap(), b"stored");
    rig.drain().await;
    rig.drive_has(&[("a", Some(b"stored"))]);
    let journal = rig.vfs.ledger().journal();
    journal.everything().durable().await.unwrap();
    assert_eq!(rig.vfs.store().list().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_the_drives_that_comes_while_a_file_is_written_that_way_is_kept_beside_ours() {
    let (rig, node) = rig().await;
    rig.drain().await;
    let reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    rig.drive.put(ROOT, "a", b"theirs");
    rig.sync.round().await.unwrap();
    writer.write(0, b"ours!!");
    writer.close(&rig).await;
    reader.close(&rig).await;
    at_rest(&rig).await;
    rig.drain().await;
    let files = model::listing(&rig).await;
    assert_eq!(files["a"].as_deref(), Some(&b"theirs"[..]));
    let beside = files
        .iter()
        .find(|(name, _)| name.starts_with("a (conflict"));
    assert_eq!(beside.unwrap().1.as_deref(), Some(&b"ours!!"[..]));
    assert_eq!(files.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_set_while_a_file_is_written_that_way_is_kept_until_the_next_write() {
    let (rig, node) = rig().await;
    let reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    writer.write(0, b"SEALED");
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let set = SetAttr {
        mtime: Some(then),
        ..SetAttr::default()
    };
    rig.vfs
        .set_attr(node, set, Some(writer.handle))
        .await
        .unwrap();
    assert_eq!(rig.vfs.attr(node).await.unwrap().mtime, then);
    writer.close(&rig).await;
    reader.close(&rig).await;
    at_rest(&rig).await;
    assert_eq!(rig.vfs.attr(node).await.unwrap().mtime, then);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_name_that_is_written_that_way_leaves_nothing_behind() {
    let (rig, node) = rig().await;
    let reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    writer.write(0, b"gone");
    rig.vfs.unlink(NodeId::ROOT, "a").await.unwrap();
    writer.write(0, b"GONE");
    assert_eq!(reader.read(), b"GONEed");
    rig.vfs.fsync(writer.handle).await.unwrap();
    writer.close(&rig).await;
    reader.close(&rig).await;
    at_rest(&rig).await;
    let journal = rig.vfs.ledger().journal();
    journal.everything().durable().await.unwrap();
    assert_eq!(rig.vfs.store().list().unwrap(), []);
    rig.drain().await;
    rig.drive_has(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_stays_registered_after_its_last_close_until_it_is_another_or_gone() {
    let (rig, node) = rig().await;
    let root = NodeId::ROOT;
    let times = std::cell::Cell::new(0);
    let read = async || {
        let handle = rig.vfs.open(node, READ).await.unwrap();
        let through = rig.vfs.through(handle).await.unwrap().unwrap();
        let registered = through.registered(|file| {
            times.set(times.get() + 1);
            file.try_clone()
        });
        let mut bytes = vec![0; 64];
        let len = registered.unwrap().read_at(&mut bytes, 0).unwrap();
        bytes.truncate(len);
        assert_eq!(rig.vfs.attr(node).await.unwrap().size, len as u64);
        rig.vfs.release(handle).await;
        (bytes, Arc::downgrade(&through))
    };
    let (first, registered) = read().await;
    assert_eq!((&first[..], times.get()), (&b"sealed"[..], 1));
    assert_eq!(read().await.0, b"sealed");
    assert_eq!(times.get(), 1, "it is still known");
    assert!(registered.upgrade().is_some());
    // A writer alone writes another content.
    rig.put(root, "a", b"another").await;
    assert_eq!(read().await.0, b"another");
    assert_eq!(times.get(), 2);
    let journal = rig.vfs.ledger().journal();
    journal.everything().durable().await.unwrap();
    assert!(registered.upgrade().is_none(), "it takes no room any more");
    let (_, registered) = read().await;
    rig.vfs.unlink(root, "a").await.unwrap();
    journal.everything().durable().await.unwrap();
    assert!(registered.upgrade().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_stayed_registered_is_written_while_it_is_read_like_any_other() {
    let (rig, node) = rig().await;
    open(&rig, node, READ).await.unwrap().close(&rig).await;
    let reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    writer.write(0, b"S");
    assert_eq!(reader.read(), b"Sealed");
    writer.close(&rig).await;
    let (bytes, _) = after_a_kill(&rig).await;
    assert_eq!(bytes, b"Sealed");
    reader.close(&rig).await;
    at_rest(&rig).await;
    assert_eq!(rig.get(NodeId::ROOT, "a").await.unwrap(), b"Sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_of_our_own_that_is_open_for_writing_does_not_count_as_a_writer_for_ever() {
    let (rig, _) = rig().await;
    let made = rig.vfs.create(NodeId::ROOT, "b", 0o644, WRITE, false).await;
    let (attr, handle) = made.unwrap();
    rig.vfs.flush(handle).await.unwrap();
    let content = {
        let books = rig.vfs.ledger().books();
        books.node(attr.node).unwrap().held.clone().unwrap().content
    };
    // An upload has it open, as it was made.
    let uploading = rig.vfs.store().load(content).unwrap();
    rig.vfs.release(handle).await;
    let reader = open(&rig, attr.node, READ).await.unwrap();
    drop(uploading);
    let writer = open(&rig, attr.node, WRITE).await.unwrap();
    writer.write(0, b"written");
    writer.close(&rig).await;
    at_rest(&rig).await;
    assert!(rig.vfs.ledger().books().open.contains(&attr.node));
    reader.close(&rig).await;
    at_rest(&rig).await;
    assert!(!rig.vfs.ledger().books().open.contains(&attr.node));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_seals_what_was_written_before_it_whoever_looks_at_the_file_meanwhile() {
    let (rig, node) = rig().await;
    let _reader = open(&rig, node, READ).await.unwrap();
    let writer = open(&rig, node, WRITE).await.unwrap();
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let looking: Vec<_> = (0..2)
        .map(|_| {
            let (vfs, over) = (rig.vfs.clone(), over.clone());
            tokio::spawn(async move {
                while !over.load(std::sync::atomic::Ordering::Acquire) {
                    vfs.attr(node).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for n in 0..300_u64 {
        writer.write(n % 40, &n.to_be_bytes());
        rig.vfs.flush(writer.handle).await.unwrap();
        let held = {
            let books = rig.vfs.ledger().books();
            books.node(node).unwrap().held.clone().unwrap()
        };
        let sealed = rig.vfs.store().load(held.content).unwrap();
        assert_eq!(
            sealed.read_at(0, 64).unwrap(),
            writer.read(),
            "after write {n}"
        );
    }
    over.store(true, std::sync::atomic::Ordering::Release);
    for one in looking {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_sealed_is_left_alone_though_the_file_takes_anothers_item_while_a_writer_comes() {
    let (rig, node) = rig().await;
    rig.put(NodeId::ROOT, "b", b"on the drive").await;
    rig.drain().await;
    rig.put(NodeId::ROOT, "a", b"sealed").await;
    let reader = open(&rig, node, READ).await.unwrap();
    // On one thread: the rename is done while what was sealed is being copied.
    let root = NodeId::ROOT;
    let rename = rig.vfs.rename(root, "a", root, "b", RenameFlags::default());
    let (writer, renamed) = tokio::join!(open(&rig, node, WRITE), rename);
    renamed.unwrap();
    let writer = writer.unwrap();
    writer.write(0, b"SCRIBBLED");
    let held = {
        let books = rig.vfs.ledger().books();
        books.node(node).unwrap().held.clone().unwrap()
    };
    let blob = rig.vfs.store().load(held.content).unwrap();
    let (size, hash) = blob.quick_xor().unwrap();
    assert_eq!((size, Some(hash)), (held.size, held.hash));
    writer.close(&rig).await;
    reader.close(&rig).await;
    at_rest(&rig).await;
    rig.drain().await;
    rig.drive_has(&[("b", Some(b"SCRIBBLED"))]);
}
