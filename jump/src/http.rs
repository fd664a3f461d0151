//! What visitors, nodes and the operator see.

mod operator;
mod page;
mod quick;
mod redirect;
mod session;
mod update;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode};
use axum::routing::{any, get, post};
use tokio::sync::Notify;
use tuyun_chassis::http::control::Readiness;
use tuyun_chassis::http::{Limiter, Problem};
use tuyun_protocol::{Base, Token};

use crate::admission::Admission;
use crate::atlas::Atlas;
use crate::choose::Policy;
use crate::fresh::Fresh;
use crate::gate::Gate;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::pulse::Pulse;

pub(crate) use self::quick::Quick;
pub(crate) use self::session::Operator;

/// Everything that a request may need.
pub(crate) struct Shared {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) policy: Policy,
    pub(crate) origin: Base,
    pub(crate) allow_origin: Option<HeaderValue>,
    pub(crate) admission: Admission,
    pub(crate) ttl: std::time::Duration,
    pub(crate) allow_private: bool,
    pub(crate) redirects: Limiter,
    pub(crate) updates: Limiter,
    /// What the whole fleet allows one address a second, where it counts together.
    pub(crate) fleet_limit: Option<u32>,
    pub(crate) atlas: Atlas,
    pub(crate) gate: Gate,
    pub(crate) link_keys: Option<Fresh<Vec<Token>>>,
    pub(crate) operator: Operator,
    pub(crate) pulse: Arc<Pulse>,
    /// Whether nodes are shared by Redis.
    pub(crate) shares: bool,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Arc<Metrics>,
    /// Rung for a node that has to be probed before it gets visitors.
    pub(crate) bell: Arc<Notify>,
}

/// All routes of the public listener.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::status))
        .route(
            "/_api/update",
            post(update::heartbeat).delete(update::farewell),
        )
        .route("/_api/nodes", get(operator::nodes))
        .route(
            "/_api/nodes/{id}",
            post(operator::order).delete(operator::remove),
        )
        .route("/_api/overview", get(page::overview))
        .route(
            "/_api/session",
            post(session::sign_in).delete(session::sign_out),
        )
        .route("/_api/explain", get(operator::explain))
        .route("/_api/health", get(operator::health))
        .route("/_api", any(no_such_call))
        .route("/_api/", any(no_such_call))
        .route("/_api/{*rest}", any(no_such_call))
        .fallback(redirect::redirect)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
}

async fn no_such_call() -> Problem {
    Problem::not_found("No such call.")
}

async fn wrong_method() -> Problem {
    Problem::of(
        StatusCode::METHOD_NOT_ALLOWED,
        "This path does not take this method.",
    )
}
