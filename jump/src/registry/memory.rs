//! Leases in memory: for one jump alone. A restart knows no nodes until they report again, which
//! ours do within seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tuyun_protocol::NodeId;

use super::{Registry, RegistryError};
use crate::roster::Lease;

/// A registry that ends with the process.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<NodeId, (Lease, Instant)>>);

#[async_trait]
impl Registry for Memory {
    async fn put(&self, lease: &Lease, ttl: Duration) -> Result<(), RegistryError> {
        let until = Instant::now() + ttl;
        self.0
            .lock()
            .insert(lease.id.clone(), (lease.clone(), until));
        Ok(())
    }

    async fn remove(&self, id: &NodeId) -> Result<(), RegistryError> {
        self.0.lock().remove(id);
        Ok(())
    }

    /// One process alone: its own memory of nonces is all there is, and decides.
    async fn first_use(&self, _: &NodeId, _: u128, _: Duration) -> Result<bool, RegistryError> {
        Ok(true)
    }

    async fn list(&self) -> Result<Vec<(Lease, Duration)>, RegistryError> {
        let now = Instant::now();
        let mut held = self.0.lock();
        held.retain(|_, (_, until)| now < *until);
        Ok(held
            .values()
            .map(|(lease, until)| (lease.clone(), *until - now))
            .collect())
    }
}
