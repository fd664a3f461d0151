//! What stands on the disk, and what does not.

use super::super::disk::{Allocation, Host};
use super::*;
use crate::vfs::tests::fragile_disk::{Call, Fault, FragileDisk, Left, Trouble};
use std::os::unix::fs::PermissionsExt as _;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(Host)).unwrap();
    (dir, store)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn put(store: &Store, bytes: &[u8]) -> Arc<Blob> {
    let blob = store.create().unwrap();
    blob.write_at(0, bytes).unwrap();
    blob
}

#[test]
fn contents_are_for_their_owner_only() {
    let (dir, store) = store();
    let blob = store.create().unwrap();
    assert_eq!(mode(&dir.path().join("content")), 0o700);
    assert_eq!(mode(&dir.path().join("quarantine")), 0o700);
    assert_eq!(mode(&store.shelf.path(blob.id())), 0o600);
}

#[test]
fn what_was_written_is_read_and_short_only_at_the_end() {
    let (_dir, store) = store();
    let blob = put(&store, b"hello world");
    assert_eq!(blob.read_at(0, 5).unwrap(), "hello");
    assert_eq!(blob.read_at(6, 100).unwrap(), "world");
    assert_eq!(blob.read_at(11, 100).unwrap(), "");
    blob.set_len(5).unwrap();
    assert_eq!(blob.len().unwrap(), 5);
    assert_eq!(blob.quick_xor().unwrap().0, 5);
    assert_eq!(
        blob.xxh3().unwrap(),
        (5, xxhash_rust::xxh3::xxh3_64(b"hello"))
    );
    blob.sync().unwrap();
}

#[test]
fn allocating_grows_the_file_unless_told_to_keep_its_size() {
    let (_dir, store) = store();
    let blob = put(&store, b"x");
    blob.allocate(Allocation::ReserveBehind, 0, 8192).unwrap();
    assert_eq!(blob.len().unwrap(), 1);
    blob.allocate(Allocation::Reserve, 0, 8192).unwrap();
    assert_eq!(blob.len().unwrap(), 8192);
}

#[test]
fn all_who_load_a_content_share_one_descriptor() {
    let (_dir, store) = store();
    let blob = put(&store, b"x");
    let id = blob.id();
    assert!(Arc::ptr_eq(&blob, &store.load(id).unwrap()));
    drop(blob);
    assert!(store.shelf.open.lock().is_empty());
    let again = store.load(id).unwrap();
    assert_eq!(again.read_at(0, 9).unwrap(), "x");
    assert!(Arc::ptr_eq(&again, &store.load(id).unwrap()));
}

#[test]
fn a_number_is_never_used_twice() {
    let (dir, store) = store();
    let removed = store.create().unwrap().id();
    let kept = store.create().unwrap().id();
    store.remove(removed);
    assert_eq!(
        store.load(removed).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        Store::open(dir.path(), Arc::new(Host))
            .unwrap()
            .create()
            .unwrap()
            .id(),
        ContentId(kept.0 + 1)
    );

    let store = Store::open(dir.path(), Arc::new(Host)).unwrap();
    let highest = put(&store, b"odd").id();
    store.quarantine(highest, "test").unwrap();
    let reopened = Store::open(dir.path(), Arc::new(Host)).unwrap();
    reopened.reserve_above(removed);
    assert_eq!(reopened.create().unwrap().id(), ContentId(highest.0 + 1));
    reopened.reserve_above(ContentId(0x12_3456));
    let far = reopened.create().unwrap();
    assert_eq!(far.id(), ContentId(0x12_3457));
    far.sync().unwrap();
    assert!(dir.path().join("content/12/34/0000000000123457").is_file());
}

#[test]
fn who_has_a_removed_content_open_goes_on_with_it() {
    let (_dir, store) = store();
    let blob = put(&store, b"still here");
    store.remove(blob.id());
    assert_eq!(blob.read_at(0, 99).unwrap(), "still here");
    assert_eq!(store.list().unwrap(), []);
    store.remove(blob.id()); // nothing to remove: no complaint
}

#[test]
fn a_copy_stands_on_its_own() {
    let (_dir, store) = store();
    let bytes: Vec<u8> = (0..=255).cycle().take(700_001).collect();
    let blob = put(&store, &bytes);
    let before = blob.stamp().unwrap();
    let copy = store.copy(&blob).unwrap();
    assert_eq!(blob.stamp().unwrap(), before);
    assert_ne!(copy.id(), blob.id());
    blob.write_at(0, b"changed").unwrap();
    assert_eq!(copy.read_at(0, 1 << 20).unwrap(), bytes);
}

#[test]
fn a_start_removes_what_was_being_fetched_and_keeps_the_rest() {
    let (dir, store) = store();
    let kept = put(&store, b"kept").id();
    let fill = store.create_fill().unwrap();
    fill.write_at(0, b"half").unwrap();
    assert!(matches!(
        store.load(fill.id()).unwrap_err().kind(),
        io::ErrorKind::NotFound
    ));
    assert_eq!(store.list().unwrap().len(), 2);

    let store = Store::open(dir.path(), Arc::new(Host)).unwrap();
    let found = store.list().unwrap();
    let stamp = store.load(kept).unwrap().stamp().unwrap();
    assert_eq!(
        found,
        [Found {
            id: kept,
            bytes: 4,
            fill: false,
            modified: stamp.modified
        }]
    );
    assert!(store.create().unwrap().id() > fill.id());
}

