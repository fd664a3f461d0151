//! Push wake-up: the drive tells that something has changed, and a delta round finds out what
//! (`graph-api.md` section 5.5).
//!
//! Everything goes out from here, so it works behind any router. A notice is only a hint: polling
//! goes on beside it, and each new connection is followed by a look at what was missed meanwhile.
//! Where the account does not offer it, that is said once. Webhooks, which want a public address
//! and renewals that fail (trap T46), are not used.

mod frame;
mod socket;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::socket::Socket;
use super::address::drive;
use super::client::Graph;
use crate::ports::DriveError;

/// First wait after a connection that failed; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// Longest wait: polling covers for it, and each try is a request.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// A connection that stood for so long was a good one: the next is tried without a long wait.
const GOOD: Duration = Duration::from_mins(1);

/// How long an account that does not offer it is left alone: an administrator may allow it one day.
const NOT_OFFERED: Duration = Duration::from_hours(24);

/// How long an address is used when the service does not say until when it is good.
const UNSAID: Duration = Duration::from_hours(12);

/// How long before its end an address is asked for anew.
const AHEAD: Duration = Duration::from_mins(5);

/// The shortest that an address is used, whatever is said: clocks differ.
const SHORTEST: Duration = Duration::from_mins(5);

/// Whether to listen at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushWish {
    /// Where the account allows it.
    Auto,
    /// Never: the settings say so.
    Off,
    /// Never: the service tells persons alone, and an application is signed in.
    Application,
}

/// How listening stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PushState {
    /// Not wanted.
    Off,
    /// Changes are told as they happen.
    Connected,
    /// Not connected at present; changes are found by polling.
    Waiting {
        /// What is waited for, or what failed.
        why: String,
    },
    /// The account does not offer it; changes are found by polling.
    NotOffered {
        /// What the service said.
        why: String,
    },
}

/// How listening stands, since when, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushStatus {
    /// How it stands.
    #[serde(flatten)]
    pub state: PushState,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// How often something was told.
    pub notices: u64,
}

/// Listens for changes of one drive.
pub struct Push {
    graph: Arc<Graph>,
    wish: PushWish,
    status: Mutex<PushStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    notification_url: String,
    expiration_date_time: Option<jiff::Timestamp>,
}

/// Why there is no connection.
enum Trouble {
    /// The account does not offer it.
    NotOffered(String),
    /// Try again.
    Failed {
        why: String,
        after: Option<Duration>,
    },
}

impl Push {
    /// A listener that is not listening yet.
    #[must_use]
    pub fn new(graph: Arc<Graph>, wish: PushWish) -> Self {
        let state = match wish {
            PushWish::Auto => PushState::Waiting {
                why: "connecting".into(),
            },
            PushWish::Off => PushState::Off,
            PushWish::Application => PushState::NotOffered {
                why: "an application is signed in, and the service tells persons alone".into(),
            },
        };
        let status = Mutex::new(PushStatus {
            state,
            since: seconds(SystemTime::now()),
            notices: 0,
        });
        Self {
            graph,
            wish,
            status,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> PushStatus {
        self.status.lock().clone()
    }

    /// Listens until `stop`, and calls `wake` when there may be something new.
    pub async fn run(self: Arc<Self>, wake: impl Fn() + Send + Sync, stop: CancellationToken) {
        if self.wish == PushWish::Auto {
            stop.run_until_cancelled(self.listen(wake)).await;
        }
    }

    async fn listen(&self, wake: impl Fn() + Send + Sync) {
        let mut changes = self.graph.wire.auth.changes();
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let trouble = match self.once(&wake).await {
                // Its time was over: the next one follows at once.
                Ok(()) => continue,
                Err(trouble) => trouble,
            };
            if begun.elapsed() > GOOD {
                failures = 0;
            }
            let pause = match trouble {
                Trouble::NotOffered(why) => {
                    tracing::info!(why, "the drive does not tell of changes; it is polled");
                    self.set(PushState::NotOffered { why });
                    NOT_OFFERED
                }
                Trouble::Failed { why, after } => {
                    tracing::debug!(why, "the drive does not tell of changes at present");
                    self.set(PushState::Waiting { why });
                    backoff(failures).max(after.unwrap_or_default())
                }
            };
            failures = failures.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A new sign-in may be allowed what the old one was not; without one, trying costs
                // nothing, since nobody is asked.
                Ok(()) = changes.changed() => failures = 0,
            }
        }
    }

