//! Keeps the roster: hears nodes, follows the registry, and publishes what redirects read.
//!
//! A redirect takes the published [`Roster`] without a lock. Everything that changes it goes
//! through the table's short lock, and never waits for the registry while holding it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tuyun_chassis::http::control::Readiness;
use tuyun_protocol::{Base, NodeId};

use crate::metrics::Metrics;
use crate::registry::{Registry, RegistryError};
use crate::roster::{Full, Lease, Roster, Table};

/// How often the registry is read: what other jumps heard is known here that much later, and a
/// SCAN of a small database costs Redis a fraction of a millisecond.
const REFRESH: Duration = Duration::from_secs(1);

/// Puts and removes that are caught up on in one round after an outage, so that Redis comes back
/// to a stream and not to a flood.
const CATCH_UP: usize = 256;

/// The part of `readyz` that speaks of the registry.
const PART: &str = "redis";

/// Keeps the roster.
pub struct Keeper {
    table: Mutex<Table>,
    roster: ArcSwap<Roster>,
    registry: Arc<dyn Registry>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
}

impl Keeper {
    /// A keeper that knows nobody yet. `ttl` is the longest life of a lease.
    #[must_use]
    pub fn new(
        registry: Arc<dyn Registry>,
        ttl: Duration,
        readiness: Readiness,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            table: Mutex::new(Table::new(ttl)),
            roster: ArcSwap::default(),
            registry,
            readiness,
            metrics,
        }
    }

    /// The nodes as they are known.
    #[must_use]
    pub fn roster(&self) -> arc_swap::Guard<Arc<Roster>> {
        self.roster.load()
    }

    /// Takes a heartbeat that was admitted. It counts here at once; the registry is told, and if it
    /// cannot be, it is told later.
    ///
    /// # Errors
    /// When there is no room for another node.
    pub async fn hear(&self, lease: Lease, ttl: Duration) -> Result<(), Full> {
        let now = Instant::now();
        let (lease, lost) = {
            let mut table = self.table.lock();
            let lease = table.hear(lease, ttl, now)?;
            self.publish(&table, now);
            (lease, table.is_lost())
        };
        // In an outage the node is not kept waiting; the next round tells the registry.
        if !lost {
            self.put(&lease, ttl, now).await;
        }
        Ok(())
    }

    /// Whether no jump of the fleet has seen this nonce. While the registry cannot be asked, each
    /// jump has only its own memory to go by.
    pub async fn first_use(&self, id: &NodeId, nonce: u128, life: Duration) -> bool {
        match self.registry.first_use(id, nonce, life).await {
            Ok(first) => first,
            Err(error) => {
                tracing::debug!(node = %id, %error, "cannot ask whether others have seen this heartbeat");
                true
            }
        }
    }

    /// The node leaves, at once.
    pub async fn leave(&self, id: &NodeId) {
        let now = Instant::now();
        let lost = {
            let mut table = self.table.lock();
            table.leave(id, now);
            self.publish(&table, now);
            table.is_lost()
        };
        if !lost {
            self.remove(id).await;
        }
    }

    /// A probe of the node at this address came back.
    pub async fn probed(&self, id: &NodeId, url: &Base, reached: bool) {
        let now = Instant::now();
        let proved = {
            let mut table = self.table.lock();
            let proved = table.probed(id, url, reached, now);
            self.publish(&table, now);
            proved.and_then(|lease| Some((lease, table.remaining(id, now)?)))
        };
        if let Some((lease, remaining)) = proved {
            tracing::info!(node = %lease.id, url = %lease.url, "reached the node, it gets visitors");
            self.put(&lease, remaining, now).await;
        }
    }

    /// Follows the registry until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(REFRESH))
            .await
            .is_some()
        {
            self.round().await;
        }
    }

    /// Tells the registry what it missed, and takes from it what others heard.
    pub async fn round(&self) {
        let began = Instant::now();
        let unsaved = self.table.lock().unsaved(began);
        for (lease, remaining) in unsaved.leases.into_iter().take(CATCH_UP) {
            if !self.put(&lease, remaining, began).await {
                return;
            }
        }
        for id in unsaved.gone.iter().take(CATCH_UP) {
            if !self.remove(id).await {
                return;
            }
        }
        let asked = Instant::now();
        match self.registry.list().await {
            Ok(listed) => {
                let now = Instant::now();
                let mut table = self.table.lock();
                let back = table.is_lost();
                table.reconcile(listed, asked, now);
                self.publish(&table, now);
                drop(table);
                if back {
                    tracing::info!("Redis answers again");
                }
                self.readiness.up(PART);
                self.metrics.registry_answers(true);
            }
            Err(error) => self.lost(&error),
        }
    }

    async fn put(&self, lease: &Lease, ttl: Duration, changed: Instant) -> bool {
        match self.registry.put(lease, ttl).await {
            Ok(()) => {
                self.table.lock().saved(&lease.id, changed);
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    async fn remove(&self, id: &NodeId) -> bool {
        match self.registry.remove(id).await {
            Ok(()) => {
                self.table.lock().removed(id);
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    fn lost(&self, error: &RegistryError) {
        let now = Instant::now();
        let mut table = self.table.lock();
        let news = !table.is_lost();
        table.lost(now);
        self.publish(&table, now);
        drop(table);
        let why = reason(error);
        if news {
            tracing::warn!(
                error = why,
                "Redis cannot be reached; going on with the nodes known, trying again each second"
            );
        }
        self.readiness
            .down(PART, format!("{why}; check `redis` and that it runs"));
        self.metrics.registry_answers(false);
    }

    /// Called with the table locked, so that pictures are published in their order.
    fn publish(&self, table: &Table, now: Instant) {
        let roster = table.snapshot(now);
        self.metrics.count(&roster);
        self.roster.store(Arc::new(roster));
    }
}

/// The error with its causes, on one line.
fn reason(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::registry::memory::Memory;
    use crate::roster::tests::lease;

    const TTL: Duration = Duration::from_secs(20);

    /// A registry that can be switched off.
    #[derive(Default)]
    struct Switch {
        inner: Memory,
        off: AtomicBool,
        nonces: Mutex<std::collections::HashSet<(NodeId, u128)>>,
    }

    impl Switch {
        fn check(&self) -> Result<(), RegistryError> {
            if self.off.load(Ordering::Relaxed) {
                Err(RegistryError::TooSlow(TTL))
            } else {
                Ok(())
            }
        }
    }

    #[async_trait]
    impl Registry for Switch {
        async fn put(&self, lease: &Lease, ttl: Duration) -> Result<(), RegistryError> {
            self.check()?;
            self.inner.put(lease, ttl).await
        }
        async fn remove(&self, id: &NodeId) -> Result<(), RegistryError> {
            self.check()?;
            self.inner.remove(id).await
        }
        async fn first_use(
            &self,
            id: &NodeId,
            nonce: u128,
            _: Duration,
        ) -> Result<bool, RegistryError> {
            self.check()?;
            Ok(self.nonces.lock().insert((id.clone(), nonce)))
        }
        async fn list(&self) -> Result<Vec<(Lease, Duration)>, RegistryError> {
            self.check()?;
            self.inner.list().await
        }
    }

    #[tokio::test]
    async fn what_one_jump_took_another_does_not_take_again() {
        let registry = Arc::new(Switch::default());
        let (here, _) = keeper(&registry);
        let (there, _) = keeper(&registry);
        let id = lease("1").id;
        assert!(here.first_use(&id, 7, TTL).await);
        assert!(!there.first_use(&id, 7, TTL).await);
        assert!(there.first_use(&id, 8, TTL).await);
        registry.off.store(true, Ordering::Relaxed);
        assert!(there.first_use(&id, 9, TTL).await, "an outage stops nobody");
    }

    fn keeper(registry: &Arc<Switch>) -> (Keeper, Readiness) {
        let readiness = Readiness::new();
        let metrics = Arc::new(Metrics::new().0);
        let registry = Arc::clone(registry) as Arc<dyn Registry>;
        (
            Keeper::new(registry, TTL, readiness.clone(), metrics),
            readiness,
        )
    }

    fn alive(keeper: &Keeper) -> Vec<String> {
        keeper
            .roster()
            .alive(Instant::now())
            .map(|node| node.lease.id.to_string())
            .collect()
    }

    #[tokio::test]
    async fn what_one_jump_hears_another_finds() {
        let registry = Arc::new(Switch::default());
        let (here, _) = keeper(&registry);
        let (there, _) = keeper(&registry);
        here.hear(lease("1"), TTL).await.unwrap();
        there.round().await;
        assert_eq!(alive(&there), ["1"]);
        here.leave(&lease("1").id).await;
        assert_eq!(alive(&here), [""; 0]);
        there.round().await;
        assert_eq!(alive(&there), [""; 0]);
    }

    #[tokio::test]
    async fn an_outage_is_reported_survived_and_made_up_for() {
        let registry = Arc::new(Switch::default());
        let (here, readiness) = keeper(&registry);
        let (there, _) = keeper(&registry);
        here.hear(lease("1"), TTL).await.unwrap();
        there.hear(lease("2"), TTL).await.unwrap();
        here.round().await;
        registry.off.store(true, Ordering::Relaxed);
        here.round().await;
        assert!(readiness.troubles()["redis"].contains("Redis took longer"));
        assert_eq!(alive(&here), ["1", "2"]);
        here.hear(lease("3"), TTL).await.unwrap();
        here.leave(&lease("2").id).await;
        assert_eq!(alive(&here), ["1", "3"]);
        registry.off.store(false, Ordering::Relaxed);
        here.round().await;
        assert!(readiness.is_ready());
        assert_eq!(alive(&here), ["1", "3"]);
        there.round().await;
        assert_eq!(alive(&there), ["1", "3"]);
    }
}
