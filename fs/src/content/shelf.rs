//! Where the content files stand, and under which names.
//!
//! `content/12/34/0000000000123456` is a content, `….fill` beside it one that is still being
//! fetched. Neighbouring numbers share a directory, so that making a burst of new files durable
//! costs one directory, not one each. Everything else is none of ours: it is moved aside to
//! `quarantine/`, with a line in `quarantine/REPORT`, and never deleted.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{DirEntry, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use super::blob::Blob;
use super::crew::Crew;
use super::disk::Disk;
use super::refused::Refused;
use super::stock::Stock;
use crate::threads::Mutex;
use crate::threads::atomic::{AtomicU64, Ordering};
use crate::tree::ContentId;

/// What marks a content that is not complete.
const FILL: &str = ".fill";

/// Numbers count up from 1 and never get here: a name that claims to be beyond was not given by us,
/// and must not push the count to where it ends.
const BEYOND: u64 = 1 << 62;

/// The places on disk, shared by the store and all its open files.
#[derive(Debug)]
pub(super) struct Shelf {
    content: PathBuf,
    quarantine: PathBuf,
    disk: Arc<dyn Disk>,
    /// On that disk. Open all the time, so that it hears of every failed write.
    witness: File,
    /// The last number given out.
    pub(super) last: AtomicU64,
    /// One open file a content, as long as anybody holds it.
    pub(super) open: Mutex<HashMap<ContentId, Weak<Blob>>>,
    /// Directories whose own names are known to be on the disk for good.
    durable: Mutex<HashSet<PathBuf>>,
    /// Whose bytes the disk has refused.
    pub(super) refused: Refused,
    pub(super) on_remove: OnRemove,
    /// Contents made ahead, where somebody wants that.
    pub(super) stock: OnceLock<Stock>,
    /// Who brings several contents to the disk at once, from the first time on; none: no threads can be had.
    crew: OnceLock<Option<Crew>>,
    /// Held while a file moves to the quarantine: two must not take one name.
    moving: Mutex<()>,
}

/// Who hears of contents that are removed.
#[derive(Default)]
pub(super) struct OnRemove(pub(super) OnceLock<Box<dyn Fn(ContentId) + Send + Sync>>);

impl std::fmt::Debug for OnRemove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnRemove")
    }
}

/// A name below `content/`.
pub(super) enum Seen {
    /// A content.
    Content(ContentId),
    /// A content that is, or was, being fetched.
    Fill(ContentId),
    /// Anything else.
    Unknown,
}

