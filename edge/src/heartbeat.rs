//! Tells jump that this node is alive.
//!
//! One task a jump, so that one that hangs holds up no other. A jump that is down hurts nobody but
//! those it would have sent here: serving goes on, and the next beat tries again. On the way out
//! the node says goodbye, so that nobody is sent to a closed door; likewise while its traffic is used
//! up.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tuyun_protocol::{
    Base, Farewell, Heartbeat, NodeId, Nonce, Signature, Token, UPDATE_PATH, Whereabouts,
};

use crate::settings::{Auth, JumpPlan};
use crate::traffic::Span;

/// How long a jump may take. A beat that takes longer is late for the next.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long saying goodbye may hold up the end. What it spares is a few seconds of redirects to a
/// node that is gone; a probe finds out as well.
const GOODBYE: Duration = Duration::from_secs(2);

/// A beat counts for so many intervals: three may be lost.
const LEASE: u32 = 4;

/// What of a refusal goes to the log.
const SAID: usize = 200;

/// Sends signs of life.
pub struct Heart {
    plan: JumpPlan,
    id: NodeId,
    whereabouts: Whereabouts,
    client: reqwest::Client,
}

/// Why a jump did not take what was sent.
#[derive(Debug, thiserror::Error)]
enum BeatError {
    #[error("jump cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("jump did not answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("jump answered {status}: {said}")]
    Refused { status: u16, said: String },
}

impl Heart {
    /// A heart that has not begun to beat.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new(
        plan: JumpPlan,
        id: NodeId,
        whereabouts: Whereabouts,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // Jump takes the address it sees for ours: a proxy's would be wrong.
            .no_proxy()
            .timeout(PATIENCE)
            .user_agent(concat!("tuyun-edge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            plan,
            id,
            whereabouts,
            client,
        })
    }

    /// Beats until `stop`, but not while something is used up, and says goodbye before each rest.
    pub async fn run(self, mut used_up: watch::Receiver<Option<Span>>, stop: CancellationToken) {
        let heart = Arc::new(self);
        loop {
            let open = used_up.wait_for(Option::is_none);
            if !matches!(stop.run_until_cancelled(open).await, Some(Ok(_))) {
                return;
            }
            let turn = stop.child_token();
            let rest = async {
                let shut = used_up.wait_for(Option::is_some);
                let _ = turn.run_until_cancelled(shut).await;
                turn.cancel();
            };
            tokio::join!(Arc::clone(&heart).beat_all(&turn), rest);
        }
    }

    /// Beats for all jumps until `stop`, and says goodbye to them then.
    async fn beat_all(self: Arc<Self>, stop: &CancellationToken) {
        let heart = self;
        let tasks = TaskTracker::new();
        for base in heart.plan.bases.clone() {
            let (heart, stop) = (Arc::clone(&heart), stop.clone());
            tasks.spawn(async move { heart.beat_for(&base, &stop).await });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn beat_for(&self, base: &Base, stop: &CancellationToken) {
        let jump = base.as_str();
        let mut well = None;
        let mut known = false;
        loop {
            let beat = stop.run_until_cancelled(self.beat(base)).await;
            match beat {
                None => break,
                Some(Ok(())) if well != Some(true) => {
                    tracing::info!(jump, "jump knows that this node is alive");
                    well = Some(true);
                }
                Some(Err(error)) if well != Some(false) => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    tracing::warn!(jump, error, "jump sends nobody here; trying on");
                    well = Some(false);
                }
                // Said once; it has not changed.
                Some(Ok(()) | Err(_)) => {}
            }
            known |= well == Some(true);
            let rest = tokio::time::sleep(self.plan.interval);
            if stop.run_until_cancelled(rest).await.is_none() {
                break;
            }
        }
        // A jump that never knew this node need not hear that it leaves; one that missed the last
        // beat does.
        if known && let Err(error) = self.say_goodbye(base).await {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::debug!(jump, error, "jump did not hear that this node leaves");
        }
    }

    async fn beat(&self, base: &Base) -> Result<(), BeatError> {
        let heartbeat = Heartbeat {
            server_id: self.id.clone(),
            whereabouts: self.whereabouts.clone(),
            ttl: Some(self.plan.interval * LEASE),
            // Jump takes a node for ours by the name in front.
            version: Some(concat!("tuyun-edge/", env!("CARGO_PKG_VERSION")).to_owned()),
            report: self.plan.report.clone(),
        };
        self.send(base, Method::POST, heartbeat.body(self.token_inside()))
            .await
    }

    async fn say_goodbye(&self, base: &Base) -> Result<(), BeatError> {
        let body = Farewell {
            server_id: self.id.clone(),
        }
        .body(self.token_inside());
        let said = timeout(GOODBYE, self.send(base, Method::DELETE, body)).await;
        said.unwrap_or(Err(BeatError::Late(GOODBYE)))
    }

    async fn send(&self, base: &Base, method: Method, body: String) -> Result<(), BeatError> {
        let Some(url) = base.endpoint(UPDATE_PATH) else {
            return Ok(());
        };
        let mut request = self
            .client
            .request(method.clone(), url)
            .header(http::header::CONTENT_TYPE, "application/json");
        if self.plan.auth == Auth::Signed {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let time = now.map_or(0, |since| since.as_secs());
            let nonce = Nonce::from_random(rand::random());
            let token = &self.plan.token;
            let signature = Signature::sign(
                token,
                method.as_str(),
                UPDATE_PATH,
                time,
                nonce,
                body.as_bytes(),
            );
            for (name, value) in signature.headers() {
                request = request.header(name, value);
            }
        }
        let sent = request.body(body).send().await;
        let response = sent.map_err(|error| BeatError::Unreachable(error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(BeatError::Refused {
            status: status.as_u16(),
            said: said(response).await,
        })
    }

    fn token_inside(&self) -> Option<&Token> {
        (self.plan.auth == Auth::Token).then_some(&self.plan.token)
    }
}

/// The beginning of what a refusal says.
async fn said(mut response: reqwest::Response) -> String {
    // One piece: a longer one is not worth waiting for.
    let piece = response.chunk().await.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&piece)
        .chars()
        .filter(|c| !c.is_control())
        .take(SAID)
        .collect()
}
