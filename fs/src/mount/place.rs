//! Whether and where something can be mounted, and how to take a dead mount away.
//!
//! Asked before the daemon does anything else, so that a wrong mount point is told at once. A
//! mount left behind by a daemon that died answers every call with "Transport endpoint is not
//! connected"; it is detached here, because nothing else would ever do so.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::mount::UnmountFlags;

use super::{Appearance, MountError, TYPE, table};
use crate::settings::{Permissions, Settings};

/// How long a filesystem in our way may take to answer. A healthy one needs microseconds, and one
/// that fetches first may take seconds.
const ANSWER: Duration = Duration::from_secs(5);

/// Dead mounts that are taken away on top of each other: a unit that was restarted in a loop may
/// have left several.
const STACKED: usize = 32;

/// Symbolic links that are followed to the mount point, as many as the kernel does.
const LINKS: usize = 40;

/// A place where something can be mounted.
#[derive(Debug)]
pub struct Place {
    pub(super) kind: PlaceKind,
    pub(super) appearance: Appearance,
}

#[derive(Debug)]
pub(super) enum PlaceKind {
    /// A directory, with all links resolved.
    Directory(PathBuf),
    /// Somebody with more rights has mounted already, and handed us the descriptor.
    Mounted(i32),
}

/// Looks at the mount point of the settings. Blocks for some seconds at worst.
///
/// # Errors
/// Nothing can be mounted there.
pub fn prepare(settings: &Settings) -> Result<Place, MountError> {
    if settings.mount.point.is_empty() {
        return Err(MountError::NoPoint);
    }
    let given = Path::new(&settings.mount.point);
    if let Some(number) = descriptor(given) {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let appearance = appearance(settings, uid.as_raw(), gid.as_raw())?;
        return Ok(Place {
            kind: PlaceKind::Mounted(number),
            appearance,
        });
    }
    if let Err(source) = OpenOptions::new().read(true).write(true).open("/dev/fuse")
        && source.kind() != io::ErrorKind::PermissionDenied
    {
        return Err(MountError::NoFuse(source));
    }
    let point = resolve(given)?;
    clear(&point)?;
    let found = look(&point)?;
    if !found.is_dir() {
        return Err(MountError::NotDirectory(point));
    }
    if !settings.mount.nonempty {
        let unreadable = |source| MountError::Unreadable {
            point: point.clone(),
            source,
        };
        if let Some(entry) = std::fs::read_dir(&point).map_err(unreadable)?.next() {
            let found = entry
                .map_err(unreadable)?
                .file_name()
                .to_string_lossy()
                .into_owned();
            return Err(MountError::NotEmpty { point, found });
        }
    }
    let appearance = appearance(settings, found.uid(), found.gid())?;
    Ok(Place {
        kind: PlaceKind::Directory(point),
        appearance,
    })
}

impl Place {
    /// Where, for messages.
    #[must_use]
    pub fn point(&self) -> PathBuf {
        match &self.kind {
            PlaceKind::Directory(point) => point.clone(),
            PlaceKind::Mounted(number) => format!("/dev/fd/{number}").into(),
        }
    }
}

/// Whether a filesystem of ours is mounted at a point.
#[must_use]
pub fn is_mounted(point: &Path) -> bool {
    let entry = resolve(point).ok().and_then(|point| table::at(&point));
    entry.is_some_and(|entry| entry.fstype == TYPE)
}

/// Unmounts a mount of ours, alive or dead; `lazily` also takes it away from those who use it.
///
/// # Errors
/// It is in use, or the system refuses.
pub fn unmount(point: &Path, lazily: bool) -> Result<(), MountError> {
    let point = resolve(point)?;
    let flags = if lazily {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match rustix::mount::unmount(&point, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => helper_unmount(&point, lazily),
        Err(errno) => Err(MountError::Unmount {
            point,
            source: errno.into(),
        }),
    }
}

/// Takes away what a dead daemon left at a point. Returns whether there was anything; a mount
/// that is alive stays.
///
/// # Errors
/// It does not go away.
pub fn unmount_stale(point: &Path) -> Result<bool, MountError> {
    let point = match resolve(point) {
        Err(MountError::Absent(_)) => return Ok(false),
        other => other?,
    };
    detach_dead(&point)
}

/// `N` of `/dev/fd/N`.
fn descriptor(point: &Path) -> Option<i32> {
    let number = point.to_str()?.strip_prefix("/dev/fd/")?;
    number.parse().ok().filter(|number| *number > 2)
}

/// The point with every link resolved, without asking the filesystem that may be mounted there:
/// a dead one would answer with an error, and a hanging one never.
fn resolve(point: &Path) -> Result<PathBuf, MountError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => MountError::Absent(point.to_owned()),
        _ => MountError::Unreadable {
            point: point.to_owned(),
            source,
        },
    };
    let mut at = std::path::absolute(point).map_err(unreadable)?;
    for _ in 0..LINKS {
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
            return Ok(at);
        };
        let parent = parent.canonicalize().map_err(unreadable)?;
        let whole = parent.join(name);
        match std::fs::read_link(&whole) {
            Ok(target) => at = parent.join(target),
            Err(_) => return Ok(whole), // no link; whether it exists is asked later
        }
    }
    Err(unreadable(rustix::io::Errno::LOOP.into()))
}

/// Makes sure that no other filesystem of this kind is in the way.
fn clear(point: &Path) -> Result<(), MountError> {
    detach_dead(point)?;
    match table::at(point) {
        Some(other) if other.fstype.starts_with("fuse") => Err(MountError::InUse {
            point: point.to_owned(),
            source_name: other.source,
            fstype: other.fstype,
        }),
        _ => Ok(()),
    }
}

