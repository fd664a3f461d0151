//! A disk that keeps *written* and *synced* apart, and fails on demand.
//!
//! Everything happens in a real directory; only barriers do not, and are written down instead. So at
//! any moment it can tell what a kill would leave, and what a power cut would: the bytes of a file as
//! of its last barrier, the names of a directory as of its own, and of all that came later as much as
//! one likes to think. The model is harsher than most disks: names of different files survive
//! independently of their order, bytes by the sector, and what a failed barrier dropped stays lost
//! though it can be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::content::disk::Allocation;
use crate::content::{Disk, Host};

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// A file, whatever its name is.
type Inode = u64;

/// What a call does to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// Of what is there.
    Open,
    /// A file that was not there.
    Make,
    MakeDir,
    Read,
    Write,
    Append,
    SetLen,
    Reserve,
    Copy,
    Rename,
    Remove,
    SyncFile,
    SyncDir,
    SyncAll,
}

impl Call {
    /// Whether it needs a descriptor.
    fn takes_descriptor(self) -> bool {
        // A copy opens nothing, and a barrier of a directory opens the directory.
        matches!(self, Self::Open | Self::Make | Self::SyncDir)
    }

    /// Whether it needs room.
    fn takes_room(self) -> bool {
        match self {
            Self::Make
            | Self::MakeDir
            | Self::Write
            | Self::Append
            | Self::SetLen
            | Self::Reserve
            | Self::Copy
            | Self::Rename
            // A disk that allocates late says so at the barrier.
            | Self::SyncFile
            | Self::SyncAll => true,
            Self::Open | Self::Read | Self::Remove | Self::SyncDir => false,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This call alone.
    Once(usize),
    /// This call, and all later ones of its like, until somebody [heals](FragileDisk::heal) the disk.
    From(usize),
    /// All calls of a kind, until then.
    Each(Call),
}

/// How it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Broken,
    Full,
    /// No descriptor is left.
    Exhausted,
}

impl Trouble {
    fn strikes(self, call: Call) -> bool {
        match self {
            Self::Broken => true,
            Self::Full => call.takes_room(),
            Self::Exhausted => call.takes_descriptor(),
        }
    }

    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Broken => libc::EIO,
            Self::Full => libc::ENOSPC,
            Self::Exhausted => libc::EMFILE,
        })
    }
}

/// What becomes of names, or of bytes, that no barrier covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    /// Each change, and each sector, by the dice.
    Mixed,
}

/// A power cut: what is left of what no barrier covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub(crate) names: Unsynced,
    pub(crate) bytes: Unsynced,
    pub(crate) seed: u64,
}

impl Left {
    /// Nothing but what was synced.
    pub(crate) const LEAST: Self = Self::of(Unsynced::Lost, Unsynced::Lost);
    /// Everything: what a kill leaves.
    pub(crate) const MOST: Self = Self::of(Unsynced::Kept, Unsynced::Kept);
    /// Files without their bytes.
    pub(crate) const NAMES: Self = Self::of(Unsynced::Kept, Unsynced::Lost);
    /// Bytes without their files.
    pub(crate) const BYTES: Self = Self::of(Unsynced::Lost, Unsynced::Kept);

    const fn of(names: Unsynced, bytes: Unsynced) -> Self {
        Self {
            names,
            bytes,
            seed: 0,
        }
    }

    /// Some of each.
    pub(crate) fn mixed(seed: u64) -> Self {
        Self {
            names: Unsynced::Mixed,
            bytes: Unsynced::Mixed,
            seed,
        }
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    File(Inode),
    Dir,
}

/// A change of names that no barrier covers. Paths are below the root.
#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, Entry),
    Remove(PathBuf),
    Move(PathBuf, PathBuf, Inode),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Self::Add(path, entry) => {
                names.insert(path.clone(), *entry);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Move(from, to, inode) => {
                if names.get(from) == Some(&Entry::File(*inode)) {
                    names.remove(from);
                }
                names.insert(to.clone(), Entry::File(*inode));
            }
        }
    }
}

