//! Known folders against the drive's: in turn where there is no delta, once a day where there is,
//! and all of them when the service loses track.
//!
//! After a `410` the service offers to enumerate the drive afresh. We list the folders that are
//! known instead (`docs/decisions/0008-resync-by-folders.md`): a mount knows a part of the drive,
//! and each listing says by itself what is gone.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::Sync;
use crate::ports::{DeltaFrom, DeltaLink, DeltaNext, DriveError};
use crate::tree::{Kind, Node, NodeId};

/// How often each known folder is compared: a lost tombstone is found within a day.
const DAILY: Duration = Duration::from_hours(24);

/// Folders of the daily comparison in one round. At a round a minute this is 5,760 folders a day.
const PATROL: usize = 4;

/// Folders that are listed in one round where there is no delta. With two units each and a round
/// every ten seconds this is a sixth of the smallest tenant's budget (`graph-api.md` 9.2), and of
/// an idle mount a fortieth.
const SCAN: usize = 16;

/// Between two looks for folders that are due: each goes over all nodes.
const LOOK: Duration = Duration::from_mins(5);

/// Folders that are to be compared.
#[derive(Default)]
pub(super) struct Comparisons {
    due: VecDeque<NodeId>,
    looked: Option<Instant>,
}

/// All known folders are being compared.
pub(super) struct Resync {
    /// Where the rounds go on once that is done: from before it began, so that what changes
    /// meanwhile is told twice rather than never.
    link: DeltaLink,
    left: VecDeque<NodeId>,
    keep_local: bool,
}

impl Sync {
    /// Lists some of the known folders, those that were not listed for the longest time first.
    /// Returns how many of them had news.
    pub(super) async fn scan(&self) -> Result<usize, DriveError> {
        let mut news = 0;
        for dir in self.take_due(SCAN, None) {
            news += usize::from(self.compare(dir, false).await?);
        }
        Ok(news)
    }

    /// Lists some of the folders that are seen through links: this drive's delta does not descend
    /// into others (trap T29), whose own roots may be closed to us.
    pub(super) async fn beyond_links(&self) -> Result<usize, DriveError> {
        if !self.vfs.ledger().books().tree.has_links() {
            return Ok(0);
        }
        let elsewhere = |node: &Node| {
            node.items()
                .last()
                .is_some_and(|id| id.elsewhere().is_some())
        };
        let mut news = 0;
        for dir in self.known(elsewhere).into_iter().take(SCAN) {
            news += usize::from(self.compare(dir, false).await?);
        }
        Ok(news)
    }

    /// Goes on with the daily comparison.
    pub(super) async fn patrol(&self) -> Result<(), DriveError> {
        for dir in self.take_due(PATROL, Some(LOOK)) {
            self.compare(dir, false).await?;
        }
        Ok(())
    }

    /// A link for "from now", and then everything that is known.
    pub(super) async fn start_over(&self, keep_local: bool) -> Result<usize, DriveError> {
        let page = self.drive.delta(DeltaFrom::Now).await?;
        let link = match page.next {
            DeltaNext::Round(link) | DeltaNext::Page(link) => link,
        };
        let left = self.known(|_| true).into();
        *self.resync.lock().await = Some(Resync {
            link,
            left,
            keep_local,
        });
        self.resync().await
    }

    /// Goes on comparing until all is done; an error leaves the rest for the next round.
    pub(super) async fn resync(&self) -> Result<usize, DriveError> {
        let mut resync = self.resync.lock().await;
        let Some(work) = resync.as_mut() else {
            return Ok(0);
        };
        let mut told = 0;
        while let Some(dir) = work.left.front().copied() {
            told += usize::from(self.compare(dir, work.keep_local).await?);
            work.left.pop_front();
        }
        self.apply(&[], work.link.clone()).await;
        *resync = None;
        Ok(told)
    }

    /// Compares one folder. A folder that cannot be looked into does not stop the others.
    async fn compare(&self, dir: NodeId, keep_local: bool) -> Result<bool, DriveError> {
        let compared = self.vfs.compare(dir, self.drive.clone(), keep_local).await;
        match compared {
            Ok(news) => Ok(news),
            Err(DriveError::NotFound) => {
                if dir == NodeId::ROOT {
                    self.vfs.root_is_missing().await;
                } // else its parent's listing says so
                Ok(false)
            }
            // The locked Personal Vault, hidden system folders (trap T28), moves under way.
            Err(
                error @ (DriveError::Refused { .. }
                | DriveError::Locked(_)
                | DriveError::NotSupported(_)),
            ) => {
                let path = self.vfs.path(dir);
                tracing::debug!(path, %error, "a folder cannot be listed");
                self.vfs.mark_compared(dir);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The next folders that are due; with `pause`, at most that often looked for, and only those
    /// of which the last comparison is a day ago.
    fn take_due(&self, count: usize, pause: Option<Duration>) -> Vec<NodeId> {
        let mut comparisons = self.comparisons.lock();
        let rested = comparisons
            .looked
            .is_none_or(|at| pause.is_none_or(|pause| at.elapsed() >= pause));
        if comparisons.due.is_empty() && rested {
            comparisons.looked = Some(Instant::now());
            let now = SystemTime::now();
            let aged = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age >= DAILY);
            let due = |node: &Node| pause.is_none() || node.listed_at.is_none_or(aged);
            comparisons.due = self.known(due).into();
        }
        let some = count.min(comparisons.due.len());
        comparisons.due.drain(..some).collect()
    }

    /// Known folders, those first that were not compared for the longest time.
    fn known(&self, wanted: impl Fn(&Node) -> bool) -> Vec<NodeId> {
        let books = self.vfs.ledger().books();
        let mut dirs: Vec<_> = books
            .tree
            .nodes()
            .filter(|node| node.kind == Kind::Directory && node.listed && node.baseline.is_some())
            .filter(|node| wanted(node))
            .map(|node| (node.listed_at, node.id))
            .collect();
        drop(books);
        dirs.sort_unstable();
        dirs.into_iter().map(|(_, id)| id).collect()
    }
}
