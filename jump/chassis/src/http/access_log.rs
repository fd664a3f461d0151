//! One line for each request, under the target `access`.
//!
//! Path and status, never the query or a header: those may carry what nobody should read later.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tracing::Level;

use super::Client;

/// Middleware: writes the line once the response's head is known.
pub(super) async fn write(request: Request, next: Next) -> Response {
    if !tracing::enabled!(target: "access", Level::INFO) {
        return next.run(request).await;
    }
    let began = Instant::now();
    let client = request.extensions().get::<Client>().map(|client| client.0);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    tracing::info!(
        target: "access",
        client = client.map(tracing::field::display),
        %method,
        path,
        status = response.status().as_u16(),
        micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        "served"
    );
    response
}
