//! An error of the use cases as an application sees it.
//!
//! Every variant is named, so that a new one asks its author what `errno` should say. What Lsky
//! Pro makes of each stands in `lsky-pro-storage.md`.

use fuser::Errno;

use crate::vfs::VfsError;

/// The error number for an application.
pub(crate) fn errno(error: &VfsError) -> Errno {
    match error {
        VfsError::NotFound => Errno::ENOENT,
        VfsError::Exists => Errno::EEXIST,
        VfsError::NotEmpty => Errno::ENOTEMPTY,
        VfsError::NotDirectory => Errno::ENOTDIR,
        VfsError::IsDirectory => Errno::EISDIR,
        VfsError::InvalidName(_) | VfsError::InvalidArgument => Errno::EINVAL,
        VfsError::OtherDrive => Errno::EXDEV,
        VfsError::NameTooLong => Errno::ENAMETOOLONG,
        VfsError::ReadOnly => Errno::EROFS,
        VfsError::BadHandle => Errno::EBADF,
        VfsError::Refused(_) => Errno::EACCES,
        VfsError::Busy => Errno::EBUSY,
        VfsError::TooLarge => Errno::EFBIG,
        VfsError::NotSupported => Errno::EOPNOTSUPP,
        VfsError::Journal(why) if why.full => Errno::ENOSPC,
        // The retries are spent, or the bytes are not those that were sealed.
        VfsError::Unreachable(_)
        | VfsError::TimedOut
        | VfsError::Damaged(_)
        | VfsError::Journal(_) => Errno::EIO,
        // The cache disk's own number says most: ENOSPC is what an uploader understands.
        VfsError::Disk(io) => io.raw_os_error().map_or(Errno::EIO, Errno::from_i32),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;
    use crate::outbox::journal::CommitFailed;
    use crate::ports::DriveError;
    use crate::tree::BadName;

    #[test]
    fn every_failure_has_the_number_that_applications_expect() {
        let refused = || DriveError::Refused {
            code: String::new(),
            message: String::new(),
        };
        let failed = |full| CommitFailed {
            why: "the disk's own words".into(),
            full,
            lost: false,
        };
        let away = || DriveError::Unavailable {
            what: String::new(),
            retry_after: None,
        };
        let table = [
            (VfsError::NotFound, libc::ENOENT),
            (VfsError::Exists, libc::EEXIST),
            (VfsError::NotEmpty, libc::ENOTEMPTY),
            (VfsError::NotDirectory, libc::ENOTDIR),
            (VfsError::IsDirectory, libc::EISDIR),
            (VfsError::InvalidName(BadName::Reserved), libc::EINVAL),
            (VfsError::NameTooLong, libc::ENAMETOOLONG),
            (VfsError::ReadOnly, libc::EROFS),
            (VfsError::BadHandle, libc::EBADF),
            (VfsError::Unreachable(Arc::new(away())), libc::EIO),
            (VfsError::TimedOut, libc::EIO),
            (VfsError::Refused(Arc::new(refused())), libc::EACCES),
            (VfsError::Damaged(String::new()), libc::EIO),
            (
                VfsError::from(io::Error::from_raw_os_error(libc::ENOSPC)),
                libc::ENOSPC,
            ),
            (VfsError::from(io::Error::other("no number")), libc::EIO),
            (VfsError::Journal(failed(false)), libc::EIO),
            (VfsError::Journal(failed(true)), libc::ENOSPC),
            (VfsError::Busy, libc::EBUSY),
            (VfsError::InvalidArgument, libc::EINVAL),
            (VfsError::OtherDrive, libc::EXDEV),
            (VfsError::TooLarge, libc::EFBIG),
            (VfsError::NotSupported, libc::EOPNOTSUPP),
        ];
        for (error, expected) in table {
            assert_eq!(i32::from(errno(&error)), expected, "{error:?}");
        }
    }
}
