//! The cache: what to do with a request, decided by what is held and how fresh it is.
//!
//! [`Cache::answer`] is the use case. Deciding is the core's ([`freshness`], [`eviction`],
//! [`verify`]), holding is [`store`]'s, fetching once for many is [`fill`]'s. What the origin says of
//! a picture is believed; that the origin says nothing is never taken for "absent".

mod absent;
mod change;
mod committer;
mod disk;
mod doubt;
mod eviction;
mod fill;
pub mod freshness;
mod index;
mod key;
mod memory;
mod record;
mod source;
mod spool;
mod store;
mod sweep;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tuyun_protocol::ImagePath;

use self::absent::Absent;
use self::committer::Committer;
use self::fill::{Fills, Stage, Ticket};
use self::freshness::Verdict;
use crate::traffic::Counters;

pub use self::eviction::Budget;
pub use self::fill::Coming;
pub use self::key::{Key, Scope};
pub use self::record::{Head, Moment, Record};
pub use self::source::{BrokeOff, FetchError, Fetched, Incoming, Pieces, Source};
pub use self::spool::{Cut, Reader};
pub use self::store::{ChangeError, Content, Held, OpenError, Store, Stored};

/// How long a visitor waits for the origin's word on a stale picture before the stale one is
/// served. Longer than any healthy origin takes, and about what a reader of a page puts up with.
const WORD: Duration = Duration::from_secs(3);

/// How often the store is looked at again after a fill has put something there. Once is enough
/// unless it is evicted in between; a cache that small is given up on.
const LOOKS: usize = 3;

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Held and fresh.
    Hit,
    /// Not held; fetched.
    Miss,
    /// Held, and the origin said just now that it still stands.
    Revalidated,
    /// Held, but the origin has a newer one; fetched.
    Expired,
    /// Held and past its life; served because the origin allows it or does not answer.
    Stale,
}

/// What is served.
pub enum Answer {
    /// An entry.
    Stored {
        /// Its bytes and what is known of it.
        stored: Stored,
        /// How it came about.
        how: How,
        /// Somebody else had asked the origin already.
        collapsed: bool,
    },
    /// A picture that comes just now.
    Coming {
        /// What is known of it.
        coming: Arc<Coming>,
        /// Its bytes.
        reader: Reader,
        /// How it came about.
        how: How,
        /// Somebody else had asked the origin already.
        collapsed: bool,
    },
    /// The origin has no such picture.
    Absent {
        /// It said so a while ago.
        known: bool,
    },
    /// Not known, because the origin does not answer.
    Failed(Arc<FetchError>),
}

/// The cache before an origin.
pub struct Cache<S> {
    store: Arc<Store>,
    absent: Arc<Absent>,
    fills: Arc<Fills<S>>,
}

/// What has to run beside the cache.
pub struct Upkeep {
    committer: Committer,
    store: Arc<Store>,
}

