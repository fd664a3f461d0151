//! Gives an access token that is good, whoever asks, however many ask at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use super::errors::TokenError;
use super::token::Identity;
use super::wire::{Endpoint, keep};
use super::{AuthConfig, StoredToken, TokenStore};

/// How long before its end an access token is renewed: long enough for a renewal that has to be
/// tried a few times, short against the hour that it lives.
const AHEAD: Duration = Duration::from_mins(5);

/// How often a refresh token is used at least: it dies after 90 days without (trap T26), and a
/// mount that nobody looks at should not be what lets it.
const KEEP_ALIVE: Duration = Duration::from_hours(24);

/// Between two questions to a login authority that did not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// How sign-in stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum AuthState {
    /// There is a token that works, as far as is known.
    SignedIn,
    /// A person has to sign in: `tuyunfs login`.
    SignInNeeded {
        /// What the service said.
        why: String,
    },
    /// The login authority cannot be reached.
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
    asked: Option<SystemTime>,
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
            asked: None,
        });
        Ok(Arc::new(Self {
            config,
            store,
            current,
            renewing: tokio::sync::Mutex::default(),
        }))
    }

    /// How sign-in stands.
    #[must_use]
    pub fn state(&self) -> AuthState {
        self.current.lock().state.clone()
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

    /// An access token that is good for a while.
    ///
    /// # Errors
    /// There is none to be had; see [`TokenError`].
    pub async fn access(&self) -> Result<SecretString, TokenError> {
        if let Some(token) = self.good(SystemTime::now()) {
            return Ok(token);
        }
        let _one = self.renewing.lock().await;
        let now = SystemTime::now();
        if let Some(token) = self.good(now) {
            return Ok(token); // somebody else has renewed it meanwhile
        }
        self.renew_now(now).await
    }

    /// Another access token in place of one that the drive has refused.
    ///
    /// # Errors
    /// There is none to be had; see [`TokenError`].
    pub async fn renew(&self, refused: &SecretString) -> Result<(), TokenError> {
        let _one = self.renewing.lock().await;
        let held = self
            .current
            .lock()
            .token
            .as_ref()
            .map(|token| token.access_token.clone());
        if held.is_some_and(|held| held.expose_secret() != refused.expose_secret()) {
            return Ok(());
        }
        if let Some(token) = &mut self.current.lock().token {
            token.expires_at = SystemTime::UNIX_EPOCH;
        }
        self.renew_now(SystemTime::now()).await.map(drop)
    }

    /// Uses the refresh token, though the access token is good for a while yet.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn refresh(&self) -> Result<(), TokenError> {
        let _one = self.renewing.lock().await;
        let (now, held) = (SystemTime::now(), self.current.lock().token.clone());
        let token = self.ask(held.as_ref(), now).await?;
        self.take(token)
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

    fn good(&self, now: SystemTime) -> Option<SecretString> {
        let current = self.current.lock();
        let token = current.token.as_ref()?;
        (token.expires_at > now + AHEAD).then(|| token.access_token.clone())
    }

    async fn renew_now(&self, now: SystemTime) -> Result<SecretString, TokenError> {
        self.reload()?;
        if let Some(token) = self.good(now) {
            return Ok(token); // a new sign-in lay in the file
        }
        let (held, state, asked) = {
            let current = self.current.lock();
            (current.token.clone(), current.state.clone(), current.asked)
        };
        let recently = asked.is_some_and(|at| now.duration_since(at).is_ok_and(|p| p < PAUSE));
        match state {
            AuthState::SignInNeeded { why } => return Err(TokenError::SignIn(why)),
            AuthState::Unreachable { why } if recently => return Self::make_do(held, now, why),
            AuthState::Unreachable { .. } | AuthState::SignedIn => {}
        }
        let got = self.ask(held.as_ref(), now).await;
        let mut current = self.current.lock();
        current.asked = Some(now);
        match got {
            Ok(token) => {
                drop(current);
                let access = token.access_token.clone();
                self.take(token)?;
                Ok(access)
            }
            Err(TokenError::Unavailable(why)) => {
                current.state = AuthState::Unreachable { why: why.clone() };
                drop(current);
                Self::make_do(held, now, why)
            }
            Err(error @ (TokenError::SignIn(_) | TokenError::Configuration(_))) => {
                tracing::error!(%error, "sign-in is needed: run `tuyunfs login`; cached files are served, changes are kept");
                current.state = AuthState::SignInNeeded {
                    why: error.to_string(),
                };
                Err(error)
            }
            Err(error @ TokenError::Store(_)) => Err(error),
        }
    }

    /// Stored before it is used: the old refresh token may be good for nothing afterwards.
    fn take(&self, token: StoredToken) -> Result<(), TokenError> {
        let mut current = self.current.lock();
        if !self.config.app_only {
            self.store.save(&token).map_err(TokenError::Store)?;
            current.file = self.store.identity();
        }
        current.token = Some(token);
        current.state = AuthState::SignedIn;
        Ok(())
    }

    /// A token that ends soon is better than none.
    fn make_do(
        held: Option<StoredToken>,
        now: SystemTime,
        why: String,
    ) -> Result<SecretString, TokenError> {
        match held {
            Some(token) if token.expires_at > now => Ok(token.access_token),
            _ => Err(TokenError::Unavailable(why)),
        }
    }

    async fn ask(
        &self,
        held: Option<&StoredToken>,
        now: SystemTime,
    ) -> Result<StoredToken, TokenError> {
        let config = &self.config;
        if config.app_only {
            let secret = config.client_secret.as_ref();
            let endpoint = Endpoint::new(config, &config.client_id, secret, &config.tenant)?;
            let reply = endpoint.app().await?;
            return Ok(keep(
                &reply,
                &config.client_id,
                None,
                &config.tenant,
                None,
                now,
            ));
        }
        let held = held.ok_or_else(|| TokenError::SignIn("nobody has signed in yet".into()))?;
        // A token is renewed by the application that it was issued to, and by no other.
        let own = held.client_id == config.client_id;
        let secret = held
            .client_secret
            .as_ref()
            .or(config.client_secret.as_ref().filter(|_| own));
        let endpoint = Endpoint::new(config, &held.client_id, secret, &held.tenant)?;
        let reply = endpoint.refresh(&held.refresh_token).await?;
        let (secret, old) = (held.client_secret.clone(), Some(&held.refresh_token));
        Ok(keep(
            &reply,
            &held.client_id,
            secret,
            &held.tenant,
            old,
            now,
        ))
    }

    /// Takes a token that `tuyunfs login` has put there since.
    fn reload(&self) -> Result<(), TokenError> {
        let file = self.store.identity();
        let mut current = self.current.lock();
        if file.is_none() || file == current.file {
            return Ok(());
        }
        if let Some(token) = self.store.load().map_err(TokenError::Store)? {
            current.token = Some(token);
            current.state = AuthState::SignedIn;
        }
        current.file = file;
        Ok(())
    }
}
