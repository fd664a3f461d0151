//! Everything behind the mount, wired together: recovered, connected, at work, and stopped in
//! order.
//!
//! Stopping is a sentence: the rim takes no more work, what was taken is finished, what can still
//! be sent within the grace is sent, the rest is in the journal.

mod connect;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tuyun_chassis::exit::{Code, Failure};

pub use self::connect::{auth_config, authenticator, explain, graph_config};
use crate::auth::{self, AuthState, Authenticator};
use crate::content::Host;
use crate::graph::{FoundDrive, Graph, Push, PushState, PushWish};
use crate::outbox::drain::{Outbox, OutboxConfig};
use crate::settings::{self, Delta, Flow, Settings};
use crate::sync::{LINK_FACT, Sync, SyncConfig};
use crate::vfs::{Budget, PATIENCE, Recovery, Vfs, VfsConfig, recover};

/// How long the last seals of a stop may take: a barrier of a busy disk takes seconds.
const LAST_SEALS: Duration = Duration::from_secs(30);

/// What runs behind the rim.
pub struct Core {
    /// The use cases.
    pub vfs: Arc<Vfs>,
    /// What is on its way to the drive.
    pub outbox: Arc<Outbox>,
    /// What comes from the drive.
    pub sync: Arc<Sync>,
    /// What the drive tells of by itself.
    pub push: Arc<Push>,
    /// Sign-in.
    pub auth: Arc<Authenticator>,
    /// The drive's client.
    pub graph: Arc<Graph>,
    /// Which drive it is.
    pub found: FoundDrive,
    /// What the start moved aside or saved.
    pub report: Vec<String>,
    /// Cancelled when a part of the daemon broke: a restart is better than half of it.
    pub broken: CancellationToken,
    following: CancellationToken,
    sending: CancellationToken,
    followers: TaskTracker,
    senders: TaskTracker,
}

impl Core {
    /// Recovers the state, connects to the drive, and sets everything to work.
    ///
    /// # Errors
    /// The state cannot be used, or belongs to another drive; at the very first start also when
    /// nobody has signed in or the drive cannot be reached.
    pub async fn start(settings: &Settings) -> Result<Self, Failure> {
        let recovery = recover_state(settings).await?;
        let auth = connect::authenticator(settings)?;
        let (graph, found) = connect::connect(settings, auth.clone(), &recovery).await?;
        let graph = Arc::new(graph);
        let versions = found.kind.has_versions();
        let outbox = Arc::new(Outbox::new(
            recovery.ledger.clone(),
            recovery.store.clone(),
            graph.background(),
            OutboxConfig {
                settle: settings.writeback.settle.get(),
                uploads: settings.writeback.uploads,
                grace: settings.writeback.grace.get(),
                drive_has_versions: versions,
            },
        ));
        let root = settings.drive.root.as_str();
        recovery.ledger.books().tree.set_root_path(root);
        let link = recovery.fact(LINK_FACT);
        let vfs = Vfs::new(
            recovery.ledger,
            recovery.store,
            recovery.intents,
            graph.clone(),
            outbox.clone(),
            VfsConfig {
                timeout: settings.mount.timeout.get(),
                read_only: settings.mount.read_only,
                drive_has_versions: versions,
                guard: settings.drive.delete_guard(),
                budget: Budget {
                    max_size: settings.cache.max_size.bytes(),
                    max_age: settings.cache.max_age.get(),
                    min_free: settings.cache.min_free.bytes(),
                },
                patience: PATIENCE,
            },
        );
        let config = SyncConfig {
            poll: settings.drive.poll.get(),
            delta: settings.drive.delta == Delta::Auto,
        };
        let sync = Arc::new(Sync::new(vfs.clone(), graph.background(), config, link));
        let push = Arc::new(Push::new(graph.clone(), push_wish(settings)));
        let core = Self {
            vfs,
            outbox,
            sync,
            push,
            auth,
            graph,
            found,
            report: recovery.report,
            broken: CancellationToken::new(),
            following: CancellationToken::new(),
            sending: CancellationToken::new(),
            followers: TaskTracker::new(),
            senders: TaskTracker::new(),
        };
        if !settings.mount.read_only
            && let Err(error) = core.vfs.store().stock_up()
        {
            tracing::warn!(%error, "files are made when they are needed, and not ahead");
        }
        core.set_to_work();
        Ok(core)
    }

