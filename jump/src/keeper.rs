//! Keeps the roster: hears nodes, follows the registry, and publishes what redirects read.
//!
//! A redirect takes the published [`Roster`] without a lock. Everything that changes it goes
//! through the table's short lock, and never waits for the registry while holding it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tuyun_chassis::http::control::Readiness;
use tuyun_protocol::{Base, NodeId};

use crate::metrics::Metrics;
use crate::registry::{Registry, RegistryError};
use crate::roster::{Full, Lease, Order, Restored, Roster, Sighting, Table};

/// How often the registry is read: what is written there without a word, as originals do, is known
/// here that much later, and a SCAN of a small database costs Redis a fraction of a millisecond.
const REFRESH: Duration = Duration::from_secs(1);

/// How soon after one reading the next may follow when other jumps have news: a fleet that starts all
/// at once is read ten times a second and not a thousand.
const BREATH: Duration = Duration::from_millis(100);

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
        let (lease, lost, news) = {
            let mut table = self.table.lock();
            let before = table.lease(&lease.id).cloned();
            let lease = table.hear(lease, ttl, now)?;
            self.publish(&table, now);
            let news = before.is_none_or(|before| !before.says_the_same_as(&lease));
            (lease, table.is_lost(), news)
        };
        // In an outage the node is not kept waiting; the next round tells the registry.
        if !lost {
            self.put(&lease, ttl, now, news).await;
        }
        Ok(())
    }

    /// Whether no jump of the fleet has seen this nonce. While the registry cannot be asked, each
    /// jump has only its own memory to go by.
    pub async fn first_use(&self, id: &NodeId, nonce: u128, life: Duration) -> bool {
        if self.is_lost() {
            // In an outage the node is not kept waiting.
            return true;
        }
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
            self.put(&lease, remaining, now, true).await;
        }
    }

    /// The operator orders something about a node; `None` takes it back.
    pub async fn order(&self, id: &NodeId, order: Option<Order>) {
        let now = Instant::now();
        let lost = {
            let mut table = self.table.lock();
            table.order(id, order.clone(), now);
            self.publish(&table, now);
            table.is_lost()
        };
        if !lost {
            self.tell_order(id, order.as_ref(), now).await;
        }
    }

    /// What the operator has ordered about a node.
    #[must_use]
    pub fn ordered(&self, id: &NodeId) -> Order {
        self.table.lock().ordered(id)
    }

    /// Whether it is our turn to ask this node for its figures. While the registry cannot be asked,
    /// each jump asks.
    pub async fn turn(&self, id: &NodeId, life: Duration) -> bool {
        self.is_lost() || self.registry.turn(id, life).await.unwrap_or(true)
    }

    /// A node was asked for its figures; all jumps are told.
    pub async fn saw(&self, id: &NodeId, sighting: Sighting) {
        let now = Instant::now();
        {
            let mut table = self.table.lock();
            table.seen(id, sighting.clone(), now);
            self.publish(&table, now);
        }
        if !self.is_lost()
            && let Err(error) = self.registry.saw(id, &sighting).await
        {
            tracing::debug!(node = %id, %error, "cannot tell others what a node's figures say");
        }
    }

    /// Counts a visitor in the whole fleet; an outage counts nobody.
    pub async fn count(&self, visitor: std::net::IpAddr, per_second: u32) -> Option<Duration> {
        if self.is_lost() {
            return None;
        }
        match self.registry.count(visitor, per_second).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::debug!(%error, "cannot count a visitor in the whole fleet");
                None
            }
        }
    }

    /// Whether the registry is out of reach.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.table.lock().is_lost()
    }

    /// What a restart remembers, before anything else is known. With `tell`, the registry has
    /// forgotten it.
    pub fn restore(&self, nodes: Vec<Restored>, orders: Vec<(NodeId, Order)>, tell: bool) {
        let now = Instant::now();
        let mut table = self.table.lock();
        table.restore(nodes, orders, tell, now);
        self.publish(&table, now);
    }

    /// What a restart should remember.
    #[must_use]
    pub fn remember(&self) -> (Vec<Restored>, Vec<(NodeId, Order)>) {
        self.table.lock().remember(Instant::now())
    }

    /// Follows the registry until `stop`: by its news, and by time. While it is out of reach the rhythm
    /// is uneven, so that several jumps do not meet it together when it is back.
    pub async fn follow(&self, stop: CancellationToken) {
        let bell = Arc::new(Notify::new());
        let listening = self.registry.listen(Arc::clone(&bell), stop.clone());
        let reading = async {
            loop {
                let stretch = if self.is_lost() {
                    0.5 + rand::random::<f64>()
                } else {
                    1.0
                };
                tokio::select! {
                    () = tokio::time::sleep(REFRESH.mul_f64(stretch)) => {}
                    () = bell.notified() => {}
                    () = stop.cancelled() => return,
                }
                self.round().await;
                tokio::time::sleep(BREATH).await;
            }
        };
        tokio::join!(listening, reading);
    }

    /// Tells the registry what it missed, and takes from it what others heard.
    pub async fn round(&self) {
        let began = Instant::now();
        let unsaved = self.table.lock().unsaved(began);
        for (lease, remaining) in unsaved.leases.into_iter().take(CATCH_UP) {
            if !self.put(&lease, remaining, began, true).await {
                return;
            }
        }
        for (id, order) in unsaved.orders.iter().take(CATCH_UP) {
            if !self.tell_order(id, order.as_ref(), began).await {
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

    async fn tell_order(&self, id: &NodeId, order: Option<&Order>, given: Instant) -> bool {
        match self.registry.order(id, order).await {
            Ok(()) => {
                self.table.lock().order_saved(id, given);
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    async fn put(&self, lease: &Lease, ttl: Duration, changed: Instant, news: bool) -> bool {
        match self.registry.put(lease, ttl, news).await {
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
mod tests;
