//! The bytes of files and their sums.
//!
//! Small contents stay in memory, larger ones lie in files of the emulator's own temporary
//! directory, opened only while they are read: neither memory nor descriptors grow with the drive.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use quickxorhash::QuickXorHash;
use sha1::Digest as _;
use sha2::Digest as _;

/// Contents up to here stay in memory. Ten thousand pictures above it would fill a small machine.
const IN_MEMORY: u64 = 64 * 1024;
/// Above this no SHA sums are given, as the service leaves them out at times: they cost seconds in
/// an unoptimised build.
const SHA_LIMIT: u64 = 16 * 1024 * 1024;
/// One step of reading a file back.
const STEP: usize = 256 * 1024;

/// Gives contents their place on disk.
#[derive(Debug)]
pub(crate) struct Depot {
    dir: tempfile::TempDir,
    next: AtomicU64,
}

impl Depot {
    pub(crate) fn new() -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("graph-emulator-")
            .tempdir()?;
        Ok(Self {
            dir,
            next: AtomicU64::new(0),
        })
    }

    pub(crate) fn spool(&self) -> Spool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Spool {
            path: self.dir.path().join(number.to_string()),
            memory: BytesMut::new(),
            file: None,
            length: 0,
            summed: 0,
            sums: QuickXorHash::new(),
        }
    }

    pub(crate) fn hold(&self, bytes: &[u8], sha: Sha) -> io::Result<Content> {
        let mut spool = self.spool();
        spool.push(bytes)?;
        spool.finish(sha)
    }
}

/// Which SHA sums a profile shows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sha {
    pub(crate) one: bool,
    pub(crate) two: bool,
}

/// Bytes that are still arriving.
pub(crate) struct Spool {
    path: PathBuf,
    memory: BytesMut,
    file: Option<OwnedFile>,
    length: u64,
    /// How many bytes `sums` has seen.
    summed: u64,
    sums: QuickXorHash,
}

impl Spool {
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let grown = self.length + bytes.len() as u64;
        if self.file.is_none() && grown > IN_MEMORY {
            let file = OwnedFile::create(&self.path)?;
            file.open.write_all_at(&self.memory, 0)?;
            self.memory = BytesMut::new();
            self.file = Some(file);
        }
        match &self.file {
            Some(file) => file.open.write_all_at(bytes, self.length)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.length = grown;
        Ok(())
    }

    /// Forgets what came after `length`: a fragment that broke off counts for nothing.
    pub(crate) fn truncate(&mut self, length: u64) {
        debug_assert!(
            length >= self.summed,
            "only bytes without a sum may be forgotten"
        );
        if self.file.is_none() {
            self.memory
                .truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        self.length = length;
    }

    /// Takes all that is here into the sums.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        match &self.file {
            None => {
                let from = usize::try_from(self.summed).unwrap_or(usize::MAX);
                self.sums.update(&self.memory[from..]);
            }
            Some(file) => {
                let sums = &mut self.sums;
                each_step(&file.open, self.summed..self.length, |bytes| {
                    sums.update(bytes);
                })?;
            }
        }
        self.summed = self.length;
        Ok(())
    }

    pub(crate) fn finish(mut self, sha: Sha) -> io::Result<Content> {
        self.settle()?;
        let quick = STANDARD.encode(self.sums.finalize());
        let stored = match self.file {
            None => Stored::Memory(self.memory.freeze()),
            Some(file) => {
                file.open.set_len(self.length)?;
                Stored::Disk(file.path)
            }
        };
        let mut held = Held {
            stored,
            length: self.length,
            quick,
            sha1: None,
            sha256: None,
        };
        if held.length <= SHA_LIMIT && (sha.one || sha.two) {
            let (mut one, mut two) = (sha1::Sha1::new(), sha2::Sha256::new());
            held.each(0..held.length, |bytes| {
                if sha.one {
                    sha1::Digest::update(&mut one, bytes);
                }
                if sha.two {
                    sha2::Digest::update(&mut two, bytes);
                }
            })?;
            held.sha1 = sha.one.then(|| upper_hex(&one.finalize()));
            held.sha256 = sha.two.then(|| upper_hex(&two.finalize()));
        }
        Ok(Content(Arc::new(held)))
    }
}

/// A file of ours that is gone with its last owner.
struct OwnedFile {
    open: File,
    path: OwnedPath,
}

impl OwnedFile {
    fn create(path: &Path) -> io::Result<Self> {
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(Self {
            open,
            path: OwnedPath(path.to_owned()),
        })
    }
}

#[derive(Debug)]
struct OwnedPath(PathBuf);

