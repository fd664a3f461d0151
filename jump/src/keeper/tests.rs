//! Several keepers over one registry that can be switched off.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::*;
use crate::registry::memory::Memory;
use crate::roster::Listed;
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
    async fn put(&self, lease: &Lease, ttl: Duration, news: bool) -> Result<(), RegistryError> {
        self.check()?;
        self.inner.put(lease, ttl, news).await
    }
    async fn order(&self, id: &NodeId, order: Option<&Order>) -> Result<(), RegistryError> {
        self.check()?;
        self.inner.order(id, order).await
    }
    async fn turn(&self, id: &NodeId, life: Duration) -> Result<bool, RegistryError> {
        self.check()?;
        self.inner.turn(id, life).await
    }
    async fn saw(&self, id: &NodeId, sighting: &Sighting) -> Result<(), RegistryError> {
        self.check()?;
        self.inner.saw(id, sighting).await
    }
    async fn count(
        &self,
        visitor: std::net::IpAddr,
        per_second: u32,
    ) -> Result<Option<Duration>, RegistryError> {
        self.check()?;
        self.inner.count(visitor, per_second).await
    }
    async fn listen(&self, bell: Arc<Notify>, stop: CancellationToken) {
        self.inner.listen(bell, stop).await;
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
    async fn list(&self) -> Result<Vec<Listed>, RegistryError> {
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

#[tokio::test]
async fn what_the_operator_orders_at_one_jump_counts_at_all_and_survives_an_outage() {
    let registry = Arc::new(Switch::default());
    let (here, _) = keeper(&registry);
    let (there, _) = keeper(&registry);
    for id in ["1", "2"] {
        here.hear(lease(id), TTL).await.unwrap();
    }
    there.round().await;
    let drain = Order {
        drain: true,
        ..Order::default()
    };
    here.order(&lease("1").id, Some(drain.clone())).await;
    assert_eq!(alive(&here), ["2"]);
    there.round().await;
    assert_eq!(alive(&there), ["2"]);
    registry.off.store(true, Ordering::Relaxed);
    there.round().await;
    there.order(&lease("1").id, None).await;
    there.order(&lease("2").id, Some(drain)).await;
    assert_eq!(alive(&there), ["1"]);
    registry.off.store(false, Ordering::Relaxed);
    there.round().await;
    here.round().await;
    assert_eq!(
        (alive(&here), alive(&there)),
        (vec!["1".into()], vec!["1".into()])
    );
}
