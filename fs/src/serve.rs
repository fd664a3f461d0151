//! The whole daemon: the rim around the [`Core`], in the order in which its
//! parts start and stop.
//!
//! What a person may have got wrong is tried first (mount point, ports, another daemon), then
//! the state is recovered, then the folder is mounted and served. At the stop the folder goes
//! first, so that applications give no more work; then the pictures; then what is pending is sent
//! for as long as `writeback.grace` allows; the operator's side goes last, so that it can be
//! watched.

mod progress;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tuyun_chassis::exit::{Code, Failure};
use tuyun_chassis::http::control::{self as operator, Readiness};
use tuyun_chassis::http::{Front, Listener, TlsFiles};
use tuyun_chassis::notify;
use tuyun_chassis::stop::Stop;

use self::progress::{Mark, Progress};
use crate::control::{Facts, Socket, metrics, report::MountReport};
use crate::daemon::Core;
use crate::graph::DriveKind;
use crate::mount::{self, MountError, Mounted, Place};
use crate::settings::Settings;
use crate::vfs::{NodeId, Vfs};

/// How long the first listing of the root may hold up the start: a boot waits for us, and a
/// folder that is not listed yet is listed by whoever looks into it.
const FIRST_LISTING: Duration = Duration::from_secs(20);

/// How often the supervisor is told how things stand, and given more time at a stop.
const TELL: Duration = Duration::from_secs(5);

/// How long the mount may take to answer before the supervisor is no longer told that it lives.
const ALIVE: Duration = Duration::from_secs(20);

/// What to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only the origin and the control socket; nothing is mounted.
    pub origin_only: bool,
}

/// Listeners that are bound, and not served yet.
struct Doors {
    socket: Socket,
    origin: Option<Listener>,
    metrics: Option<Listener>,
    place: Option<Place>,
}

/// What is served, and has to be stopped.
struct Rim {
    facts: Arc<Facts>,
    mounted: Option<Mounted>,
    /// What serves visitors, until `close`.
    visitors: TaskTracker,
    close: CancellationToken,
    /// What serves operators, until `over`.
    operators: TaskTracker,
    over: CancellationToken,
    /// Cancelled when an operator, or the end of a part, wants the daemon to leave.
    leave: CancellationToken,
}

/// Serves until a signal, an operator's order, or the end of the mount. `ready` is called once,
/// when the folder is mounted and its root known.
///
/// # Errors
/// What a person has to put right; see the code and the hint of the failure.
pub async fn run(
    settings: Settings,
    scope: Scope,
    stop: Stop,
    ready: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let stop = stop.token();
    let doors = Doors::open(&settings, scope).await?;
    let core = Core::start(&settings).await?;
    let mut rim = match Rim::begin(&settings, &core, doors).await {
        Ok(rim) => rim,
        Err(failure) => {
            core.stop().await;
            return Err(failure);
        }
    };
    let leave = rim.leave.clone();
    rim.list_root(&core.vfs, &stop).await;
    notify::ready();
    ready();
    tokio::select! {
        () = stop.cancelled() => {}
        () = leave.cancelled() => {}
        () = core.broken.cancelled() => {}
    }
    let broken = core.broken.is_cancelled();
    leave.cancel();
    notify::stopping();
    rim.operators
        .spawn(ask_for_time(rim.facts.clone(), rim.over.clone()));
    let unmounted = rim.close().await;
    core.stop().await;
    rim.over().await;
    if broken {
        return Err(Failure::new(
            Code::Failure,
            "a part of the daemon broke; see the log above",
        )
        .hint("start it again: nothing that was acknowledged is lost; please report the log"));
    }
    Ok(unmounted?)
}

