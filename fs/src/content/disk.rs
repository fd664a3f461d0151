//! The disk under the state: every call that a full or failing disk can refuse, or a power cut undo.
//!
//! What is *written* survives the death of the daemon, and what is *synced* a power cut as well. The
//! journal, the contents and the logs all go through here, so that the difference is in one place.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::hash::PIECE;

/// How much the kernel is asked to copy at once: a copy can be cut short no sooner than that.
const COPY: usize = 64 * 1024 * 1024;

/// What `fallocate` does to a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Room for it is reserved, and the file grows where it ends behind the file's end.
    Reserve,
    /// Room for it is reserved, also behind the file's end.
    ReserveBehind,
    /// Its bytes are zeros, and their room is given back.
    Punch,
    /// Its bytes are zeros, and the file grows as far.
    Zero,
    /// Its bytes are zeros, and the file stays as long as it is.
    ZeroInside,
}

impl Allocation {
    /// Whether the file is at least as long as the range afterwards.
    #[must_use]
    pub fn grows(self) -> bool {
        matches!(self, Self::Reserve | Self::Zero)
    }

    /// Whether the bytes stay as they are.
    #[must_use]
    pub fn reserves(self) -> bool {
        matches!(self, Self::Reserve | Self::ReserveBehind)
    }

    fn flags(self) -> FallocateFlags {
        match self {
            Self::Reserve => FallocateFlags::empty(),
            Self::ReserveBehind => FallocateFlags::KEEP_SIZE,
            Self::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Self::Zero => FallocateFlags::ZERO_RANGE,
            Self::ZeroInside => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        }
    }
}

/// Whether the system was short of something for a moment: it says nothing about the disk.
#[must_use]
pub fn is_passing(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|number| short.contains(&number))
}

/// What the state asks of its disk. Each call fails as the system's own does.
#[expect(
    clippy::missing_errors_doc,
    reason = "each fails where the disk does, which the trait says"
)]
pub trait Disk: Debug + Send + Sync {
    /// Opens a file, or makes it.
    fn open(&self, path: &Path, how: &OpenOptions) -> io::Result<File>;

    /// Makes a directory for its owner only, and those above it.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Reads into the room that `bytes` has left; how many bytes came.
    fn read(&self, file: &File, bytes: &mut Vec<u8>, offset: u64) -> io::Result<usize>;

    /// Fills `bytes`, or fails where the file is shorter.
    fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all bytes, or some of them and fails.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes by one `write(2)`, to the end of a file that is open for that; how many bytes it took.
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts a file, or extends it with zeros.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;

    /// Does something to a range as a whole.
    fn allocate(&self, file: &File, range: Allocation, offset: u64, len: u64) -> io::Result<()>;

    /// Copies all bytes to an empty file: by reference where the disk can.
    fn copy(&self, from: &File, to: &File) -> io::Result<()>;

    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Barrier: the bytes of a file, and its length. Says nothing of its name.
    fn sync_file(&self, file: &File) -> io::Result<()>;

    /// Barrier: the names in a directory. Says nothing of the bytes behind them.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Barrier: everything on the disk that a file is on, by whomever it was written.
    fn sync_all(&self, file: &File) -> io::Result<()>;

    /// Bytes that we may still write below a directory.
    fn free(&self, dir: &Path) -> io::Result<u64>;

    /// The boot of the machine: within one, what was written is there.
    fn boot(&self) -> io::Result<String>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

impl Disk for Host {
    fn open(&self, path: &Path, how: &OpenOptions) -> io::Result<File> {
        how.open(path)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn read(&self, file: &File, bytes: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::pread(file, spare_capacity(bytes), offset)
        })?)
    }

    fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(bytes, offset)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn allocate(&self, file: &File, range: Allocation, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(file, range.flags(), offset, len)
        })?)
    }

    fn copy(&self, from: &File, to: &File) -> io::Result<()> {
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

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        let uname = rustix::system::uname();
        if !tells_of_lost_writes(&uname.release().to_string_lossy()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(rustix::fs::syncfs(file)?)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn boot(&self) -> io::Result<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(id.trim().to_owned())
    }
}

/// Whether the kernel of this release says so when `syncfs` finds that writes have failed: since Linux 5.8
/// (`syncfs(2)`).
fn tells_of_lost_writes(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    (number(), number()) >= (Some(5), Some(8))
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
    use super::super::hash::quick_xor_of;
    use super::*;

    #[test]
    fn a_copy_through_our_own_memory_is_the_same() {
        let bytes: Vec<u8> = (0..=250).cycle().take(PIECE * 2 + 7).collect();
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all_at(&bytes, 0).unwrap();
        copy_rest(&from, &to, 0).unwrap();
        let size = bytes.len() as u64;
        assert_eq!(to.metadata().unwrap().len(), size);
        assert_eq!(
            quick_xor_of(&to, size).unwrap(),
            quick_xor_of(&from, size).unwrap()
        );
    }

    #[test]
    fn a_barrier_of_the_whole_disk_counts_where_the_kernel_tells_of_lost_writes() {
        for (release, tells) in [
            ("5.7.19", false),
            ("4.19.0-26-amd64", false),
            ("5.8.0", true),
            ("5.10.0-30-cloud-amd64", true),
            ("6.18.35+rpt-rpi-v8", true),
            ("unknown", false),
        ] {
            assert_eq!(tells_of_lost_writes(release), tells, "{release}");
        }
    }

    #[test]
    fn the_machine_tells_which_boot_this_is() {
        assert_eq!(Host.boot().unwrap().len(), 36);
    }
}
