//! A caching HTTP node close to the reader.
//!
//! Pictures come from an origin once and are served from here often: [`cache`] decides, [`origin`]
//! fetches, [`changes`] hears what is old there, `http` answers, `hit` does so by the shortest way, [`heartbeat`] tells jump that this node is alive. [`Edge::bind`] takes
//! the ports and opens the cache, so that whatever is wrong is said at once; [`Edge::serve`] serves.

pub mod cache;
pub mod changes;
mod damage;
pub mod heartbeat;
mod hit;
mod http;
mod metrics;
pub mod origin;
pub mod settings;
pub mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tuyun_chassis::exit::{Code, Explain, Failure};
use tuyun_chassis::http::control::{self, Readiness};
use tuyun_chassis::http::{Front, Limiter, Listener, ListenerError, dress};
use tuyun_chassis::notify;
use tuyun_chassis::program::Program;
use tuyun_protocol::{Scheme, Whereabouts};

use crate::cache::{Cache, OpenError, Upkeep};
use crate::changes::Follower;
use crate::heartbeat::Heart;
use crate::hit::Hits;
use crate::http::Shared;
use crate::metrics::Answers;
use crate::origin::{Origin, StartError};
use crate::settings::{Plan, PlanError};
use crate::traffic::{Counters, Ledger, Meter};

pub use crate::settings::Settings;

/// The edge on the command line.
pub const PROGRAM: Program = Program {
    name: "tuyun-edge",
    about: "A caching HTTP node close to the reader",
    version: env!("CARGO_PKG_VERSION"),
    spec: settings::SPEC,
    example: include_str!("../example.toml"),
};

/// How long fills may take to end once no visitor is left. What is cut off is fetched again.
const LAST_FILLS: Duration = Duration::from_secs(10);

/// How long everything else may take then: a last transaction on a slow disk.
const GRACE: Duration = Duration::from_secs(15);