impl Drop for OwnedPath {
    fn drop(&mut self) {
        // The directory itself goes with the emulator; a file left until then harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The finished bytes of one version of a file.
#[derive(Debug, Clone)]
pub(crate) struct Content(Arc<Held>);

#[derive(Debug)]
struct Held {
    stored: Stored,
    length: u64,
    quick: String,
    sha1: Option<String>,
    sha256: Option<String>,
}

#[derive(Debug)]
enum Stored {
    Memory(Bytes),
    Disk(OwnedPath),
}

impl Content {
    pub(crate) fn length(&self) -> u64 {
        self.0.length
    }

    /// The `QuickXorHash` in base64.
    pub(crate) fn quick(&self) -> &str {
        &self.0.quick
    }

    pub(crate) fn sha1(&self) -> Option<&str> {
        self.0.sha1.as_deref()
    }

    pub(crate) fn sha256(&self) -> Option<&str> {
        self.0.sha256.as_deref()
    }

    /// Opens the bytes for reading.
    pub(crate) fn reader(&self) -> io::Result<Reader> {
        Ok(match &self.0.stored {
            Stored::Memory(bytes) => Reader::Memory(bytes.clone()),
            // The content rides along, so that its file outlives a deletion during the read.
            Stored::Disk(path) => Reader::Disk(File::open(&path.0)?, self.clone()),
        })
    }

    pub(crate) fn all(&self) -> io::Result<Bytes> {
        let mut bytes = BytesMut::new();
        self.0
            .each(0..self.0.length, |step| bytes.extend_from_slice(step))?;
        Ok(bytes.freeze())
    }
}

impl Held {
    fn each(&self, range: Range<u64>, mut act: impl FnMut(&[u8])) -> io::Result<()> {
        match &self.stored {
            Stored::Memory(bytes) => {
                let all = bytes.len();
                let at = |position: u64| usize::try_from(position).map_or(all, |p| p.min(all));
                act(&bytes[at(range.start)..at(range.end)]);
                Ok(())
            }
            Stored::Disk(path) => each_step(&File::open(&path.0)?, range, act),
        }
    }
}

/// Bytes open for reading.
pub(crate) enum Reader {
    Memory(Bytes),
    Disk(
        File,
        #[expect(dead_code, reason = "keeps the file from being removed")] Content,
    ),
}

impl Reader {
    /// The next step of the range, at most `STEP` bytes.
    pub(crate) fn step(&self, range: &mut Range<u64>) -> io::Result<Bytes> {
        let length = usize::try_from(range.end - range.start).map_or(STEP, |left| left.min(STEP));
        let bytes = match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(range.start).unwrap_or(usize::MAX);
                bytes.slice(from..from + length)
            }
            Self::Disk(file, _) => {
                let mut bytes = BytesMut::zeroed(length);
                file.read_exact_at(&mut bytes, range.start)?;
                bytes.freeze()
            }
        };
        range.start += length as u64;
        Ok(bytes)
    }
}

fn each_step(file: &File, range: Range<u64>, mut act: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; STEP];
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end - at).map_or(STEP, |left| left.min(STEP));
        file.read_exact_at(&mut buffer[..length], at)?;
        act(&buffer[..length]);
        at += length as u64;
    }
    Ok(())
}

fn upper_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick(bytes: &[u8]) -> String {
        let depot = Depot::new().unwrap();
        depot
            .hold(bytes, Sha::default())
            .unwrap()
            .quick()
            .to_owned()
    }

    #[test]
    fn quick_xor_hash_agrees_with_the_published_vectors() {
        let counting: Vec<u8> = (0..=255).cycle().take(1024).collect();
        for (bytes, expected) in [
            (&b""[..], "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            (b"a", "YQAAAAAAAAAAAAAAAQAAAAAAAAA="),
            (b"hello world", "aCgDG9jwBhDc4Q1yawMZAAAAAAA="),
            (
                b"The quick brown fox jumps over the lazy dog",
                "bMSlbysmxJL6S75XwfMcQZOpcr4=",
            ),
            (&[0; 1000], "AAAAAAAAAAAAAAAA6AMAAAAAAAA="),
            (&counting, "h7xr2dbCayZCQYR9KKhlwDuT4UI="),
            (&vec![b'x'; 1 << 20], "FKMYxShGMYpRjGIU29jWNraxjW0="),
        ] {
            assert_eq!(quick(bytes), expected, "of {} bytes", bytes.len());
        }
    }

    #[test]
    fn bytes_come_back_as_they_went_in_from_memory_and_from_disk() {
        let depot = Depot::new().unwrap();
        for length in [0_usize, 1, 65_536, 65_537, 700_000] {
            let bytes: Vec<u8> = (0..length)
                .map(|i| u8::try_from(i % 251).unwrap())
                .collect();
            let content = depot
                .hold(
                    &bytes,
                    Sha {
                        one: true,
                        two: true,
                    },
                )
                .unwrap();
            assert_eq!(content.all().unwrap(), bytes);
            assert_eq!(content.quick(), quick(&bytes));
            let reader = content.reader().unwrap();
            let mut range = 0..content.length();
            let mut read = Vec::new();
            while !range.is_empty() {
                read.extend_from_slice(&reader.step(&mut range).unwrap());
            }
            assert_eq!(read, bytes);
        }
    }

    #[test]
    fn a_broken_fragment_leaves_no_trace_in_bytes_or_sums() {
        let depot = Depot::new().unwrap();
        let mut spool = depot.spool();
        spool.push(&vec![1; 100_000]).unwrap();
        spool.settle().unwrap();
        spool.push(&[9; 5_000]).unwrap();
        spool.truncate(100_000);
        spool.push(&[2; 10]).unwrap();
        let content = spool.finish(Sha::default()).unwrap();
        let expected = [vec![1; 100_000], vec![2; 10]].concat();
        assert_eq!(content.all().unwrap(), expected);
        assert_eq!(content.quick(), quick(&expected));
    }

    #[test]
    fn the_sha_sums_are_upper_case_hex() {
        let depot = Depot::new().unwrap();
        let content = depot
            .hold(
                b"abc",
                Sha {
                    one: true,
                    two: true,
                },
            )
            .unwrap();
        assert_eq!(
            content.sha1(),
            Some("A9993E364706816ABA3E25717850C26C9CD0D89D")
        );
        assert_eq!(
            content.sha256(),
            Some("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD")
        );
    }

    #[test]
    fn a_content_on_disk_is_gone_with_its_last_owner() {
        let depot = Depot::new().unwrap();
        let content = depot.hold(&vec![7; 100_000], Sha::default()).unwrap();
        assert_eq!(std::fs::read_dir(depot.dir.path()).unwrap().count(), 1);
        let other = content.clone();
        drop(content);
        assert_eq!(other.all().unwrap().len(), 100_000);
        drop(other);
        assert_eq!(std::fs::read_dir(depot.dir.path()).unwrap().count(), 0);
    }
}
