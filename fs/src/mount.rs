//! The mounted folder: the kernel's requests in, answers and notices out.
//!
//! `place` finds out whether and where something can be mounted; `session` mounts, serves and
//! unmounts; `operations` decodes each request, asks `vfs`, and answers through `answer`;
//! `invalidate` tells the kernel what it may no longer remember.
//!
//! Where the kernel can, it reads complete files by itself (`passing`). Else this is the fallback of design 5.3: reads
//! and writes come to us, and the kernel keeps what it read, which needs no privilege beyond the mount itself, and
//! promises the same.

mod answer;
mod attributes;
mod decode;
mod errno;
mod folders;
mod invalidate;
mod opened;
mod operations;
mod passing;
mod place;
mod reply;
mod session;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use tuyun_chassis::exit::{Code, Explain};
use tuyun_chassis::settings::SettingsError;

pub use self::attributes::Appearance;
pub use self::place::{Place, is_mounted, prepare, unmount, unmount_stale};
pub use self::session::{Ended, Mounted, mount};

/// What the kernel shows as the filesystem's type, and `mount -t` takes: `findmnt -t` and the
/// exclusion lists of backup and search programs know filesystems by it.
pub const TYPE: &str = "fuse.tuyunfs";

/// How cached files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Through the daemon.
    Fallback,
    /// By the kernel itself.
    Passthrough,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fallback => "fallback",
            Self::Passthrough => "passthrough",
        })
    }
}

/// Why nothing is mounted, or nothing could be unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// No mount point was given.
    #[error("no mount point is set")]
    NoPoint,
    /// The kernel has no FUSE, or the container hides it.
    #[error("this machine offers no FUSE: /dev/fuse cannot be opened")]
    NoFuse(#[source] io::Error),
    /// It does not exist.
    #[error("the mount point {} does not exist", .0.display())]
    Absent(PathBuf),
    /// It is a file.
    #[error("the mount point {} is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// Something would be hidden.
    #[error("the mount point {} is not empty: `{found}` would be hidden", .point.display())]
    NotEmpty {
        /// The directory.
        point: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// Another filesystem is there.
    #[error("{} is in use: {source_name} ({fstype}) is mounted there", .point.display())]
    InUse {
        /// The directory.
        point: PathBuf,
        /// The other's source.
        source_name: String,
        /// The other's type.
        fstype: String,
    },
    /// Another filesystem is there, and does not answer.
    #[error("{} is in use by a {fstype} mount that does not answer", .point.display())]
    Hangs {
        /// The directory.
        point: PathBuf,
        /// The other's type.
        fstype: String,
    },
    /// Its owner or its contents cannot be looked at.
    #[error("cannot look at the mount point {}", .point.display())]
    Unreadable {
        /// The directory.
        point: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This process may not mount, and the program that may is not installed.
    #[error("mounting at {} needs root, or the program fusermount3", .0.display())]
    NoHelper(PathBuf),
    /// The system refuses.
    #[error("not permitted to mount at {}", .point.display())]
    NotPermitted {
        /// The directory.
        point: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot mount at {}", .point.display())]
    Failed {
        /// The directory.
        point: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It stays mounted.
    #[error("cannot unmount {}", .point.display())]
    Unmount {
        /// The directory.
        point: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingsError),
}

impl Explain for MountError {
    fn code(&self) -> Code {
        match self {
            Self::NoPoint | Self::Absent(_) | Self::NotDirectory(_) | Self::NotEmpty { .. } => {
                Code::Config
            }
            Self::NoFuse(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Code::Permission
            }
            // Whoever is there may be leaving: a supervisor may try again.
            Self::NoFuse(_) | Self::InUse { .. } | Self::Hangs { .. } | Self::NoHelper(_) => {
                Code::Unavailable
            }
            Self::NotPermitted { .. } => Code::Permission,
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Code::Permission
            }
            Self::Unreadable { .. } | Self::Failed { .. } | Self::Unmount { .. } => Code::Failure,
            Self::Setting(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPoint => {
                "set mount.point in the settings file, or give --mount.point DIR".into()
            }
            Self::NoFuse(_) => {
                "load the module with `modprobe fuse`; in a container, start it with \
                 `--device /dev/fuse --cap-add SYS_ADMIN`"
                    .into()
            }
            Self::Absent(point) => format!("make it with: mkdir -p {}", point.display()),
            Self::NotDirectory(_) => "give a directory as mount.point".into(),
            Self::NotEmpty { .. } => {
                "move what is in it elsewhere, or set mount.nonempty = true".into()
            }
            Self::InUse { point, .. } => format!(
                "if that is an older tuyunfs, stop it; otherwise unmount it first: umount {}",
                point.display()
            ),
            Self::Hangs { point, .. } => {
                format!("take it away with: umount -l {}", point.display())
            }
            Self::Unreadable { .. } => "check the permissions of the directories above it".into(),
            Self::NoHelper(_) => "run tuyunfs as root, or install the package fuse3".into(),
            Self::NotPermitted { .. } => {
                "run tuyunfs as root; without it, other users get in only when /etc/fuse.conf has \
                 the line user_allow_other, or with mount.allow_other = false"
                    .into()
            }
            Self::Failed { .. } => "see the kernel's log: dmesg | tail".into(),
            Self::Unmount { point, .. } => format!(
                "see who uses it: fuser -vm {0}; `umount -l {0}` takes it away from them",
                point.display()
            ),
            Self::Setting(error) => return error.hint(),
        })
    }
}
