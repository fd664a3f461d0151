//! The listeners: one a host, or one for all under their public names.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::Context as _;
use axum::{Router, body::Body};
use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use http::{Request, header};

use crate::{
    certs::Certificates,
    control,
    log::Host,
    options::Options,
    routes,
    wire::WireAcceptor,
    world::{Links, World},
};

/// The port that a public URL leaves out.
const HTTPS_PORT: u16 = 443;

/// What is listening.
pub(crate) struct Listening {
    pub(crate) handles: Vec<Handle<SocketAddr>>,
    pub(crate) links: Links,
    pub(crate) control: String,
}

/// Binds and serves all listeners on the present runtime.
pub(crate) fn listen(
    world: &Arc<World>,
    options: &Options,
    certificates: Option<&Certificates>,
) -> anyhow::Result<Listening> {
    let listen = &options.listen;
    let mut bound = Vec::new();
    let scheme = if certificates.is_some() {
        "https"
    } else {
        "http"
    };
    let links = if let Some(address) = listen.public {
        let (listener, at) = bind(address)?;
        bound.push((listener, None));
        let names = world.profile.hosts();
        let port = match at.port() {
            HTTPS_PORT if certificates.is_some() => String::new(),
            port => format!(":{port}"),
        };
        let link = |name: &str| format!("{scheme}://{name}{port}");
        Links {
            login: link(names.login),
            graph: link(names.graph),
            storage: link(names.storage),
        }
    } else {
        let mut link = |address, host| {
            let (listener, at) = bind(address)?;
            bound.push((listener, Some(host)));
            anyhow::Ok(format!("{scheme}://{at}"))
        };
        Links {
            login: link(listen.login, Host::Login)?,
            graph: link(listen.graph, Host::Graph)?,
            storage: link(listen.storage, Host::Storage)?,
        }
    };
    let (control, at) = bind(listen.control)?;
    world.publish(links.clone());

    let mut handles = Vec::new();
    for (listener, host) in bound {
        let handle = Handle::new();
        handles.push(handle.clone());
        let app = app(Arc::clone(world), host).into_make_service();
        let server = axum_server::from_tcp(listener)?.handle(handle);
        let acceptor = WireAcceptor(Arc::clone(world));
        match certificates {
            Some(certificates) => {
                let config = RustlsConfig::from_config(Arc::clone(&certificates.server));
                let acceptor = RustlsAcceptor::new(config).acceptor(acceptor);
                tokio::spawn(server.acceptor(acceptor).serve(app));
            }
            None => {
                tokio::spawn(server.acceptor(acceptor).serve(app));
            }
        }
    }
    let handle = Handle::new();
    handles.push(handle.clone());
    let server = axum_server::from_tcp(control)?.handle(handle);
    tokio::spawn(server.serve(control::app(Arc::clone(world)).into_make_service()));
    Ok(Listening {
        handles,
        links,
        control: format!("http://{at}"),
    })
}

fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let at = listener
        .local_addr()
        .with_context(|| format!("cannot listen on {address}"))?;
    Ok((listener, at))
}

/// Answers every path of a host; without one, the `Host` header says which it is.
fn app(world: Arc<World>, host: Option<Host>) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let world = Arc::clone(&world);
        async move {
            let host = host.unwrap_or_else(|| host_of(&request));
            routes::serve(world, host, request).await
        }
    })
}

/// Which host a public name stands for. What is neither sign-in nor Graph is storage, as its names
/// are the most.
fn host_of(request: &Request<Body>) -> Host {
    let name = request
        .uri()
        .host()
        .or_else(|| {
            request
                .headers()
                .get(header::HOST)
                .and_then(|value| value.to_str().ok())
        })
        .unwrap_or("");
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    if name.starts_with("login.") {
        Host::Login
    } else if name.starts_with("graph.")
        || name.starts_with("dod-graph.")
        || name.starts_with("microsoftgraph.")
    {
        Host::Graph
    } else {
        Host::Storage
    }
}
