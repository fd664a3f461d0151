//! The two ways in which a person signs in: on another device, or in a browser here.

use std::time::{Duration, SystemTime};

use oauth2::{
    AuthorizationCode, CsrfToken, PkceCodeChallenge, RedirectUrl,
    StandardDeviceAuthorizationResponse, TokenResponse,
};

use super::callback::Callback;
use super::errors::TokenError;
use super::wire::{Endpoint, Registration, Reply, kept, may_write};
use super::{AuthConfig, StoredToken};

/// How long a browser sign-in may take: its code is good for ten minutes (section 2.2).
const BROWSER: Duration = Duration::from_mins(10);

/// What to tell the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Open this address anywhere and type this code.
    Device {
        /// The address.
        url: String,
        /// The code.
        code: String,
    },
    /// Open this address in a browser on this machine.
    Browser {
        /// The address.
        url: String,
    },
}

/// Signs in by a code that is typed on another device. `claims` is what the drive wants to be
/// shown in addition.
///
/// # Errors
/// Refused, expired, or the service cannot be reached.
pub async fn sign_in_device(
    config: &AuthConfig,
    claims: Option<&str>,
    mut tell: impl FnMut(Prompt),
) -> Result<StoredToken, TokenError> {
    let registration = Registration::of(config);
    let endpoint = Endpoint::open(config, &registration, claims).await?;
    let mut asking = endpoint
        .client
        .exchange_device_code()
        .add_scopes(endpoint.scopes());
    for (name, value) in endpoint.extras() {
        asking = asking.add_extra_param(name, value);
    }
    let details: StandardDeviceAuthorizationResponse = asking
        .request_async(&endpoint.http)
        .await
        .map_err(|error| endpoint.explain(error))?;
    tell(Prompt::Device {
        url: details.verification_uri().to_string(),
        code: details.user_code().secret().clone(),
    });
    let mut polling = endpoint.client.exchange_device_access_token(&details);
    for (name, value) in endpoint.extras() {
        polling = polling.add_extra_param(name, value);
    }
    let reply = polling
        .request_async(&endpoint.http, tokio::time::sleep, None)
        .await
        .map_err(|error| endpoint.explain(error))?;
    signed_in(&reply, &registration)
}

/// Signs in by a browser on this machine, which comes back to a port of ours. `claims` is what
/// the drive wants to be shown in addition.
///
/// # Errors
/// Refused, not finished in time, or the service cannot be reached.
pub async fn sign_in_browser(
    config: &AuthConfig,
    claims: Option<&str>,
    mut tell: impl FnMut(Prompt),
) -> Result<StoredToken, TokenError> {
    let registration = Registration::of(config);
    let endpoint = Endpoint::open(config, &registration, claims).await?;
    let callback = Callback::listen().await.map_err(TokenError::Store)?;
    let redirect = RedirectUrl::new(callback.address())
        .map_err(|error| TokenError::Configuration(error.to_string()))?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let client = endpoint.client.clone().set_redirect_uri(redirect);
    let mut asking = client
        .authorize_url(CsrfToken::new_random)
        .add_scopes(endpoint.scopes())
        .add_extra_param("response_mode", "query")
        .add_extra_param("prompt", "select_account")
        .set_pkce_challenge(challenge);
    if let Some(claims) = claims {
        asking = asking.add_extra_param("claims", claims.to_owned());
    }
    let (url, state) = asking.url();
    tell(Prompt::Browser {
        url: url.to_string(),
    });
    let code = tokio::time::timeout(BROWSER, callback.code(state.secret()))
        .await
        .map_err(|_| TokenError::sign_in("nobody signed in within ten minutes"))??;
    // An assertion that was made before a person took their time may have ended meanwhile.
    let endpoint = Endpoint::open(config, &registration, claims).await?;
    let mut exchange = client
        .exchange_code(AuthorizationCode::new(code))
        .add_extra_param("scope", registration.scopes.join(" "))
        .set_pkce_verifier(verifier);
    for (name, value) in endpoint.extras() {
        exchange = exchange.add_extra_param(name, value);
    }
    let reply = exchange
        .request_async(&endpoint.http)
        .await
        .map_err(|error| endpoint.explain(error))?;
    signed_in(&reply, &registration)
}

fn signed_in(reply: &Reply, registration: &Registration) -> Result<StoredToken, TokenError> {
    may_write(reply)?;
    if reply.refresh_token().is_none() {
        // Without one the mount would end with the hour (section 2.2).
        return Err(TokenError::Configuration(
            "the service gave no refresh token: allow the app the delegated permission offline_access"
                .into(),
        ));
    }
    Ok(kept(reply, registration, None, SystemTime::now()))
}
