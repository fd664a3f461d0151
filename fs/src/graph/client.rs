//! The two HTTP clients, and what all requests of a drive share.
//!
//! One client puts the token on its requests and speaks to Graph alone; the other has no token to
//! give away and speaks to the hosts behind pre-authenticated URLs, which refuse requests that
//! carry one (traps T6 and T7). Redirects are followed by nobody here.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::redirect::Policy;

use super::DriveKind;
use super::address::Form;
use super::bandwidth::{Limit, Timetable};
use super::gate::{Gate, Gates};
use super::lanes::{AT_ONCE, Lane, Lanes, Load, Need, Rank};
use super::meter::{Meter, Traffic};
use super::notes::Notes;
use super::pieces::Speed;
use super::urls::Urls;
use super::young::Young;
use crate::auth::Authenticator;
use crate::ports::{Drive, DriveError};
use crate::tree::DriveId;

/// Decorated as section 9.3 asks for: decorated traffic is served before other.
const USER_AGENT: &str = concat!("NONISV|Tuyun|tuyunfs/", env!("CARGO_PKG_VERSION"));

/// Time to reach a host: a line that needs longer for a handshake is down.
const CONNECT: Duration = Duration::from_secs(15);

/// Silence in the middle of a reply (section 6: 30 to 60 seconds), and sent bytes that nobody
/// acknowledges.
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// Connections that rest are kept this long: longer than the time between two looks for changes
/// (a minute at most), so that an idle mount does not shake hands at each.
const REST: Duration = Duration::from_secs(90);

/// What the client needs to know.
#[derive(Clone, Debug, Default)]
pub struct GraphConfig {
    /// Scheme and host of Graph, without a slash at the end.
    pub graph_url: String,
    /// More trusted certificates, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Where upload sessions are remembered over restarts.
    pub state_dir: Option<PathBuf>,
    /// The service is that of China, where new items are addressed in another form.
    pub china: bool,
    /// How fast bytes may go up.
    pub upload_limit: Timetable,
    /// How fast bytes may come down.
    pub download_limit: Timetable,
}

/// The client of one drive. Clones share connections, lanes and whatever is known.
#[derive(Clone)]
pub struct Graph {
    pub(super) base: String,
    pub(super) drive: DriveId,
    pub(super) kind: DriveKind,
    pub(super) wire: Wire,
    pub(super) urls: Arc<Urls>,
    pub(super) notes: Notes,
    pub(super) speed: Arc<Speed>,
    pub(super) young: Arc<Young>,
    /// The colon form of addresses does not work here (section 1.1).
    pub(super) odata: Arc<AtomicBool>,
}

impl Graph {
    /// The drive's id.
    #[must_use]
    pub fn drive_id(&self) -> &DriveId {
        &self.drive
    }

    /// What kind of drive it is.
    #[must_use]
    pub fn kind(&self) -> DriveKind {
        self.kind
    }

    /// How long the service has asked to be left alone.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.wire.gates.closed_for()
    }

    /// What was asked of the service since the start.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.wire.meter.traffic()
    }

    /// The same drive for work that nobody waits for: uploads, looks for remote changes. What a
    /// program waits for goes before it.
    #[must_use]
    pub fn background(self: &Arc<Self>) -> Arc<dyn Drive> {
        let mut background = Self::clone(self);
        background.wire.rank = Rank::Background;
        Arc::new(background)
    }

    /// How children are addressed.
    pub(super) fn form(&self) -> Form {
        if self.odata.load(Ordering::Relaxed) {
            Form::OData
        } else {
            Form::Colon
        }
    }

    /// A URL of Graph's from a path below `/v1.0`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// What all requests share.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) graph: reqwest::Client,
    pub(super) storage: reqwest::Client,
    pub(super) auth: Arc<Authenticator>,
    pub(super) gates: Arc<Gates>,
    pub(super) meter: Arc<Meter>,
    pub(super) up: Arc<Limit>,
    pub(super) down: Arc<Limit>,
    rank: Rank,
    lanes: Arc<Lanes>,
}

impl Wire {
    pub(super) fn new(
        config: &GraphConfig,
        auth: Arc<Authenticator>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            graph: client(config)?,
            storage: client(config)?,
            auth,
            gates: Arc::new(Gates::new()),
            meter: Arc::new(Meter::new()),
            up: Arc::new(Limit::new(config.upload_limit.clone())),
            down: Arc::new(Limit::new(config.download_limit.clone())),
            rank: Rank::Program,
            lanes: Arc::default(),
        })
    }

    /// A lane, once the gate of a URL's host is open. The lane comes first: whoever waits for one
    /// while the gate closes must not slip through.
    pub(super) async fn enter(
        &self,
        url: &str,
        load: Load,
        patience: Duration,
    ) -> Result<Lane, DriveError> {
        let gate = self.gates.of(url);
        gate.pass(patience).await.map_err(silent)?;
        gate.turn(self.rank, patience).await.map_err(silent)?;
        let rank = self.rank;
        let lane = self.lanes.take(Need { load, rank }).await;
        gate.pass(patience).await.map_err(silent)?;
        Ok(lane)
    }

    /// The gate of a URL's host.
    pub(super) fn gate(&self, url: &str) -> Arc<Gate> {
        self.gates.of(url)
    }
}

/// The gate is closed for longer than a call may wait.
fn silent(left: Duration) -> DriveError {
    DriveError::Unavailable {
        what: "the drive asks to be left alone".into(),
        retry_after: Some(left),
    }
}

/// Neither client has a limit for a whole exchange, which for content depends on its size: each
/// request gets one when it is sent.
fn client(config: &GraphConfig) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .tcp_user_timeout(IDLE)
        .pool_max_idle_per_host(AT_ONCE)
        .pool_idle_timeout(REST)
        // One picture a connection: side by side in one, a large one holds up the others.
        .http1_only();
    if let Some(pem) = &config.ca_pem {
        for certificate in reqwest::Certificate::from_pem_bundle(pem)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build()
}
