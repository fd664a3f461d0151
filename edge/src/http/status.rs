//! `GET /_api/status`: this node in figures. The first five fields are those of the original nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tuyun_protocol::NodeId;

use super::Shared;
use crate::traffic::Span;

/// The figures.
#[derive(Serialize)]
pub(super) struct Status {
    server_id: NodeId,
    /// Seconds since the start.
    uptime: u64,
    /// Requests for pictures, ever.
    get: u64,
    /// Bytes from the origin, ever.
    traffic_in: u64,
    /// Bytes to visitors, ever.
    traffic_out: u64,
    /// Requests answered without waiting for the origin, ever.
    hits: u64,
    /// Pictures held.
    cache_entries: u64,
    /// Their bytes.
    cache_bytes: u64,
    /// How many there may be.
    cache_max_bytes: u64,
    /// Bytes of those held in memory as well.
    memory_bytes: u64,
    /// Fetches that run.
    fetching: usize,
    /// Whether the last fetch got an answer.
    origin_ok: bool,
    /// Whether the origin's changes are followed: `followed`, `lost`, or `off` where no token is set.
    changes: &'static str,
    /// Whether pictures can be stored, as the last attempt showed.
    storing: bool,
    /// What of its traffic is used up, so that nobody is served: `day` or `month`.
    used_up: Option<Span>,
    version: &'static str,
}

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(of(&shared))
}

pub(super) fn of(shared: &Shared) -> Status {
    let total = shared.ledger.total();
    let store = shared.cache.store();
    Status {
        server_id: shared.id.clone(),
        uptime: shared.began.elapsed().as_secs(),
        get: total.get,
        traffic_in: total.traffic_in,
        traffic_out: total.traffic_out,
        hits: total.hits,
        cache_entries: store.index().entries(),
        cache_bytes: store.index().bytes(),
        cache_max_bytes: store.budget().max_bytes,
        memory_bytes: store.memory_bytes(),
        fetching: shared.cache.fetching(),
        origin_ok: !shared.cache.origin_ails(),
        changes: match &shared.following {
            None => "off",
            Some(following) if following.load(Ordering::Relaxed) => "followed",
            Some(_) => "lost",
        },
        storing: store.keeps(),
        used_up: *shared.meter.used_up().borrow(),
        version: env!("CARGO_PKG_VERSION"),
    }
}
