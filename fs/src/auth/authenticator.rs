//! Gives an access token that is good, whoever asks, however many ask at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::errors::TokenError;
use super::renewal::renewed;
use super::token::Identity;
use super::{AuthConfig, StoredToken, TokenStore};

/// How long before its end an access token is renewed: long enough for a renewal that has to be
/// tried a few times, short against the hour that it lives.
const AHEAD: Duration = Duration::from_mins(5);

/// How often a refresh token is used at least: it dies after 90 days without (trap T26), and a
/// mount that nobody looks at should not be what lets it.
const KEEP_ALIVE: Duration = Duration::from_hours(24);

/// Between two questions to a login authority that did not answer: at first, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// And at most: the end of an outage is noticed within a minute.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How sign-in stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum AuthState {
    /// There is a token that works, as far as is known.
    SignedIn,
    /// A person has to act: `tuyunfs login`, or what the reason advises. What is cached is served,
    /// and changes are kept, meanwhile.
    SignInNeeded {
        /// What the service said.
        why: String,
    },
    /// The login authority cannot be reached. The token is as good as before.
    Unreachable {
        /// What failed.
        why: String,
    },
}

/// Hands out access tokens, renewed ahead of their end, by one request for all who wait.
pub struct Authenticator {
    config: AuthConfig,
    store: TokenStore,
    current: Mutex<Current>,
    /// Held while a token is being got: whoever waits for it finds a new one.
    renewing: tokio::sync::Mutex<()>,
}

struct Current {
    token: Option<StoredToken>,
    file: Option<Identity>,
    state: AuthState,
    since: SystemTime,
    /// Failures in a row to reach the login authority, and until when it is not asked again.
    failures: u32,
    pause: Option<Instant>,
}

impl Current {
    fn set(&mut self, state: AuthState) {
        if self.state != state {
            (self.state, self.since) = (state, SystemTime::now());
        }
    }
}

impl Authenticator {
    /// An authenticator of what is stored; asks nothing.
    ///
    /// # Errors
    /// The stored token cannot be read.
    pub fn new(config: AuthConfig, store: TokenStore) -> Result<Arc<Self>, TokenError> {
        let file = store.identity();
        let token = store.load().map_err(TokenError::Store)?;
        let state = if token.is_some() || config.app_only {
            AuthState::SignedIn
        } else {
            AuthState::SignInNeeded {
                why: "nobody has signed in yet".into(),
            }
        };
        let current = Mutex::new(Current {
            token,
            file,
            state,
            since: SystemTime::now(),
            failures: 0,
            pause: None,
        });
        let renewing = tokio::sync::Mutex::default();
        Ok(Arc::new(Self {
            config,
            store,
            current,
            renewing,
        }))
    }

    /// How sign-in stands.
    #[must_use]
    pub fn state(&self) -> AuthState {
        self.current.lock().state.clone()
    }