/// The bytes of a file.
#[derive(Debug)]
struct Bytes {
    /// Holds the inode, so that its number is not given again.
    file: File,
    /// As they were written, unless somebody has written since.
    written: Option<Arc<[u8]>>,
    synced: Arc<[u8]>,
    /// Sectors that a failed barrier has dropped: in memory only, and taken for clean.
    dropped: BTreeSet<usize>,
    /// A barrier of the whole disk failed on it, of which its own is yet to tell.
    failed: bool,
}

impl Bytes {
    fn written(&mut self) -> Arc<[u8]> {
        let file = &self.file;
        self.written
            .get_or_insert_with(|| {
                let size = file.metadata().unwrap().len();
                let mut bytes = vec![0; usize::try_from(size).unwrap()];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes.into()
            })
            .clone()
    }

    fn touched(&mut self, from: u64, to: u64) {
        self.written = None;
        let sector = |at: u64| usize::try_from(at).unwrap() / SECTOR;
        if !self.dropped.is_empty() && from < to {
            let rewritten = sector(from)..=sector(to - 1);
            self.dropped.retain(|sector| !rewritten.contains(sector));
        }
    }

    fn sync(&mut self) {
        let written = self.written();
        if self.dropped.is_empty() {
            self.synced = written;
            return;
        }
        let dropped = &self.dropped;
        let old = |sector| dropped.contains(&sector);
        self.synced = mix(&self.synced, &written, written.len(), old).into();
    }

    fn fail_to_sync(&mut self) {
        let written = self.written();
        let sectors = written.len().div_ceil(SECTOR);
        let differs = |sector: &usize| part(&written, *sector) != part(&self.synced, *sector);
        self.dropped = (0..sectors).filter(differs).collect();
    }
}

fn part(bytes: &[u8], sector: usize) -> &[u8] {
    let at = |n: usize| n.min(bytes.len());
    &bytes[at(sector * SECTOR)..at((sector + 1) * SECTOR)]
}

/// `size` bytes of a newer state, with some sectors of an older one.
fn mix(older: &[u8], newer: &[u8], size: usize, mut old: impl FnMut(usize) -> bool) -> Vec<u8> {
    let mut mixed = vec![0; size];
    for (sector, room) in mixed.chunks_mut(SECTOR).enumerate() {
        let from = part(if old(sector) { older } else { newer }, sector);
        let len = from.len().min(room.len());
        room[..len].copy_from_slice(&from[..len]);
    }
    mixed
}

/// The bytes of a file, as synced and as written.
type Both = (Arc<[u8]>, Arc<[u8]>);

/// A disk at one moment, with all that may become of it.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    files: HashMap<Inode, Both>,
    names: BTreeMap<PathBuf, Entry>,
    pending: Vec<Change>,
}

/// What a power cut leaves: each path with its bytes, directories without.
type Image = BTreeMap<PathBuf, Option<Arc<[u8]>>>;

impl Moment {
    /// What a power cut leaves.
    fn image(&self, left: Left) -> Image {
        let mut dice = StdRng::seed_from_u64(left.seed);
        let mut names = self.names.clone();
        for change in &self.pending {
            let survives = match left.names {
                Unsynced::Lost => false,
                Unsynced::Kept => true,
                Unsynced::Mixed => dice.random_bool(0.5),
            };
            if survives {
                change.apply(&mut names);
            }
        }
        let mut bytes = |inode| {
            let (synced, written) = &self.files[&inode];
            match left.bytes {
                Unsynced::Lost => synced.clone(),
                Unsynced::Kept => written.clone(),
                Unsynced::Mixed => {
                    let size = [synced.len(), written.len()][dice.random_range(0..2)];
                    mix(synced, written, size, |_| dice.random_bool(0.5)).into()
                }
            }
        };
        let mut image = Image::new();
        for (path, entry) in names {
            let dir = path.parent().expect("a name is in a directory");
            // What is in a directory that did not survive did not, either.
            if dir == Path::new("") || image.contains_key(dir) {
                let of = match entry {
                    Entry::Dir => None,
                    Entry::File(inode) => Some(bytes(inode)),
                };
                image.insert(path, of);
            }
        }
        image
    }

