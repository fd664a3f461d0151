//! Room on the cache disk, before it is written to.
//!
//! A write that does not fit first makes room: what the drive has is given up, and what it has not is
//! sent without waiting. Only when that does not help in time does the application hear that the disk is
//! full: a close must never be the first to say so, since nobody listens to it
//! (`lsky-pro-storage.md`).

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Vfs, VfsError};
use crate::content::room::{credit, is_short};

/// How long an application waits for room: it is to hear within two seconds that there is none (gate
/// G5 of the design), and the last try takes a moment, too.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// Looks for room within that time: an upload takes longer than the time in between.
const LOOKS: u32 = 10;

/// What is known of the room on the disk.
#[derive(Default)]
pub(super) struct Room {
    /// Bytes that may be written before the disk is asked again.
    credit: AtomicU64,
    short: AtomicBool,
    /// Applications have been told that the disk is full.
    refusing: AtomicBool,
    /// One evicts at a time.
    evicting: tokio::sync::Mutex<()>,
    /// The budget is looked at before its time.
    pub(super) sweep: Notify,
}

impl Room {
    fn spend(&self, bytes: u64) -> bool {
        let less = |credit: u64| credit.checked_sub(bytes);
        let spent = self
            .credit
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        spent.is_ok()
    }
}

impl Vfs {
    /// Puts something on the disk that takes so many bytes, once there is room for it. Under the gate of
    /// the file, if it is one.
    ///
    /// # Errors
    /// There is none, for as long as an application waits; or the disk fails.
    pub(super) async fn with_room<T, F>(
        self: &Arc<Self>,
        bytes: u64,
        put: impl Fn() -> F + Send,
    ) -> Result<T, VfsError>
    where
        F: Future<Output = Result<T, VfsError>> + Send,
    {
        let (mut until, mut has_looked) = (None, false);
        // One waits for all: who comes next, perhaps from behind the same gate, hears it at once.
        let is_told = self.room.refusing.load(Ordering::Acquire);
        let mut full = VfsError::from(io::Error::from_raw_os_error(libc::ENOSPC));
        loop {
            if self.has_room(bytes) {
                match put().await {
                    Err(error) if error.is_full() => full = error,
                    other => {
                        if other.is_ok() && self.room.refusing.swap(false, Ordering::AcqRel) {
                            tracing::info!("the cache disk has room again");
                        }
                        return other;
                    }
                }
            }
            let patience = self.config.patience;
            let until = *until.get_or_insert_with(|| Instant::now() + patience);
            if Instant::now() >= until || (is_told && has_looked) {
                if !self.room.refusing.swap(true, Ordering::AcqRel) {
                    tracing::error!(
                        "the cache disk is full of what the drive does not have yet: writes are \
                         refused until uploads or somebody makes room; see `tuyunfs status`"
                    );
                }
                return Err(full);
            }
            let _late = timeout_at(until, self.make_room()).await;
            has_looked = true;
            if !is_told {
                sleep((patience / LOOKS).min(until - Instant::now())).await;
            }
        }
    }

    /// Waits until there is room for so many bytes that are to be fetched.
    ///
    /// # Errors
    /// There is none, for as long as an application waits.
    pub(super) async fn room_to_fetch(self: &Arc<Self>, bytes: u64) -> Result<(), VfsError> {
        self.with_room(bytes, || ready(Ok(()))).await
    }

    /// Takes from what may be written before the disk is asked again, if that is enough.
    pub(super) fn spends(&self, bytes: u64) -> bool {
        self.room.spend(bytes)
    }

    /// Asks the disk, unless that was done a little while ago.
    fn has_room(&self, bytes: u64) -> bool {
        if self.room.spend(bytes) {
            return true;
        }
        let Some(free) = self.look_at_disk() else {
            return true; // the write itself will tell
        };
        let credit = credit(free, bytes);
        self.room
            .credit
            .store(credit.unwrap_or_default(), Ordering::Release);
        credit.is_some()
    }

    /// What is free on the disk, with what follows from that. `None`: it does not say.
    pub(super) fn look_at_disk(&self) -> Option<u64> {
        let free = self
            .store
            .free_bytes()
            .inspect_err(|error| {
                tracing::warn!(%error, "cannot tell how much of the cache disk is free");
            })
            .ok()?;
        let was = self.room.short.load(Ordering::Acquire);
        let short = is_short(was, free, self.config.budget.min_free);
        if short != was {
            self.room.short.store(short, Ordering::Release);
            self.outbox.hurry(short);
            if short {
                tracing::warn!(
                    free,
                    "the cache disk is short of room: what the drive has is given up, and the rest is sent \
                     without waiting"
                );
                self.room.sweep.notify_one();
            }
        }
        Some(free)
    }

    /// Whether the disk has less left than it should.
    pub(super) fn is_short_of_room(&self) -> bool {
        self.room.short.load(Ordering::Acquire)
    }

    /// Gives up what can be, and waits until the disk has got it back.
    pub(super) async fn make_room(self: &Arc<Self>) {
        let Ok(_alone) = self.room.evicting.try_lock() else {
            // Somebody is at it: what that makes free serves us, too.
            drop(self.room.evicting.lock().await);
            return;
        };
        // Of what is here in part, only what somebody reads.
        self.fills
            .lock()
            .retain(|_, (_, fill)| Arc::strong_count(fill) > 1);
        let this = self.clone();
        let evicting = tokio::task::spawn_blocking(move || this.evict(SystemTime::now()));
        let Ok((given_up, Some(ticket))) = evicting.await else {
            return;
        };
        if let Err(error) = ticket.durable().await
            && error.full
        {
            // The journal itself has no room for it. A start that finds a record of what the drive has,
            // and no bytes, takes it for given up.
            for content in given_up {
                self.store.remove(content);
            }
        }
    }
}
