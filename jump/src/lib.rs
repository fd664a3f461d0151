//! Sends each visitor to a living edge, else to the origin.
//!
//! Nodes report ([`http`](self) `/_api/update`), the [`keeper`] keeps them in the [`roster`] and
//! shares them through the [`registry`], [`probe`] looks whether they live, [`atlas`] knows where a
//! visitor is, [`gate`] whether the picture may be shown there, and [`choose`] decides for each visitor.
//! A redirect reads the roster in memory and waits for nothing.

pub mod admission;
pub mod atlas;
pub mod choose;
pub mod commands;
mod files;
pub mod fresh;
pub mod gate;
pub mod health;
mod http;
pub mod keeper;
pub mod metrics;
pub mod probe;
pub mod pulse;
pub mod registry;
pub mod roster;
pub mod settings;
pub mod snapshot;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tuyun_chassis::exit::{Code, Explain};
use tuyun_chassis::http::control::{self, Readiness};
use tuyun_chassis::http::{Front, Limiter, Listener, ListenerError, dress};
use tuyun_chassis::notify;
use tuyun_chassis::program::Program;
use tuyun_chassis::settings::{SecretError, SettingsError};

use crate::admission::Admission;
use crate::fresh::Follower;
use crate::http::{Operator, Quick, Shared};
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::probe::figures::Figures;
use crate::probe::{Asker, Prober};
use crate::pulse::Pulse;
use crate::registry::memory::Memory;
use crate::registry::redis::Redis;
use crate::registry::{Registry, RegistryError};
pub use crate::settings::Settings;
use crate::snapshot::Snapshot;

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
    /// For redirects, unless each has to be counted in Redis first.
    quick: Option<Arc<Quick>>,
    control_router: Router,
    keeper: Arc<Keeper>,
    prober: Prober,
    figures: Figures,
    follower: Follower,
    snapshot: Option<Snapshot>,
    shares: bool,
    pulse: Arc<Pulse>,
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
        let place = settings.redis()?;
        let shares = place.is_some();
        let registry: Arc<dyn Registry> = match place {
            None => Arc::new(Memory::default()),
            Some(place) => Arc::new(Redis::new(&place, ttl).map_err(RunError::Registry)?),
        };
        let counted = Arc::clone(&metrics);
        let keeper = Arc::new(Keeper::new(registry, ttl, readiness.clone(), counted));
        let allow_private = settings.nodes.allow_private;
        let asker = Asker::new(allow_private).map_err(RunError::Probe)?;
        let prober = Prober::new(asker.clone(), settings.nodes.probe.get());
        let figures = Figures::new(asker, settings.nodes.figures.get());
        let mut follower = Follower::default();
        let pulse = Arc::new(Pulse::default());
        let tls = settings.tls()?;
        let operator = files::operator_token(&settings.admin.token_file)?;
        let shared = Arc::new(Shared {
            keeper: Arc::clone(&keeper),
            policy: settings.policy(),
            origin: settings.origin()?,
            allow_origin: allow_origin(&settings.allow_origin)?,
            admission: Admission::new(
                files::token_book(settings, &mut follower)?,
                settings.nodes.require_signed,
            ),
            ttl,
            allow_private,
            redirects: Limiter::new(settings.limit.redirect_per_second),
            updates: Limiter::new(settings.limit.update_per_second),
            fleet_limit: Some(settings.limit.redirect_per_second)
                .filter(|limit| settings.limit.fleet && *limit > 0),
            atlas: files::atlas(settings, &mut follower)?,
            gate: settings.gate()?,
            link_keys: files::link_keys(&settings.hotlink.key_file, &mut follower)?,
            operator: Operator::new(operator, tls.is_some()),
            pulse: Arc::clone(&pulse),
            shares,
            readiness: readiness.clone(),
            metrics: Arc::clone(&metrics),
            bell: prober.bell(),
        });
        let proxies = settings.proxies()?;
        let quick = shared.fleet_limit.is_none();
        let quick = quick.then(|| Arc::new(Quick::new(Arc::clone(&shared), proxies.clone())));
        let public_router = dress(http::router(shared), proxies);
        let control_router = control::router(readiness.clone(), Arc::new(exposed));
        let front = Front::new(&settings.listen, "listen").tls(tls);
        let public = Listener::bind(front).await?;
        let control =
            Listener::bind(Front::new(&settings.control.listen, "control.listen")).await?;
        Ok(Self {
            public,
            control,
            public_router,
            quick,
            control_router,
            keeper,
            prober,
            figures,
            follower,
            snapshot: settings.snapshot().map(Snapshot::new),
            shares,
            pulse,
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
        if let Some(snapshot) = &self.snapshot {
            // A Redis knows better, once it answers; memory has forgotten everything.
            snapshot.restore(&self.keeper, !self.shares);
        }
        // One look at the registry before the first visitor; without an answer it goes on alone.
        self.keeper.round().await;
        let over = stop.child_token();
        let tasks = TaskTracker::new();
        let (keeper, metrics) = (&self.keeper, &self.metrics);
        // Each with its own handle on what it needs, all ended by the same token.
        let (stop_following, following) = (over.clone(), Arc::clone(keeper));
        tasks.spawn(async move { following.follow(stop_following).await });
        let (stop_probing, probed, counted) =
            (over.clone(), Arc::clone(keeper), Arc::clone(metrics));
        let prober = self.prober;
        tasks.spawn(async move { prober.run(&probed, &counted, stop_probing).await });
        let (stop_asking, asked, figures) = (over.clone(), Arc::clone(keeper), self.figures);
        tasks.spawn(async move { figures.run(&asked, stop_asking).await });
        if let Some(snapshot) = self.snapshot {
            let (stop_saving, saved) = (over.clone(), Arc::clone(keeper));
            tasks.spawn(async move { snapshot.follow(&saved, stop_saving).await });
        }
        tasks.spawn(self.follower.run(over.clone()));
        tasks.spawn(self.pulse.run(Arc::clone(metrics), over.clone()));
        let (leaving, readiness) = (over.clone(), self.readiness.clone());
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
            let router = self.public_router;
            let served = match self.quick {
                Some(quick) => self.public.serve_with(router, quick, over.clone()).await,
                None => self.public.serve(router, over.clone()).await,
            };
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

fn allow_origin(text: &str) -> Result<Option<HeaderValue>, SettingsError> {
    if text.is_empty() {
        return Ok(None);
    }
    HeaderValue::from_str(text).map(Some).map_err(|_| {
        let advice = "set it to \"*\" or to one origin like \"https://blog.example\"";
        SettingsError::unusable("allow_origin", "it cannot stand in a header", advice)
    })
}