    /// Lays out what a power cut leaves.
    pub(crate) fn lay(&self, left: Left, dir: &Path) {
        for (path, bytes) in self.image(left) {
            match bytes {
                None => std::fs::create_dir(dir.join(path)).unwrap(),
                Some(bytes) => std::fs::write(dir.join(path), bytes).unwrap(),
            }
        }
    }

    /// Whether a power cut leaves the same as at another moment.
    pub(crate) fn same(&self, other: &Self, left: Left) -> bool {
        let (one, other) = (self.image(left), other.image(left));
        one.len() == other.len()
            && one.iter().zip(&other).all(|pair| match pair {
                ((one, Some(a)), (other, Some(b))) => one == other && Arc::ptr_eq(a, b),
                ((one, None), (other, None)) => one == other,
                _ => false,
            })
    }
}

/// Somebody who looks at each moment, just before a call: its number, what it is, and the disk.
type Watch = Box<dyn FnMut(usize, Call, Moment) + Send>;

struct State {
    calls: usize,
    /// How many bytes of contents it still takes, where that has an end.
    room: Option<u64>,
    asked_for_room: usize,
    fault: Option<(Fault, Trouble)>,
    struck: Vec<Call>,
    watch: Option<Watch>,
    files: HashMap<Inode, Bytes>,
    names: BTreeMap<PathBuf, Entry>,
    pending: Vec<Change>,
}

/// A disk of which all barriers are known.
pub(crate) struct FragileDisk {
    root: PathBuf,
    boot: String,
    state: Mutex<State>,
}

impl std::fmt::Debug for FragileDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FragileDisk").finish_non_exhaustive()
    }
}

impl FragileDisk {
    /// The disk below a directory; what stands there is synced.
    pub(crate) fn over(root: &Path, boot: &str) -> Arc<Self> {
        let mut state = State {
            calls: 0,
            room: None,
            asked_for_room: 0,
            fault: None,
            struck: Vec::new(),
            watch: None,
            files: HashMap::new(),
            names: BTreeMap::new(),
            pending: Vec::new(),
        };
        let mut dirs = vec![PathBuf::new()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(root.join(&dir)).unwrap() {
                let entry = entry.unwrap();
                let path = dir.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    state.names.insert(path.clone(), Entry::Dir);
                    dirs.push(path);
                } else {
                    let file = File::open(entry.path()).unwrap();
                    let inode = state.know(&file);
                    state.bytes(inode).sync();
                    state.names.insert(path, Entry::File(inode));
                }
            }
        }
        Arc::new(Self {
            root: root.to_owned(),
            boot: boot.to_owned(),
            state: Mutex::new(state),
        })
    }

    /// Takes the bytes of all files below a directory for written only, as a kill leaves them; and where the disk
    /// has `refused` them, for such as no barrier will bring there.
    pub(crate) fn forget_barriers(&self, below: &str, refused: bool) {
        let mut state = self.state.lock();
        let State { names, files, .. } = &mut *state;
        for (path, entry) in names.iter() {
            if let Entry::File(inode) = entry
                && path.starts_with(below)
                && let Some(bytes) = files.get_mut(inode)
            {
                bytes.synced = Arc::default();
                if refused {
                    bytes.fail_to_sync();
                }
            }
        }
    }

    /// The disk as it is now.
    pub(crate) fn now(&self) -> Moment {
        self.state.lock().moment()
    }

    /// Has somebody look at the disk before each call, which waits for that.
    pub(crate) fn watch(&self, watch: impl FnMut(usize, Call, Moment) + Send + 'static) {
        self.state.lock().watch = Some(Box::new(watch));
    }

    /// Nobody looks any more.
    pub(crate) fn unwatch(&self) {
        self.state.lock().watch = None;
    }

    /// Something will go wrong.
    pub(crate) fn fail(&self, fault: Fault, trouble: Trouble) {
        self.state.lock().fault = Some((fault, trouble));
    }

    /// From now on contents of so many bytes fit, and what is removed makes room for others.
    pub(crate) fn set_room(&self, bytes: u64) {
        self.state.lock().room = Some(bytes);
    }

    /// How often somebody has asked how much room there is.
    pub(crate) fn asked_for_room(&self) -> usize {
        self.state.lock().asked_for_room
    }

    /// Nothing goes wrong any more. What has.
    pub(crate) fn heal(&self) -> Vec<Call> {
        let mut state = self.state.lock();
        state.fault = None;
        std::mem::take(&mut state.struck)
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> usize {
        self.state.lock().calls
    }

    fn path<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root)
            .expect("all state is below the root")
    }

    /// One call: everything about it is under one lock, so that calls have an order.
    fn call<T>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State, Option<Trouble>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        let number = state.calls;
        state.calls += 1;
        if let Some(mut watch) = state.watch.take() {
            let moment = state.moment();
            watch(number, call, moment);
            state.watch = Some(watch);
        }
        let trouble = state.trouble(number, call);
        state.struck.extend(trouble.map(|_| call));
        effect(&mut state, trouble)
    }

    /// The same, of a call that in trouble does nothing at all.
    fn plain<T>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.call(call, |state, trouble| match trouble {
            Some(trouble) => Err(trouble.error()),
            None => effect(state),
        })
    }
}

