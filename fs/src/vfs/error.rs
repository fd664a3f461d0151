//! Why an operation on the mounted folder failed, as an application should see it.

use std::sync::Arc;

use crate::content::fill::FillError;
use crate::outbox::journal::CommitFailed;
use crate::ports::DriveError;
use crate::tree::{BadName, NameError};

/// One variant for each thing that an application can tell apart.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VfsError {
    /// Known to be absent.
    #[error("no such file or folder")]
    NotFound,
    /// The name, or one that the drive takes for the same, is in use.
    #[error("something of that name exists")]
    Exists,
    /// The folder has children.
    #[error("the folder is not empty")]
    NotEmpty,
    /// A folder was needed.
    #[error("not a folder")]
    NotDirectory,
    /// A file was needed.
    #[error("a folder")]
    IsDirectory,
    /// The drive could not store the name.
    #[error(transparent)]
    InvalidName(BadName),
    /// The two places are in different drives.
    #[error("nothing can be moved between drives")]
    OtherDrive,
    /// The drive could not store so long a name.
    #[error("the name is too long")]
    NameTooLong,
    /// The mount is read-only.
    #[error("the mount is read-only")]
    ReadOnly,
    /// No such open file, or not open for this.
    #[error("not open for this")]
    BadHandle,
    /// The drive cannot be reached, and what was asked for is not here.
    #[error("not here, and the drive cannot be reached")]
    Unreachable(#[source] Arc<DriveError>),
    /// The network took longer than a call may wait.
    #[error("the drive did not answer in time")]
    TimedOut,
    /// The drive refuses to hand it out.
    #[error("the drive refuses")]
    Refused(#[source] Arc<DriveError>),
    /// The bytes on our disk are not those that were sealed.
    #[error("the cached content is damaged: {0}")]
    Damaged(String),
    /// Our own disk; its own error number is passed on.
    #[error("the cache disk failed")]
    Disk(#[source] Arc<std::io::Error>),
    /// Nothing can be made durable at present.
    #[error(transparent)]
    Journal(CommitFailed),
    /// The root itself, or a mount point.
    #[error("in use")]
    Busy,
    /// Makes no sense.
    #[error("invalid argument")]
    InvalidArgument,
    /// Larger than `OneDrive` stores.
    #[error("larger than OneDrive's limit of 250 GB for a file")]
    TooLarge,
    /// Not offered here.
    #[error("not supported")]
    NotSupported,
}

impl VfsError {
    /// Whether our own disk has no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Disk(error) => error.kind() == std::io::ErrorKind::StorageFull,
            Self::Journal(why) => why.full,
            _ => false,
        }
    }
}

impl From<NameError> for VfsError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::NotFound => Self::NotFound,
            NameError::Exists => Self::Exists,
            NameError::NotEmpty => Self::NotEmpty,
            NameError::NotDirectory => Self::NotDirectory,
            NameError::IsDirectory => Self::IsDirectory,
            NameError::IntoItself => Self::InvalidArgument,
            NameError::OtherDrive => Self::OtherDrive,
            NameError::Bad(BadName::TooLong | BadName::PathTooLong) => Self::NameTooLong,
            NameError::Bad(bad) => Self::InvalidName(bad),
        }
    }
}

impl From<DriveError> for VfsError {
    fn from(error: DriveError) -> Self {
        Self::from(Arc::new(error))
    }
}

impl From<Arc<DriveError>> for VfsError {
    fn from(error: Arc<DriveError>) -> Self {
        match &*error {
            // By id, of something that we know: unknown is not absent (invariant 7).
            DriveError::NotFound
            | DriveError::NameTaken
            | DriveError::Conflict
            | DriveError::Locked(_)
            | DriveError::QuotaFull
            | DriveError::SignIn(_)
            | DriveError::Unavailable { .. }
            | DriveError::Resync { .. }
            | DriveError::NotSupported(_) => Self::Unreachable(error),
            DriveError::Refused { .. } => Self::Refused(error),
            DriveError::Disk(io) => {
                Self::Disk(Arc::new(std::io::Error::new(io.kind(), io.to_string())))
            }
        }
    }
}

impl From<std::io::Error> for VfsError {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

impl From<CommitFailed> for VfsError {
    fn from(error: CommitFailed) -> Self {
        Self::Journal(error)
    }
}

impl From<FillError> for VfsError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Drive(error) => Self::from(error),
            FillError::Disk(error) => Self::Disk(error),
            FillError::Changed => Self::Unreachable(Arc::new(DriveError::Conflict)),
        }
    }
}
