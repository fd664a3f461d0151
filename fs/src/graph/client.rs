//! One request to the service, with everything that every request needs.
//!
//! Two clients: one puts the token on its requests and speaks to Graph alone; the other has no
//! token to give away and speaks to the hosts behind pre-authenticated URLs, which refuse
//! requests that carry one (traps T6 and T7). Redirects are followed by nobody here. What is
//! safe to try again is tried again, within a budget, and never while the gate is closed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::classify::{Refusal, Verdict, judge};
use super::download::Urls;
use super::gate::{Gate, UNSAID, retry_after};
use crate::auth::{Authenticator, TokenError};
use crate::ports::DriveError;
use crate::tree::DriveId;

/// Decorated as section 9.3 asks for: decorated traffic is served before other.
const USER_AGENT: &str = concat!("NONISV|Tuyun|tuyunfs/", env!("CARGO_PKG_VERSION"));

/// Requests at a time, and with that connections: the service takes four to eight (section 9.3).
const AT_ONCE: usize = 8;

/// Time to reach a host: a line that needs longer for a handshake is down.
const CONNECT: Duration = Duration::from_secs(15);

/// Silence in the middle of a reply (section 6: 30 to 60 seconds).
const IDLE: Duration = Duration::from_secs(30);

/// Tries of one request. With waits of 1, 2, 4 and 8 seconds a hiccup of the service is outlasted;
/// longer troubles are for the outbox, which waits without holding anything.
const TRIES: u32 = 5;

/// The longest silence that one call waits through by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// The largest body that is read of a reply that is not content: a page of a thousand items with
/// all their members is about two megabytes.
const BODY_LIMIT: usize = 32 << 20;

/// What the client needs to know.
#[derive(Clone, Debug)]
pub struct GraphConfig {
    /// Scheme and host of Graph, without a slash at the end.
    pub graph_url: String,
    /// More trusted certificates, PEM.
    pub ca_pem: Option<Vec<u8>>,
}

/// The client of one drive.
pub struct Graph {
    pub(super) base: String,
    pub(super) drive: DriveId,
    pub(super) kind: super::DriveKind,
    pub(super) wire: Wire,
    pub(super) urls: Urls,
}

/// What all requests share.
#[derive(Clone)]
pub(super) struct Wire {
    graph: reqwest::Client,
    storage: reqwest::Client,
    auth: Arc<Authenticator>,
    gate: Arc<Gate>,
    lanes: Arc<Semaphore>,
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
        serde_json::from_slice(&self.body).map_err(|error| DriveError::Unavailable {
            what: format!("{what}: the reply cannot be read ({error})"),
            retry_after: None,
        })
    }
}