impl State {
    fn trouble(&self, number: usize, call: Call) -> Option<Trouble> {
        let (fault, trouble) = self.fault?;
        let struck = match fault {
            Fault::Once(at) => number == at,
            Fault::From(at) => number >= at,
            Fault::Each(kind) => call == kind,
        };
        (struck && trouble.strikes(call)).then_some(trouble)
    }

    fn know(&mut self, file: &File) -> Inode {
        let inode = file.metadata().unwrap().ino();
        self.files.entry(inode).or_insert_with(|| {
            // Opened anew: a duplicate would share the locks of the original.
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            Bytes {
                file: File::open(path).unwrap(),
                written: None,
                synced: Arc::default(),
                dropped: BTreeSet::new(),
                failed: false,
            }
        });
        inode
    }

    fn bytes(&mut self, inode: Inode) -> &mut Bytes {
        self.files.get_mut(&inode).expect("a known file")
    }

    fn of(&mut self, file: &File) -> &mut Bytes {
        let inode = self.know(file);
        self.bytes(inode)
    }

    fn moment(&mut self) -> Moment {
        let files = self
            .files
            .iter_mut()
            .map(|(inode, bytes)| (*inode, (bytes.synced.clone(), bytes.written())))
            .collect();
        Moment {
            files,
            names: self.names.clone(),
            pending: self.pending.clone(),
        }
    }

    fn sync_names(&mut self, dir: &Path) {
        let within = |path: &Path| path.parent() == Some(dir);
        let mut pending = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            match &change {
                Change::Add(path, _) | Change::Remove(path) if within(path) => {
                    change.apply(&mut self.names);
                }
                Change::Move(from, to, inode) => match (within(from), within(to)) {
                    (true, true) => change.apply(&mut self.names),
                    (false, true) => {
                        self.names.insert(to.clone(), Entry::File(*inode));
                        pending.push(Change::Remove(from.clone()));
                    }
                    (true, false) => {
                        self.names.remove(from);
                        pending.push(Change::Add(to.clone(), Entry::File(*inode)));
                    }
                    (false, false) => pending.push(change),
                },
                Change::Add(..) | Change::Remove(_) => pending.push(change),
            }
        }
        self.pending = pending;
    }
}

