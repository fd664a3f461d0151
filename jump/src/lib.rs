//! Sends each visitor to a living edge, else to the origin.
//!
//! Nodes report ([`http`](self) `/_api/update`), the [`keeper`] keeps them in the [`roster`] and
//! shares them through the [`registry`], [`probe`] looks whether they live, and [`choose`] decides
//! for each visitor. A redirect reads the roster in memory and waits for nothing.

pub mod admission;
pub mod choose;
mod http;
pub mod keeper;
pub mod metrics;
pub mod probe;
pub mod registry;
pub mod roster;
pub mod settings;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tuyun_chassis::exit::{Code, Explain};
use tuyun_chassis::http::control::{self, Readiness};
use tuyun_chassis::http::{Bearer, Front, Limiter, Listener, ListenerError, dress};
use tuyun_chassis::notify;
use tuyun_chassis::program::Program;
use tuyun_chassis::settings::{SecretError, SettingsError};
use tuyun_protocol::TokenBook;

use crate::admission::Admission;
use crate::http::Shared;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::probe::Prober;
use crate::registry::memory::Memory;
use crate::registry::redis::Redis;
use crate::registry::{Registry, RegistryError};
pub use crate::settings::Settings;

/// Jump on the command line.
pub const PROGRAM: Program = Program {
    name: "tuyun-jump",
    about: "Sends each visitor to a living edge, else to the origin",
    version: env!("CARGO_PKG_VERSION"),
    spec: settings::SPEC,
    example: settings::EXAMPLE,
};

/// How long tasks may take to end once the listeners have: a probe's deadline, and Redis'.
const GRACE: Duration = Duration::from_secs(5);

/// The part of `readyz` that says that jump is leaving.
const STOPPING: &str = "stopping";

/// Why jump does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A token file cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It cannot listen.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The registry cannot even be tried.
    #[error("cannot prepare Redis")]
    Registry(#[source] RegistryError),
    /// There is no HTTP client.
    #[error("cannot prepare probes")]
    Probe(#[source] reqwest::Error),
    /// Tasks were still running when time was up.
    #[error("stopping took longer than {} s", .0.as_secs())]
    Overran(Duration),
}

impl Explain for RunError {
    fn code(&self) -> Code {
        match self {
            Self::Settings(error) => error.code(),
            Self::Secret(error) => error.code(),
            Self::Listener(error) => error.code(),
            Self::Registry(_) => Code::Config,
            Self::Probe(_) | Self::Overran(_) => Code::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(error) => error.hint(),
            Self::Secret(error) => error.hint(),
            Self::Listener(error) => error.hint(),
            Self::Registry(_) => Some("check `redis`".into()),
            Self::Probe(_) => Some("install the package ca-certificates".into()),
            Self::Overran(_) => None,
        }
    }
}

/// Serves until `stop`.
///
/// # Errors
/// When a setting cannot be used, a port is taken, or listening ends by itself.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), RunError> {
    Jump::bind(&settings).await?.serve(stop).await
}

/// A jump whose ports are bound, and which does not serve yet.
pub struct Jump {
    public: Listener,
    control: Listener,
    public_router: Router,
    control_router: Router,
    keeper: Arc<Keeper>,
    prober: Prober,
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

impl Jump {
    /// Reads the files that settings name and binds the ports.
    ///
    /// # Errors
    /// When a setting cannot be used or a port is taken.
    pub async fn bind(settings: &Settings) -> Result<Self, RunError> {
        let readiness = Readiness::new();
        let (metrics, exposed) = Metrics::new();
        let metrics = Arc::new(metrics);
        let ttl = settings.nodes.ttl.get();
        let registry: Arc<dyn Registry> = match settings.redis()? {
            None => Arc::new(Memory::default()),
            Some(place) => Arc::new(Redis::new(place, ttl).map_err(RunError::Registry)?),
        };
        let counted = Arc::clone(&metrics);
        let keeper = Arc::new(Keeper::new(registry, ttl, readiness.clone(), counted));
        let allow_private = settings.nodes.allow_private;
        let prober =
            Prober::new(settings.nodes.probe.get(), allow_private).map_err(RunError::Probe)?;
        let shared = Shared {
            keeper: Arc::clone(&keeper),
            policy: settings.policy()?,
            origin: settings.origin()?,
            allow_origin: allow_origin(&settings.allow_origin)?,
            admission: Admission::new(token_book(settings)?, settings.nodes.require_signed),
            ttl,
            allow_private,
            redirects: Limiter::new(settings.limit.redirect_per_second),
            updates: Limiter::new(settings.limit.update_per_second),
            admin: Bearer::from_token_file(&settings.admin.token_file)?,
            readiness: readiness.clone(),
            metrics: Arc::clone(&metrics),
            bell: prober.bell(),
        };
        let public_router = dress(http::router(Arc::new(shared)), settings.proxies()?);
        let control_router = control::router(readiness.clone(), Arc::new(exposed));
        let front = Front::new(&settings.listen, "listen").tls(settings.tls()?);
        let public = Listener::bind(front).await?;
        let control =
            Listener::bind(Front::new(&settings.control.listen, "control.listen")).await?;
        Ok(Self {
            public,
            control,
            public_router,
            control_router,
            keeper,
            prober,
            metrics,
            readiness,
        })
    }

