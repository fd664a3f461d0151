//! Gives an access token that is good, whoever asks, however many ask at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use super::current::Current;
use super::errors::TokenError;
use super::renewal::renewed;
use super::state::{AuthState, Standing};
use super::token::{Identity, identity};
use super::{AuthConfig, StoredToken, TokenStore, lifetime};

/// How long before its end an access token is renewed: long enough for a renewal that has to be
/// tried a few times, short against the hour that it lives.
const AHEAD: Duration = Duration::from_mins(5);

/// Hands out access tokens, renewed ahead of their end, by one request for all who wait.
pub struct Authenticator {
    config: AuthConfig,
    store: TokenStore,
    current: Mutex<Current>,
    /// Held while a token is being got: whoever waits for it finds a new one.
    renewing: tokio::sync::Mutex<()>,
}

impl Authenticator {
    /// An authenticator of what is stored; asks nothing. A stored token that is damaged is one
    /// that nobody has: what is cached can be served without it.
    ///
    /// # Errors
    /// The stored token cannot be read.
    pub fn new(config: AuthConfig, store: TokenStore) -> Result<Arc<Self>, TokenError> {
        let file = store.identity();
        let (token, why) = match store.load() {
            Ok(token) => (token, "nobody has signed in yet".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                let why = format!(
                    "the stored token {} is damaged: {error}",
                    store.path().display()
                );
                tracing::error!(why, "sign-in is needed: run `tuyunfs login`");
                (None, why)
            }
            Err(error) => return Err(TokenError::Store(error)),
        };
        let state = if token.is_some() || config.app_only {
            AuthState::SignedIn
        } else {
            AuthState::SignInNeeded { why, claims: None }
        };
        let current = Mutex::new(Current::new(state, token, file));
        Ok(Arc::new(Self {
            config,
            store,
            current,
            renewing: tokio::sync::Mutex::default(),
        }))
    }

    /// An authenticator of a token that is not stored yet, to try it.
    ///
    /// # Errors
    /// What is stored cannot be read.
    pub fn holding(
        config: AuthConfig,
        store: TokenStore,
        token: StoredToken,
    ) -> Result<Arc<Self>, TokenError> {
        let auth = Self::new(config, store)?;
        auth.current.lock().good(token);
        Ok(auth)
    }

    /// How sign-in stands.
    #[must_use]
    pub fn state(&self) -> AuthState {
        self.current.lock().state.clone()
    }

    /// How sign-in stands, since when, and for how long.
    #[must_use]
    pub fn standing(&self, now: SystemTime) -> Standing {
        let current = self.current.lock();
        // An application has nothing that ends by itself; its token is had anew each time.
        let lasting = current.token.as_ref().filter(|_| !self.config.app_only);
        Standing {
            state: current.state.clone(),
            since: current.since,
            access_until: current.token.as_ref().map(|token| token.expires_at),
            refreshed: lasting.map(|token| token.refreshed_at),
            lasts_until: lasting.map(lifetime::lasts_until),
            warning: lasting.and_then(|token| lifetime::warning(token, now)),
        }
    }