#[test]
fn a_start_moves_strange_files_aside_and_reports_them() {
    let (dir, store) = store();
    let id = store.create().unwrap().id();
    let leaf = dir.path().join("content/00/00");
    let strange = [
        "notes.txt",
        "ffffffffffffffff",
        "0000000000000001.fill.fill",
        "00",
    ];
    for name in strange {
        std::fs::write(leaf.join(name), name).unwrap();
    }
    // A number in a place that is not its own is as strange: it would never be found.
    std::fs::write(leaf.join("00000000000fffff"), "lost").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", leaf.join("0000000000000009")).unwrap();
    std::fs::create_dir(dir.path().join("content/other")).unwrap();
    // The same name once more.
    std::fs::write(dir.path().join("content/notes.txt"), "mine").unwrap();

    let store = Store::open(dir.path(), Arc::new(Host)).unwrap();
    assert_eq!(
        store
            .list()
            .unwrap()
            .iter()
            .map(|found| found.id)
            .collect::<Vec<_>>(),
        [id]
    );
    let quarantine = dir.path().join("quarantine");
    let mut moved: Vec<String> = std::fs::read_dir(&quarantine)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "REPORT")
        .collect();
    moved.sort();
    assert_eq!(
        moved,
        [
            "00",
            "0000000000000001.fill.fill",
            "0000000000000009",
            "00000000000fffff",
            "ffffffffffffffff",
            "notes.txt",
            "notes.txt.1",
            "other",
        ]
    );
    let both = ["notes.txt", "notes.txt.1"]
        .map(|name| std::fs::read_to_string(quarantine.join(name)).unwrap());
    assert!(both.contains(&"mine".to_owned()) && both.contains(&"notes.txt".to_owned()));
    let report = std::fs::read_to_string(quarantine.join("REPORT")).unwrap();
    assert_eq!(report.lines().count(), 8);
    assert!(report.lines().all(|line| line.split('\t').count() == 4));
    assert!(store.create().unwrap().id() > ContentId(0xf_ffff));
}

#[test]
fn a_quarantined_content_keeps_its_bytes_and_its_reason() {
    let (dir, store) = store();
    let blob = put(&store, b"odd");
    let moved = store.quarantine(blob.id(), "sum\tdiffers\n").unwrap();
    assert_eq!(std::fs::read(&moved).unwrap(), b"odd");
    assert_eq!(
        store.load(blob.id()).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    let report = std::fs::read_to_string(dir.path().join("quarantine/REPORT")).unwrap();
    assert!(report.ends_with("\tsum\\tdiffers\\n\n"), "{report}");
    let again = store.quarantine(blob.id(), "twice").unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_disk_has_room() {
    let (_dir, store) = store();
    assert!(store.free_bytes().unwrap() > 0);
}

#[test]
fn a_file_whose_lost_bytes_a_barrier_of_the_whole_disk_told_of_is_not_called_durable_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let store = Store::open(dir.path(), disk.clone()).unwrap();
    let written = || put(&store, b"bytes");
    let other = written();
    let group = || (0..MANY).map(|_| written()).collect::<Vec<_>>();
    let ids = |group: &[Arc<Blob>]| group.iter().map(|blob| blob.id()).collect::<Vec<_>>();
    let first = group();
    disk.fail(Fault::Once(disk.calls()), Trouble::Broken);
    assert_eq!(store.make_durable(&ids(&first)).len(), MANY);
    // Nobody asked about that one, and the kernel has told of it all the same.
    let second = group();
    let mut later = ids(&second);
    later.push(other.id());
    for _ in 0..2 {
        let refused = store.make_durable(&later);
        let refused: Vec<_> = refused.iter().map(|(id, _)| *id).collect();
        assert_eq!(refused, [other.id()]);
    }
}

#[test]
fn a_content_that_was_made_ahead_needs_its_bytes_synced_and_not_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let store = Store::open(dir.path(), disk.clone()).unwrap();
    store.reserve_above(ContentId(700));
    store.stock_up().unwrap();
    let stocked = || store.shelf.stock.get().unwrap().len();
    while stocked() == 0 {
        std::thread::yield_now();
    }
    let blob = put(&store, b"bytes");
    assert!(blob.id() > ContentId(700));
    let before = Arc::new(parking_lot::Mutex::new(Vec::new()));
    while stocked() < 63 {
        std::thread::yield_now(); // what was taken is made again
    }
    let calls = before.clone();
    disk.watch(move |_, call, _| calls.lock().push(call));
    assert!(store.make_durable(&[blob.id()]).is_empty());
    disk.unwatch();
    assert_eq!(*before.lock(), [Call::SyncFile]);
    let left = tempfile::tempdir().unwrap();
    disk.now().lay(Left::LEAST, left.path());
    let again = Store::open(left.path(), Arc::new(Host)).unwrap();
    let found = again.load(blob.id()).unwrap();
    assert_eq!(found.read_at(0, 9).unwrap(), "bytes");
}

#[test]
fn without_room_nothing_is_made_ahead_and_whoever_wants_a_content_hears_why() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "boot");
    let store = Store::open(dir.path(), disk.clone()).unwrap();
    disk.fail(Fault::From(disk.calls()), Trouble::Full);
    store.stock_up().unwrap();
    let refused = store.create().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    disk.heal();
    store.create().unwrap();
}
