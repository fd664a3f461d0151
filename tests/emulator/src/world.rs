//! Everything an emulator holds, in one place that all listeners share.
//!
//! One lock around the state: each request changes it in one step, after its body has arrived, and
//! never holds it while it waits.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    content::{Content, Depot},
    delta::Rounds,
    faults::Faults,
    ids,
    log::Log,
    options::Client,
    profile::Profile,
    refusal::Refusal,
    route::Route,
    session::Sessions,
    settings::Settings,
    signin::Grants,
    store::Drive,
};

/// The shared whole.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) profile: Profile,
    pub(crate) clients: Vec<Client>,
    pub(crate) clock: Clock,
    pub(crate) log: Log,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) gates: Gates,
    pub(crate) pulse: Pulse,
    pub(crate) depot: Depot,
    /// Signs pre-authenticated URLs.
    pub(crate) secret: String,
    links: OnceLock<Links>,
    state: Mutex<State>,
    connections: AtomicU64,
    /// Ends what would outlive the listeners.
    pub(crate) stop: CancellationToken,
}

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    /// The drive that the profile is about, first; then the user's own, where that is another.
    pub(crate) drives: Vec<Drive>,
    pub(crate) sessions: Sessions,
    pub(crate) rounds: Rounds,
    pub(crate) grants: Grants,
    /// Copies in progress: polls left, and the new item.
    pub(crate) copies: HashMap<String, (u32, String)>,
    /// Download URLs of another epoch have expired.
    pub(crate) url_epoch: u64,
}

/// The public addresses of the hosts, without a slash at the end.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    pub(crate) login: String,
    pub(crate) graph: String,
    pub(crate) storage: String,
}

impl World {
    pub(crate) fn new(
        profile: Profile,
        settings: Settings,
        clients: Vec<Client>,
    ) -> io::Result<Self> {
        let now = Timestamp::now();
        let mut drives = vec![Drive::new(profile.switches(), now)];
        if profile == Profile::Library {
            drives.push(Drive::new(profile.own_switches(), now));
        }
        Ok(Self {
            profile,
            clients,
            clock: Clock::default(),
            log: Log::new(),
            faults: Mutex::default(),
            gates: Gates::new(),
            pulse: Pulse::new(),
            depot: Depot::new()?,
            secret: ids::secret(32),
            links: OnceLock::new(),
            state: Mutex::new(State {
                settings,
                drives,
                sessions: Sessions::default(),
                rounds: Rounds::default(),
                grants: Grants::default(),
                copies: HashMap::new(),
                url_epoch: 1,
            }),
            connections: AtomicU64::new(0),
            stop: CancellationToken::new(),
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The state, for one step. Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.state.lock().settings.clone()
    }

    pub(crate) fn publish(&self, links: Links) {
        // Set once, by `serve`, before the first request can come.
        let _ = self.links.set(links);
    }

    pub(crate) fn links(&self) -> &Links {
        self.links
            .get()
            .expect("the addresses are published before the listeners accept")
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Stores bytes as a content of a drive with these switches.
    pub(crate) fn hold(&self, bytes: &[u8], drive: usize) -> Result<Content, Refusal> {
        let sha = self.state().drives[drive].switches.sha();
        self.depot
            .hold(bytes, sha)
            .map_err(|error| Refusal::spool(&error))
    }
}

impl State {
    /// The signed-in user's own drive.
    pub(crate) fn own_drive(&self) -> usize {
        self.drives.len() - 1
    }

    pub(crate) fn drive_by_id(&self, id: &str) -> Option<usize> {
        self.drives.iter().position(|drive| drive.answers_to(id))
    }

    /// Refuses what would not fit into the quota.
    pub(crate) fn admit_size(&self, drive: usize, more: u64) -> Result<(), Refusal> {
        let used = self.drives[drive].used;
        if used.saturating_add(more) > self.settings.quota_total {
            return Err(Refusal::quota());
        }
        Ok(())
    }
}

/// When a held request stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Moment {
    /// Before it takes effect.
    Before,
    /// After it took effect, before the reply leaves.
    Reply,
}

/// The routes that are held back until they are released.
#[derive(Debug)]
pub(crate) struct Gates(watch::Sender<HashSet<(Route, Moment)>>);

impl Gates {
    fn new() -> Self {
        Self(watch::Sender::new(HashSet::new()))
    }

    pub(crate) fn hold(&self, route: Route, moment: Moment) {
        self.0.send_modify(|held| {
            held.insert((route, moment));
        });
    }

    pub(crate) fn release(&self, route: Route) {
        self.0
            .send_modify(|held| held.retain(|(of, _)| *of != route));
    }

    pub(crate) fn release_all(&self) {
        self.0.send_modify(HashSet::clear);
    }

    /// Waits while the route is held; for ever is right, as only a test holds and it releases.
    pub(crate) async fn pass(&self, route: Route, moment: Moment) {
        let mut watched = self.0.subscribe();
        // An error means that the emulator is gone, and with it the reason to wait.
        let _ = watched
            .wait_for(|held| !held.contains(&(route, moment)))
            .await;
    }
}

/// Beats whenever something happened, for those who wait for a condition.
#[derive(Debug)]
pub(crate) struct Pulse {
    beats: Mutex<u64>,
    beat: Condvar,
    watched: watch::Sender<u64>,
}

impl Pulse {
    fn new() -> Self {
        Self {
            beats: Mutex::new(0),
            beat: Condvar::new(),
            watched: watch::Sender::new(0),
        }
    }

    pub(crate) fn beat(&self) {
        let mut beats = self.beats.lock();
        *beats += 1;
        self.watched.send_replace(*beats);
        self.beat.notify_all();
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.watched.subscribe()
    }

    /// Waits on a task until the condition holds; whether it did within the time.
    pub(crate) async fn until(&self, within: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let mut watched = self.watched.subscribe();
        let wait = async {
            while !holds() {
                if watched.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(within, wait).await.unwrap_or(false)
    }

    /// The same on a thread.
    pub(crate) fn block_until(&self, within: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut seen = *self.beats.lock();
        loop {
            if holds() {
                return true;
            }
            let mut beats = self.beats.lock();
            while *beats == seen {
                if self.beat.wait_until(&mut beats, deadline).timed_out() {
                    drop(beats);
                    return holds();
                }
            }
            seen = *beats;
        }
    }
}
