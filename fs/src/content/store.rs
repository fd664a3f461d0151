//! The content files on disk.
//!
//! Plain files: a person with a shell can save them when everything else is lost. The store hands
//! out numbers that are never used twice, and one descriptor for each content. What it does not
//! recognise it moves aside and reports; it deletes only what it is told to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use rustix::io::Errno;

pub use super::blob::Blob;
use super::hash::PIECE;
use super::shelf::{Seen, Shelf};
use crate::tree::ContentId;

/// How much the kernel is asked to copy at once: a copy can be cut short no sooner than that.
const COPY: usize = 64 * 1024 * 1024;

/// The content files on disk.
#[derive(Clone, Debug)]
pub struct Store {
    shelf: Arc<Shelf>,
}

/// A content file that stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub id: ContentId,
    /// Its length; of a fill, up to the last byte that came.
    pub bytes: u64,
    /// It is being fetched.
    pub fill: bool,
    /// When it last took bytes.
    pub modified: SystemTime,
}

impl Store {
    /// Opens the store below a directory; both are made where they are missing. What the last run
    /// was still fetching is removed, and what is no content is moved to the quarantine.
    ///
    /// # Errors
    /// The disk fails.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let shelf = Shelf::open(state_dir)?;
        let (mut last, mut fills, mut unknown) = (0, Vec::new(), Vec::new());
        shelf.walk(|seen, entry| match seen {
            Seen::Content(id) => last = last.max(id.0),
            Seen::Fill(id) => {
                last = last.max(id.0);
                fills.push(entry.path());
            }
            Seen::Unknown => unknown.push(entry.path()),
        })?;
        for path in fills {
            std::fs::remove_file(path)?;
        }
        for path in unknown {
            // A file that cannot be moved stays where it is: it is not worth a failed start.
            if let Err(error) = shelf.quarantine(&path, "not a content file") {
                tracing::warn!(path = %path.display(), %error, "cannot move a strange file aside");
            }
        }
        shelf
            .last
            .store(last.max(shelf.quarantined()?), Ordering::Relaxed);
        Ok(Self { shelf })
    }

    /// Numbers given out from now on are larger than this one.
    pub fn reserve_above(&self, id: ContentId) {
        self.shelf.last.fetch_max(id.0, Ordering::Relaxed);
    }

    fn next(&self) -> ContentId {
        ContentId(self.shelf.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Makes a new empty content.
    ///
    /// # Errors
    /// The disk fails or is full.
    pub fn create(&self) -> io::Result<Arc<Blob>> {
        let id = self.next();
        let file = self.shelf.make(&self.shelf.path(id))?;
        let blob = Blob::new(id, file, Arc::clone(&self.shelf));
        blob.register();
        Ok(blob)
    }

    /// Makes an empty file for content that is to be fetched.
    pub(super) fn create_fill(&self) -> io::Result<Arc<Blob>> {
        let id = self.next();
        let file = self.shelf.make(&self.shelf.fill_path(id))?;
        Ok(Blob::new(id, file, Arc::clone(&self.shelf)))
    }

    /// Opens a content. All who hold it share one descriptor.
    ///
    /// # Errors
    /// There is no such content, or the disk fails.
    pub fn load(&self, id: ContentId) -> io::Result<Arc<Blob>> {
        let held = |shelf: &Shelf| shelf.open.lock().get(&id)?.upgrade();
        if let Some(blob) = held(&self.shelf) {
            return Ok(blob);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.shelf.path(id))?;
        let blob = Blob::new(id, file, Arc::clone(&self.shelf));
        // Somebody may have been quicker. What loses is dropped after the lock, which its own
        // drop takes.
        let mut open = self.shelf.open.lock();
        if let Some(first) = open.get(&id).and_then(std::sync::Weak::upgrade) {
            drop(open);
            return Ok(first);
        }
        open.insert(id, Arc::downgrade(&blob));
        Ok(blob)
    }

    /// Copies a content into a new one: by reference where the disk can, else byte by byte. When
    /// somebody may be writing, compare the [`stamp`](Blob::stamp) of before with that of after.
    ///
    /// # Errors
    /// The disk fails or is full; there is no copy then.
    pub fn copy(&self, from: &Blob) -> io::Result<Arc<Blob>> {
        let copy = self.create()?;
        if let Err(error) = copy_bytes(&from.file(), &copy.file()) {
            self.remove(copy.id());
            return Err(error);
        }
        Ok(copy)
    }

    /// Deletes a content. Those who have it open go on with it.
    pub fn remove(&self, id: ContentId) {
        self.shelf.open.lock().remove(&id);
        match std::fs::remove_file(self.shelf.path(id)) {
            Ok(()) => tracing::debug!(content = %id, "removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(content = %id, %error, "cannot remove a content file"),
        }
    }

    /// Everything that stands on the disk, in no order.
    ///
    /// # Errors
    /// The disk fails.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        let (mut found, mut failed) = (Vec::new(), None);
        self.shelf.walk(|seen, entry| {
            let (id, fill) = match seen {
                Seen::Content(id) => (id, false),
                Seen::Fill(id) => (id, true),
                Seen::Unknown => return,
            };
            match entry
                .metadata()
                .and_then(|data| Ok((data.len(), data.modified()?)))
            {
                Ok((bytes, modified)) => found.push(Found {
                    id,
                    bytes,
                    fill,
                    modified,
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failed = Some(error),
            }
        })?;
        failed.map_or(Ok(found), Err)
    }

    /// Moves a content aside, with a line in the report; where it stands now. Those who have it
    /// open go on with it.
    ///
    /// # Errors
    /// There is no such content, or the disk fails: nothing was moved then.
    pub fn quarantine(&self, id: ContentId, why: &str) -> io::Result<PathBuf> {
        let moved = self.shelf.quarantine(&self.shelf.path(id), why)?;
        self.shelf.open.lock().remove(&id);
        Ok(moved)
    }

    /// Space on the disk that we may still use.
    ///
    /// # Errors
    /// The disk fails.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(self.shelf.root())?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

fn copy_bytes(from: &File, to: &File) -> io::Result<()> {
    // Refused for many reasons (another filesystem, no such feature): then the bytes are copied,
    // and a disk that is really broken says so there.
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let (mut read, mut written) = (0, 0);
    loop {
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), COPY) {
            Ok(0) => return copy_rest(from, to, read),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::XDEV | Errno::PERM) => {
                return copy_rest(from, to, read);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Through our own memory. Also after a copy that the kernel called complete: some filesystems
/// answer 0 for files that they cannot copy.
fn copy_rest(from: &File, to: &File, mut at: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read_at(&mut piece, at) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                to.write_all_at(&piece[..read], at)?;
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
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
        blob.allocate(0, 8192, true).unwrap();
        assert_eq!(blob.len().unwrap(), 1);
        blob.allocate(0, 8192, false).unwrap();
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
            Store::open(dir.path()).unwrap().create().unwrap().id(),
            ContentId(kept.0 + 1)
        );

        let store = Store::open(dir.path()).unwrap();
        let highest = put(&store, b"odd").id();
        store.quarantine(highest, "test").unwrap();
        let reopened = Store::open(dir.path()).unwrap();
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
    fn a_copy_through_our_own_memory_is_the_same() {
        let (_dir, store) = store();
        let bytes: Vec<u8> = (0..=250).cycle().take(PIECE * 2 + 7).collect();
        let (from, to) = (put(&store, &bytes), store.create().unwrap());
        copy_rest(&from.file(), &to.file(), 0).unwrap();
        assert_eq!(to.quick_xor().unwrap(), from.quick_xor().unwrap());
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

        let store = Store::open(dir.path()).unwrap();
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

        let store = Store::open(dir.path()).unwrap();
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
}