    fn set_to_work(&self) {
        let following = &self.following;
        let push = self.push.clone();
        let connected = move || push.status().state == PushState::Connected;
        self.sync.listen_to(connected);
        let sync = self.sync.clone().run(following.clone());
        self.followers.spawn(whole("sync", &self.broken, sync));
        let budget = self.vfs.clone().keep_budget(following.clone());
        self.followers
            .spawn(whole("cache budget", &self.broken, budget));
        let refused = self.vfs.clone().keep_refused(following.clone());
        self.followers
            .spawn(whole("refused contents", &self.broken, refused));
        let sync = self.sync.clone();
        let wake = move || sync.wake.notify_one();
        self.followers
            .spawn(self.push.clone().run(wake, following.clone()));
        self.followers
            .spawn(auth::keep(self.auth.clone(), following.clone()));
        self.followers.spawn(resume(
            self.auth.clone(),
            self.outbox.clone(),
            self.sync.clone(),
            following.clone(),
        ));
        let outbox = self.outbox.clone().run(self.sending.clone());
        self.senders.spawn(whole("outbox", &self.broken, outbox));
    }

    /// Why the mount is not what it should be, if so.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        if let Some(why) = self.vfs.ledger().journal().failing() {
            return Some(why.to_string());
        }
        if let Some(what) = self.auth.state().to_do() {
            return Some(what);
        }
        self.sync
            .status()
            .trouble
            .or_else(|| self.outbox.paused().map(|pause| pause.why))
    }

    /// Stops, after the rim has: follows no more, finishes seals, sends for the grace what can be
    /// sent, and closes the journal.
    pub async fn stop(self) {
        self.following.cancel();
        self.followers.close();
        self.followers.wait().await;
        self.vfs.quiesce(LAST_SEALS).await;
        self.sending.cancel();
        self.senders.close();
        self.senders.wait().await;
        let status = self.vfs.status();
        if status.pending > 0 {
            tracing::info!(
                pending = status.pending,
                "stopped; what is pending is in the journal and goes on at the next start"
            );
        }
        let vfs = self.vfs.clone();
        let _ = tokio::task::spawn_blocking(move || vfs.ledger().journal().close()).await;
    }
}

/// A part that the daemon cannot do without: if it panics, the daemon ends. What was acknowledged
/// is in the journal, and whoever started us starts us again.
fn whole(
    part: &'static str,
    broken: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let broken = broken.clone();
    async move {
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            tracing::error!(
                part,
                "a part of the daemon broke; it ends, and nothing is lost"
            );
            broken.cancel();
        }
    }
}

fn push_wish(settings: &Settings) -> PushWish {
    match (settings.drive.push, settings.drive.flow) {
        (settings::Push::Off, _) => PushWish::Off,
        (settings::Push::Auto, Flow::App) => PushWish::Application,
        (settings::Push::Auto, Flow::User) => PushWish::Auto,
    }
}

async fn recover_state(settings: &Settings) -> Result<Recovery, Failure> {
    let (dir, prefix) = (
        settings.state_dir.clone(),
        settings.origin.prefix().to_owned(),
    );
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let durability = settings.writeback.durability;
    let recovered = tokio::task::spawn_blocking(move || {
        recover(
            &dir,
            Arc::new(Host),
            &host,
            &prefix,
            durability,
            SystemTime::now(),
        )
    })
    .await;
    let state = settings.state_dir.display();
    match recovered {
        Ok(Ok(recovery)) => Ok(recovery),
        Ok(Err(error)) => Err(
            Failure::new(Code::Unavailable, format!("cannot start on {state}"))
                .because(&error)
                .hint("nothing was deleted; see what is named above"),
        ),
        Err(error) => {
            Err(Failure::new(Code::Failure, format!("reading {state} back failed")).because(&error))
        }
    }
}

/// Whatever waited for a sign-in goes on when there is one, and not at its next turn.
async fn resume(
    auth: Arc<Authenticator>,
    outbox: Arc<Outbox>,
    sync: Arc<Sync>,
    stop: CancellationToken,
) {
    let mut changes = auth.changes();
    while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
        if auth.state() == AuthState::SignedIn {
            outbox.resume();
            sync.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_breaks_ends_the_daemon_and_one_that_is_done_does_not() {
        let broken = CancellationToken::new();
        whole("calm", &broken, async {}).await;
        assert!(!broken.is_cancelled());
        whole("wild", &broken, async { panic!("as a test wants it") }).await;
        assert!(broken.is_cancelled());
    }
}