impl Shelf {
    /// Finds the places, or makes them.
    pub(super) fn open(state_dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Arc<Self>> {
        let shelf = Self {
            content: state_dir.join("content"),
            quarantine: state_dir.join("quarantine"),
            witness: File::open(state_dir)?,
            disk,
            last: AtomicU64::new(0),
            open: Mutex::default(),
            durable: Mutex::default(),
            refused: Refused::default(),
            on_remove: OnRemove::default(),
            stock: OnceLock::new(),
            crew: OnceLock::new(),
            moving: Mutex::default(),
        };
        for dir in [&shelf.content, &shelf.quarantine] {
            shelf.disk.make_dir(dir)?;
            // Pictures that nobody has published yet are nobody else's business.
            std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        }
        shelf.disk.sync_dir(state_dir)?;
        Ok(Arc::new(shelf))
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn root(&self) -> &Path {
        &self.content
    }

    /// A number that was never given before.
    pub(super) fn next(&self) -> ContentId {
        ContentId(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn crew(&self) -> Option<&Crew> {
        let start = || {
            let crew = Crew::start();
            let told = |error: &io::Error| tracing::warn!(%error, "contents are brought to the disk one by one");
            crew.inspect_err(told).ok()
        };
        self.crew.get_or_init(start).as_ref()
    }

    pub(super) fn leaf(&self, id: ContentId) -> PathBuf {
        let [.., high, low, _] = id.0.to_be_bytes();
        self.content
            .join(format!("{high:02x}"))
            .join(format!("{low:02x}"))
    }

    /// Where a content stands.
    pub(super) fn path(&self, id: ContentId) -> PathBuf {
        self.leaf(id).join(format!("{:016x}", id.0))
    }

    /// Where it stands while it is being fetched.
    pub(super) fn fill_path(&self, id: ContentId) -> PathBuf {
        self.leaf(id).join(format!("{:016x}{FILL}", id.0))
    }

    /// A content has no name any more: those who have it open go on with it, and nobody else finds it.
    pub(super) fn forget(&self, id: ContentId) {
        self.open.lock().remove(&id);
        if let Some(hear) = self.on_remove.0.get() {
            hear(id);
        }
    }

    /// Where it is moved to when it is damaged. Numbers are never given again, so that it has this name alone.
    pub(super) fn quarantine_path(&self, id: ContentId) -> PathBuf {
        self.quarantine.join(format!("{:016x}", id.0))
    }

    /// Makes a new file; its directory too, when it is the first in it.
    pub(super) fn make(&self, path: &Path) -> io::Result<File> {
        let options = {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            options
        };
        match self.disk.open(path, &options) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let leaf = path.parent().unwrap_or(&self.content);
                self.disk.make_dir(leaf)?;
                self.disk.open(path, &options)
            }
            other => other,
        }
    }

    /// Makes everything durable that was written to this disk, by whomever. `false`: it cannot be told whether that
    /// worked.
    pub(super) fn sync_all(&self) -> bool {
        if self.refused.is_distrusted() {
            return false;
        }
        let synced = self.disk.sync_all(&self.witness).is_ok();
        if !synced {
            self.refused.distrust();
        }
        synced
    }

    /// Makes the name of a content durable.
    pub(super) fn sync_name(&self, id: ContentId) -> io::Result<()> {
        let leaf = self.leaf(id);
        self.disk.sync_dir(&leaf)?;
        if self.durable.lock().contains(&leaf) {
            return Ok(());
        }
        for above in leaf.ancestors().skip(1).take(2) {
            self.disk.sync_dir(above)?;
        }
        self.durable.lock().insert(leaf);
        Ok(())
    }

    /// Shows everything below `content/`. What vanishes meanwhile is passed over.
    pub(super) fn walk(&self, mut see: impl FnMut(Seen, &DirEntry)) -> io::Result<()> {
        for high in std::fs::read_dir(&self.content)? {
            let high = high?;
            if !is_branch(&high)? {
                see(Seen::Unknown, &high);
                continue;
            }
            for low in std::fs::read_dir(high.path())? {
                let low = low?;
                if !is_branch(&low)? {
                    see(Seen::Unknown, &low);
                    continue;
                }
                for entry in std::fs::read_dir(low.path())? {
                    let entry = entry?;
                    see(self.name_of(&entry), &entry);
                }
            }
        }
        Ok(())
    }

    fn name_of(&self, entry: &DirEntry) -> Seen {
        let name = entry.file_name();
        let number = name
            .to_str()
            .map(|name| name.strip_suffix(FILL).unwrap_or(name));
        let is_file = matches!(entry.file_type(), Ok(kind) if kind.is_file());
        match number.and_then(parse) {
            Some(id) if is_file && entry.path() == self.path(id) => Seen::Content(id),
            Some(id) if is_file && entry.path() == self.fill_path(id) => Seen::Fill(id),
            _ => Seen::Unknown,
        }
    }

    /// Numbers that files in the quarantine bear: they stay theirs.
    pub(super) fn quarantined(&self) -> io::Result<u64> {
        let mut highest = 0;
        for entry in std::fs::read_dir(&self.quarantine)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.get(..16))
                .and_then(parse);
            highest = highest.max(number.map_or(0, |id| id.0));
        }
        Ok(highest)
    }

    /// Moves a file aside and writes down why. The line comes first: nothing stands in the
    /// quarantine unexplained.
    pub(super) fn quarantine(&self, path: &Path, why: &str) -> io::Result<PathBuf> {
        let _moving = self.moving.lock();
        std::fs::symlink_metadata(path)?;
        let name = path.file_name().unwrap_or(OsStr::new("unnamed"));
        let mut target = self.quarantine.join(name);
        for copy in 1u32.. {
            match std::fs::symlink_metadata(&target) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
                Ok(_) => {
                    let mut name = name.to_owned();
                    name.push(format!(".{copy}"));
                    target = self.quarantine.join(name);
                }
            }
        }
        let line = format!(
            "{}\t{}\t{}\t{}\n",
            jiff::Timestamp::now(),
            path.display().to_string().escape_debug(),
            target.display().to_string().escape_debug(),
            why.escape_debug(),
        );
        let report = self.disk.open(
            &self.quarantine.join("REPORT"),
            OpenOptions::new().append(true).create(true).mode(0o600),
        )?;
        if self.disk.append(&report, line.as_bytes())? < line.len() {
            return Err(io::ErrorKind::StorageFull.into()); // what else a file writes short for
        }
        self.disk.sync_file(&report)?;
        self.disk.rename(path, &target)?;
        self.disk.sync_dir(&self.quarantine)?;
        if let Some(from) = path.parent() {
            self.disk.sync_dir(from)?;
        }
        tracing::error!(path = %path.display(), moved_to = %target.display(), why, "quarantined");
        Ok(target)
    }
}

/// One of the 256 directories of a level.
fn is_branch(entry: &DirEntry) -> io::Result<bool> {
    let name = entry.file_name();
    let hex = name
        .as_encoded_bytes()
        .iter()
        .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    Ok(hex && name.len() == 2 && entry.file_type()?.is_dir())
}

fn parse(name: &str) -> Option<ContentId> {
    let hex = name.len() == 16 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(name, 16)
        .ok()
        .filter(|id| hex && *id < BEYOND)
        .map(ContentId)
}