impl Disk for FragileDisk {
    fn open(&self, path: &Path, how: &OpenOptions) -> io::Result<File> {
        let was_there = path.exists();
        let call = if was_there { Call::Open } else { Call::Make };
        self.plain(call, |state| {
            let file = Host.open(path, how)?;
            let inode = state.know(&file);
            state.bytes(inode).written = None; // it may have been emptied
            if !was_there {
                let added = Change::Add(self.path(path).to_owned(), Entry::File(inode));
                state.pending.push(added);
            }
            Ok(file)
        })
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.plain(Call::MakeDir, |state| {
            let below = self.path(path).ancestors();
            let mut missing: Vec<PathBuf> = below
                .filter(|dir| !self.root.join(dir).exists())
                .map(Path::to_owned)
                .collect();
            Host.make_dir(path)?;
            missing.reverse();
            let added = missing.into_iter().map(|dir| Change::Add(dir, Entry::Dir));
            state.pending.extend(added);
            Ok(())
        })
    }

    fn read(&self, file: &File, bytes: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        self.plain(Call::Read, |_| Host.read(file, bytes, offset))
    }

    fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.plain(Call::Read, |_| Host.read_at(file, bytes, offset))
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.call(Call::Write, |state, trouble| {
            if let Some(room) = &mut state.room {
                let more = (offset + bytes.len() as u64).saturating_sub(file.metadata()?.len());
                let left = room.checked_sub(more);
                *room = left.ok_or_else(|| Trouble::Full.error())?;
            }
            let taken = match trouble {
                None => bytes.len(),
                Some(_) => bytes.len() / 2,
            };
            Host.write_at(file, &bytes[..taken], offset)?;
            state.of(file).touched(offset, offset + taken as u64);
            trouble.map_or(Ok(()), |trouble| Err(trouble.error()))
        })
    }

    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        self.call(Call::Append, |state, trouble| match trouble {
            Some(Trouble::Broken) => Err(Trouble::Broken.error()),
            Some(Trouble::Full) if bytes.len() < 2 => Err(Trouble::Full.error()),
            full => {
                let taken = full.map_or(bytes.len(), |_| bytes.len() / 2);
                let end = file.metadata()?.len();
                let taken = Host.append(file, &bytes[..taken])?;
                state.of(file).touched(end, end + taken as u64);
                Ok(taken)
            }
        })
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.plain(Call::SetLen, |state| {
            Host.set_len(file, len)?;
            state.of(file).written = None;
            Ok(())
        })
    }

    fn allocate(&self, file: &File, range: Allocation, offset: u64, len: u64) -> io::Result<()> {
        self.plain(Call::Reserve, |state| {
            Host.allocate(file, range, offset, len)?;
            state.of(file).written = None;
            Ok(())
        })
    }

    fn copy(&self, from: &File, to: &File) -> io::Result<()> {
        self.call(Call::Copy, |state, trouble| {
            match trouble {
                None => Host.copy(from, to)?,
                Some(trouble) => {
                    let mut half = vec![0; usize::try_from(from.metadata()?.len() / 2).unwrap()];
                    from.read_exact_at(&mut half, 0)?;
                    to.write_all_at(&half, 0)?;
                    state.of(to).written = None;
                    return Err(trouble.error());
                }
            }
            state.of(to).written = None;
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plain(Call::Rename, |state| {
            let is_dir = std::fs::symlink_metadata(from)?.is_dir();
            assert!(!is_dir, "the state's directories stay where they are");
            let inode = state.know(&File::open(from)?);
            Host.rename(from, to)?;
            let (from, to) = (self.path(from).to_owned(), self.path(to).to_owned());
            state.pending.push(Change::Move(from, to, inode));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.plain(Call::Remove, |state| {
            let size = std::fs::symlink_metadata(path)?.len();
            Host.remove(path)?;
            if let Some(room) = &mut state.room {
                *room += size;
            }
            state
                .pending
                .push(Change::Remove(self.path(path).to_owned()));
            Ok(())
        })
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.call(Call::SyncFile, |state, trouble| {
            let failed = std::mem::take(&mut state.of(file).failed);
            let trouble = trouble.or(failed.then_some(Trouble::Broken));
            match trouble {
                None => state.of(file).sync(),
                Some(_) => state.of(file).fail_to_sync(),
            }
            trouble.map_or(Ok(()), |trouble| Err(trouble.error()))
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.plain(Call::SyncDir, |state| {
            state.sync_names(self.path(path));
            Ok(())
        })
    }

    fn sync_all(&self, _file: &File) -> io::Result<()> {
        self.call(Call::SyncAll, |state, trouble| {
            if let Some(trouble) = trouble {
                for bytes in state.files.values_mut() {
                    bytes.fail_to_sync();
                    bytes.failed = !bytes.dropped.is_empty();
                }
                return Err(trouble.error());
            }
            state.files.values_mut().for_each(Bytes::sync);
            for change in std::mem::take(&mut state.pending) {
                change.apply(&mut state.names);
            }
            Ok(())
        })
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let room = {
            let mut state = self.state.lock();
            state.asked_for_room += 1;
            state.room
        };
        room.map_or_else(|| Host.free(dir), Ok)
    }

    fn boot(&self) -> io::Result<String> {
        Ok(self.boot.clone())
    }
}

mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, Arc<FragileDisk>, File) {
        let dir = tempfile::tempdir().unwrap();
        let disk = FragileDisk::over(dir.path(), "boot");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        let file = disk.open(&dir.path().join("a"), &options).unwrap();
        (dir, disk, file)
    }

    /// What a power cut leaves of the one file.
    fn left(disk: &FragileDisk, left: Left) -> Option<Vec<u8>> {
        let image = disk.now().image(left);
        image
            .get(Path::new("a"))
            .map(|bytes| bytes.clone().unwrap().to_vec())
    }

    #[test]
    fn what_is_not_synced_is_lost_and_a_barrier_keeps_only_what_it_covers() {
        let (dir, disk, file) = disk();
        disk.write_at(&file, b"one", 0).unwrap();
        assert_eq!(left(&disk, Left::LEAST), None);
        assert_eq!(left(&disk, Left::NAMES), Some(Vec::new()));
        assert_eq!(left(&disk, Left::MOST), Some(b"one".to_vec()));
        disk.sync_file(&file).unwrap();
        assert_eq!(left(&disk, Left::LEAST), None, "the name was not synced");
        disk.sync_dir(dir.path()).unwrap();
        assert_eq!(left(&disk, Left::LEAST), Some(b"one".to_vec()));
        disk.write_at(&file, b"two", 0).unwrap();
        assert_eq!(left(&disk, Left::LEAST), Some(b"one".to_vec()));
        disk.sync_all(&file).unwrap();
        assert_eq!(left(&disk, Left::LEAST), Some(b"two".to_vec()));
        disk.remove(&dir.path().join("a")).unwrap();
        assert_eq!(left(&disk, Left::LEAST), Some(b"two".to_vec()));
        assert_eq!(left(&disk, Left::NAMES), None);
    }

    #[test]
    fn what_a_failed_barrier_has_dropped_is_not_brought_back_by_the_next_one() {
        let (dir, disk, file) = disk();
        let (one, two) = (vec![1; 3 * SECTOR], vec![2; SECTOR]);
        disk.write_at(&file, &one, 0).unwrap();
        disk.sync_all(&file).unwrap();
        disk.write_at(&file, &two, 0).unwrap();
        disk.write_at(&file, &two, 2 * SECTOR as u64).unwrap();
        disk.fail(Fault::Once(disk.calls()), Trouble::Broken);
        disk.sync_file(&file).unwrap_err();
        disk.write_at(&file, &two, 2 * SECTOR as u64).unwrap();
        disk.sync_file(&file).unwrap();
        disk.sync_dir(dir.path()).unwrap();
        let kept = left(&disk, Left::LEAST).unwrap();
        assert_eq!(kept, [&one[..2 * SECTOR], &two].concat());
        assert_eq!(disk.heal(), [Call::SyncFile]);
    }
}
