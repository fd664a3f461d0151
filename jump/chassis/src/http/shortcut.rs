//! A way past the router, for answers that need none.
//!
//! A service may answer a connection's first requests by itself, from the bytes as they come, and hand
//! the connection over as soon as something comes that is not for it: the router then sees every
//! byte from that request on, and everything after it. The connection counts, and has its limits,
//! in either case.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stream::Counted;

/// What may answer before the router does.
pub trait Shortcut: Send + Sync + 'static {
    /// Answers as long as it can. `None`: the connection has ended.
    fn answer<S: Wire>(
        &self,
        connection: Opened<S>,
    ) -> impl Future<Output = Option<Rewound<S>>> + Send;
}

/// There is none.
impl Shortcut for Infallible {
    async fn answer<S: Wire>(&self, _: Opened<S>) -> Option<Rewound<S>> {
        match *self {}
    }
}

/// A connection, in the clear or not.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The socket, where the bytes on it are those of the protocol, so that the kernel may send a
    /// file by itself.
    fn plain(&self) -> Option<&TcpStream>;
}

impl Wire for Counted<TcpStream> {
    fn plain(&self) -> Option<&TcpStream> {
        Some(self.inner())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire
    for tokio_rustls::server::TlsStream<T>
{
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}

/// A connection that has just come, and its limits.
#[derive(Debug)]
pub struct Opened<S> {
    /// The bytes.
    pub stream: S,
    /// The other side.
    pub peer: SocketAddr,
    /// How long a head may take, and a connection may stay idle.
    pub head: Duration,
    /// How long a client may take no byte.
    pub patience: Duration,
    /// When to finish: after the answer that is being sent.
    pub stop: CancellationToken,
}

/// A connection of which something has been read that the next reader is to see again.
#[derive(Debug)]
pub struct Rewound<S> {
    again: Vec<u8>,
    seen: usize,
    stream: S,
}

impl<S> Rewound<S> {
    /// The stream, beginning with these bytes.
    #[must_use]
    pub fn new(again: Vec<u8>, stream: S) -> Self {
        Self {
            again,
            seen: 0,
            stream,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.again[self.seen..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let taken = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        self.seen += taken;
        if self.seen == self.again.len() {
            // The connection may live long.
            (self.again, self.seen) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How connections meet a shortcut.
#[derive(Debug)]
pub(super) struct Way<X> {
    pub(super) shortcut: Option<Arc<X>>,
    pub(super) head: Duration,
    pub(super) patience: Duration,
    pub(super) stop: CancellationToken,
    /// Cuts off what has not finished in time.
    pub(super) cut: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// Puts the shortcut behind another acceptor.
#[derive(Debug)]
pub(super) struct Detour<A, X> {
    pub(super) inner: A,
    pub(super) way: Arc<Way<X>>,
}

impl<A: Clone, X> Clone for Detour<A, X> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            way: Arc::clone(&self.way),
        }
    }
}

impl<X: Shortcut> Way<X> {
    /// Gives the connection back once it is the router's.
    async fn lead<S: Wire>(&self, stream: S, peer: SocketAddr) -> io::Result<Rewound<S>> {
        let Some(shortcut) = self.shortcut.clone() else {
            return Ok(Rewound::new(Vec::new(), stream));
        };
        let opened = Opened {
            stream,
            peer,
            head: self.head,
            patience: self.patience,
            stop: self.stop.clone(),
        };
        // A task of its own: the server forgets at a stop whom it has not accepted yet, and a
        // picture that is on its way is to arrive.
        let cut = self.cut.clone();
        let answering = async move {
            cut.run_until_cancelled(shortcut.answer(opened))
                .await
                .flatten()
        };
        match self.tasks.spawn(answering).await {
            Ok(Some(rewound)) => Ok(rewound),
            Ok(None) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "ended")),
            Err(panic) => Err(io::Error::other(panic)),
        }
    }
}

impl<A, S, X> Accept<TcpStream, S> for Detour<A, X>
where
    A: Accept<TcpStream, S>,
    A::Stream: Wire,
    A::Future: Send + 'static,
    A::Service: Send,
    X: Shortcut,
{
    type Stream = Rewound<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let peer = stream.peer_addr();
        let accepting = self.inner.accept(stream, service);
        let way = Arc::clone(&self.way);
        Box::pin(async move {
            let (stream, service) = accepting.await?;
            Ok((way.lead(stream, peer?).await?, service))
        })
    }
}
