//! Whether anybody can still write to a file: asked of the kernel by a read lease.
//!
//! A mapping outlives its descriptor, and what is stored through it is seen by nobody. A lease for reading is given
//! only where no descriptor and no mapping of the whole machine is open for writing (`fcntl(2)`, `F_SETLEASE`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Whether no descriptor and no mapping of a file can write to it. `file` is open for reading only, and so is
/// every other descriptor that we have of it.
///
/// # Errors
/// The filesystem has no leases, or the file is another user's.
pub(super) fn is_at_rest(file: &File) -> io::Result<bool> {
    match lease(file, libc::F_RDLCK) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(false),
        Err(error) => return Err(error),
    }
    lease(file, libc::F_UNLCK)?;
    Ok(true)
}

#[expect(
    unsafe_code,
    reason = "no safe wrapper of this call is kept by anybody"
)]
fn lease(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is borrowed, and the call takes no pointer.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

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
