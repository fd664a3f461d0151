//! The operator's listener: `/healthz` (alive), `/readyz` (can serve; says why not), `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, header};
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::Problem;

/// What keeps the program from serving, by part. Ready means: nothing does.
///
/// Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// Ready until somebody says otherwise.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This part is well.
    pub fn up(&self, part: &'static str) {
        self.held().remove(part);
    }

    /// This part is not, and why.
    pub fn down(&self, part: &'static str, why: impl Into<String>) {
        self.held().insert(part, why.into());
    }

    /// What is wrong, by part; empty when ready.
    #[must_use]
    pub fn troubles(&self) -> BTreeMap<&'static str, String> {
        self.held().clone()
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.held().is_empty()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A panic elsewhere leaves the map whole: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    why: BTreeMap<&'static str, String>,
}

/// The operator's routes. A program may add its own to the router.
pub fn router(readiness: Readiness, metrics: Arc<Registry>) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(|| async { Json(serde_json::json!({ "alive": true })) }),
        )
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(exposition).with_state(metrics))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let why = readiness.troubles();
    let status = if why.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(Ready {
            ready: why.is_empty(),
            why,
        }),
    )
        .into_response()
}

async fn exposition(State(metrics): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            Problem::internal().into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(router: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing() {
        let readiness = Readiness::new();
        let router = router(readiness.clone(), Arc::default());
        assert_eq!(
            get(&router, "/readyz").await,
            (200, r#"{"ready":true}"#.into())
        );
        readiness.down("redis", "cannot be reached");
        let expected = r#"{"ready":false,"why":{"redis":"cannot be reached"}}"#;
        assert_eq!(get(&router, "/readyz").await, (503, expected.into()));
        assert_eq!(get(&router, "/healthz").await.0, 200);
        readiness.up("redis");
        assert_eq!(get(&router, "/readyz").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_text() {
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        registry.register("pictures", "Pictures served", counter.clone());
        counter.inc();
        let (status, text) = get(&router(Readiness::new(), Arc::new(registry)), "/metrics").await;
        assert_eq!(status, 200);
        assert!(
            text.contains("pictures_total 1\n") && text.ends_with("# EOF\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_panic_is_a_500_and_no_more() {
        async fn fail(uri: http::Uri) {
            assert_ne!(uri.path(), "/", "a bug");
        }
        let broken = Router::new().route("/", axum::routing::get(fail));
        let dressed = super::super::dress(broken, super::super::TrustedProxies::default());
        let (status, body) = get(&dressed, "/").await;
        assert_eq!(
            (status, body.as_str()),
            (500, r#"{"code":500,"msg":"Internal error."}"#)
        );
    }
}
