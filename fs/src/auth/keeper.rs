//! The task that looks after the sign-in while nobody asks for a token: it notices a new one,
//! keeps the held one alive, and warns before it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{AuthState, Authenticator};

/// How often the files are looked at while a person is waited for: `tuyunfs login` also tells us
/// by the control socket, which it may not be allowed to open.
const WAITING: Duration = Duration::from_secs(2);

/// How often, while all is well.
const CALM: Duration = Duration::from_mins(1);

/// How often a sign-in that is to be kept alive is tried, when that fails.
const TRY: Duration = Duration::from_hours(1);

/// How often a warning is repeated in the log.
const REMIND: Duration = Duration::from_hours(24);

/// Looks after the sign-in until `stop`.
pub async fn keep(auth: Arc<Authenticator>, stop: CancellationToken) {
    let (mut tried, mut reminded) = (None, None);
    loop {
        let pause = match auth.state() {
            AuthState::SignedIn | AuthState::Unreachable { .. } => CALM,
            AuthState::SignInNeeded { .. } | AuthState::Misconfigured { .. } => WAITING,
        };
        let looking = async {
            tokio::time::sleep(pause).await;
            look(&auth, &mut tried, &mut reminded).await;
        };
        if stop.run_until_cancelled(looking).await.is_none() {
            return;
        }
    }
}

async fn look(auth: &Authenticator, tried: &mut Option<Instant>, reminded: &mut Option<Instant>) {
    auth.look(false).await;
    let now = SystemTime::now();
    let idle = auth.state() == AuthState::SignedIn && auth.keep_alive_due(now);
    if idle
        && is_time(tried, TRY)
        && let Err(error) = auth.refresh().await
    {
        tracing::warn!(%error, "cannot keep the sign-in alive; tried again in an hour");
    }
    let standing = auth.standing(now);
    if let Some(warning) = standing.warning
        && is_time(reminded, REMIND)
    {
        tracing::warn!("{warning}");
    }
}

/// Whether that long has passed since; if so, it begins anew.
fn is_time(last: &mut Option<Instant>, period: Duration) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= period);
    if due {
        *last = Some(Instant::now());
    }
    due
}