impl Wire {
    pub(super) fn new(
        config: &GraphConfig,
        auth: Arc<Authenticator>,
    ) -> Result<Self, reqwest::Error> {
        let build = || -> Result<reqwest::Client, reqwest::Error> {
            let mut builder = reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT)
                .read_timeout(IDLE)
                .pool_max_idle_per_host(AT_ONCE)
                // One picture a stream: connections of their own keep a large one from holding
                // up the others.
                .http1_only();
            if let Some(pem) = &config.ca_pem {
                for certificate in reqwest::Certificate::from_pem_bundle(pem)? {
                    builder = builder.add_root_certificate(certificate);
                }
            }
            builder.build()
        };
        Ok(Self {
            graph: build()?,
            storage: build()?,
            auth,
            gate: Arc::new(Gate::new()),
            lanes: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// How long the service has asked to be left alone.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.gate.closed_for()
    }

    /// Sends a request to Graph; `make` is called once a try.
    pub(super) async fn graph(
        &self,
        method: Method,
        url: &str,
        make: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Reply, DriveError> {
        let mut renewed = false;
        let mut tries = 0;
        loop {
            let token = self.auth.access().await.map_err(token_error)?;
            let mut request = make(self.graph.request(method.clone(), url));
            let mut bearer = reqwest::header::HeaderValue::from_str(&format!(
                "Bearer {}",
                token.expose_secret()
            ))
            .map_err(|_| DriveError::SignIn("the access token has odd characters".into()))?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
            match self.once(request).await {
                Ok(reply) => return Ok(reply),
                Err(Verdict::Token(what)) if !renewed => {
                    renewed = true;
                    tracing::debug!(what, "the access token was refused; getting another one");
                    self.auth.renew(&token).await.map_err(token_error)?;
                }
                Err(Verdict::Token(what)) => {
                    return Err(DriveError::SignIn(format!(
                        "the drive refuses the token ({what})"
                    )));
                }
                Err(verdict) => self.wait(verdict, &mut tries).await?,
            }
        }
    }

    /// Sends a request to a pre-authenticated host; no token comes near it. With `again` off,
    /// trouble is reported at once, for those who know better how to go on.
    pub(super) async fn storage(
        &self,
        method: Method,
        url: &str,
        again: bool,
        make: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Reply, DriveError> {
        let mut tries = if again { 0 } else { TRIES };
        loop {
            match self
                .once(make(self.storage.request(method.clone(), url)))
                .await
            {
                Ok(reply) => return Ok(reply),
                Err(Verdict::Token(what)) => {
                    return Err(DriveError::Refused {
                        code: what,
                        message: "the URL has ended".into(),
                    });
                }
                Err(verdict) => self.wait(verdict, &mut tries).await?,
            }
        }
    }

    /// Opens a stream from a pre-authenticated host: the reply with its body still to come.
    pub(super) async fn stream(
        &self,
        url: &str,
        make: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Response, DriveError> {
        let mut tries = 0;
        loop {
            self.pass().await?;
            let sent = {
                let _lane = self.lanes.acquire().await;
                make(self.storage.request(Method::GET, url)).send().await
            };
            let verdict = match sent {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => match refuse(response).await {
                    // 401, 403, 404, 410: the URL has ended (section 6).
                    Verdict::Token(what) => {
                        let message = "the URL has ended".to_owned();
                        return Err(DriveError::Refused {
                            code: what,
                            message,
                        });
                    }
                    verdict => verdict,
                },
                Err(error) => Verdict::Again(plain(error)),
            };
            self.wait(verdict, &mut tries).await?;
        }
    }

    async fn once(&self, request: RequestBuilder) -> Result<Reply, Verdict> {
        if let Err(error) = self.pass().await {
            return Err(Verdict::Final(error));
        }
        let _lane = self.lanes.acquire().await;
        let response = request
            .send()
            .await
            .map_err(|error| Verdict::Again(plain(error)))?;
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(refuse(response).await);
        }
        let headers = response.headers().clone();
        let body = read(response).await.map_err(Verdict::Again)?;
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    /// Waits for the gate, or says that it is closed for longer than a call may wait.
    async fn pass(&self) -> Result<(), DriveError> {
        if let Some(left) = self.gate.closed_for().filter(|left| *left > PATIENCE) {
            return Err(DriveError::Unavailable {
                what: "the drive asks to be left alone".into(),
                retry_after: Some(left),
            });
        }
        self.gate.pass().await;
        Ok(())
    }

    /// Waits as a verdict asks for, or gives up.
    async fn wait(&self, verdict: Verdict, tries: &mut u32) -> Result<(), DriveError> {
        *tries += 1;
        match verdict {
            Verdict::Final(error) => Err(error),
            Verdict::Silence(silence, what) => {
                let silence = silence.unwrap_or(UNSAID);
                tracing::warn!(
                    what,
                    silence_s = silence.as_secs(),
                    "the drive asks to be left alone"
                );
                self.gate.close(silence);
                if *tries >= TRIES || silence > PATIENCE {
                    return Err(DriveError::Unavailable {
                        what,
                        retry_after: Some(silence),
                    });
                }
                self.gate.pass().await;
                Ok(())
            }
            Verdict::Token(what) | Verdict::Again(what) => {
                if *tries >= TRIES {
                    return Err(DriveError::Unavailable {
                        what,
                        retry_after: None,
                    });
                }
                let whole = Duration::from_secs(1 << (*tries - 1));
                tokio::time::sleep(whole.mul_f64(1.0 - 0.25 * rand::random::<f64>())).await;
                Ok(())
            }
        }
    }
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

async fn refuse(response: Response) -> Verdict {
    let status = response.status().as_u16();
    let header = |name| {
        response
            .headers()
            .get(name)?
            .to_str()
            .ok()
            .map(str::to_owned)
    };
    let retry_after = header(RETRY_AFTER).and_then(|value| retry_after(&value, SystemTime::now()));
    let location = header(LOCATION);
    let body = read(response).await.unwrap_or_default();
    judge(&Refusal {
        status,
        retry_after,
        location,
        body: &body,
    })
}

/// What went wrong on the network, without the URL, which may be a secret.
pub(super) fn plain(error: reqwest::Error) -> String {
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

fn token_error(error: TokenError) -> DriveError {
    match error {
        TokenError::SignIn(why) | TokenError::Configuration(why) => DriveError::SignIn(why),
        TokenError::Unavailable(what) => DriveError::Unavailable {
            what,
            retry_after: None,
        },
        TokenError::Store(error) => DriveError::Disk(error),
    }
}

impl Graph {
    /// The drive's id.
    #[must_use]
    pub fn drive_id(&self) -> &DriveId {
        &self.drive
    }

    /// What kind of drive it is.
    #[must_use]
    pub fn kind(&self) -> super::DriveKind {
        self.kind
    }

    /// How long the service has asked to be left alone.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.wire.silent_for()
    }

    /// A URL of Graph's from a path below `/v1.0`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}