/// Why there is no edge, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] PlanError),
    /// A port.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The cache directory.
    #[error(transparent)]
    Cache(#[from] OpenError),
    /// The client for the origin.
    #[error(transparent)]
    Origin(#[from] StartError),
    /// The client for jump.
    #[error("cannot set up the client for jump")]
    Jump(#[source] reqwest::Error),
    /// The client for the origin's changes.
    #[error("cannot set up the client for the origin's changes")]
    Changes(#[source] reqwest::Error),
    /// A thread that opened something was lost.
    #[error("opening the cache was interrupted")]
    Interrupted,
    /// It did not stop in time.
    #[error("stopping took longer than {} s", .0.as_secs())]
    Overran(Duration),
}

impl Explain for EdgeError {
    fn code(&self) -> Code {
        match self {
            Self::Settings(error) => error.code(),
            Self::Listener(error) => error.code(),
            Self::Cache(error) => match error {
                OpenError::Directory { source, .. }
                    if source.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    Code::Permission
                }
                OpenError::Directory { .. } | OpenError::InUse(_) | OpenError::Index { .. } => {
                    Code::Unavailable
                }
            },
            Self::Origin(_)
            | Self::Jump(_)
            | Self::Changes(_)
            | Self::Interrupted
            | Self::Overran(_) => Code::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(error) => error.hint(),
            Self::Listener(error) => error.hint(),
            Self::Cache(OpenError::Directory { path, .. }) => Some(format!(
                "make it a directory that the service's user may write to, such as: install -d -o tuyun {}; or set `cache.dir` to another",
                path.display()
            )),
            Self::Cache(OpenError::InUse(_)) => Some(
                "another tuyun-edge runs on it; stop that one, or set `cache.dir` to another directory".into(),
            ),
            Self::Cache(OpenError::Index { path, .. }) => Some(format!(
                "look at the disk's health and free space; the cache may be deleted at any time: rm -r {}",
                path.display()
            )),
            Self::Origin(_) | Self::Jump(_) | Self::Changes(_) => {
                Some("install the system's certificates: apt-get install ca-certificates".into())
            }
            Self::Interrupted | Self::Overran(_) => None,
        }
    }
}

/// Serves until `stop`.
///
/// # Errors
/// The settings cannot be used, something needed is not there, or listening ended by itself.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), EdgeError> {
    Edge::bind(settings).await?.serve(stop).await
}

/// Refuses settings that cannot work, for `config check`.
///
/// # Errors
/// What cannot work, and what to do.
pub fn check(settings: &Settings) -> Result<(), Failure> {
    Plan::from_settings(settings)
        .map(drop)
        .map_err(Failure::from)
}

/// An edge with its ports taken and its cache open, not yet serving.
pub struct Edge {
    front: Listener,
    control: Option<Listener>,
    public: Router,
    hits: Arc<Hits>,
    operator: Router,
    shared: Arc<Shared>,
    upkeep: Upkeep,
    heart: Option<Heart>,
    follower: Option<Follower>,
    readiness: Readiness,
}

impl Edge {
    /// Takes the ports, opens the cache, reads the tokens.
    ///
    /// # Errors
    /// The settings cannot be used, or something needed is not there.
    pub async fn bind(settings: Settings) -> Result<Self, EdgeError> {
        let plan = Plan::from_settings(&settings)?;
        if plan.transform_missing {
            tracing::warn!(
                "transform.enabled is on, but this build makes no variants: originals are served"
            );
        }
        let front = Listener::bind(Front::new(plan.listen, "listen").tls(plan.tls)).await?;
        let control = match plan.control {
            Some(listen) => Some(Listener::bind(Front::new(listen, "control.listen")).await?),
            None => None,
        };
        let counters = Arc::new(Counters::default());
        // Without a token the origin tells nothing.
        let feed = plan.origin_token.clone().map(|token| changes::Plan {
            base: plan.origin[0].clone(),
            token,
            mark: plan.cache_dir.join("changes.json"),
            prefetch: plan.prefetch,
        });
        let source = Origin::new(plan.origin, plan.origin_token)?;
        let opening = {
            let (dir, counters) = (plan.cache_dir, Arc::clone(&counters));
            move || {
                let (cache, upkeep) = Cache::open(
                    &dir,
                    plan.budget,
                    plan.memory_bytes,
                    source,
                    Arc::clone(&counters),
                )?;
                let cache = Arc::new(cache);
                let follower = feed
                    .map(|feed| Follower::new(feed, Arc::clone(&cache)))
                    .transpose()
                    .map_err(EdgeError::Changes)?;
                let ledger = Ledger::open(&dir.join("traffic.redb"), counters);
                Ok::<_, EdgeError>((cache, upkeep, Arc::new(ledger), follower))
            }
        };
        let opened = tokio::task::spawn_blocking(opening).await;
        let (cache, upkeep, ledger, follower) = opened.map_err(|_| EdgeError::Interrupted)??;
        let heart = match plan.jump {
            Some(jump) => {
                let whereabouts = match &jump.url {
                    Some(url) => Whereabouts::At(url.clone()),
                    None => Whereabouts::Auto {
                        scheme: scheme(&front),
                        port: front.local_addr().port(),
                    },
                };
                Some(Heart::new(jump, plan.id.clone(), whereabouts).map_err(EdgeError::Jump)?)
            }
            None => None,
        };
        let (answers, readiness) = (Answers::default(), Readiness::new());
        let meter = Arc::new(Meter::new(
            plan.caps,
            Arc::clone(&counters),
            Arc::clone(&ledger),
            readiness.clone(),
        ));
        let registry =
            metrics::registry(&answers, Arc::clone(&counters), Arc::clone(cache.store()));
        let shared = Arc::new(Shared {
            cache,
            counters,
            answers,
            ledger,
            meter,
            admin: plan.admin,
            limiter: Limiter::new(plan.per_second),
            readiness: readiness.clone(),
            following: follower.as_ref().map(Follower::following),
            id: plan.id,
            began: Instant::now(),
        });
        let hits = Arc::new(Hits::new(Arc::clone(&shared), plan.proxies.clone()));
        let public = dress(http::router(Arc::clone(&shared)), plan.proxies);
        let operator = control::router(readiness.clone(), Arc::new(registry));
        Ok(Self {
            front,
            control,
            public,
            hits,
            operator,
            shared,
            upkeep,
            heart,
            follower,
            readiness,
        })
    }

    /// Where visitors come in; with port 0, the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.front.local_addr()
    }

    /// The operator's listener, if there is one.
    #[must_use]
    pub fn control_addr(&self) -> Option<SocketAddr> {
        self.control.as_ref().map(Listener::local_addr)
    }

    /// Serves until `stop`; then leaves jump, finishes what visitors wait for, and stores the rest.
    ///
    /// # Errors
    /// Listening ended by itself, or stopping took too long.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), EdgeError> {
        let Self {
            front,
            control,
            public,
            hits,
            operator,
            shared,
            upkeep,
            heart,
            follower,
            readiness,
        } = self;
        // Cancelled in this order: the heart, the doors, the upkeep, the last writer.
        let (leave, close, tidy, last) = (
            stop.child_token(),
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let (tasks, writer) = (TaskTracker::new(), TaskTracker::new());
        upkeep.start((&tasks, tidy.clone()), (&writer, last.clone()));
        tasks.spawn(Arc::clone(&shared.ledger).keep(tidy.clone()));
        tasks.spawn(Arc::clone(&shared.meter).watch(tidy.clone()));
        if let Some(follower) = follower {
            tasks.spawn(follower.run(tidy.clone()));
        }
        tasks.spawn(watchdog(tidy.clone()));
        tracing::info!(address = %front.local_addr(), scheme = front.scheme(), "serving");
        notify::ready();

        let visitors = async {
            let served = front.serve_with(public, hits, close.clone()).await;
            leave.cancel(); // a listener that failed takes the rest down in order, too
            served
        };
        let operators = async {
            match control {
                Some(control) => control.serve(operator, close.clone()).await,
                None => Ok(()),
            }
        };
        let beating = async {
            match heart {
                Some(heart) => heart.run(shared.meter.used_up(), leave.clone()).await, // back once jump knows
                None => leave.cancelled().await,
            }
            close.cancel();
        };
        let leaving = async {
            leave.cancelled().await;
            notify::stopping();
            readiness.down("stopping", "the program is about to end");
        };
        let (visited, operated, (), ()) = tokio::join!(visitors, operators, beating, leaving);

        if timeout(LAST_FILLS, shared.cache.drain()).await.is_err() {
            tracing::info!("fetches that nobody waits for were cut off");
        }
        tidy.cancel();
        tasks.close();
        writer.close();
        let ended = timeout(GRACE, async {
            tasks.wait().await; // they still write uses and figures down
            last.cancel();
            writer.wait().await;
        });
        ended.await.map_err(|_| EdgeError::Overran(GRACE))?;
        visited?;
        operated?;
        Ok(())
    }
}

fn scheme(front: &Listener) -> Scheme {
    if front.scheme() == "https" {
        Scheme::Https
    } else {
        Scheme::Http
    }
}

/// Tells the supervisor that the program is alive, as often as it wants to know.
async fn watchdog(stop: CancellationToken) {
    if let Some(period) = notify::watchdog_period() {
        while stop
            .run_until_cancelled(tokio::time::sleep(period))
            .await
            .is_some()
        {
            notify::watchdog();
        }
    }
}
