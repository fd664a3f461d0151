//! A listener: bound first, so that a taken port is an error at start; served until told to stop.
//!
//! Slow clients are bounded at both ends: a request's head has to arrive in time, and a response
//! has to be taken. Stopping lets running requests finish until the drain's deadline. A handler
//! that streams without end has to watch the stop token itself.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shortcut::{Detour, Shortcut, Way};
use super::stream::Gate;
use super::tls::TlsFiles;
use crate::exit::{Code, Explain};

/// How a listener behaves. [`new`](Self::new) has values that suit a public one.
#[derive(Clone, Debug)]
pub struct Front {
    /// Where to listen: `0.0.0.0:80`, `[::]:80`, `localhost:0`.
    pub listen: String,
    /// The setting that says so, for messages: `listen`, `origin.listen`.
    pub setting: &'static str,
    /// With a certificate it speaks HTTPS.
    pub tls: Option<TlsFiles>,
    /// How often the certificate's files are looked at for a change.
    pub look: Duration,
    /// Connections at once.
    pub connections: usize,
    /// How long a request's head may take, and a kept-alive connection may stay idle.
    pub head: Duration,
    /// How long a client may take no byte of a response.
    pub patience: Duration,
    /// How long running requests may take once it is time to stop.
    pub drain: Duration,
}

impl Front {
    /// A listener on this address, as this setting says.
    pub fn new(listen: impl Into<String>, setting: &'static str) -> Self {
        Self {
            listen: listen.into(),
            setting,
            tls: None,
            // acme.sh and panels replace certificates days before the old one ends, so seconds mean
            // nothing, and two `stat` calls cost nothing.
            look: Duration::from_secs(10),
            // Under the 65,536 descriptors our units ask for, with room for files and upstreams.
            connections: 16_384,
            // Browsers keep connections for a minute or more; a head arrives within one second.
            head: Duration::from_secs(30),
            patience: Duration::from_secs(30),
            // Well below the 90 seconds after which systemd kills.
            drain: Duration::from_secs(20),
        }
    }

    /// The same, speaking HTTPS when there are files.
    #[must_use]
    pub fn tls(mut self, files: Option<TlsFiles>) -> Self {
        self.tls = files;
        self
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The text is no address.
    #[error("setting `{setting}`: `{listen}` is not an address with a port")]
    Address {
        /// The setting.
        setting: &'static str,
        /// Its value.
        listen: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen} (setting `{setting}`)")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// Its value.
        listen: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("cannot use the certificate {} with the key {}", .files.cert.display(), .files.key.display())]
    Certificate {
        /// The files.
        files: TlsFiles,
        /// What is wrong with them.
        #[source]
        source: io::Error,
    },
    /// It listened, and then stopped by itself.
    #[error("listening on {address} ended")]
    Ended {
        /// Where it listened.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Explain for ListenerError {
    fn code(&self) -> Code {
        match self {
            Self::Address { .. } | Self::Certificate { .. } => Code::Config,
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Code::Permission
            }
            Self::Bind { .. } => Code::Unavailable,
            Self::Ended { .. } => Code::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Address { .. } => Some("write it like 0.0.0.0:8080 or [::]:8080".into()),
            Self::Bind { source, listen, setting } => Some(match source.kind() {
                io::ErrorKind::AddrInUse => {
                    let port = listen.rsplit(':').next().unwrap_or_default();
                    format!(
                        "another program has this port; find it with: ss -ltnp 'sport = :{port}'; stop it or set `{setting}` to another port"
                    )
                }
                io::ErrorKind::AddrNotAvailable => format!(
                    "this machine does not have that address; set `{setting}` to 0.0.0.0:PORT to listen on all of them"
                ),
                io::ErrorKind::PermissionDenied => format!(
                    "ports below 1024 are for root; set `{setting}` to a higher one, or give the service CAP_NET_BIND_SERVICE"
                ),
                _ => format!("set `{setting}` to another address"),
            }),
            Self::Certificate { .. } => Some(
                "both files have to be PEM, readable by the service's user, the key belonging to the first certificate of the chain".into(),
            ),
            Self::Ended { .. } => None,
        }
    }
}

/// Bound, not yet serving: connections already queue.
#[derive(Debug)]
pub struct Listener {
    front: Front,
    address: SocketAddr,
    socket: std::net::TcpListener,
    tls: Option<(TlsFiles, RustlsConfig)>,
}

