//! A connection that counts, and that gives up on a reader who has stopped reading.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as poll_ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// Lets connections in while there is room.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    room: Arc<Semaphore>,
    patience: Duration,
}

impl Gate {
    pub(super) fn new(connections: usize, patience: Duration) -> Self {
        let room = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { room, patience }
    }
}

impl<S> Accept<TcpStream, S> for Gate {
    type Stream = Counted<TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    /// Beyond the limit a connection is closed at once: better a client that tries again than
    /// memory and descriptors that run out for everybody.
    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            return ready(Err(io::Error::other("too many connections")));
        };
        // Small answers must not wait for the other side's acknowledgement.
        let stream = stream.set_nodelay(true).map(|()| Counted {
            inner: stream,
            patience: self.patience,
            stalled: None,
            timer: None,
            _permit: permit,
        });
        ready(stream.map(|stream| (stream, service)))
    }
}

/// A stream that fails when a write makes no progress for too long. How long a client may take to
/// *send* is the HTTP layer's business.
#[derive(Debug)]
pub(super) struct Counted<T> {
    inner: T,
    patience: Duration,
    /// Since when a write waits.
    stalled: Option<Instant>,
    /// Made at the first wait, and set anew only when it runs out: waits are many and short.
    timer: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl<T> Counted<T> {
    /// What is beneath.
    pub(super) fn inner(&self) -> &T {
        &self.inner
    }

    /// Passes progress on; without any, waits at most as long as patience lasts.
    fn watch<R>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let end = *self.stalled.get_or_insert_with(Instant::now) + self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            poll_ready!(timer.as_mut().poll(cx));
            if Instant::now() >= end {
                break;
            }
            timer.as_mut().reset(end);
        }
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client stopped reading",
        )))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_reader_who_stops_reading_is_given_up() {
        let (ours, theirs) = tokio::io::duplex(16);
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let patience = Duration::from_millis(50);
        let mut stream = Counted {
            inner: ours,
            patience,
            stalled: None,
            timer: None,
            _permit: permit,
        };
        let began = Instant::now();
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= patience);
        drop(theirs);
    }
}
