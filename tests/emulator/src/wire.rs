//! Connections that can be made to break.
//!
//! A lost reply has to be lost below HTTP: the stream of a connection fails at its next byte once
//! a fault has said so. Each request carries the number and the switch of its connection.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum_server::accept::Accept;
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::Service;

use crate::{routes::Wire, world::World};

/// Gives each connection its switch.
#[derive(Debug, Clone)]
pub(crate) struct WireAcceptor(pub(crate) Arc<World>);

impl<S> Accept<TcpStream, S> for WireAcceptor {
    type Stream = Breakable;
    type Service = Wired<S>;
    type Future = Ready<io::Result<(Breakable, Wired<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // Small replies must not wait for more to come.
        let _ = stream.set_nodelay(true);
        let wire = Wire {
            number: self.0.next_connection(),
            cut: Arc::new(AtomicBool::new(false)),
        };
        let stream = Breakable {
            stream,
            cut: Arc::clone(&wire.cut),
        };
        ready(Ok((
            stream,
            Wired {
                inner: service,
                wire,
            },
        )))
    }
}

/// A stream that fails once its switch is set.
#[derive(Debug)]
pub(crate) struct Breakable {
    stream: TcpStream,
    cut: Arc<AtomicBool>,
}

impl Breakable {
    fn whole(&self) -> io::Result<()> {
        if self.cut.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A service that tells each request its connection.
#[derive(Debug, Clone)]
pub(crate) struct Wired<S> {
    inner: S,
    wire: Wire,
}

impl<S, B> Service<Request<B>> for Wired<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.wire.clone());
        self.inner.call(request)
    }
}
