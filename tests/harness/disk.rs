//! A disk of one's own, whose power can be cut.
//!
//! ext4 in an image behind a loop device. Its shutdown drops all that is not on the disk at that moment:
//! dirty pages, and with them what a file's size or name waits for in the log. What follows is a mount
//! of what was on it, by the kernel's own recovery.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::wait::until;

/// `EXT4_IOC_SHUTDOWN`, and its flag to end without a flush of the log.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// A disk of one's own, until the end of a test.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    point: PathBuf,
}

impl Disk {
    /// A new disk of a size in MiB, at a directory that is made for it; its image is beside that.
    ///
    /// # Panics
    /// It cannot be made or mounted.
    #[must_use]
    pub fn at(point: &Path, size: u64) -> Self {
        std::fs::create_dir_all(point).expect("a directory");
        let image = point.with_extension("img");
        let file = File::create(&image).expect("an image");
        file.set_len(size << 20).expect("a sparse file");
        // All of its tables at once: nobody is to write them in the background.
        let now = "lazy_itable_init=0,lazy_journal_init=0";
        command("mkfs.ext4", &["-q", "-F", "-E", now, &text(&image)]);
        let disk = Self {
            image,
            point: point.to_owned(),
        };
        disk.mount();
        disk
    }

    /// Cuts its power. Who writes to it from now on gets errors.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn cut(&self) {
        let root = File::open(&self.point).expect("it is mounted");
        let flags: u32 = NO_LOG_FLUSH;
        #[expect(unsafe_code, reason = "no library has this call")]
        // SAFETY: the descriptor is open, and the call reads one number by the pointer.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const flags) };
        assert_eq!(done, 0, "shutdown: {}", io::Error::last_os_error());
    }

    /// Gives it power again: what is there is what was on it. Nobody may have it in use; what was unmounted a moment
    /// ago lets go of it in its own time.
    ///
    /// # Panics
    /// Somebody has, or it cannot be mounted.
    pub fn restore(&self) {
        let point = text(&self.point);
        until("the disk is unmounted", || {
            let done = Command::new("umount").arg(&point).status();
            done.expect("umount(8)").success().then_some(())
        });
        self.mount();
    }

    fn mount(&self) {
        let (image, point) = (text(&self.image), text(&self.point));
        command("mount", &["-o", "loop", &image, &point]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}

/// Closes a file, and says how that went, which the standard library does not.
///
/// # Errors
/// What `close(2)` says.
pub fn close(file: File) -> io::Result<()> {
    let descriptor = file.into_raw_fd();
    #[expect(
        unsafe_code,
        reason = "the standard library keeps the result to itself"
    )]
    // SAFETY: the descriptor was the file's alone, and nobody has it any more.
    let done = unsafe { libc::close(descriptor) };
    if done == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn command(name: &str, arguments: &[&str]) {
    let done = Command::new(name).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{name}: {error}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{name} {arguments:?}: {said}");
}
