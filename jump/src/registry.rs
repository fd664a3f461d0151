//! Where leases are kept, so that a restart or another jump finds them.
//!
//! Redirects never ask it: the [`Keeper`](crate::keeper::Keeper) does, beside them.

pub mod memory;
pub mod redis;

use std::time::Duration;

use async_trait::async_trait;
use tuyun_protocol::NodeId;

use crate::roster::Lease;

/// A place for leases.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Keeps a lease for this long, in place of the node's former one.
    async fn put(&self, lease: &Lease, ttl: Duration) -> Result<(), RegistryError>;

    /// Forgets a node.
    async fn remove(&self, id: &NodeId) -> Result<(), RegistryError>;

    /// Remembers a nonce of a node's for this long. False if anybody has seen it before.
    async fn first_use(
        &self,
        id: &NodeId,
        nonce: u128,
        life: Duration,
    ) -> Result<bool, RegistryError>;

    /// All leases, with the time they have left.
    async fn list(&self) -> Result<Vec<(Lease, Duration)>, RegistryError>;
}

/// Why the registry did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Redis said no, or could not be asked.
    #[error("Redis did not answer")]
    Redis(#[from] ::redis::RedisError),
    /// It took too long.
    #[error("Redis took longer than {} s", .0.as_secs())]
    TooSlow(Duration),
}
