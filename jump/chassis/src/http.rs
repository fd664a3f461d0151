//! The HTTP side of a daemon, whatever it serves: who asks, how much, and how it ends.
//!
//! A service is a plain `axum::Router`. [`dress`] puts around it what every public listener needs;
//! [`Listener`] serves it with TLS, limits and an orderly end; [`control::router`] is the other
//! listener, for the operator.

mod access_log;
mod bearer;
mod client_address;
pub mod control;
mod limit;
mod listener;
mod page;
mod plain;
mod problem;
mod shortcut;
mod stream;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use tower_http::catch_panic::CatchPanicLayer;

pub use self::bearer::{Bearer, Denied};
pub use self::client_address::{BadProxy, Client, TrustedProxies};
pub use self::limit::{Limiter, TooMany};
pub use self::listener::{Front, Listener, ListenerError};
pub use self::page::page;
pub use self::plain::{Parsed, Plain};
pub use self::problem::Problem;
pub use self::shortcut::{Opened, Rewound, Shortcut, Wire};
pub use self::tls::TlsFiles;

/// Puts around a router what every public listener needs: the client's address ([`Client`]) in
/// each request, a line in the access log, and a 500 for a request whose handler panicked.
pub fn dress(router: Router, proxies: TrustedProxies) -> Router {
    router
        .layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| {
                // The panic hook has written down where and why.
                Problem::internal().response()
            },
        ))
        .layer(middleware::from_fn(access_log::write))
        .layer(middleware::from_fn_with_state(
            Arc::new(proxies),
            client_address::find,
        ))
}
