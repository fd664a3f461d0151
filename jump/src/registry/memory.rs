//! Leases in memory: for one jump alone. A restart knows them from the
//! [snapshot](crate::snapshot), if there is one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tuyun_protocol::NodeId;

use super::{Registry, RegistryError};
use crate::roster::{Lease, Listed, Order, Sighting};

/// A registry that ends with the process.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    leases: HashMap<NodeId, (Lease, Instant)>,
    orders: HashMap<NodeId, Order>,
}

#[async_trait]
impl Registry for Memory {
    async fn put(&self, lease: &Lease, ttl: Duration, _: bool) -> Result<(), RegistryError> {
        let until = Instant::now() + ttl;
        let mut held = self.0.lock();
        held.leases.insert(lease.id.clone(), (lease.clone(), until));
        Ok(())
    }

    async fn remove(&self, id: &NodeId) -> Result<(), RegistryError> {
        self.0.lock().leases.remove(id);
        Ok(())
    }

    async fn order(&self, id: &NodeId, order: Option<&Order>) -> Result<(), RegistryError> {
        let mut held = self.0.lock();
        match order {
            Some(order) => held.orders.insert(id.clone(), order.clone()),
            None => held.orders.remove(id),
        };
        Ok(())
    }

    /// One process alone: its own memory of nonces is all there is, and decides.
    async fn first_use(&self, _: &NodeId, _: u128, _: Duration) -> Result<bool, RegistryError> {
        Ok(true)
    }

    /// There is nobody else.
    async fn turn(&self, _: &NodeId, _: Duration) -> Result<bool, RegistryError> {
        Ok(true)
    }

    /// There is nobody to tell.
    async fn saw(&self, _: &NodeId, _: &Sighting) -> Result<(), RegistryError> {
        Ok(())
    }

    /// The limit of this process has counted already.
    async fn count(&self, _: IpAddr, _: u32) -> Result<Option<Duration>, RegistryError> {
        Ok(None)
    }

    async fn list(&self) -> Result<Vec<Listed>, RegistryError> {
        let now = Instant::now();
        let mut held = self.0.lock();
        held.leases.retain(|_, (_, until)| now < *until);
        let listed = held.leases.iter().map(|(id, (lease, until))| Listed {
            lease: lease.clone(),
            remaining: *until - now,
            order: held.orders.get(id).cloned(),
            sighting: None,
        });
        Ok(listed.collect())
    }

    async fn listen(&self, _: Arc<Notify>, stop: CancellationToken) {
        stop.cancelled().await;
    }
}
