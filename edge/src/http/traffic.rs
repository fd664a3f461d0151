//! `GET /_api/traffic`: the last fourteen days, newest first. Days are the machine's local ones.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use tuyun_chassis::http::Problem;

use super::Shared;
use crate::traffic::Day;

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Result<Json<Vec<Day>>, Problem> {
    shared.ledger.days().await.map(Json).map_err(|error| {
        let error = &error as &(dyn std::error::Error + 'static);
        tracing::warn!(error, "the traffic figures cannot be shown");
        // They are opened anew at the next writing, a few seconds from now.
        Problem::unavailable("The figures cannot be read.", Duration::from_secs(10))
    })
}
