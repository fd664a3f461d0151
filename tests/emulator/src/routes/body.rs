//! Bodies: read in whole, streamed out, and broken on purpose.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures_util::StreamExt as _;
use http::Request;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    content::{Content, Spool},
    refusal::Refusal,
};

/// JSON bodies of Graph are small; `$batch` is the largest and stays below this.
const JSON_LIMIT: usize = 4 * 1024 * 1024;

/// A body that comes back when whoever reads it lets go of it before its end.
///
/// An early refusal must not leave bytes unread: the client would see the connection break in place
/// of the reply.
pub(super) struct Returning {
    inner: Option<Body>,
    back: Option<oneshot::Sender<Body>>,
}

impl Returning {
    /// Wraps a body; what is left of it comes out of the receiver.
    pub(super) fn wrap(body: Body) -> (Body, oneshot::Receiver<Body>) {
        let (back, left) = oneshot::channel();
        (
            Body::new(Self {
                inner: Some(body),
                back: Some(back),
            }),
            left,
        )
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.inner.take(), self.back.take()) {
            // Nobody waits for it: then the connection ends anyhow.
            let _ = back.send(body);
        }
    }
}

impl http_body::Body for Returning {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.inner {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map(http_body::Body::size_hint)
            .unwrap_or_default()
    }
}

/// What a client may still send after its request is decided; past it the connection may break.
const DRAIN: Duration = Duration::from_secs(30);

/// Reads a body to its end and forgets it.
pub(super) async fn drain(mut body: Body) {
    // Too late is as good as read: the reply goes out either way.
    let _ = tokio::time::timeout(DRAIN, async {
        while let Some(Ok(_)) = body.frame().await {}
    })
    .await;
}

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