impl<S: Source> Cache<S> {
    /// A cache over a directory. Blocks while it looks at the disk, which is short.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open(
        root: &std::path::Path,
        budget: Budget,
        memory: u64,
        source: S,
        counters: Arc<Counters>,
    ) -> Result<(Self, Upkeep), OpenError> {
        let (store, committer) = Store::open(root, budget, memory)?;
        let absent = Arc::new(Absent::new());
        let fills = Arc::new(Fills::new(
            source,
            Arc::clone(&store),
            Arc::clone(&absent),
            counters,
        ));
        let upkeep = Upkeep {
            committer,
            store: Arc::clone(&store),
        };
        Ok((
            Self {
                store,
                absent,
                fills,
            },
            upkeep,
        ))
    }

    /// What is at hand under a decoded path and fresh: to be served without waiting for anything.
    #[must_use]
    pub fn at_hand(&self, path: &ImagePath, now: Moment) -> Option<Arc<Held>> {
        let held = self.store.at_hand(path.as_str())?;
        (self.store.judge(&held.record.head, now) == Verdict::Fresh).then_some(held)
    }

    /// What to serve for a path.
    pub async fn answer(&self, path: &ImagePath) -> Answer {
        let key = Key::original(path);
        let now = Moment::now();
        let Some(stored) = self.store.lookup(&key, now).await else {
            if self.absent.knows(&key, now) {
                return Answer::Absent { known: true };
            }
            let ticket = self.fills.join(path, &key, None);
            return self.fetched(&key, ticket, How::Miss).await;
        };
        let verdict = self.store.judge(&stored.record.head, now);
        if verdict == Verdict::Fresh {
            return Answer::Stored {
                stored,
                how: How::Hit,
                collapsed: false,
            };
        }
        let ticket = self
            .fills
            .join(path, &key, Some(Arc::clone(&stored.record)));
        let fetching = self.fetched(&key, ticket, How::Expired);
        let stale = |stored| Answer::Stored {
            stored,
            how: How::Stale,
            collapsed: false,
        };
        match verdict {
            Verdict::Fresh | Verdict::Spent => fetching.await,
            // The task goes on without us.
            Verdict::FreshEnough => stale(stored),
            Verdict::Stale if self.fills.ailing() => stale(stored),
            Verdict::Stale => match timeout(WORD, fetching).await {
                Ok(Answer::Failed(_)) | Err(_) => stale(stored),
                Ok(answer) => answer,
            },
        }
    }

    /// Removes what a purge means, here and on its way; gives the number of entries.
    ///
    /// # Errors
    /// Not all of it could be removed.
    pub async fn purge(&self, scope: &Scope) -> Result<u64, ChangeError> {
        self.fills.doom(scope);
        self.absent.forget(scope);
        self.store.purge(scope).await
    }

    /// The origin has another version of a picture than before, with this tag.
    ///
    /// # Errors
    /// The one that is held could not be removed.
    pub async fn replaced(&self, path: &ImagePath, etag: Option<&str>) -> Result<(), ChangeError> {
        let held = self.store.peek(&Key::original(path)).await;
        let same = etag.is_some() && held.is_some_and(|held| held.head.etag.as_deref() == etag);
        if !same {
            self.purge(&Scope::Picture(path.clone())).await?;
        }
        Ok(())
    }

    /// What was fetched up to this moment is asked about at its next use.
    pub fn doubt(&self, moment: Moment) {
        self.store.doubt(moment);
    }

    /// The last moment in doubt.
    #[must_use]
    pub fn doubted(&self) -> Moment {
        self.store.doubted()
    }

    /// Fetches a picture that nobody has asked for yet.
    pub async fn warm(&self, path: &ImagePath) {
        if let Answer::Coming { mut reader, .. } = self.answer(path).await {
            // To its end, or to where it breaks off: the next is fetched then.
            while let Ok(Some(_)) = reader.next().await {}
        }
    }

    /// Removes what has not been used for so long; gives the bytes freed.
    ///
    /// # Errors
    /// Not all of it could be removed.
    pub async fn clean(&self, unused: Duration) -> Result<u64, ChangeError> {
        // One second on: what was used at the very moment `unused` ago has had its time as well.
        let horizon = Moment(Moment::now().before(unused).0 + 1);
        self.store.clean(horizon).await
    }

    /// The tiers, for figures.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Fetches that run.
    #[must_use]
    pub fn fetching(&self) -> usize {
        self.fills.running()
    }

    /// The last fetch failed.
    #[must_use]
    pub fn origin_ails(&self) -> bool {
        self.fills.ailing()
    }

    /// Waits for the fills that run, so that what came is stored.
    pub async fn drain(&self) {
        self.fills.drain().await;
    }

    async fn fetched(&self, key: &Key, mut ticket: Ticket, how: How) -> Answer {
        let collapsed = ticket.collapsed;
        match ticket.outcome().await {
            Stage::Coming(coming) => Answer::Coming {
                coming,
                reader: ticket.reader,
                how,
                collapsed,
            },
            Stage::Settled => {
                for _ in 0..LOOKS {
                    if let Some(stored) = self.store.lookup(key, Moment::now()).await {
                        let how = if how == How::Miss {
                            How::Hit
                        } else {
                            How::Revalidated
                        };
                        return Answer::Stored {
                            stored,
                            how,
                            collapsed,
                        };
                    }
                }
                Answer::Failed(Arc::new(FetchError::GivenUp))
            }
            Stage::Absent => Answer::Absent { known: false },
            Stage::Failed(error) => Answer::Failed(error),
            // `outcome` waits for one of the others.
            Stage::Asking => Answer::Failed(Arc::new(FetchError::GivenUp)),
        }
    }
}

impl Upkeep {
    /// Starts it. The sweep ends with `stop`, the writer with `last`, to be cancelled once nobody
    /// can have anything to write any more.
    pub fn start(
        self,
        (tasks, stop): (&TaskTracker, CancellationToken),
        (writer, last): (&TaskTracker, CancellationToken),
    ) {
        writer.spawn(self.committer.run(last));
        tasks.spawn(sweep::sweep(self.store, stop));
    }
}
