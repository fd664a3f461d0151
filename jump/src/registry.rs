//! Where leases are kept, so that a restart or another jump finds them.
//!
//! Redirects never ask it: the [`Keeper`](crate::keeper::Keeper) does, beside them.

pub mod memory;
pub mod redis;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tuyun_protocol::NodeId;

use crate::roster::{Lease, Listed, Order, Sighting};

/// A place for leases, and for what else the jumps of a fleet have in common.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Keeps a lease for this long, in place of the node's former one. With `news`, the other jumps
    /// are told at once.
    async fn put(&self, lease: &Lease, ttl: Duration, news: bool) -> Result<(), RegistryError>;

    /// Forgets a node, and tells the other jumps.
    async fn remove(&self, id: &NodeId) -> Result<(), RegistryError>;

    /// Keeps an order of the operator's, or forgets it, and tells the other jumps.
    async fn order(&self, id: &NodeId, order: Option<&Order>) -> Result<(), RegistryError>;

    /// Remembers a nonce of a node's for this long. False if anybody has seen it before.
    async fn first_use(
        &self,
        id: &NodeId,
        nonce: u128,
        life: Duration,
    ) -> Result<bool, RegistryError>;

    /// Whether it is this jump's turn to ask the node for its figures; nobody else's is it then, for
    /// this long.
    async fn turn(&self, id: &NodeId, life: Duration) -> Result<bool, RegistryError>;

    /// Tells all jumps what a node's figures said.
    async fn saw(&self, id: &NodeId, sighting: &Sighting) -> Result<(), RegistryError>;

    /// Counts a request of this address in the whole fleet. Some time: it was one too many, and works
    /// again then.
    async fn count(
        &self,
        visitor: IpAddr,
        per_second: u32,
    ) -> Result<Option<Duration>, RegistryError>;

    /// Everything about all nodes.
    async fn list(&self) -> Result<Vec<Listed>, RegistryError>;

    /// Rings the bell when another jump has news, until `stop`.
    async fn listen(&self, bell: Arc<Notify>, stop: CancellationToken);
}

/// Why the registry did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Redis said no, or could not be asked.
    #[error("Redis did not answer")]
    Redis(#[from] ::redis::RedisError),
    /// It took too long.
    #[error("Redis took longer than {} ms", .0.as_millis())]
    TooSlow(Duration),
}
