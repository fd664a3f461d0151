//! Remote changes, brought into the tree: delta rounds, and listings where there is no delta.
//!
//! A round is applied as a whole, in one transaction with the link that resumes after it
//! (invariant 6). A mount lists lazily, so it starts with a link for "from now" and never
//! enumerates the drive; when the service loses track, every folder that is known is listed anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ports::{DeltaFrom, DeltaLink, DeltaNext, DriveError};
use crate::tree::{Batch, Item, Kind, NodeId, Scope};
use crate::vfs::Vfs;

/// The fact that holds the delta link.
pub const LINK_FACT: &str = "delta_link";

/// Longest time between rounds of an idle mount: kind to the service, one unit each
/// (`graph-api.md` 5.2), and short enough that a change elsewhere is seen within a minute.
const IDLE: Duration = Duration::from_mins(1);

/// How long the drive's space is taken for true: it lags anyway (section 10).
const QUOTA_AGE: Duration = Duration::from_mins(5);

/// Pages of a round. At 200 items a page this is two million changes; a service that goes on
/// longer is in a loop (trap T33).
const PAGES: usize = 10_000;

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
    config: SyncConfig,
    link: Mutex<Option<DeltaLink>>,
    status: Mutex<SyncStatus>,
    /// Wakes the task before its time.
    pub wake: Notify,
}

impl Sync {
    /// Follows changes from where the last run left off.
    #[must_use]
    pub fn new(vfs: Arc<Vfs>, config: SyncConfig, link: Option<DeltaLink>) -> Self {
        let status = SyncStatus {
            by_listing: !config.delta,
            ..SyncStatus::default()
        };
        Self {
            vfs,
            config,
            link: Mutex::new(link),
            status: Mutex::new(status),
            wake: Notify::new(),
        }
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> SyncStatus {
        self.status.lock().clone()
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
                Some(Ok(_)) => pause = self.config.poll,
                Some(Err(error)) => {
                    self.note(&error);
                    let asked = match &error {
                        DriveError::Unavailable { retry_after, .. } => *retry_after,
                        _ => None,
                    };
                    pause = asked.unwrap_or(self.config.poll).max(self.config.poll);
                }
            }
            if self.status.lock().online && quota_at.is_none_or(|at| at.elapsed() > QUOTA_AGE) {
                match stop.run_until_cancelled(self.vfs.drive().quota()).await {
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
            self.list_known().await?
        } else {
            match self.delta_round().await {
                Err(DriveError::NotSupported(why)) => {
                    tracing::warn!(
                        why,
                        "this drive has no delta; known folders are listed in turn"
                    );
                    self.status.lock().by_listing = true;
                    self.list_known().await?
                }
                Err(DriveError::Resync { .. }) => {
                    tracing::warn!(
                        "the drive lost track of changes; known folders are listed anew"
                    );
                    self.start_over().await?
                }
                other => other?,
            }
        };
        let mut status = self.status.lock();
        if status.trouble.take().is_some() {
            tracing::info!("the drive can be reached again");
        }
        status.online = true;
        status.rounds += 1;
        Ok(told)
    }

    async fn delta_round(&self) -> Result<usize, DriveError> {
        let resume = self.link.lock().clone();
        let Some(mut link) = resume else {
            return self.start_over().await;
        };
        let mut items: Vec<Item> = Vec::new();
        let mut seen = HashSet::new();
        loop {
            if seen.len() >= PAGES || !seen.insert(link.0.clone()) {
                return Err(DriveError::Resync {
                    start: None,
                    keep_local: true,
                });
            }
            let page = self.vfs.drive().delta(DeltaFrom::Link(link)).await?;
            items.extend(page.items);
            match page.next {
                DeltaNext::Page(next) => link = next,
                DeltaNext::Round(next) => {
                    self.apply(&items, Scope::Round, Some(next)).await;
                    return Ok(items.len());
                }
            }
        }
    }

    /// A link for "from now", and then everything that is known: in this order, so that what
    /// changes in between is told twice rather than never.
    async fn start_over(&self) -> Result<usize, DriveError> {
        let page = self.vfs.drive().delta(DeltaFrom::Now).await?;
        let link = match page.next {
            DeltaNext::Round(link) | DeltaNext::Page(link) => link,
        };
        let told = self.list_known().await?;
        self.apply(&[], Scope::Round, Some(link)).await;
        Ok(told)
    }

    async fn list_known(&self) -> Result<usize, DriveError> {
        let known: Vec<NodeId> = {
            let books = self.vfs.ledger().books();
            let dirs = books
                .tree
                .nodes()
                .filter(|n| n.kind == Kind::Directory && n.listed);
            dirs.map(|node| node.id).collect()
        };
        let mut told = 0;
        for dir in known {
            let item = self.vfs.ledger().books().tree.item_of(dir).cloned();
            let Some(item) = item else { continue };
            let items = match self.vfs.drive().children(&item).await {
                // Gone: its parent's listing says so.
                Err(DriveError::NotFound) => continue,
                other => other?,
            };
            told += items.len();
            self.apply(&items, Scope::Listing(dir), None).await;
        }
        Ok(told)
    }

    async fn apply(&self, items: &[Item], scope: Scope, link: Option<DeltaLink>) {
        let _alone = self.vfs.remote().write().await;
        let now = SystemTime::now();
        let ledger = self.vfs.ledger();
        let (effects, ticket) = ledger.change_with(|books| {
            let writing = books.writing.clone();
            let effects = books
                .tree
                .apply(items, scope, &|id| writing.contains(&id), now);
            let mut batch = Batch::default();
            if let Some(link) = &link {
                batch.fact(LINK_FACT, Some(link));
            }
            (effects, batch)
        });
        let durable = ticket.durable().await;
        ledger.announce(effects);
        ledger.wake.notify_one();
        match durable {
            Ok(()) => {
                if link.is_some() {
                    *self.link.lock() = link;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a round of remote changes is not in the journal; it is asked for again");
            }
        }
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
