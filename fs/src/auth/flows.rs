//! The two ways in which a person signs in: on another device, or in a browser here.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use oauth2::{
    AuthorizationCode, CsrfToken, PkceCodeChallenge, RedirectUrl,
    StandardDeviceAuthorizationResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::errors::{TokenError, judge};
use super::wire::{Endpoint, error_name, explain, keep};
use super::{AuthConfig, StoredToken};

/// How long a browser sign-in may take: a code is good for ten minutes (section 2.2).
const BROWSER: Duration = Duration::from_mins(10);

/// The head of a request that a browser sends to the loopback address.
const HEAD_LIMIT: usize = 16 << 10;

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

/// Signs in by a code that is typed on another device.
///
/// # Errors
/// Refused, expired, or the service cannot be reached.
pub async fn sign_in_device(
    config: &AuthConfig,
    mut tell: impl FnMut(Prompt),
) -> Result<StoredToken, TokenError> {
    let secret = config.client_secret.as_ref();
    let endpoint = Endpoint::new(config, &config.client_id, secret, &config.tenant)?;
    let details: StandardDeviceAuthorizationResponse = endpoint
        .client
        .exchange_device_code()
        .add_scopes(endpoint.scopes())
        .request_async(&endpoint.http)
        .await
        .map_err(explain)?;
    tell(Prompt::Device {
        url: details.verification_uri().to_string(),
        code: details.user_code().secret().clone(),
    });
    let reply = endpoint
        .client
        .exchange_device_access_token(&details)
        .request_async(&endpoint.http, tokio::time::sleep, None)
        .await
        .map_err(|error| match error {
            oauth2::RequestTokenError::ServerResponse(refusal) => {
                let text = refusal.error_description().map_or("", String::as_str);
                judge(&error_name(refusal.error()), text)
            }
            oauth2::RequestTokenError::Request(trouble) => {
                TokenError::Unavailable(trouble.to_string())
            }
            oauth2::RequestTokenError::Parse(..) => {
                TokenError::Unavailable("its reply cannot be read".into())
            }
            oauth2::RequestTokenError::Other(what) => TokenError::SignIn(what),
        })?;
    let (id, secret) = (&config.client_id, config.client_secret.clone());
    Ok(keep(
        &reply,
        id,
        secret,
        &config.tenant,
        None,
        SystemTime::now(),
    ))
}

/// Signs in by a browser on this machine, which comes back to a port of ours.
///
/// # Errors
/// Refused, not finished in time, or the service cannot be reached.
pub async fn sign_in_browser(
    config: &AuthConfig,
    mut tell: impl FnMut(Prompt),
) -> Result<StoredToken, TokenError> {
    let secret = config.client_secret.as_ref();
    let endpoint = Endpoint::new(config, &config.client_id, secret, &config.tenant)?;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(here).await.map_err(TokenError::Store)?;
    let port = listener.local_addr().map_err(TokenError::Store)?.port();
    // For `localhost` the port is ignored when it is compared with the registered one.
    let redirect = RedirectUrl::new(format!("http://localhost:{port}"))
        .map_err(|error| TokenError::Configuration(error.to_string()))?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let client = endpoint.client.clone().set_redirect_uri(redirect);
    let (url, state) = client
        .authorize_url(CsrfToken::new_random)
        .add_scopes(endpoint.scopes())
        .add_extra_param("response_mode", "query")
        .add_extra_param("prompt", "select_account")
        .set_pkce_challenge(challenge)
        .url();
    tell(Prompt::Browser {
        url: url.to_string(),
    });
    let code = tokio::time::timeout(BROWSER, callback(&listener, state.secret()))
        .await
        .map_err(|_| TokenError::SignIn("nobody signed in within ten minutes".into()))??;
    let reply = client
        .exchange_code(AuthorizationCode::new(code))
        .set_pkce_verifier(verifier)
        .request_async(&endpoint.http)
        .await
        .map_err(explain)?;
    let (id, secret) = (&config.client_id, config.client_secret.clone());
    Ok(keep(
        &reply,
        id,
        secret,
        &config.tenant,
        None,
        SystemTime::now(),
    ))
}

/// Waits for the browser to come back with our own `state`; whatever else asks is sent away.
async fn callback(listener: &TcpListener, state: &str) -> Result<String, TokenError> {
    loop {
        let (mut stream, _) = listener.accept().await.map_err(TokenError::Store)?;
        let Some(query) = query_of(&mut stream).await else {
            continue;
        };
        let value = |name: &str| {
            let pair = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
            pair.map(|(_, value)| value.into_owned())
        };
        if value("state").as_deref() != Some(state) {
            answer(&mut stream, "404 Not Found", "Not here.").await;
            continue;
        }
        if let Some(error) = value("error") {
            let text = value("error_description").unwrap_or_default();
            answer(
                &mut stream,
                "200 OK",
                "Sign-in was refused. You may close this page. 登录未完成，可关闭本页。",
            )
            .await;
            return Err(judge(&error, &text));
        }
        if let Some(code) = value("code") {
            answer(
                &mut stream,
                "200 OK",
                "Signed in. You may close this page. 登录成功，可关闭本页。",
            )
            .await;
            return Ok(code);
        }
        answer(&mut stream, "404 Not Found", "Not here.").await;
    }
}

/// The query of a GET request's target.
async fn query_of(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut piece)).await;
        let count = read.ok()?.ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&piece[..count]);
        if head.len() > HEAD_LIMIT {
            return None;
        }
    }
    let text = std::str::from_utf8(&head).ok()?;
    let target = text
        .lines()
        .next()?
        .strip_prefix("GET ")?
        .split(' ')
        .next()?;
    Some(
        target
            .split_once('?')
            .map_or("", |(_, query)| query)
            .to_owned(),
    )
}

async fn answer(stream: &mut TcpStream, status: &str, text: &str) {
    let page = format!(
        "<!doctype html><meta charset=utf-8><title>Tuyun</title><p style=\"font:18px sans-serif\">{text}"
    );
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
}
