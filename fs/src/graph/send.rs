//! One request, from the lane to the verdict, and again where that is safe.
//!
//! What is safe to try again is tried again, within a budget of tries and of time, and never
//! while the gate is closed. A request that changes something, and of which nobody knows whether
//! it took effect, is given back to who sent it: to look before repeating (invariant 5).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, IF_MATCH, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use super::classify::{Refusal, Verdict, judge};
use super::client::Wire;
use super::gate::{Budget, Gate, retry_after};
use super::lanes::{Lane, Load};
use super::meter::{endpoint, storage_endpoint};
use super::tries::Tries;
use crate::auth::{TokenError, plain};
use crate::ports::DriveError;

/// The longest silence that one call waits through by itself; less than `mount.timeout`, so that
/// a program gets its answer rather than an error.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The whole of one exchange without content: a page of a thousand items takes the service
/// seconds, and its own gateways give up after a minute.
const WHOLE: Duration = Duration::from_mins(1);

/// The slowest line that an upload is waited for on: 16 KiB a second, a tenth of a poor uplink
/// that several uploads share. A line that is dead is noticed sooner, by what it leaves
/// unacknowledged.
const SLOWEST: u64 = 16 << 10;

/// Uploads that share a limit.
const UPLOADS_AT_ONCE: u64 = super::lanes::UPLOADS as u64;

/// The largest body that is read of a reply that is not content: a page of a thousand items with
/// all their members is about two megabytes.
const BODY_LIMIT: usize = 32 << 20;

/// Whether a request may be sent again when nobody knows whether it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It only asks, or a second time changes nothing that a caller could not tell.
    Freely,
    /// Only when it is known to have had no effect.
    Knowingly,
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Trouble {
    /// This is known.
    Known(DriveError),
    /// The request may have taken effect.
    Unclear(String),
}

impl From<DriveError> for Trouble {
    fn from(error: DriveError) -> Self {
        Self::Known(error)
    }
}

impl From<Trouble> for DriveError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Known(error) => error,
            Trouble::Unclear(what) => unavailable(what),
        }
    }
}

/// A reply that is a success.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// The body as JSON; one that cannot be read is no success.
    pub(super) fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, DriveError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // Without the parser's own text, which may quote what it read.
            let at = format!("line {}, column {}", error.line(), error.column());
            unavailable(format!("{what}: the reply cannot be read at {at}"))
        })
    }
}