impl Listener {
    /// Binds the address and reads the certificate.
    ///
    /// # Errors
    /// When the address is none, is taken or forbidden, or the certificate cannot be used.
    pub async fn bind(front: Front) -> Result<Self, ListenerError> {
        let (setting, listen) = (front.setting, front.listen.clone());
        let addresses: Vec<_> = tokio::net::lookup_host(&listen)
            .await
            .map_err(|source| ListenerError::Address {
                setting,
                listen: listen.clone(),
                source,
            })?
            .collect();
        let bound = TcpListener::bind(addresses.as_slice())
            .await
            .and_then(|socket| {
                let address = socket.local_addr()?;
                Ok((address, socket.into_std()?))
            });
        let (address, socket) = bound.map_err(|source| ListenerError::Bind {
            setting,
            listen,
            source,
        })?;
        let tls = match front.tls.clone() {
            None => None,
            Some(files) => match files.load().await {
                Ok(config) => Some((files, config)),
                Err(source) => return Err(ListenerError::Certificate { files, source }),
            },
        };
        Ok(Self {
            front,
            address,
            socket,
            tls,
        })
    }

    /// Where it listens; with port 0, the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until `stop`, then lets running requests finish within the drain's deadline.
    ///
    /// # Errors
    /// When listening ends by itself.
    pub async fn serve(self, router: Router, stop: CancellationToken) -> Result<(), ListenerError> {
        self.run::<Infallible>(router, None, stop).await
    }

    /// The same, with a [`Shortcut`] that sees each connection before the router does.
    ///
    /// # Errors
    /// When listening ends by itself.
    pub async fn serve_with<X: Shortcut>(
        self,
        router: Router,
        shortcut: Arc<X>,
        stop: CancellationToken,
    ) -> Result<(), ListenerError> {
        self.run(router, Some(shortcut), stop).await
    }

    async fn run<X: Shortcut>(
        self,
        router: Router,
        shortcut: Option<Arc<X>>,
        stop: CancellationToken,
    ) -> Result<(), ListenerError> {
        let Self {
            front,
            address,
            socket,
            tls,
        } = self;
        let ended = |source| ListenerError::Ended { address, source };
        let handle = Handle::new();
        let mut server = axum_server::from_tcp(socket)
            .map_err(ended)?
            .handle(handle.clone());
        server
            .http_builder()
            .http1()
            .header_read_timeout(front.head)
            .max_headers(HEADERS)
            .max_buf_size(HEAD_BYTES);
        server
            .http_builder()
            .http2()
            .keep_alive_interval(front.head)
            .keep_alive_timeout(front.head)
            .max_header_list_size(HEAD_BYTES_H2)
            .max_concurrent_streams(STREAMS);
        let server = server
            .first_request_timeout(front.head)
            .accept_error_handler(move |peer, error| {
                tracing::debug!(%address, ?peer, %error, "a connection was not accepted");
            });
        let gate = Gate::new(front.connections, front.patience);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();

        let over = stop.child_token();
        let way = Arc::new(Way {
            shortcut,
            head: front.head,
            patience: front.patience,
            stop: over.clone(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let accepting = async {
            let outcome = match tls {
                None => {
                    let acceptor = Detour {
                        inner: gate,
                        way: Arc::clone(&way),
                    };
                    server.acceptor(acceptor).serve(service).await
                }
                Some((files, config)) => {
                    let acceptor = Detour {
                        inner: RustlsAcceptor::new(config.clone()).acceptor(gate),
                        way: Arc::clone(&way),
                    };
                    let serving = server.acceptor(acceptor).serve(service);
                    let following = files.follow(config, front.look, over.clone());
                    tokio::join!(serving, following).0
                }
            };
            over.cancel();
            outcome
        };
        let ending = async {
            over.cancelled().await;
            handle.graceful_shutdown(Some(front.drain));
            // No new one can come now.
            way.tasks.close();
            if timeout(front.drain, way.tasks.wait()).await.is_err() {
                way.cut.cancel();
            }
        };
        tokio::join!(accepting, ending).0.map_err(ended)
    }
}

/// Headers in one request: browsers send about fifteen, proxies and CDNs add as many at the most.
const HEADERS: usize = 64;

/// The longest head of a request, in bytes: the longest path, escaped, with a browser's cookies; hyper
/// itself would take 400 KB of each of ten thousand connections.
const HEAD_BYTES: usize = 32 * 1024;

/// The same for HTTP/2, where it is counted without what lies between headers.
const HEAD_BYTES_H2: u32 = 32 * 1024;

/// Requests at once on one HTTP/2 connection: a page of thumbnails, and no more than a browser asks.
const STREAMS: u32 = 128;

#[cfg(test)]
mod tests;