/// Detaches dead mounts until none is left. Returns whether there was one.
fn detach_dead(point: &Path) -> Result<bool, MountError> {
    for gone in 0..STACKED {
        let there = table::at(point).filter(|entry| entry.fstype.starts_with("fuse"));
        let Some(there) = there else {
            return Ok(gone > 0);
        };
        match ask(point) {
            None if there.fstype == TYPE => {}
            None => {
                return Err(MountError::Hangs {
                    point: point.to_owned(),
                    fstype: there.fstype,
                });
            }
            Some(Err(error)) if is_dead(&error) => {}
            Some(_) => return Ok(gone > 0),
        }
        tracing::warn!(point = %point.display(), fstype = there.fstype,
            "taking away a mount whose daemon is dead");
        unmount(point, true)?;
    }
    Ok(true)
}

/// What the point says of itself; `None` when it says nothing in time. A stat may be answered
/// from what the kernel remembers of a daemon that is long dead; statfs never is.
fn ask(point: &Path) -> Option<io::Result<Metadata>> {
    let (answer, answered) = mpsc::channel();
    let point = point.to_owned();
    // A hanging mount holds this thread for as long as it hangs; there is nothing to wait for.
    std::thread::spawn(move || {
        let found = std::fs::metadata(&point).and_then(|found| {
            rustix::fs::statfs(&point)?;
            Ok(found)
        });
        drop(answer.send(found));
    });
    answered.recv_timeout(ANSWER).ok()
}

fn is_dead(error: &io::Error) -> bool {
    let number = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    matches!(
        number,
        Some(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED)
    )
}

fn look(point: &Path) -> Result<Metadata, MountError> {
    let point = point.to_owned();
    match ask(&point) {
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(MountError::Absent(point))
        }
        Some(Err(source)) => Err(MountError::Unreadable { point, source }),
        None => {
            let fstype = table::at(&point).map_or_else(|| "dead".into(), |entry| entry.fstype);
            Err(MountError::Hangs { point, fstype })
        }
    }
}

fn appearance(settings: &Settings, uid: u32, gid: u32) -> Result<Appearance, MountError> {
    let (file_mode, dir_mode) = settings.mount.modes()?;
    let (set_uid, set_gid) = settings.mount.owner()?;
    Ok(Appearance {
        posix: settings.mount.permissions == Permissions::Posix,
        uid: set_uid.unwrap_or(uid),
        gid: set_gid.unwrap_or(gid),
        file_mode: file_mode.bits(),
        dir_mode: dir_mode.bits(),
    })
}

/// Whether the program is there that mounts for people who may not.
pub(super) fn has_helper() -> bool {
    if let Some(named) = std::env::var_os("FUSERMOUNT_PATH") {
        return File::open(named).is_ok();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/bin", "/usr/bin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .flat_map(|dir| [dir.join("fusermount3"), dir.join("fusermount")])
        .any(|program| program.is_file())
}

fn helper_unmount(point: &Path, lazily: bool) -> Result<(), MountError> {
    let failed = |source| MountError::Unmount {
        point: point.to_owned(),
        source,
    };
    let mut command = Command::new("fusermount3");
    command
        .arg(if lazily { "-uz" } else { "-u" })
        .arg("--")
        .arg(point);
    let output = command.output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(io::Error::other(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(point: &Path) -> Settings {
        let mut settings = Settings::default();
        settings.mount.point = point.to_str().unwrap().into();
        settings
    }

    #[test]
    fn only_real_descriptors_are_taken_for_mounts() {
        assert_eq!(descriptor(Path::new("/dev/fd/7")), Some(7));
        assert_eq!(descriptor(Path::new("/dev/fd/1")), None);
        assert_eq!(descriptor(Path::new("/dev/fd/x")), None);
        assert_eq!(descriptor(Path::new("/mnt/fd/7")), None);
    }

    #[test]
    fn links_are_followed_to_the_directory_that_will_be_mounted_on() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("one")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("one"), dir.path().join("two")).unwrap();
        assert_eq!(resolve(&dir.path().join("two")).unwrap(), real);
        assert_eq!(resolve(&dir.path().join("./two/")).unwrap(), real);
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        assert!(matches!(
            resolve(&dir.path().join("loop")),
            Err(MountError::Unreadable { .. })
        ));
    }

    #[test]
    fn a_point_that_cannot_serve_is_refused_with_advice() {
        if File::open("/dev/fuse").is_err() {
            return; // said before anything else is looked at
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            prepare(&Settings::default()),
            Err(MountError::NoPoint)
        ));
        let absent = prepare(&at(&dir.path().join("a/b")));
        assert!(matches!(absent, Err(MountError::Absent(_))), "{absent:?}");
        let absent = prepare(&at(&dir.path().join("a")));
        assert!(matches!(absent, Err(MountError::Absent(_))), "{absent:?}");
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(
            prepare(&at(&file)),
            Err(MountError::NotDirectory(_))
        ));
        let full = prepare(&at(dir.path()));
        assert!(matches!(&full, Err(MountError::NotEmpty { found, .. }) if found == "file"));
        let mut settings = at(dir.path());
        settings.mount.nonempty = true;
        let place = prepare(&settings).unwrap();
        assert_eq!(place.point(), dir.path().canonicalize().unwrap());
        assert_eq!(
            place.appearance.uid,
            std::fs::metadata(dir.path()).unwrap().uid()
        );
    }

    #[test]
    fn nothing_is_taken_away_where_nothing_dead_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!unmount_stale(dir.path()).unwrap());
        assert!(!unmount_stale(&dir.path().join("absent")).unwrap());
    }
}
