//! What visitors and the operator see: one file an endpoint.
//!
//! All paths below `/_api/` are control, all others are pictures. Every request counts towards its
//! address's limit before anything else happens.

mod body;
mod cache_clean;
mod conditional;
mod favicon;
mod health;
mod multipart;
mod page;
mod picture;
mod problem;
mod purge;
mod respond;
mod status;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use http::StatusCode;
use tuyun_chassis::http::control::Readiness;
use tuyun_chassis::http::{Bearer, Client, Limiter, Problem};
use tuyun_protocol::NodeId;

use crate::cache::Cache;
use crate::metrics::Answers;
use crate::origin::Origin;
use crate::traffic::{Counters, Ledger, Meter};

pub(crate) use self::respond::lasting;

/// What the endpoints share.
pub(crate) struct Shared {
    pub(crate) cache: Arc<Cache<Origin>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) answers: Answers,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) admin: Bearer,
    pub(crate) limiter: Limiter,
    pub(crate) readiness: Readiness,
    /// The origin tells what changes, and whether it is heard; none where it is not asked to.
    pub(crate) following: Option<Arc<AtomicBool>>,
    pub(crate) id: NodeId,
    pub(crate) began: Instant,
}

/// The public routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::show))
        .route("/favicon.ico", get(favicon::show))
        .route("/_api/health", get(health::show))
        .route("/_api/status", get(status::show))
        .route("/_api/traffic", get(traffic::show))
        .route("/_api/cache_clean", get(cache_clean::clean))
        .route("/_api/purge", post(purge::purge))
        .route("/_api", any(unknown))
        .route("/_api/", any(unknown))
        .route("/_api/{*rest}", any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .fallback(picture::show)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), limit))
        .with_state(shared)
}

async fn limit(
    State(shared): State<Arc<Shared>>,
    client: Client,
    request: Request,
    next: Next,
) -> Response {
    match shared.limiter.check(client) {
        Ok(()) => next.run(request).await,
        Err(too_many) => Problem::from(too_many).into_response(),
    }
}

async fn unknown() -> Problem {
    Problem::not_found("No such control path.")
}

async fn wrong_method() -> Problem {
    Problem::of(
        StatusCode::METHOD_NOT_ALLOWED,
        "This path does not take this method.",
    )
}
