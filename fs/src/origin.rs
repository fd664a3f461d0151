//! The pictures over HTTP: raw files for edges and jumps, and the feed of what changed.
//!
//! `asked` finds out which picture a request means; `conditions` decides what of it to send;
//! `raw` sends it; `changes` tells edges what to purge. Two promises stand above all: a
//! picture is called absent only when it is known to be, and a body that cannot be completed
//! breaks the connection rather than end early (design 3.1).

mod asked;
mod changes;
mod conditions;
mod raw;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tuyun_chassis::http::{Bearer, Problem, TrustedProxies, dress};
use tuyun_chassis::settings::{SecretError, SettingsError};

use crate::settings;
use crate::vfs::Vfs;

/// Readers of the feed at a time: each edge and jump is one, and each costs a connection and a
/// place in the feed. A fleet of this size is not run on one home's upload line.
const READERS: usize = 256;

/// Why the origin cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The file of tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] SecretError),
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingsError),
}

impl tuyun_chassis::exit::Explain for OriginError {
    fn code(&self) -> tuyun_chassis::exit::Code {
        match self {
            Self::Tokens(error) => error.code(),
            Self::Setting(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Tokens(error) => error.hint(),
            Self::Setting(error) => error.hint(),
        }
    }
}

/// What all requests share.
struct Origin {
    vfs: Arc<Vfs>,
    prefix: String,
    cache_control: HeaderValue,
    door: Bearer,
    readers: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The origin's routes. Streams end at `stop`.
///
/// # Errors
/// The file of tokens cannot be read.
pub fn router(
    vfs: Arc<Vfs>,
    settings: &settings::Origin,
    stop: CancellationToken,
) -> Result<Router, OriginError> {
    let cache_control = HeaderValue::from_str(&settings.cache_control).map_err(|error| {
        SettingsError::unusable(
            "origin.cache_control",
            error.to_string(),
            "write it like \"public, max-age=86400\"",
        )
    })?;
    let origin = Arc::new(Origin {
        vfs,
        prefix: settings.prefix().to_owned(),
        cache_control,
        door: Bearer::from_tokens_file(&settings.tokens_file)?,
        readers: Arc::new(Semaphore::new(READERS)),
        stop,
    });
    let routes = Router::new()
        .route("/_api/changes", get(changes::follow))
        .route(
            "/_api/{*rest}",
            any(async || Problem::not_found("No such interface.")),
        )
        .route("/api/raw", any(raw::by_query))
        .route("/api/raw/", any(raw::by_query))
        .fallback(raw::by_path)
        .with_state(origin);
    Ok(dress(routes, TrustedProxies::default()))
}
