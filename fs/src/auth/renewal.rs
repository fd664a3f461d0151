//! A new access token from what is held: by the refresh token, or by the application's own proof.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::errors::TokenError;
use super::wire::{Endpoint, Registration, kept, may_write};
use super::{AuthConfig, StoredToken};

/// How often the login authority is asked in one go, when it does not answer.
const TRIES: u32 = 3;

/// No try starts later than this after the first: somebody waits for the token.
const BUDGET: Duration = Duration::from_secs(10);

/// Renews a token, by the application that it was issued to and at the authority that issued it;
/// or gets one for the application itself. `claims` is what the drive wants to be shown in
/// addition.
///
/// # Errors
/// See [`TokenError`].
pub async fn renewed(
    config: &AuthConfig,
    held: Option<&StoredToken>,
    claims: Option<&str>,
) -> Result<StoredToken, TokenError> {
    let until = Instant::now() + BUDGET;
    let mut tries = 0;
    loop {
        let outcome = once(config, held, claims).await;
        tries += 1;
        // Who asks to be left alone is not asked again, and neither is who has answered.
        let unclear = matches!(
            &outcome,
            Err(TokenError::Unavailable {
                retry_after: None,
                ..
            })
        );
        if !unclear || tries >= TRIES || Instant::now() >= until {
            return outcome;
        }
        tokio::time::sleep(Duration::from_secs(tries.into())).await;
    }
}

async fn once(
    config: &AuthConfig,
    held: Option<&StoredToken>,
    claims: Option<&str>,
) -> Result<StoredToken, TokenError> {
    if config.app_only {
        let registration = Registration::of(config);
        let endpoint = Endpoint::open(config, &registration, claims).await?;
        let reply = endpoint.app().await.map_err(of_the_application)?;
        return Ok(kept(&reply, &registration, None, SystemTime::now()));
    }
    let held = held.ok_or_else(|| TokenError::sign_in("nobody has signed in yet"))?;
    let registration = Registration::that_issued(held, config)?;
    let endpoint = Endpoint::open(config, &registration, claims).await?;
    let reply = endpoint.refresh(&held.refresh_token).await?;
    may_write(&reply)?;
    Ok(kept(&reply, &registration, Some(held), SystemTime::now()))
}

/// Nobody can sign in for an application: whatever it is refused for, its registration is at fault.
fn of_the_application(error: TokenError) -> TokenError {
    match error {
        TokenError::SignIn { why, .. } => TokenError::Configuration(why),
        other => other,
    }
}