    /// Where visitors and nodes reach it; with port 0, the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.public.local_addr()
    }

    /// Where the operator reaches it.
    #[must_use]
    pub fn control_addr(&self) -> SocketAddr {
        self.control.local_addr()
    }

    /// Serves until `stop`, then finishes what runs.
    ///
    /// # Errors
    /// When listening ends by itself, or stopping takes too long.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self {
            keeper,
            prober,
            metrics,
            readiness,
            ..
        } = self;
        // One look at the registry before the first visitor; without an answer it goes on alone.
        keeper.round().await;
        let over = stop.child_token();
        let tasks = TaskTracker::new();
        let (following, stop_following) = (Arc::clone(&keeper), over.clone());
        tasks.spawn(async move { following.follow(stop_following).await });
        let stop_probing = over.clone();
        tasks.spawn(async move { prober.run(&keeper, &metrics, stop_probing).await });
        let leaving = over.clone();
        tasks.spawn(async move {
            leaving.cancelled().await;
            readiness.down(STOPPING, "it is leaving");
            notify::stopping();
        });

        tracing::info!(
            address = %self.public.local_addr(),
            control = %self.control.local_addr(),
            "serving over {}", self.public.scheme()
        );
        notify::ready();
        let public = async {
            let served = self.public.serve(self.public_router, over.clone()).await;
            over.cancel(); // a listener that failed takes the rest down in order, too
            served
        };
        let control = async {
            let served = self.control.serve(self.control_router, over.clone()).await;
            over.cancel();
            served
        };
        let (public, control) = tokio::join!(public, control);
        tasks.close();
        tokio::time::timeout(GRACE, tasks.wait())
            .await
            .map_err(|_| RunError::Overran(GRACE))?;
        public?;
        Ok(control?)
    }
}

/// The nodes' tokens; without a file nobody can report here.
fn token_book(settings: &Settings) -> Result<TokenBook, RunError> {
    let file = &settings.nodes.token_file;
    if file.is_empty() {
        tracing::warn!(
            "`nodes.token_file` is not set: no node can report here, only nodes found in Redis get visitors"
        );
        return Ok(TokenBook::default());
    }
    let text = tuyun_chassis::settings::read_secret_text(Path::new(file))?;
    let unusable = |what: String| {
        let advice = "write one line a node: its server_id, a space, its token; or `*` and a token";
        SettingsError::unusable("nodes.token_file", format!("{file}: {what}"), advice)
    };
    let book = TokenBook::parse(&text).map_err(|bad| unusable(bad.to_string()))?;
    if book.is_empty() {
        return Err(unusable("there is no token in it".to_owned()).into());
    }
    Ok(book)
}

fn allow_origin(text: &str) -> Result<Option<HeaderValue>, SettingsError> {
    if text.is_empty() {
        return Ok(None);
    }
    HeaderValue::from_str(text).map(Some).map_err(|_| {
        let advice = "set it to \"*\" or to one origin like \"https://blog.example\"";
        SettingsError::unusable("allow_origin", "it cannot stand in a header", advice)
    })
}
