//! `POST` and `DELETE /_api/update`: a node reports, and leaves.
//!
//! The originals know two answers to what is wrong, and scripts of others read them: 400 with code
//! 1002 and "Missing required parameters." or "Invalid token.". `detail` says more, for people.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tuyun_chassis::http::{Client, Problem};
use tuyun_protocol::{
    BadHeartbeat, Base, Claim, Farewell, Heartbeat, NodeId, Signature, Standing, Whereabouts,
    is_global,
};

use super::Shared;
use crate::admission::{Message, Proof, Refused};
use crate::roster::{Kind, Lease};

/// A heartbeat is some 200 bytes; whoever sends more is no node.
const MOST_BYTES: usize = 8192;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What the originals answer to anything wrong.
const WRONG: u32 = 1002;

/// Why a message is turned away.
enum Rejected {
    Malformed(BadHeartbeat),
    Refused(Refused),
    /// `url: "auto"` from somebody who may not, or from where no visitor gets.
    Auto(&'static str),
    TooMany(Problem),
    Body(Problem),
    Full(Problem),
}

/// `POST`: the node lives.
pub(super) async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(
        &shared,
        take_heartbeat(&shared, client, &headers, body).await,
    )
}

/// `DELETE`: the node leaves.
pub(super) async fn farewell(
    State(shared): State<Arc<Shared>>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(
        &shared,
        take_farewell(&shared, client, &headers, body).await,
    )
}

async fn take_heartbeat(
    shared: &Shared,
    client: Client,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Rejected> {
    let body = receive(shared, client, body).await?;
    let Claim { message, token } = Heartbeat::read(&body).map_err(Rejected::Malformed)?;
    let claim = Claim {
        message: message.server_id.clone(),
        token,
    };
    let proof = prove(shared, "POST", headers, &body, &claim).await?;
    let auto = matches!(message.whereabouts, Whereabouts::Auto { .. });
    let url = find(shared, client, proof, message.whereabouts)?;
    let ours = proof.signed
        || message
            .version
            .as_deref()
            .is_some_and(|version| version.starts_with("tuyun-"));
    let lease = Lease {
        id: message.server_id,
        url,
        kind: if ours { Kind::Tuyun } else { Kind::Original },
        proven: !auto,
        version: message.version,
        report: message.report,
    };
    let ttl = message
        .ttl
        .map_or(shared.ttl, |asked| asked.min(shared.ttl));
    let heard = shared.keeper.hear(lease, ttl).await;
    heard.map_err(|full| {
        let minute = Duration::from_mins(1);
        Rejected::Full(Problem::unavailable(full.to_string(), minute))
    })?;
    if auto {
        shared.bell.notify_one();
    }
    Ok(())
}

async fn take_farewell(
    shared: &Shared,
    client: Client,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Rejected> {
    let body = receive(shared, client, body).await?;
    let Claim { message, token } = Farewell::read(&body).map_err(Rejected::Malformed)?;
    let claim = Claim {
        message: message.server_id,
        token,
    };
    prove(shared, "DELETE", headers, &body, &claim).await?;
    shared.keeper.leave(&claim.message).await;
    tracing::info!(node = %claim.message, "the node left");
    Ok(())
}

async fn receive(shared: &Shared, client: Client, body: Body) -> Result<Vec<u8>, Rejected> {
    shared
        .updates
        .check(client)
        .map_err(|many| Rejected::TooMany(many.into()))?;
    short_body(body).await.map_err(Rejected::Body)
}

/// A body that is short and comes in time, whoever sends it.
pub(super) async fn short_body(body: Body) -> Result<Vec<u8>, Problem> {
    let too_large = |_| Problem::of(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large.");
    let reading = tokio::time::timeout(BODY_DEADLINE, axum::body::to_bytes(body, MOST_BYTES));
    let slow = |_| Problem::of(StatusCode::REQUEST_TIMEOUT, "The body took too long.");
    let bytes = reading
        .await
        .map_err(slow)
        .and_then(|read| read.map_err(too_large));
    bytes.map(Vec::from)
}

async fn prove(
    shared: &Shared,
    method: &str,
    headers: &HeaderMap,
    body: &[u8],
    claim: &Claim<NodeId>,
) -> Result<Proof, Rejected> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let signature = Signature::from_headers(header)
        .map_err(|bad| Rejected::Refused(Refused::Signature(bad)))?;
    if signature.is_none() && claim.token.is_none() {
        return Err(Rejected::Malformed(BadHeartbeat::Missing("token")));
    }
    let message = Message {
        method,
        body,
        id: &claim.message,
        token: claim.token.as_ref(),
        signature: signature.as_ref(),
    };
    // A clock before 1970 makes every signature too old, which is said.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let proof = shared
        .admission
        .admit(&message, now)
        .map_err(Rejected::Refused)?;
    if let Some(signature) = &signature {
        let (nonce, life) = (signature.nonce().number(), 2 * Signature::WINDOW);
        if !shared.keeper.first_use(message.id, nonce, life).await {
            return Err(Rejected::Refused(Refused::Replay));
        }
    }
    Ok(proof)
}

/// Where the node is: as it says, or where its heartbeat comes from.
fn find(
    shared: &Shared,
    client: Client,
    proof: Proof,
    whereabouts: Whereabouts,
) -> Result<Base, Rejected> {
    let (scheme, port) = match whereabouts {
        Whereabouts::At(base) => return Ok(base),
        Whereabouts::Auto { scheme, port } => (scheme.as_str(), port),
    };
    if !proof.signed || proof.standing != Standing::Own {
        return Err(Rejected::Auto(
            "url \"auto\" needs a signature with a token of the node's own",
        ));
    }
    let Client(address) = client;
    if !shared.allow_private && !is_global(address) {
        return Err(Rejected::Auto(
            "url \"auto\" needs a global address; this heartbeat comes from a private one",
        ));
    }
    let socket = std::net::SocketAddr::new(address, port);
    Base::parse(&format!("{scheme}://{socket}/"))
        .map_err(|bad| Rejected::Malformed(BadHeartbeat::Url(bad)))
}

fn answer(shared: &Shared, outcome: Result<(), Rejected>) -> Response {
    let metrics = &shared.metrics;
    match outcome {
        Ok(()) => {
            metrics.heard.inc();
            Json(json!({ "code": 0, "msg": "ok" })).into_response()
        }
        Err(Rejected::Malformed(bad)) => {
            metrics.malformed.inc();
            tracing::debug!(%bad, "a message from a node cannot be understood");
            wrong("Missing required parameters.", &bad.to_string())
        }
        Err(Rejected::Refused(refused)) => {
            metrics.refused.inc();
            tracing::warn!(%refused, "a message from a node was refused");
            // To a stranger a wrong token and a wrong node look alike.
            let detail = if refused == Refused::Token {
                String::new()
            } else {
                refused.to_string()
            };
            wrong("Invalid token.", &detail)
        }
        Err(Rejected::Auto(why)) => {
            metrics.refused.inc();
            tracing::warn!(why, "a message from a node was refused");
            wrong("Invalid token.", why)
        }
        Err(Rejected::TooMany(problem)) => {
            metrics.heartbeats_limited.inc();
            problem.response()
        }
        Err(Rejected::Body(problem) | Rejected::Full(problem)) => {
            metrics.malformed.inc();
            problem.response()
        }
    }
}

fn wrong(msg: &str, detail: &str) -> Response {
    let mut body = json!({ "code": WRONG, "msg": msg });
    if !detail.is_empty() && !detail.ends_with("is missing") {
        body["detail"] = detail.into();
    }
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
