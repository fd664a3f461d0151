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
    let mut changes = auth.changes();
    loop {
        let pause = match auth.state() {
            AuthState::SignedIn | AuthState::Unreachable { .. } => CALM,
            AuthState::SignInNeeded { .. } | AuthState::Misconfigured { .. } => WAITING,
        };
        let looking = async {
            // From the moment that a person is waited for, the looks come more often.
            if let Ok(Ok(())) = tokio::time::timeout(pause, changes.changed()).await {
                return;
            }
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

#[cfg(test)]
mod tests {
    use graph_emulator::{Act, Emulator, Fault, Options, Profile, Route};

    use super::super::token::example;
    use super::super::{AuthConfig, TokenStore};
    use super::*;

    #[tokio::test]
    async fn an_idle_sign_in_is_used_once_a_day_and_tried_once_an_hour() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let service = Emulator::start(Options::new(Profile::Business))
            .await
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::in_dir(dir.path());
        let config = AuthConfig {
            login_url: service.login_url().to_owned(),
            client_id: "app".into(),
            ..AuthConfig::default()
        };
        let now = SystemTime::now();
        let mut token = example(&service.issue_token("app").refresh_token);
        token.login_url.clone_from(&config.login_url);
        token.scope.clear();
        token.expires_at = now + Duration::from_hours(1);
        token.refreshed_at = now - Duration::from_hours(25);
        store.save(&token).unwrap();
        let auth = Authenticator::new(config, store.clone()).unwrap();
        let (mut tried, mut reminded) = (None, None);

        let wrong = Act::Oauth {
            status: 400,
            error: "temporarily_unavailable".into(),
            number: 90033,
        };
        service.inject(Fault::new(Route::Token, wrong).always());
        look(&auth, &mut tried, &mut reminded).await;
        let asked = service.count(Route::Token);
        assert!(asked > 0);
        service.clear_faults();
        auth.look(true).await; // the outage is over, and so is the day
        let asked = service.count(Route::Token);
        for _ in 0..3 {
            look(&auth, &mut tried, &mut reminded).await;
        }
        assert_eq!(service.count(Route::Token), asked, "once is enough");
        let stored = store.load().unwrap().unwrap();
        assert!(stored.refreshed_at > now - Duration::from_mins(1));
    }

    #[tokio::test]
    async fn something_is_due_once_a_period() {
        let mut last = None;
        assert!(is_time(&mut last, TRY));
        assert!(!is_time(&mut last, TRY));
        assert!(is_time(&mut last, Duration::ZERO));
    }
}
