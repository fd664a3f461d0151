//! Bodies: read in whole, streamed out, and broken on purpose.

use std::{io, ops::Range, time::Duration};

use axum::body::Body;
use futures_util::StreamExt as _;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use crate::{
    content::{Content, Spool},
    refusal::Refusal,
};

/// JSON bodies of Graph are small; `$batch` is the largest and stays below this.
const JSON_LIMIT: usize = 4 * 1024 * 1024;

/// A JSON object, or an empty one where there is no body.
pub(super) async fn json(request: Request<Body>) -> Result<Value, Refusal> {
    let bytes = Limited::new(request.into_body(), JSON_LIMIT)
        .collect()
        .await
        .map_err(|_| Refusal::invalid("The body is too long or broke off."))?
        .to_bytes();
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(&bytes)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Refusal::invalid("Unable to read JSON request payload."))
}

/// Why a body could not be stored.
pub(super) enum Broken {
    /// It broke off before its end.
    Off,
    /// It is longer than allowed.
    TooLong,
    /// The emulator cannot store it.
    Store(io::Error),
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Off => Self::invalid("The body broke off."),
            Broken::TooLong => Self::new(413, "invalidRequest", "The request is too large.")
                .inner("maxFileSizeExceeded"),
            Broken::Store(error) => Self::spool(&error),
        }
    }
}

/// Appends a body to what has arrived. Gives the bytes it had.
pub(super) async fn receive(body: Body, spool: &mut Spool, limit: u64) -> Result<u64, Broken> {
    let mut stream = body.into_data_stream();
    let start = spool.length();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Broken::Off)?;
        if spool.length() - start + chunk.len() as u64 > limit {
            return Err(Broken::TooLong);
        }
        // The page cache takes the bytes at memory speed; a thread of its own would cost more.
        spool.push(&chunk).map_err(Broken::Store)?;
    }
    Ok(spool.length() - start)
}

/// A range of a content.
pub(super) fn stream(content: &Content, range: Range<u64>) -> Result<Body, Refusal> {
    let reader = content.reader().map_err(|error| Refusal::spool(&error))?;
    let mut left = range;
    let steps = std::iter::from_fn(move || (!left.is_empty()).then(|| reader.step(&mut left)));
    Ok(Body::from_stream(futures_util::stream::iter(steps)))
}

/// A body that breaks after so many bytes, or stands still there for a while.
pub(super) fn broken(whole: Body, after: u64, stall: Option<Duration>) -> Body {
    let mut stream = whole.into_data_stream();
    Body::from_stream(async_stream::stream! {
        let mut left = after;
        let mut stalled = false;
        while let Some(chunk) = stream.next().await {
            let mut chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    yield Err(io::Error::other(error));
                    return;
                }
            };
            let part = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            if stalled || part == chunk.len() {
                left -= part as u64;
                yield Ok(chunk);
                continue;
            }
            yield Ok(chunk.split_to(part));
            match stall {
                None => {
                    // The server sends what it has only while it waits for more.
                    tokio::task::yield_now().await;
                    yield Err(io::Error::from(io::ErrorKind::ConnectionReset));
                    return;
                }
                Some(stall) => {
                    tokio::time::sleep(stall).await;
                    stalled = true;
                    left = 0;
                    yield Ok(chunk);
                }
            }
        }
    })
}