impl Wire {
    /// Asks Graph something; `make` is called once a try.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        make: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Reply, DriveError> {
        Ok(self
            .send(Repeat::Freely, Load::Small, method, url, make)
            .await?)
    }

    /// Sends Graph something; `make` is called once a try.
    pub(super) async fn send(
        &self,
        repeat: Repeat,
        load: Load,
        method: Method,
        url: &str,
        make: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Reply, Trouble> {
        let mut tries = Tries::new();
        let mut renewed = false;
        let what = endpoint(&method, url);
        loop {
            let token = self.auth.access().await.map_err(token_error)?;
            let request = make(self.graph.request(method.clone(), url))
                .header(AUTHORIZATION, bearer(&token)?)
                .header("client-request-id", request_id());
            let verdict = match self.once(&self.graph, load, what, url, request).await {
                Ok(reply) => return Ok(reply),
                Err(verdict) => verdict,
            };
            match verdict {
                Verdict::Token { what, claims } if !renewed => {
                    renewed = true;
                    tracing::debug!(what, "the access token was refused; getting another one");
                    let renewing = self.auth.renew(&token, claims.as_deref());
                    renewing.await.map_err(token_error)?;
                }
                Verdict::Token {
                    what,
                    claims: Some(claims),
                } => {
                    let why = format!("the drive asks for more than the token shows ({what})");
                    self.auth.challenged(&why, Some(claims));
                    return Err(Trouble::Known(DriveError::SignIn(why)));
                }
                Verdict::Unclear(what) if repeat == Repeat::Knowingly => {
                    return Err(Trouble::Unclear(what));
                }
                verdict => self.wait(&self.gate(url), verdict, &mut tries).await?,
            }
        }
    }

    /// One try at a pre-authenticated host; no token comes near it.
    pub(super) async fn storage(
        &self,
        load: Load,
        method: Method,
        url: &str,
        make: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Reply, Verdict> {
        let what = storage_endpoint(&method);
        let request = make(self.storage.request(method, url));
        self.once(&self.storage, load, what, url, request).await
    }

    /// Opens a stream from a pre-authenticated host: the reply, whatever its status, with its
    /// body still to come, and the lane that it is to hold until that has come.
    pub(super) async fn stream(
        &self,
        url: &str,
        headers: HeaderMap,
    ) -> Result<(Response, Lane), Verdict> {
        let lane = self
            .enter(url, Load::Down, PATIENCE)
            .await
            .map_err(Verdict::Final)?;
        let opening = self.storage.get(url).headers(headers).send();
        let opened = tokio::time::timeout(super::client::IDLE, opening).await;
        let status = |opened: &Response| opened.status().as_u16();
        let told = opened
            .as_ref()
            .ok()
            .and_then(|it| it.as_ref().ok())
            .map(status);
        self.meter.request("download", told);
        match opened {
            Ok(Ok(response)) => {
                self.gate(url).served(budget(response.headers()));
                Ok((response, lane))
            }
            Ok(Err(error)) => Err(Verdict::Again(plain(error))),
            Err(_) => Err(Verdict::Again("the storage host keeps silent".into())),
        }
    }

    async fn once(
        &self,
        client: &Client,
        load: Load,
        what: &'static str,
        url: &str,
        request: RequestBuilder,
    ) -> Result<Reply, Verdict> {
        let entering = self.enter(url, load, PATIENCE).await;
        let _lane = entering.map_err(Verdict::Final)?;
        // An address that cannot be read does not get better.
        let mut request = request.build().map_err(|error| {
            Verdict::Final(DriveError::Refused {
                code: "request".into(),
                message: plain(error),
            })
        })?;
        let bytes = text(request.headers(), &CONTENT_LENGTH).and_then(|len| len.parse().ok());
        *request.timeout_mut() = Some(WHOLE + self.longest(bytes.unwrap_or(0)));
        let conditional = request.headers().contains_key(IF_MATCH);
        // Only the question for content is answered by a redirect.
        let asks = request.method() == Method::GET;
        let sent = client.execute(request).await;
        let status = sent
            .as_ref()
            .ok()
            .map(|response| response.status().as_u16());
        self.meter.request(what, status);
        let response = sent.map_err(|error| {
            // Nothing was sent where there was no connection.
            if error.is_connect() {
                Verdict::Again(plain(error))
            } else {
                Verdict::Unclear(plain(error))
            }
        })?;
        let status = response.status();
        let done = status.is_success() || (asks && status.is_redirection());
        if !done {
            return Err(refused(response, conditional).await);
        }
        let headers = response.headers().clone();
        self.gate(url).served(budget(&headers));
        if load == Load::Up {
            self.meter.up(bytes.unwrap_or(0));
        }
        let body = read(response).await.map_err(Verdict::Unclear)?;
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    /// How long bytes may take to go up: longer where they are to go slowly.
    fn longest(&self, bytes: u64) -> Duration {
        let share = self
            .up
            .lowest()
            .map_or(SLOWEST, |limit| limit / UPLOADS_AT_ONCE);
        Duration::from_secs(bytes / share.clamp(1, SLOWEST))
    }

    /// Waits as a verdict asks for, or gives up.
    pub(super) async fn wait(
        &self,
        gate: &Gate,
        verdict: Verdict,
        tries: &mut Tries,
    ) -> Result<(), DriveError> {
        match verdict {
            Verdict::Final(error) => Err(error),
            Verdict::Silence(silence, what) => {
                let silence = self.hush(gate, silence, &what);
                if tries.spent() || silence > PATIENCE {
                    return Err(DriveError::Unavailable {
                        what,
                        retry_after: Some(silence),
                    });
                }
                self.meter.retry();
                Ok(()) // the gate is waited for with the next try
            }
            Verdict::Token { what, .. } | Verdict::Again(what) | Verdict::Unclear(what) => {
                let pause = tries.pause();
                if tries.spent() {
                    return Err(unavailable(what));
                }
                tracing::debug!(what, pause_ms = pause.as_millis(), "trying again");
                self.meter.retry();
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }

    /// Closes a host's gate for everybody. Returns for how long.
    pub(super) fn hush(&self, gate: &Gate, silence: Option<Duration>, what: &str) -> Duration {
        let silence = gate.close(silence);
        self.meter.throttled(silence);
        tracing::warn!(
            what,
            silence_s = silence.as_secs(),
            "the drive asks to be left alone"
        );
        silence
    }
}

/// What a reply tells of the service's budget, from 80 % of its use on (section 9.1).
fn budget(headers: &HeaderMap) -> Option<Budget> {
    let figure = |name: &'static str| {
        let value = text(headers, &HeaderName::from_static(name))?;
        value.trim().parse::<u64>().ok()
    };
    Some(Budget {
        limit: figure("ratelimit-limit")?,
        remaining: figure("ratelimit-remaining")?,
        reset: Duration::from_secs(figure("ratelimit-reset")?),
    })
}

/// A header's text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads a body that is not content, within its limit.
async fn read(mut response: Response) -> Result<Bytes, String> {
    let mut body = bytes::BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(plain)? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err("the reply is longer than any that is known".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// What a reply that is not a success means.
pub(super) async fn refused(response: Response, conditional: bool) -> Verdict {
    let status = response.status().as_u16();
    let header = |name: &str| {
        response
            .headers()
            .get(name)?
            .to_str()
            .ok()
            .map(str::to_owned)
    };
    let wait = header(RETRY_AFTER.as_str());
    let retry_after = wait.and_then(|value| retry_after(&value, SystemTime::now()));
    let (location, challenge) = (header(LOCATION.as_str()), header(WWW_AUTHENTICATE.as_str()));
    // What a person at the service's support asks for first.
    let request = header("request-id").or_else(|| header("sprequestguid"));
    // A body that does not come counts as an empty one; the status says most.
    let body = read(response).await.unwrap_or_default();
    let verdict = judge(&Refusal {
        status,
        retry_after,
        location,
        challenge,
        conditional,
        body: &body,
    });
    tracing::debug!(status, request, "refused");
    verdict
}

fn bearer(token: &SecretString) -> Result<HeaderValue, Trouble> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| {
            Trouble::Known(DriveError::SignIn(
                "the access token has odd characters".into(),
            ))
        })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A UUID of version 4, which the service writes into its own log (section 8.4).
fn request_id() -> String {
    let bits = rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

pub(super) fn unavailable(what: impl Into<String>) -> DriveError {
    DriveError::Unavailable {
        what: what.into(),
        retry_after: None,
    }
}

fn token_error(error: TokenError) -> Trouble {
    Trouble::Known(match error {
        TokenError::SignIn { why, .. } | TokenError::Configuration(why) => DriveError::SignIn(why),
        TokenError::Unavailable { what, retry_after } => {
            DriveError::Unavailable { what, retry_after }
        }
        // Not `Disk`, which would say that the content to send cannot be read.
        TokenError::Store(error) => unavailable(format!("cannot keep the token: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_of_version_4() {
        let id = request_id();
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, request_id());
    }
}
