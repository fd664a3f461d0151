//! A new access token from what is held: by the refresh token, or by the application's secret.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::errors::TokenError;
use super::wire::{Endpoint, Registration, kept};
use super::{AuthConfig, StoredToken};

/// How often the login authority is asked in one go, when it does not answer.
const TRIES: u32 = 3;

/// No try starts later than this after the first: somebody waits for the token.
const BUDGET: Duration = Duration::from_secs(10);

/// Renews a token, by the application that it was issued to and at the authority that issued it;
/// or gets one for the application itself.
///
/// # Errors
/// See [`TokenError`].
pub async fn renewed(
    config: &AuthConfig,
    held: Option<&StoredToken>,
) -> Result<StoredToken, TokenError> {
    let until = Instant::now() + BUDGET;
    let mut tries = 0;
    loop {
        let failure = match once(config, held).await {
            Err(TokenError::Unavailable(what)) => what,
            other => return other,
        };
        tries += 1;
        if tries >= TRIES || Instant::now() >= until {
            return Err(TokenError::Unavailable(failure));
        }
        tokio::time::sleep(Duration::from_secs(tries.into())).await;
    }
}

async fn once(config: &AuthConfig, held: Option<&StoredToken>) -> Result<StoredToken, TokenError> {
    if config.app_only {
        let registration = Registration::of(config);
        let reply = Endpoint::new(config, &registration)?.app().await?;
        return Ok(kept(&reply, &registration, None, SystemTime::now()));
    }
    let held = held.ok_or_else(|| TokenError::SignIn("nobody has signed in yet".into()))?;
    let registration = Registration::that_issued(held, config)?;
    let reply = Endpoint::new(config, &registration)?
        .refresh(&held.refresh_token)
        .await?;
    Ok(kept(&reply, &registration, Some(held), SystemTime::now()))
}