    /// Since when it stands so; at first, since the start.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        self.current.lock().since
    }

    /// Until when the access token is good, and when the refresh token was last used.
    #[must_use]
    pub fn times(&self) -> Option<(SystemTime, SystemTime)> {
        let current = self.current.lock();
        current
            .token
            .as_ref()
            .map(|token| (token.expires_at, token.refreshed_at))
    }

    /// Whether a token exists at all.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.current.lock().token.is_some() || self.config.app_only
    }

    /// Whether the refresh token should be used, only to keep it alive.
    #[must_use]
    pub fn keep_alive_due(&self, now: SystemTime) -> bool {
        let current = self.current.lock();
        current.token.as_ref().is_some_and(|token| {
            now.duration_since(token.refreshed_at)
                .is_ok_and(|idle| idle >= KEEP_ALIVE)
        })
    }

    /// An access token that is good for a while.
    ///
    /// # Errors
    /// There is none to be had; see [`TokenError`].
    pub async fn access(&self) -> Result<SecretString, TokenError> {
        if let Some(token) = self.good_for(AHEAD) {
            return Ok(token);
        }
        let _one = if let Ok(one) = self.renewing.try_lock() {
            one
        } else {
            // Somebody is at it, in good time: no reason to wait with a token that is still good.
            if let Some(token) = self.good_for(Duration::ZERO) {
                return Ok(token);
            }
            self.renewing.lock().await
        };
        self.renew_now().await
    }

    /// Another access token in place of one that the drive has refused.
    ///
    /// # Errors
    /// There is none to be had; see [`TokenError`].
    pub async fn renew(&self, refused: &SecretString) -> Result<(), TokenError> {
        let _one = self.renewing.lock().await;
        {
            let mut current = self.current.lock();
            if let Some(token) = &mut current.token {
                if token.access_token.expose_secret() != refused.expose_secret() {
                    return Ok(()); // somebody else has renewed it meanwhile
                }
                token.expires_at = SystemTime::UNIX_EPOCH;
            }
        }
        self.renew_now().await.map(drop)
    }

    /// Uses the refresh token, though the access token may be good for a while yet.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn refresh(&self) -> Result<(), TokenError> {
        let _one = self.renewing.lock().await;
        self.reload();
        self.ask().await.map(drop)
    }

    fn good_for(&self, ahead: Duration) -> Option<SecretString> {
        let current = self.current.lock();
        let token = current.token.as_ref()?;
        (token.expires_at > SystemTime::now() + ahead).then(|| token.access_token.clone())
    }

    /// A token, by whatever it takes. Called by who holds `renewing`.
    async fn renew_now(&self) -> Result<SecretString, TokenError> {
        self.reload();
        if let Some(token) = self.good_for(AHEAD) {
            return Ok(token); // renewed while we waited, or a new sign-in lay in the file
        }
        let (state, paused) = {
            let current = self.current.lock();
            let paused = current.pause.is_some_and(|until| Instant::now() < until);
            (current.state.clone(), paused)
        };
        let failure = match state {
            // Only a new sign-in helps, and `reload` would have found it.
            AuthState::SignInNeeded { why } => return Err(TokenError::SignIn(why)),
            AuthState::Unreachable { why } if paused => TokenError::Unavailable(why),
            AuthState::Unreachable { .. } | AuthState::SignedIn => match self.ask().await {
                Ok(token) => return Ok(token),
                Err(error) => error,
            },
        };
        match (failure, self.good_for(Duration::ZERO)) {
            // One that ends soon is better than none.
            (TokenError::Unavailable(_), Some(token)) => Ok(token),
            (failure, _) => Err(failure),
        }
    }

    /// Asks the login authority, and keeps what it says.
    async fn ask(&self) -> Result<SecretString, TokenError> {
        let held = self.current.lock().token.clone();
        match renewed(&self.config, held.as_ref()).await {
            Ok(token) => Ok(self.take(token).await),
            Err(error) => {
                self.note(&error);
                Err(error)
            }
        }
    }

    fn note(&self, error: &TokenError) {
        let mut current = self.current.lock();
        match error {
            TokenError::Unavailable(why) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << current.failures.min(8));
                current.pause = Some(Instant::now() + pause.min(LONGEST_PAUSE));
                current.failures += 1;
                current.set(AuthState::Unreachable { why: why.clone() });
            }
            TokenError::SignIn(_) | TokenError::Configuration(_) => {
                tracing::error!(%error, "sign-in is needed: run `tuyunfs login`; cached files are served, changes are kept");
                let why = error.to_string();
                current.set(AuthState::SignInNeeded { why });
            }
            TokenError::Store(_) => {}
        }
    }

    /// Stored before it is used, so that a crash finds the newest refresh token on disk.
    async fn take(&self, token: StoredToken) -> SecretString {
        let kept = if self.config.app_only {
            Kept::Ours(None) // there is always another to be had by the secret
        } else {
            self.keep(token.clone()).await
        };
        let mut current = self.current.lock();
        let token = match kept {
            Kept::Ours(file) => {
                current.file = file;
                token
            }
            Kept::Theirs(theirs, file) => {
                current.file = file;
                *theirs
            }
        };
        let access = token.access_token.clone();
        current.token = Some(token);
        (current.failures, current.pause) = (0, None);
        current.set(AuthState::SignedIn);
        access
    }

    async fn keep(&self, token: StoredToken) -> Kept {
        let (store, known) = (self.store.clone(), self.current.lock().file);
        let keeping = tokio::task::spawn_blocking(move || {
            let now = store.identity();
            // A new sign-in, while we were asking: that one counts.
            if now.is_some()
                && now != known
                && let Ok(Some(theirs)) = store.load()
            {
                return Kept::Theirs(Box::new(theirs), now);
            }
            if let Err(error) = store.save(&token) {
                // The old one is not revoked by the exchange: nothing is lost unless it gets old.
                tracing::error!(%error, path = %store.path().display(), "cannot store the new token; it is used all the same");
            }
            Kept::Ours(store.identity())
        });
        keeping.await.unwrap_or(Kept::Ours(known))
    }

    /// Takes a token that `tuyunfs login` has put there since.
    fn reload(&self) {
        let file = self.store.identity();
        let mut current = self.current.lock();
        if file.is_none() || file == current.file {
            return;
        }
        current.file = file;
        match self.store.load() {
            Ok(Some(token)) => {
                tracing::info!("a new sign-in was found");
                current.token = Some(token);
                (current.failures, current.pause) = (0, None);
                current.set(AuthState::SignedIn);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, path = %self.store.path().display(), "cannot read the new token; run `tuyunfs login` as the user that mounts");
            }
        }
    }
}

/// Which token is in the file.
enum Kept {
    Ours(Option<Identity>),
    Theirs(Box<StoredToken>, Option<Identity>),
}
