//! Whether anybody can still write to a file: asked of the kernel by a read lease.
//!
//! A mapping outlives its descriptor, and what is stored through it is seen by nobody. A lease for reading is given
//! only where no descriptor and no mapping of the whole machine is open for writing (`fcntl(2)`, `F_SETLEASE`). It is
//! given back at once. Who opens the file for writing in that moment waits for it, and the kernel sends us a signal:
//! not the usual SIGIO, which would end the process, but SIGURG, which nobody hears.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `F_SETSIG` of `asm-generic/fcntl.h`: which signal tells of a lease that somebody waits for.
const SET_SIGNAL: libc::c_int = 10;

/// Whether no descriptor and no mapping of a file can write to it. `file` is open for reading only, and so is
/// every other descriptor that we have of it.
///
/// # Errors
/// The filesystem has no leases, or the file is another user's.
pub(super) fn is_at_rest(file: &File) -> io::Result<bool> {
    call(file, SET_SIGNAL, libc::SIGURG)?;
    match call(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(false),
        Err(error) => return Err(error),
    }
    call(file, libc::F_SETLEASE, libc::F_UNLCK)?;
    Ok(true)
}

#[expect(
    unsafe_code,
    reason = "no safe wrapper of this call is kept by anybody"
)]
fn call(file: &File, what: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is borrowed, and these calls take no pointer.
    match unsafe { libc::fcntl(file.as_raw_fd(), what, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn who_opens_a_file_while_it_is_asked_about_waits_a_moment_and_ends_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        File::create_new(&path).unwrap();
        let reader = File::open(&path).unwrap();
        std::thread::scope(|scope| {
            let asking =
                scope.spawn(|| (0..20_000).filter(|_| is_at_rest(&reader).unwrap()).count());
            while !asking.is_finished() {
                File::options().write(true).open(&path).unwrap();
            }
        });
    }

    #[test]
    fn a_file_is_at_rest_once_its_last_writer_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let writer = File::create_new(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(!is_at_rest(&reader).unwrap());
        let copy = writer.as_fd().try_clone_to_owned().unwrap();
        drop(writer);
        assert!(!is_at_rest(&reader).unwrap());
        drop(copy);
        assert!(is_at_rest(&reader).unwrap());
        File::options().write(true).open(&path).unwrap();
        assert!(is_at_rest(&reader).unwrap());
    }
}
