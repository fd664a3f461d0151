//! What is held of a sign-in, and how each answer changes it.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::StoredToken;
use super::errors::TokenError;
use super::state::AuthState;
use super::token::Identity;

/// Between two questions to a login authority that did not answer: at first, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// And at most: the end of an outage is noticed within a minute.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Between two questions about a registration that is wrong. It may be put right where we do not
/// see it, in the service's portal; asking more often would only be refused more often.
const WRONG_PAUSE: Duration = Duration::from_hours(1);

/// What is held, how it stands, and when to ask again.
pub(super) struct Current {
    pub(super) token: Option<StoredToken>,
    pub(super) file: Option<Identity>,
    /// The files of the application's proof, as they were when it was last refused.
    pub(super) proof: [Option<Identity>; 2],
    pub(super) state: AuthState,
    pub(super) since: SystemTime,
    /// Failures in a row to reach the login authority, and until when it is not asked again.
    failures: u32,
    pub(super) pause: Option<Instant>,
    /// Counts the changes from one state to another.
    pub(super) changes: watch::Sender<u64>,
}

impl Current {
    /// As found at the start.
    pub(super) fn new(
        state: AuthState,
        token: Option<StoredToken>,
        file: Option<Identity>,
    ) -> Self {
        Self {
            token,
            file,
            proof: [None; 2],
            state,
            since: SystemTime::now(),
            failures: 0,
            pause: None,
            changes: watch::Sender::new(0),
        }
    }

    fn set(&mut self, state: AuthState) {
        let other = self.state.name() != state.name();
        self.state = state;
        if other {
            self.since = SystemTime::now();
            self.changes.send_modify(|times| *times += 1);
        }
    }

    /// Whether it is too early to ask again.
    pub(super) fn paused(&self) -> bool {
        self.pause.is_some_and(|until| Instant::now() < until)
    }

    /// A token that works.
    pub(super) fn good(&mut self, token: StoredToken) {
        self.token = Some(token);
        (self.failures, self.pause) = (0, None);
        if self.state != AuthState::SignedIn {
            tracing::info!("signed in");
            self.set(AuthState::SignedIn);
        }
    }

    /// There was none to be had; `proof` is what the application proved itself by.
    pub(super) fn note(&mut self, error: &TokenError, proof: [Option<Identity>; 2]) {
        match error {
            TokenError::Unavailable { what, retry_after } => {
                let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8));
                let pause = pause
                    .min(LONGEST_PAUSE)
                    .max(retry_after.unwrap_or_default());
                self.pause = Some(Instant::now() + pause);
                self.failures = self.failures.saturating_add(1);
                let why = what.clone();
                self.set(AuthState::Unreachable { why });
            }
            TokenError::SignIn { why, claims } => self.needed(why.clone(), claims.clone()),
            TokenError::Configuration(why) => self.wrong(why.clone(), proof),
            TokenError::Store(_) => {}
        }
    }

    /// A person has to sign in.
    pub(super) fn needed(&mut self, why: String, claims: Option<String>) {
        tracing::error!(
            why,
            "sign-in is needed: run `tuyunfs login`; cached files are served, changes are kept"
        );
        self.set(AuthState::SignInNeeded { why, claims });
    }

    /// The settings or the registration have to be put right.
    pub(super) fn wrong(&mut self, why: String, proof: [Option<Identity>; 2]) {
        tracing::error!(
            why,
            "the sign-in is refused for what the settings or the app's registration say; cached files are served, changes are kept"
        );
        self.proof = proof;
        self.pause = Some(Instant::now() + WRONG_PAUSE);
        self.set(AuthState::Misconfigured { why });
    }
}
