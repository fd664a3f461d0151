//! One mounted filesystem, from mount to unmount.
//!
//! Where we may, we mount by mount(2) ourselves: then the kernel shows our own type and source,
//! and no other program is needed. Otherwise `fusermount3` mounts for us. The session's threads
//! end when the filesystem is unmounted, by us or by anybody.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, InitFlags, KernelConfig, MountOption, Session, SessionACL, SessionUnmounter};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::answer::Answers;
use super::invalidate::KernelMemory;
use super::operations::Operations;
use super::place::{Place, PlaceKind, has_helper};
use super::reply::Replies;
use super::{Mode, MountError, TYPE, folders, passing};
use crate::settings::{Passthrough, Settings};
use crate::vfs::Vfs;

/// The largest write that one request carries: the kernel's own limit.
const MAX_WRITE: u32 = 1 << 20;

/// Requests that nobody waits for directly, read-ahead above all. The kernel's 12 would be used
/// up by a few slow fetches, and every other file's read-ahead would wait for them.
const BACKGROUND: u16 = 64;

/// How long the threads get to end once the filesystem is unmounted. While files are open after a
/// lazy unmount, or another mount namespace has a copy, they do not, and end with the process.
const ENDING: Duration = Duration::from_secs(5);

/// A mounted filesystem. Dropped, it is taken away from whoever uses it.
pub struct Mounted {
    mode: Mode,
    point: PathBuf,
    unmount: Option<Unmount>,
    ended: Ended,
    memory: Arc<KernelMemory>,
    waiting: Answers,
}

/// How to unmount what was mounted.
enum Unmount {
    /// By umount(2).
    Point,
    /// By fuser, which knows how it was mounted.
    Helper(SessionUnmounter),
    /// Whoever mounted unmounts.
    Other,
}

/// Tells when the filesystem is no longer served.
#[derive(Clone, Debug)]
pub struct Ended(watch::Receiver<Option<Arc<io::Result<()>>>>);

impl Ended {
    /// Waits until the filesystem was unmounted, or serving it failed.
    ///
    /// # Errors
    /// Why serving failed.
    pub async fn wait(&mut self) -> io::Result<()> {
        let result = self.0.wait_for(Option::is_some).await;
        match result.as_deref() {
            Ok(Some(ended)) => match &**ended {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            },
            Ok(None) | Err(_) => Err(io::Error::other("the session's thread is gone")),
        }
    }
}

/// Mounts, and serves from then on. To be called inside the runtime.
///
/// # Errors
/// The system refuses.
pub async fn mount(
    place: Place,
    vfs: Arc<Vfs>,
    settings: &Settings,
) -> Result<Mounted, MountError> {
    let memory: Arc<KernelMemory> = Arc::default();
    vfs.ledger().set_kernel(memory.clone());
    let answers = Answers::new(Handle::current());
    let depth = match settings.mount.passthrough {
        Passthrough::Auto => passing::depth(vfs.store()),
        Passthrough::Off => None,
    };
    let passes = vfs.clone();
    let replies = Replies {
        vfs,
        appearance: place.appearance,
        memory: memory.clone(),
        folders: folders::Folders::default(),
    };
    let operations = Operations {
        replies: Arc::new(replies),
        answers: answers.clone(),
        depth,
    };
    let wanted = Wanted {
        source: format!("onedrive:{}", settings.drive.root),
        allow_other: settings.mount.allow_other,
        read_only: settings.mount.read_only,
    };
    let point = place.point();
    let at = point.clone();
    let begun = tokio::task::spawn_blocking(move || wanted.begin(place.kind, operations)).await;
    let (session, unmount) = match begun {
        Ok(begun) => begun?,
        Err(error) => {
            return Err(MountError::Failed {
                point,
                source: io::Error::other(error),
            });
        }
    };
    let mode = match depth.map(|_| passing::probe(&session, passes.store())) {
        Some(Ok(())) => {
            passes.pass_through();
            Mode::Passthrough
        }
        Some(Err(why)) => {
            tracing::info!(%why, "the kernel does not read files by itself here");
            Mode::Fallback
        }
        None => Mode::Fallback,
    };
    let (ending, ended) = watch::channel(None);
    let mounted = Mounted {
        mode,
        point: at,
        unmount: Some(unmount),
        ended: Ended(ended),
        memory: memory.clone(),
        waiting: answers,
    };
    let failed = |source| MountError::Failed {
        point: point.clone(),
        source,
    };
    memory.tell(session.notifier()).map_err(failed)?;
    let serve = move || {
        let result = session.run();
        if let Err(error) = &result {
            tracing::error!(%error, "the kernel's requests are no longer answered");
        }
        ending.send_replace(Some(Arc::new(result)));
    };
    std::thread::Builder::new()
        .name("fuse".into())
        .spawn(serve)
        .map_err(failed)?;
    tracing::info!(point = %point.display(), %mode, "mounted");
    Ok(mounted)
}

