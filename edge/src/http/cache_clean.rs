//! `GET /_api/cache_clean?day=N`: removes what has not been used for N days.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Uri};
use serde_json::{Value, json};
use tuyun_chassis::http::Problem;
use url::form_urlencoded;

use super::{Shared, problem};

pub(super) async fn clean(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, Response> {
    shared
        .admin
        .check(&headers)
        .map_err(IntoResponse::into_response)?;
    let days = days(uri.query().unwrap_or_default()).ok_or_else(|| {
        Problem::bad_request("`day` has to be a number of days, 0 for everything.").into_response()
    })?;
    let unused = Duration::from_hours(24 * u64::from(days));
    let cleaned = shared.cache.clean(unused).await;
    let size = cleaned.map_err(|error| problem::of_change(&error).into_response())?;
    tracing::info!(days, size, "the cache was cleaned on request");
    Ok(Json(json!({ "size": size })))
}

fn days(query: &str) -> Option<u32> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "day");
    values.next()?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_of_days_will_do() {
        assert_eq!(days("day=7"), Some(7));
        assert_eq!(days("x=1&day=0"), Some(0));
        for odd in ["", "day=", "day=-1", "day=1.5", "day=all", "days=1"] {
            assert_eq!(days(odd), None, "{odd}");
        }
    }
}