    /// Changes each time that the state does: what waited for a sign-in may go on at once.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.current.lock().changes.subscribe()
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
        let token = current.token.as_ref().filter(|_| !self.config.app_only);
        token.is_some_and(|token| lifetime::keep_alive_due(token, now))
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
        self.renew_now(None).await
    }

    /// Another access token in place of one that the drive has refused; `claims` is what it wants
    /// to be shown in addition.
    ///
    /// # Errors
    /// There is none to be had; see [`TokenError`].
    pub async fn renew(
        &self,
        refused: &SecretString,
        claims: Option<&str>,
    ) -> Result<(), TokenError> {
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
        self.renew_now(claims).await.map(drop)
    }

    /// The drive wants more than any renewal shows: a person has to sign in, and to show `claims`.
    pub fn challenged(&self, why: &str, claims: Option<String>) {
        let mut current = self.current.lock();
        if let Some(token) = &mut current.token {
            token.expires_at = SystemTime::UNIX_EPOCH;
        }
        if self.config.app_only {
            current.wrong(why.to_owned(), self.proof());
        } else {
            current.needed(why.to_owned(), claims);
        }
    }

    /// Uses the refresh token, though the access token may be good for a while yet.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn refresh(&self) -> Result<(), TokenError> {
        let _one = self.renewing.lock().await;
        self.reload();
        self.ask(None).await.map(drop)
    }

    /// Looks whether a new sign-in, or a new proof of the application, lies in its file; asked
    /// with `at_once`, also tries again what was only waiting for its time.
    pub async fn look(&self, at_once: bool) {
        let _one = self.renewing.lock().await;
        self.reload();
        let due = {
            let current = self.current.lock();
            match &current.state {
                AuthState::SignedIn | AuthState::SignInNeeded { .. } => false,
                AuthState::Unreachable { .. } => at_once,
                AuthState::Misconfigured { .. } => at_once || !current.paused(),
            }
        };
        if due && let Err(error) = self.ask(None).await {
            tracing::debug!(%error, "looked at the sign-in again, in vain");
        }
    }

    fn good_for(&self, ahead: Duration) -> Option<SecretString> {
        let current = self.current.lock();
        let token = current.token.as_ref()?;
        (token.expires_at > SystemTime::now() + ahead).then(|| token.access_token.clone())
    }

    /// A token, by whatever it takes. Called by who holds `renewing`.
    async fn renew_now(&self, claims: Option<&str>) -> Result<SecretString, TokenError> {
        self.reload();
        if let Some(token) = self.good_for(AHEAD) {
            return Ok(token); // renewed while we waited, or a new sign-in lay in the file
        }
        let (state, paused) = {
            let current = self.current.lock();
            (current.state.clone(), current.paused())
        };
        let failure = match state {
            // Only a new sign-in helps, and `reload` would have found it.
            AuthState::SignInNeeded { why, claims } => {
                return Err(TokenError::SignIn { why, claims });
            }
            AuthState::Misconfigured { why } if paused => {
                return Err(TokenError::Configuration(why));
            }
            AuthState::Unreachable { why } if paused => TokenError::unavailable(why),
            AuthState::Unreachable { .. }
            | AuthState::Misconfigured { .. }
            | AuthState::SignedIn => match self.ask(claims).await {
                Ok(token) => return Ok(token),
                Err(error) => error,
            },
        };
        match (failure, self.good_for(Duration::ZERO)) {
            // One that ends soon is better than none.
            (TokenError::Unavailable { .. }, Some(token)) => Ok(token),
            (failure, _) => Err(failure),
        }
    }

    /// Asks the login authority, and keeps what it says.
    async fn ask(&self, claims: Option<&str>) -> Result<SecretString, TokenError> {
        let held = self.current.lock().token.clone();
        match renewed(&self.config, held.as_ref(), claims).await {
            Ok(token) => Ok(self.take(token).await),
            Err(error) => {
                self.current.lock().note(&error, self.proof());
                Err(error)
            }
        }
    }

    fn proof(&self) -> [Option<Identity>; 2] {
        self.config.credential.files().map(|path| identity(path?))
    }

    /// Stored before it is used, so that a crash finds the newest refresh token on disk.
    async fn take(&self, token: StoredToken) -> SecretString {
        let kept = if self.config.app_only {
            Kept::Ours(None) // there is always another to be had by the application's proof
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
        current.good(token);
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

    /// Takes a token that `tuyunfs login` has put there since, and notices a new proof.
    fn reload(&self) {
        let (file, proof) = (self.store.identity(), self.proof());
        let mut current = self.current.lock();
        if matches!(current.state, AuthState::Misconfigured { .. }) && proof != current.proof {
            current.proof = proof;
            current.pause = None;
        }
        if self.config.app_only || file.is_none() || file == current.file {
            return;
        }
        current.file = file;
        match self.store.load() {
            Ok(Some(token)) => {
                tracing::info!("a new sign-in was found");
                current.good(token);
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
