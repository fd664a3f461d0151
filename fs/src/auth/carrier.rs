//! Carries the `oauth2` crate's requests over our own HTTP client.
//!
//! It keeps what the crate leaves out of a refusal (the claims that a sign-in has to show), and
//! takes the service's own trouble for what it is before anybody reads a body that is not about the
//! token.

use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use oauth2::{HttpRequest, HttpResponse};
use parking_lot::Mutex;

use super::AuthConfig;
use super::errors::{Refusal, TokenError};

/// A reply of the token endpoint is a few kilobytes.
const BODY_LIMIT: usize = 1 << 20;

/// The whole of one request to the login authority.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time to reach the login authority.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest wish to be left alone that is believed: a person may be waiting.
const LONGEST_WISH: Duration = Duration::from_hours(1);

/// What went wrong below OAuth.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct HttpTrouble {
    pub(super) what: String,
    pub(super) retry_after: Option<Duration>,
}

/// An HTTP client, and the last refusal that it brought.
pub(super) struct Carrier {
    http: reqwest::Client,
    refusal: Mutex<Refusal>,
}

impl<'c> oauth2::AsyncHttpClient<'c> for Carrier {
    type Error = HttpTrouble;
    type Future = BoxFuture<'c, Result<HttpResponse, HttpTrouble>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.carry(request))
    }
}

impl Carrier {
    pub(super) fn new(config: &AuthConfig) -> Result<Self, TokenError> {
        let wrong = |what: String| TokenError::Configuration(what);
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("tuyunfs/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(PATIENCE);
        if let Some(pem) = &config.ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| wrong(format!("drive.ca_file holds no certificate: {error}")))?;
            // A file of another form (DER, a key) reads as an empty bundle.
            if certificates.is_empty() {
                return Err(wrong(
                    "drive.ca_file holds no certificate in PEM form".into(),
                ));
            }
            for certificate in certificates {
                http = http.add_root_certificate(certificate);
            }
        }
        let http = http
            .build()
            .map_err(|error| wrong(format!("cannot set up TLS: {error}")))?;
        Ok(Self {
            http,
            refusal: Mutex::default(),
        })
    }

    /// The last refusal.
    pub(super) fn refusal(&self) -> Refusal {
        self.refusal.lock().clone()
    }

    /// Carries one request of the crate's.
    async fn carry(&self, request: HttpRequest) -> Result<HttpResponse, HttpTrouble> {
        let request = reqwest::Request::try_from(request).map_err(trouble)?;
        let mut response = self.http.execute(request).await.map_err(trouble)?;
        let status = response.status();
        // Trouble of its own, and throttling: whatever the body says, it is not about the token.
        if status.is_server_error() || [408, 429].contains(&status.as_u16()) {
            return Err(HttpTrouble {
                what: format!("it answered {status}"),
                retry_after: response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| wish(value.to_str().ok()?, SystemTime::now())),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(trouble)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(HttpTrouble {
                    what: "its reply is too long".into(),
                    retry_after: None,
                });
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            *self.refusal.lock() = serde_json::from_slice(&body).unwrap_or_default();
        }
        let mut reply = http::Response::builder().status(status);
        if let Some(kind) = response.headers().get(CONTENT_TYPE) {
            reply = reply.header(CONTENT_TYPE, kind);
        }
        reply.body(body).map_err(|error| HttpTrouble {
            what: error.to_string(),
            retry_after: None,
        })
    }
}

/// `Retry-After` in seconds or as a date.
fn wish(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wish = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(wish.min(LONGEST_WISH))
}

fn trouble(error: reqwest::Error) -> HttpTrouble {
    HttpTrouble {
        what: plain(error),
        retry_after: None,
    }
}

/// What went wrong on the network, without the URL, which may be a secret.
pub(crate) fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut at = std::error::Error::source(&error);
    while let Some(cause) = at {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        at = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_be_left_alone_is_seconds_or_a_date_and_an_hour_at_most() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(wish("12", now), Some(Duration::from_secs(12)));
        assert_eq!(
            wish("Sun, 06 Nov 1994 08:49:47 GMT", now),
            Some(Duration::from_secs(10))
        );
        assert_eq!(wish("99999999", now), Some(LONGEST_WISH));
        assert_eq!(wish("soon", now), None);
    }
}