impl Doors {
    async fn open(settings: &Settings, scope: Scope) -> Result<Self, Failure> {
        let socket = Socket::bind(&settings.control.socket)?;
        let place = if scope.origin_only {
            None
        } else {
            let settings = settings.clone();
            let looking = tokio::task::spawn_blocking(move || mount::prepare(&settings)).await;
            Some(looking.map_err(|error| panicked(&error))??)
        };
        let origin = &settings.origin;
        let tls =
            TlsFiles::from_settings(&origin.tls_cert, &origin.tls_key).map_err(|problem| {
                Failure::new(
                    Code::Config,
                    format!("setting `origin.tls_cert`: {problem}"),
                )
            })?;
        let metrics = Front::new(&settings.control.metrics, "control.metrics");
        Ok(Self {
            socket,
            origin: bind(Front::new(&origin.listen, "origin.listen").tls(tls)).await?,
            metrics: bind(metrics).await?,
            place,
        })
    }
}

/// An empty address is none.
async fn bind(front: Front) -> Result<Option<Listener>, Failure> {
    if front.listen.is_empty() {
        return Ok(None);
    }
    Ok(Some(Listener::bind(front).await?))
}

impl Rim {
    async fn begin(settings: &Settings, core: &Core, doors: Doors) -> Result<Self, Failure> {
        let close = CancellationToken::new();
        let routes = crate::origin::router(core.vfs.clone(), &settings.origin, close.clone())?;
        let mounted = match doors.place {
            Some(place) => Some(mount::mount(place, core.vfs.clone(), settings).await?),
            None => None,
        };
        let facts = Arc::new(Facts {
            vfs: core.vfs.clone(),
            sync: core.sync.clone(),
            push: core.push.clone(),
            auth: core.auth.clone(),
            graph: core.graph.clone(),
            mount: mounted.as_ref().map(|mounted| MountReport {
                point: mounted.point().into(),
                mode: mounted.mode(),
            }),
            origin: doors.origin.as_ref().map(|listener| {
                address(
                    listener.scheme(),
                    listener.local_addr(),
                    settings.origin.prefix(),
                )
            }),
            drive: (
                core.found.id.to_string(),
                owner(core),
                settings.drive.root.clone(),
            ),
            started: SystemTime::now(),
        });
        let rim = Self {
            facts,
            mounted,
            visitors: TaskTracker::new(),
            close,
            operators: TaskTracker::new(),
            over: CancellationToken::new(),
            leave: CancellationToken::new(),
        };
        rim.attend(doors.socket, doors.origin.zip(Some(routes)), doors.metrics);
        Ok(rim)
    }

    /// Sets every part to work. One that ends by itself takes the rest down in order, too.
    fn attend(
        &self,
        socket: Socket,
        origin: Option<(Listener, Router)>,
        metrics: Option<Listener>,
    ) {
        let (facts, operators, over) = (&self.facts, &self.operators, &self.over);
        operators.spawn(socket.serve(facts.clone(), self.leave.clone(), over.clone()));
        let readiness = Readiness::new();
        if let Some(listener) = metrics {
            let registry = Arc::new(metrics::registry(facts.clone()));
            let routes = operator::router(readiness.clone(), registry);
            operators.spawn(self.listen(listener, routes, over.clone()));
        }
        operators.spawn(metrics::keep_ready(facts.clone(), readiness, over.clone()));
        operators.spawn(tell_supervisor(facts.clone(), self.leave.clone()));
        if let Some((listener, routes)) = origin {
            tracing::info!(at = facts.origin, "serving the pictures");
            self.visitors
                .spawn(self.listen(listener, routes, self.close.clone()));
        }
        if let Some(mounted) = &self.mounted {
            let (mut ended, leave) = (mounted.ended(), self.leave.clone());
            self.visitors.spawn(async move {
                // Once we are leaving, the end of the mount is no news.
                if let Some(ended) = leave.run_until_cancelled(ended.wait()).await {
                    match ended {
                        Ok(()) => tracing::info!("stopping, since the folder was unmounted"),
                        Err(error) => tracing::error!(%error, "stopping: the mount broke"),
                    }
                    leave.cancel();
                }
            });
        }
    }