impl Mounted {
    /// Where.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// How cached files are read.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Tells when it is no longer served.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Unmounts, and waits for the requests under way. Whoever still uses the folder loses it.
    ///
    /// # Errors
    /// It stays mounted.
    pub async fn unmount(mut self) -> Result<(), MountError> {
        let point = self.point.clone();
        if self.ended.0.borrow().is_none()
            && let Some(unmount) = self.unmount.take()
        {
            let at = point.clone();
            let done = tokio::task::spawn_blocking(move || unmount.now(&at)).await;
            done.map_err(io::Error::other)
                .and_then(|done| done)
                .map_err(|source| MountError::Unmount {
                    point: point.clone(),
                    source,
                })?;
        }
        self.unmount = None;
        let mut ended = self.ended.clone();
        if tokio::time::timeout(ENDING, ended.wait()).await.is_err() {
            tracing::warn!(point = %point.display(),
                "unmounted, and still held by open files or by another mount namespace");
        }
        let waiting = self.waiting.waiting();
        waiting.close();
        if tokio::time::timeout(ENDING, waiting.wait()).await.is_err() {
            tracing::warn!("left requests unanswered that wait for the network");
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.memory.over();
        if let Some(unmount) = self.unmount.take()
            && self.ended.0.borrow().is_none()
            && let Err(error) = unmount.now(&self.point)
        {
            tracing::warn!(point = %self.point.display(), %error, "cannot unmount");
        }
    }
}

impl Unmount {
    fn now(self, point: &Path) -> io::Result<()> {
        match self {
            Self::Point => match rustix::mount::unmount(point, UnmountFlags::empty()) {
                Err(rustix::io::Errno::BUSY) => {
                    tracing::warn!(point = %point.display(),
                        "in use; it is taken away from those who use it");
                    Ok(rustix::mount::unmount(point, UnmountFlags::DETACH)?)
                }
                // Somebody else was faster.
                Err(rustix::io::Errno::INVAL) => Ok(()),
                other => Ok(other?),
            },
            Self::Helper(mut unmounter) => unmounter.unmount(),
            Self::Other => Ok(()),
        }
    }
}

/// What the mount should be like.
struct Wanted {
    source: String,
    allow_other: bool,
    read_only: bool,
}

impl Wanted {
    fn begin(
        &self,
        place: PlaceKind,
        operations: Operations,
    ) -> Result<(Session<Operations>, Unmount), MountError> {
        match place {
            PlaceKind::Mounted(number) => {
                let point: PathBuf = format!("/dev/fd/{number}").into();
                let failed = |source| MountError::Failed {
                    point: point.clone(),
                    source,
                };
                let device = adopt(number).map_err(failed)?;
                let session = self.serve(operations, device).map_err(failed)?;
                // Not to be seen from here, and without it every user may do everything.
                tracing::info!(
                    "mounted by another program; `default_permissions` has to be among \
                    its options, so that the kernel checks who may do what"
                );
                Ok((session, Unmount::Other))
            }
            PlaceKind::Directory(point) => {
                let device = match self.mount(&point) {
                    Ok(device) => device,
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        return self.by_helper(point, operations);
                    }
                    Err(source) => return Err(MountError::Failed { point, source }),
                };
                match self.serve(operations, device) {
                    Ok(session) => Ok((session, Unmount::Point)),
                    Err(source) => {
                        let _ = rustix::mount::unmount(&point, UnmountFlags::DETACH);
                        Err(MountError::Failed { point, source })
                    }
                }
            }
        }
    }

