//! `GET /_api/changes`: what edges have to forget, as it happens.
//!
//! Server-sent events. A reader that comes back with the last number it saw gets what it missed,
//! or `reset`: forget nothing, revalidate everything.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tuyun_chassis::http::Problem;

use super::Origin;
use crate::outbox::feed::{ChangeEvent, What};

/// So often something is sent (design 3.1): both ends notice a dead line by it.
const PING: Duration = Duration::from_secs(15);

/// When to come back to an origin that has all the readers it takes.
const COME_BACK: Duration = Duration::from_secs(30);

pub(super) async fn follow(State(origin): State<Arc<Origin>>, headers: HeaderMap) -> Response {
    if let Err(denied) = origin.door.check(&headers) {
        return denied.into_response();
    }
    let Ok(place) = origin.readers.clone().try_acquire_owned() else {
        return Problem::unavailable("Too many readers.", COME_BACK).into_response();
    };
    // Without a number: from now on. One that is none of ours is as good as too old.
    let feed = &origin.vfs.ledger().feed;
    let seen = headers.get("last-event-id").map(|id| {
        id.to_str()
            .ok()
            .and_then(|id| id.trim().parse().ok())
            .unwrap_or(u64::MAX)
    });
    let from = seen.unwrap_or_else(|| feed.cursor());
    let (missed, mut live) = feed.follow(Some(from));
    let watched = origin.clone();
    let events = async_stream::stream! {
        let _place = place;
        let feed = &watched.vfs.ledger().feed;
        match missed {
            // An id alone is no event; it tells where to resume before anything has happened.
            Some(missed) => {
                if seen.is_none() {
                    yield Ok::<_, Infallible>(Event::default().id(from.to_string()));
                }
                for event in missed {
                    yield Ok(tell(&event));
                }
            }
            None => yield Ok(reset(feed.cursor())),
        }
        loop {
            let next = tokio::select! {
                () = watched.stop.cancelled() => return,
                next = live.recv() => next,
            };
            match next {
                Ok(event) => yield Ok(tell(&event)),
                // Fell behind: what was missed is not sent twice, but asked for by `reset`.
                Err(RecvError::Lagged(_)) => yield Ok(reset(feed.cursor())),
                Err(RecvError::Closed) => return,
            }
        }
    };
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(PING).text("ping"));
    let mut response = events.into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn tell(event: &ChangeEvent) -> Event {
    let (name, data) = match &event.what {
        What::Put { path, etag, size } => {
            ("put", json!({ "path": path, "etag": etag, "size": size }))
        }
        What::Delete { path } => ("delete", json!({ "path": path })),
        What::DeletePrefix { path } => ("delete", json!({ "prefix": path })),
    };
    Event::default()
        .id(event.cursor.to_string())
        .event(name)
        .data(data.to_string())
}

fn reset(cursor: u64) -> Event {
    Event::default()
        .id(cursor.to_string())
        .event("reset")
        .data("{}")
}
