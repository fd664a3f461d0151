//! Bodies as plain files.
//!
//! A body is written aside in `incoming/`, synced, and renamed into `bodies/`; only then does the
//! index learn of it. So a name in `bodies/` always stands for a whole body, whatever was killed,
//! and all that lies in `incoming/` at a start is rubbish. A body starts at offset 0 of its file:
//! nothing misaligns its pages, and the kernel can send it as it is.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::record::BodyId;

/// Folders that the bodies are spread over. With a million of them each has four thousand, which
/// every filesystem lists quickly; 65,536 folders would cost more than they save.
const FOLDERS: u64 = 256;

/// The directory that holds the bodies.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    run: u32,
    count: AtomicU32,
}

impl Disk {
    /// Makes the folders and clears what the last run left half-written.
    ///
    /// # Errors
    /// The directory cannot be made or written to.
    pub fn open(root: &Path, run: u32) -> io::Result<Self> {
        for folder in 0..FOLDERS {
            fs::create_dir_all(root.join("bodies").join(format!("{folder:02x}")))?;
        }
        let incoming = root.join("incoming");
        fs::create_dir_all(&incoming)?;
        for entry in fs::read_dir(&incoming)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self {
            root: root.to_owned(),
            run,
            count: AtomicU32::new(0),
        })
    }

    /// A new file aside.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn create(&self) -> io::Result<Aside> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if count == u32::MAX {
            // Four thousand million fills in one run; a name given twice would mix two pictures.
            self.count.store(u32::MAX, Ordering::Relaxed);
            return Err(io::Error::other(
                "all body names of this run are used, restart",
            ));
        }
        let id = BodyId::new(self.run, count);
        let path = self.root.join("incoming").join(id.to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Aside {
            id,
            file,
            path: Some(path),
            home: self.path(id),
        })
    }

    /// Opens a whole body of this size.
    ///
    /// # Errors
    /// Not there, or another length than the index says.
    pub fn load(&self, id: BodyId, size: u64) -> io::Result<File> {
        let file = File::open(self.path(id))?;
        let found = file.metadata()?.len();
        if found == size {
            Ok(file)
        } else {
            let text = format!("body {id} has {found} bytes, the index says {size}");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }

    /// Deletes a body; one that is gone already is as good.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn remove(&self, id: BodyId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Bodies of earlier runs in one of the folders `0..256`: candidates for being nobody's.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn earlier(&self, folder: u8) -> io::Result<Vec<BodyId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join("bodies").join(format!("{folder:02x}")))? {
            let name = entry?.file_name();
            let id = name
                .to_str()
                .and_then(|text| u64::from_str_radix(text, 16).ok())
                .map(BodyId);
            found.extend(id.filter(|id| id.run() < u64::from(self.run)));
        }
        Ok(found)
    }

    fn path(&self, id: BodyId) -> PathBuf {
        self.root
            .join("bodies")
            .join(format!("{:02x}", id.0 % FOLDERS))
            .join(id.to_string())
    }
}

/// A body on its way in. Dropped before it is sealed, it takes its file along.
#[derive(Debug)]
pub struct Aside {
    id: BodyId,
    file: File,
    path: Option<PathBuf>,
    home: PathBuf,
}

impl Aside {
    /// The name it will have.
    #[must_use]
    pub fn id(&self) -> BodyId {
        self.id
    }

    /// A second handle on the same file, for those who read along. It stays good whatever becomes
    /// of the name.
    ///
    /// # Errors
    /// No more file handles.
    pub fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes a piece at its place.
    ///
    /// # Errors
    /// As the disk has them: full, above all.
    pub fn write(&self, at: u64, piece: &[u8]) -> io::Result<()> {
        self.file.write_all_at(piece, at)
    }

    /// Makes it durable and gives it its name.
    ///
    /// The folder is not synced: a rename lost in a power cut leaves an entry without a body, which
    /// is a miss, while the other order cannot happen because the body is durable by then.
    ///
    /// # Errors
    /// As the disk has them; the file aside is gone then.
    pub fn seal(mut self) -> io::Result<BodyId> {
        self.file.sync_data()?; // after this line a crash cannot leave half a body under the name
        if let Some(path) = &self.path {
            fs::rename(path, &self.home)?;
        }
        self.path = None;
        Ok(self.id)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // If even this fails, the next start clears it.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_below(dir: &Path) -> usize {
        fs::read_dir(dir).expect("listing").count()
    }

    #[test]
    fn a_sealed_body_is_loaded_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(dir.path(), 1).expect("open");
        let aside = disk.create().expect("create");
        aside.write(0, b"pic").expect("write");
        aside.write(3, b"ture").expect("write");
        let id = aside.seal().expect("seal");
        let mut found = [0; 7];
        disk.load(id, 7)
            .expect("load")
            .read_exact_at(&mut found, 0)
            .expect("read");
        assert_eq!(&found, b"picture");
        assert_eq!(
            disk.load(id, 8).expect_err("wrong size").kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_body_that_was_not_sealed_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(dir.path(), 1).expect("open");
        let aside = disk.create().expect("create");
        aside.write(0, b"half").expect("write");
        drop(aside);
        assert_eq!(files_below(&dir.path().join("incoming")), 0);
    }

    #[test]
    fn a_start_clears_what_a_killed_run_left_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(dir.path(), 1).expect("open");
        std::mem::forget(disk.create().expect("create"));
        assert_eq!(files_below(&dir.path().join("incoming")), 1);
        Disk::open(dir.path(), 2).expect("open again");
        assert_eq!(files_below(&dir.path().join("incoming")), 0);
    }

    #[test]
    fn only_bodies_of_earlier_runs_can_be_nobodys() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Disk::open(dir.path(), 1)
            .expect("open")
            .create()
            .expect("create");
        let old = first.seal().expect("seal");
        let disk = Disk::open(dir.path(), 2).expect("open again");
        disk.create().expect("create").seal().expect("seal");
        let folder = u8::try_from(old.0 % FOLDERS).expect("below 256");
        assert_eq!(disk.earlier(folder).expect("listing"), vec![old]);
    }
}
