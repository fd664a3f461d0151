//! Remote changes, brought into the tree: delta rounds, and listings where there is no delta.
//!
//! A round is applied as a whole, in one transaction with the link that resumes after it
//! (invariant 6). A mount lists lazily, so it starts with a link for "from now" and never
//! enumerates the drive. Every folder that is known is compared with the drive once a day, since
//! tombstones get lost (trap T1); and all of them at once when the service loses track.

mod compare;
mod round;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::compare::{Comparisons, Resync};
use crate::outbox::late::catch_up;
use crate::ports::{DeltaLink, Drive, DriveError};
use crate::vfs::Vfs;

/// The fact that holds the delta link.
pub const LINK_FACT: &str = "delta_link";

/// Longest time between rounds of an idle mount: kind to the service, one unit each
/// (`graph-api.md` 5.2), and short enough that a change elsewhere is seen within a minute.
const IDLE: Duration = Duration::from_mins(1);

/// The longest silence that is kept, whatever is asked for (section 9.1).
const LONGEST_SILENCE: Duration = Duration::from_hours(1);

/// How long the drive's space is taken for true: it lags anyway (section 10).
const QUOTA_AGE: Duration = Duration::from_mins(5);

/// How remote changes are followed.
#[derive(Clone, Copy, Debug)]
pub struct SyncConfig {
    /// Time between rounds of a busy mount.
    pub poll: Duration,
    /// Whether to ask for delta at all.
    pub delta: bool,
}

/// What the sync task knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SyncStatus {
    /// The last round reached the drive.
    pub online: bool,
    /// Why not.
    pub trouble: Option<String>,
    /// Remote changes are found by listing, since the drive has no delta.
    pub by_listing: bool,
    /// Rounds so far.
    pub rounds: u64,
}

/// Follows remote changes.
pub struct Sync {
    vfs: Arc<Vfs>,
    /// The drive, asked behind everybody who waits.
    drive: Arc<dyn Drive>,
    config: SyncConfig,
    link: Mutex<Option<DeltaLink>>,
    status: Mutex<SyncStatus>,
    comparisons: Mutex<Comparisons>,
    resync: tokio::sync::Mutex<Option<Resync>>,
    /// Whether the drive tells of changes by itself at present.
    told: OnceLock<Told>,
    /// Wakes the task before its time.
    pub wake: Notify,
}

type Told = Box<dyn Fn() -> bool + Send + std::marker::Sync>;

impl Sync {
    /// Follows changes from where the last run left off, asking `drive`.
    #[must_use]
    pub fn new(
        vfs: Arc<Vfs>,
        drive: Arc<dyn Drive>,
        config: SyncConfig,
        link: Option<DeltaLink>,
    ) -> Self {
        let status = SyncStatus {
            by_listing: !config.delta,
            ..SyncStatus::default()
        };
        Self {
            vfs,
            drive,
            config,
            link: Mutex::new(link),
            status: Mutex::new(status),
            comparisons: Mutex::default(),
            resync: tokio::sync::Mutex::default(),
            told: OnceLock::new(),
            wake: Notify::new(),
        }
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> SyncStatus {
        self.status.lock().clone()
    }

    /// Says how to find out whether the drive tells of changes by itself. Once, before the start.
    pub fn listen_to(&self, told: impl Fn() -> bool + Send + std::marker::Sync + 'static) {
        let _ = self.told.set(Box::new(told));
    }

    fn is_told(&self) -> bool {
        self.told.get().is_some_and(|told| told())
    }

    /// Follows until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut pause = self.config.poll;
        let mut quota_at: Option<Instant> = None;
        loop {
            let round = stop.run_until_cancelled(self.round()).await;
            match round {
                None => return,
                Some(Ok(0)) => pause = pause.mul_f64(1.25).min(IDLE.max(self.config.poll)),
                // Where the drive tells of changes by itself, looking is for what it forgets.
                Some(Ok(_)) if self.is_told() => pause = IDLE.max(self.config.poll),
                Some(Ok(_)) => pause = self.config.poll,
                Some(Err(error)) => {
                    self.note(&error);
                    let asked = match &error {
                        DriveError::Unavailable { retry_after, .. } => *retry_after,
                        _ => None,
                    };
                    let asked = asked.unwrap_or_default().min(LONGEST_SILENCE);
                    pause = asked.max(self.config.poll);
                }
            }
            if self.status.lock().online && quota_at.is_none_or(|at| at.elapsed() > QUOTA_AGE) {
                match stop.run_until_cancelled(self.drive.quota()).await {
                    None => return,
                    Some(Ok(quota)) => {
                        self.vfs.set_quota(quota);
                        quota_at = Some(Instant::now());
                    }
                    Some(Err(error)) => tracing::debug!(%error, "cannot ask for the drive's space"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round. Returns how many items it told of.
    ///
    /// # Errors
    /// The drive cannot be asked; nothing was applied, and the next round starts where this did.
    pub async fn round(&self) -> Result<usize, DriveError> {
        let by_listing = self.status.lock().by_listing;
        let told = if by_listing {
            self.scan().await?
        } else {
            self.follow().await?
        };
        let mut status = self.status.lock();
        if status.trouble.take().is_some() {
            tracing::info!("the drive can be reached again");
        }
        status.online = true;
        status.rounds += 1;
        Ok(told)
    }

    /// A round of delta, and then some of the daily comparison.
    async fn follow(&self) -> Result<usize, DriveError> {
        if self.resync.lock().await.is_some() {
            return self.resync().await; // it was interrupted: the link is only good behind it
        }
        let told = match self.delta_round().await {
            Err(DriveError::NotSupported(why)) => {
                tracing::warn!(
                    why,
                    "this drive has no delta; known folders are listed in turn"
                );
                self.status.lock().by_listing = true;
                return self.scan().await;
            }
            Err(DriveError::Resync { keep_local, .. }) => {
                tracing::warn!(
                    keep_local,
                    "the drive lost track of changes; known folders are compared with it"
                );
                return self.start_over(keep_local).await;
            }
            other => other?,
        };
        catch_up(self.vfs.ledger(), &*self.drive).await?;
        let beyond = self.beyond_links().await?;
        self.patrol().await?;
        Ok(told + beyond)
    }

    fn note(&self, error: &DriveError) {
        let text = error.to_string();
        let mut status = self.status.lock();
        status.online = false;
        if status.trouble.as_ref() != Some(&text) {
            tracing::warn!(
                error = text,
                "cannot follow remote changes; cached files are served, changes are kept"
            );
            status.trouble = Some(text);
        }
    }
}