    /// One connection, from asking for its address to its end.
    async fn once(&self, wake: &(impl Fn() + Send + Sync)) -> Result<(), Trouble> {
        let failed = |why: String| Trouble::Failed { why, after: None };
        let subscription = self.subscribe().await?;
        let lasts = life(subscription.expiration_date_time, SystemTime::now());
        let until = Instant::now() + lasts;
        let address = frame::socket_address(&subscription.notification_url)
            .ok_or_else(|| failed("the service named an odd address".into()))?;
        let wire = &self.graph.wire;
        let socket = Socket::join(wire, address).await.map_err(failed)?;
        tracing::info!("the drive tells of changes as they happen");
        self.set(PushState::Connected);
        // What happened before is told to nobody.
        wake();
        let notice = || {
            self.status.lock().notices += 1;
            wake();
        };
        socket.listen(until, notice).await.map_err(failed)
    }

    async fn subscribe(&self) -> Result<Subscription, Trouble> {
        let path = format!("{}/root/subscriptions/socketIo", drive(&self.graph.drive));
        let url = self.graph.url(&path);
        let asked = self.graph.wire.ask(Method::GET, &url, |request| request);
        let reply = asked.await.and_then(|reply| reply.json("the subscription"));
        reply.map_err(|error| match error {
            DriveError::NotFound | DriveError::NotSupported(_) | DriveError::Refused { .. } => {
                Trouble::NotOffered(error.to_string())
            }
            DriveError::Unavailable {
                ref what,
                retry_after,
            } => Trouble::Failed {
                why: what.clone(),
                after: retry_after,
            },
            other => Trouble::Failed {
                why: other.to_string(),
                after: None,
            },
        })
    }

    fn set(&self, state: PushState) {
        let mut status = self.status.lock();
        if std::mem::discriminant(&status.state) != std::mem::discriminant(&state) {
            status.since = seconds(SystemTime::now());
        }
        status.state = state;
    }
}

/// How long an address is used.
fn life(end: Option<jiff::Timestamp>, now: SystemTime) -> Duration {
    let Some(end) = end else { return UNSAID };
    let left = SystemTime::from(end)
        .duration_since(now)
        .unwrap_or_default();
    left.saturating_sub(AHEAD).clamp(SHORTEST, 2 * UNSAID)
}

/// Doubles, with up to a quarter taken off at random: mounts that lost the same service do not come
/// back to it together.
fn backoff(failures: u32) -> Duration {
    let whole = FIRST_WAIT
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_WAIT);
    whole.mul_f64(1.0 - 0.25 * rand::random::<f64>())
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_anew_before_it_ends() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let ends = |left: Duration| Some(jiff::Timestamp::try_from(now + left).unwrap());
        assert_eq!(life(None, now), UNSAID);
        let hour = Duration::from_hours(1);
        assert_eq!(life(ends(hour + AHEAD), now), hour);
        assert_eq!(life(ends(Duration::ZERO), now), SHORTEST);
        assert_eq!(life(ends(1000 * hour), now), 2 * UNSAID);
    }

    #[test]
    fn failures_are_met_with_patience_up_to_ten_minutes() {
        assert!(backoff(0) <= FIRST_WAIT);
        assert!(backoff(5) > Duration::from_secs(40));
        assert!(backoff(u32::MAX) > LONGEST_WAIT / 2 && backoff(u32::MAX) <= LONGEST_WAIT);
    }
}