    /// mount(2), with a type and a source that `findmnt` and `df` show.
    fn mount(&self, point: &Path) -> io::Result<OwnedFd> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")?;
        let mut data = format!(
            "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
            device.as_raw_fd(),
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        );
        if self.allow_other {
            data.push_str(",allow_other");
        }
        let mut flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
        if self.read_only {
            flags |= MountFlags::RDONLY;
        }
        let data = CString::new(data)?;
        rustix::mount::mount(self.source.as_str(), point, TYPE, flags, data.as_c_str())?;
        Ok(device.into())
    }

    /// Answers INIT; the kernel restricts who gets in, by `allow_other`.
    fn serve(&self, operations: Operations, device: OwnedFd) -> io::Result<Session<Operations>> {
        Session::from_fd(
            operations,
            device,
            SessionACL::All,
            self.config(SessionACL::All),
        )
    }

    fn by_helper(
        &self,
        point: PathBuf,
        operations: Operations,
    ) -> Result<(Session<Operations>, Unmount), MountError> {
        if !has_helper() {
            return Err(MountError::NoHelper(point));
        }
        let acl = if self.allow_other {
            SessionACL::All
        } else {
            SessionACL::Owner
        };
        match Session::new(operations, &point, &self.config(acl)) {
            Ok(mut session) => {
                let unmounter = session.unmount_callable();
                Ok((session, Unmount::Helper(unmounter)))
            }
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Err(MountError::NotPermitted { point, source })
            }
            Err(source) => Err(MountError::Failed { point, source }),
        }
    }

    fn config(&self, acl: SessionACL) -> Config {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(self.source.clone()),
            MountOption::Subtype("tuyunfs".into()),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoSuid,
            MountOption::NoAtime,
        ];
        if self.read_only {
            config.mount_options.push(MountOption::RO);
        }
        config.acl = acl;
        // Two at least: one that is busy on the disk must not stall the whole mount.
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        config.n_threads = Some(threads.max(2));
        config
    }
}

/// The descriptor that was handed over, as one of our own.
fn adopt(number: i32) -> io::Result<OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(&this, number, PidfdGetfdFlags::empty())?)
}

/// What is asked of the kernel. One by one, because asking for several is all or nothing.
///
/// Not asked for: locks, so that the kernel keeps them among the processes of this machine, as
/// Lsky Pro needs; the kernel's write-back, which loses what it holds when we crash; killing of
/// set-id bits and extended `setxattr`, which fuser does not decode.
pub(super) fn negotiate(config: &mut KernelConfig, depth: Option<u32>) {
    for wanted in [
        InitFlags::FUSE_ATOMIC_O_TRUNC,
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_ASYNC_READ,
        InitFlags::FUSE_MAX_PAGES,
        InitFlags::FUSE_BIG_WRITES,
    ] {
        if let Err(lacking) = config.add_capabilities(wanted) {
            tracing::debug!(?lacking, "the kernel does not offer this");
        }
    }
    if let Some(depth) = depth {
        passing::negotiate(config, depth);
    }
    if let Err(nearest) = config.set_max_write(MAX_WRITE) {
        let _ = config.set_max_write(nearest);
    }
    let _ = config.set_max_background(BACKGROUND);
}
