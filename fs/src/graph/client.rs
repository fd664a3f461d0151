//! The two HTTP clients, and the lanes that requests travel in.
//!
//! One client puts the token on its requests and speaks to Graph alone; the other has no token to
//! give away and speaks to the hosts behind pre-authenticated URLs, which refuse requests that
//! carry one (traps T6 and T7). Redirects are followed by nobody here.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::DriveKind;
use super::download::Urls;
use super::gate::Gate;
use crate::auth::Authenticator;
use crate::ports::DriveError;
use crate::tree::DriveId;

/// Decorated as section 9.3 asks for: decorated traffic is served before other.
const USER_AGENT: &str = concat!("NONISV|Tuyun|tuyunfs/", env!("CARGO_PKG_VERSION"));

/// Requests at a time, and with that connections: the service takes four to eight (section 9.3).
const AT_ONCE: usize = 8;

/// Requests with content, of either direction: one lane is left for listings and changes.
const BULK: usize = AT_ONCE - 1;

/// Uploads: a visitor's cold read must not wait until a slow line has sent what was saved.
const UPLOADS: usize = BULK - 1;

/// Time to reach a host: a line that needs longer for a handshake is down.
const CONNECT: Duration = Duration::from_secs(15);

/// Silence in the middle of a reply (section 6: 30 to 60 seconds), and sent bytes that nobody
/// acknowledges.
pub(super) const IDLE: Duration = Duration::from_secs(30);

/// Connections that rest are kept this long: longer than the time between two looks for changes
/// (a minute at most), so that an idle mount does not shake hands at each.
const REST: Duration = Duration::from_secs(90);

/// What the client needs to know.
#[derive(Clone, Debug)]
pub struct GraphConfig {
    /// Scheme and host of Graph, without a slash at the end.
    pub graph_url: String,
    /// More trusted certificates, PEM.
    pub ca_pem: Option<Vec<u8>>,
}

/// The client of one drive.
pub struct Graph {
    pub(super) base: String,
    pub(super) drive: DriveId,
    pub(super) kind: DriveKind,
    pub(super) wire: Wire,
    pub(super) urls: Urls,
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
        self.wire.gate.closed_for()
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
    pub(super) gate: Arc<Gate>,
    lanes: Lanes,
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
            gate: Arc::new(Gate::new()),
            lanes: Lanes::new(),
        })
    }

    /// A lane, once the gate is open. The lane comes first: whoever waits for one while the gate
    /// closes must not slip through.
    pub(super) async fn enter(&self, load: Load, patience: Duration) -> Result<Lane, DriveError> {
        self.open(patience).await?;
        let lane = self.lanes.take(load).await;
        self.open(patience).await?;
        Ok(lane)
    }

    /// Waits for the gate, or says that it is closed for longer than this call may wait.
    async fn open(&self, patience: Duration) -> Result<(), DriveError> {
        self.gate
            .pass(patience)
            .await
            .map_err(|left| DriveError::Unavailable {
                what: "the drive asks to be left alone".into(),
                retry_after: Some(left),
            })
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

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// A few kilobytes either way.
    Small,
    /// Content, to the drive.
    Up,
    /// Content, from the drive.
    Down,
}

/// A share of what may be under way at a time; given back when dropped.
pub(super) struct Lane(#[expect(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

#[derive(Clone)]
struct Lanes {
    uploads: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Lanes {
    fn new() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self {
            uploads: of(UPLOADS),
            bulk: of(BULK),
            all: of(AT_ONCE),
        }
    }

    /// Always from the narrowest to the widest: nobody waits for who waits for him.
    async fn take(&self, load: Load) -> Lane {
        let way: &[&Arc<Semaphore>] = match load {
            Load::Small => &[&self.all],
            Load::Up => &[&self.uploads, &self.bulk, &self.all],
            Load::Down => &[&self.bulk, &self.all],
        };
        let mut held = Vec::with_capacity(way.len());
        for lane in way {
            // These semaphores are never closed: there is always a permit in the end.
            held.extend(Arc::clone(lane).acquire_owned().await);
        }
        Lane(held)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn uploads_leave_a_lane_to_readers_and_content_leaves_one_to_the_rest() {
        let lanes = Lanes::new();
        let mut held = Vec::new();
        while let Some(lane) = lanes.take(Load::Up).now_or_never() {
            held.push(lane);
        }
        assert_eq!(held.len(), UPLOADS);
        while let Some(lane) = lanes.take(Load::Down).now_or_never() {
            held.push(lane);
        }
        assert_eq!(held.len(), BULK);
        while let Some(lane) = lanes.take(Load::Small).now_or_never() {
            held.push(lane);
        }
        assert_eq!(held.len(), AT_ONCE);
        held.clear();
        assert!(
            lanes.take(Load::Up).now_or_never().is_some(),
            "all of them were given back"
        );
    }
}