    fn listen(
        &self,
        listener: Listener,
        routes: Router,
        until: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let leave = self.leave.clone();
        async move {
            if let Err(error) = listener.serve(routes, until).await {
                tracing::error!(%error, "stopping, since a listener ended");
                leave.cancel();
            }
        }
    }

    /// So that the first visitor finds names, and an unreachable drive is in the log at once.
    async fn list_root(&self, vfs: &Vfs, stop: &CancellationToken) {
        let listing = tokio::time::timeout(FIRST_LISTING, vfs.list(NodeId::ROOT));
        match stop.run_until_cancelled(listing).await {
            None | Some(Ok(Ok(_))) => {}
            Some(Ok(Err(error))) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the folder is not listed yet; what is here is served");
            }
            Some(Err(_)) => tracing::warn!("listing the folder takes long; what is here is served"),
        }
    }

    /// Takes no more work.
    async fn close(&mut self) -> Result<(), MountError> {
        let unmounted = match self.mounted.take() {
            Some(mounted) => mounted.unmount().await,
            None => Ok(()),
        };
        self.close.cancel();
        self.visitors.close();
        self.visitors.wait().await; // the listener has a deadline of its own
        unmounted
    }

    /// Nothing is left to be watched.
    async fn over(self) {
        self.over.cancel();
        self.operators.close();
        self.operators.wait().await;
    }
}

fn address(scheme: &str, at: SocketAddr, prefix: &str) -> String {
    format!("{scheme}://{at}{prefix}")
}

fn owner(core: &Core) -> String {
    let kind = match core.found.kind {
        DriveKind::Personal => "personal OneDrive",
        DriveKind::Business => "OneDrive for work or school",
        DriveKind::DocumentLibrary => "SharePoint library",
    };
    match &core.found.owner {
        Some(owner) => format!("{kind} of {owner}"),
        None => kind.to_owned(),
    }
}

fn panicked(error: &tokio::task::JoinError) -> Failure {
    Failure::new(Code::Failure, "a part of the start failed").because(error)
}

/// One line for `systemctl status`, and the sign of life that a watchdog waits for: only while
/// the mount answers through its own queue.
async fn tell_supervisor(facts: Arc<Facts>, leave: CancellationToken) {
    let period = notify::watchdog_period().map_or(TELL, |period| (period / 2).min(TELL));
    while leave
        .run_until_cancelled(tokio::time::sleep(period))
        .await
        .is_some()
    {
        let report = facts.report();
        let line = match &report.degraded {
            Some(why) => why.clone(),
            None => format!(
                "{} pending, {} sending, {} parked, {} cached",
                report.local.pending,
                report.local.sending,
                report.local.parked.len(),
                bytesize::ByteSize(report.local.cached_bytes),
            ),
        };
        notify::status(&line);
        if notify::watchdog_period().is_some() && is_alive(facts.mount.as_ref()).await {
            notify::watchdog();
        }
    }
}

async fn is_alive(mount: Option<&MountReport>) -> bool {
    let Some(mount) = mount else { return true };
    let point = mount.point.clone();
    let asking = tokio::task::spawn_blocking(move || rustix::fs::statfs(Path::new(&point)).is_ok());
    matches!(tokio::time::timeout(ALIVE, asking).await, Ok(Ok(true)))
}

/// Asks the supervisor to wait while the stop gets somewhere. What is left after that is in the journal.
async fn ask_for_time(facts: Arc<Facts>, until: CancellationToken) {
    let mut progress = Progress::new(Instant::now());
    loop {
        let mark = Mark {
            bytes_up: facts.graph.traffic().bytes_up,
            pending: facts.vfs.status().pending,
        };
        if progress.goes_on(mark, Instant::now()) {
            notify::extend(TELL * 4);
        }
        if until
            .run_until_cancelled(tokio::time::sleep(TELL))
            .await
            .is_none()
        {
            return;
        }
    }
}
