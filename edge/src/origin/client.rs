//! Asks the origin, over HTTP.
//!
//! One request for one question: nothing of the visitor's is passed on, so every visitor's question
//! is the same. The token goes to the primary alone, in the first request alone: backups may be
//! other people's machines, and whoever is redirected to needs none.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, header};
use reqwest::redirect::Policy;
use tokio::time::timeout;
use tuyun_protocol::{Base, ImagePath, Token};
use url::Url;

use super::answer::{Response, Worth, begins_like_an_error, weigh};
use super::breaker::Breaker;
use super::guard::{GlobalOnly, is_home, may_lead_to};
use crate::cache::{BrokeOff, FetchError, Fetched, Head, Incoming, Moment, Pieces, Source};

/// A connection takes a few round trips; five seconds are a lost SYN or two on a bad line.
const CONNECT: Duration = Duration::from_secs(5);

/// From the request to the head. The origin itself may wait 30 s for the drive before it gives up
/// with a 503, which says more than our own giving up would.
const HEAD: Duration = Duration::from_secs(40);

/// The same while there is another base to ask: a healthy one has answered by then, and a page waits.
const HEAD_BEFORE_A_BACKUP: Duration = Duration::from_secs(10);

/// The longest pause inside a body.
const PAUSE: Duration = Duration::from_secs(30);

/// Redirects followed: the design's number. An origin's link takes one, a site moved to https two.
const REDIRECTS: usize = 3;

/// Why no origin could be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the client for the origin")]
pub struct StartError(#[source] reqwest::Error);

/// The origin: a primary and its backups.
pub struct Origin {
    bases: Vec<Base>,
    /// One for each base.
    health: Vec<Breaker>,
    token: Option<Token>,
    home: reqwest::Client,
    away: reqwest::Client,
}

impl Origin {
    /// An origin that is asked in the order of its bases. The token is the first one's.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new(bases: Vec<Base>, token: Option<Token>) -> Result<Self, StartError> {
        let client = || {
            reqwest::Client::builder()
                .redirect(Policy::none())
                .referer(false)
                // Through a proxy nobody would look at the addresses that a redirect leads to.
                .no_proxy()
                .connect_timeout(CONNECT)
                .user_agent(concat!("tuyun-edge/", env!("CARGO_PKG_VERSION")))
        };
        let home = client().build().map_err(StartError)?;
        let away = client()
            .dns_resolver(GlobalOnly)
            .build()
            .map_err(StartError)?;
        Ok(Self {
            health: bases.iter().map(|_| Breaker::default()).collect(),
            bases,
            token,
            home,
            away,
        })
    }

    /// Asks one base, following its redirects.
    async fn ask(
        &self,
        base: &Base,
        token: Option<&Token>,
        path: &ImagePath,
        held: Option<&Head>,
        patience: Duration,
    ) -> Result<Fetched, FetchError> {
        let asked = Asked {
            name: host_of(base.url()),
            path,
        };
        let mut url = Url::parse(&base.join(path, None))
            .map_err(|_| asked.unusable("a base that does not take this path"))?;
        let mut wish = Wish::InTheAnswer;
        for hop in 0..=REDIRECTS {
            let client = if is_home(&url, self.bases.iter()) {
                &self.home
            } else if may_lead_to(&url) {
                &self.away
            } else {
                return Err(asked.unusable("a redirect that is not followed"));
            };
            let token = token.filter(|_| hop == 0);
            let request = question(client.get(url.clone()), token, held);
            let response = timeout(patience, request.send())
                .await
                .map_err(|late| asked.unreachable(late))?
                .map_err(|error| asked.unreachable(error.without_url()))?;
            match redirect_of(&response, &url) {
                Redirect::No => return asked.read(response, held, wish).await,
                Redirect::To(next) => {
                    // The base speaks for its picture; a storage host that it leads to says
                    // `private` of every link that it gives out.
                    let said = response.headers().get(header::CACHE_CONTROL).cloned();
                    if matches!(wish, Wish::InTheAnswer) {
                        wish = Wish::Of(said);
                    }
                    url = next;
                }
                Redirect::Nowhere => return Err(asked.unusable("a redirect that leads nowhere")),
            }
        }
        Err(asked.unusable("too many redirects"))
    }
}

impl Source for Origin {
    async fn fetch(&self, path: &ImagePath, held: Option<&Head>) -> Result<Fetched, FetchError> {
        let mut failure = None;
        let mut absent = false;
        for (place, (base, health)) in self.bases.iter().zip(&self.health).enumerate() {
            if let Err(wait) = health.may_ask(Instant::now()) {
                let origin = host_of(base.url());
                failure.get_or_insert(FetchError::Resting { origin, wait });
                continue;
            }
            let token = self.token.as_ref().filter(|_| place == 0);
            let patience = if place + 1 < self.bases.len() {
                HEAD_BEFORE_A_BACKUP
            } else {
                HEAD
            };
            let answer = self.ask(base, token, path, held, patience).await;
            note(health, &answer);
            match answer {
                // Only the primary knows what is absent; a backup may lag behind or be incomplete.
                Ok(Fetched::Absent) => absent |= place == 0,
                Ok(found) => return Ok(found),
                Err(error) => {
                    if self.bases.len() > 1 {
                        tracing::debug!(
                            path = path.as_str(),
                            error = &error as &(dyn std::error::Error + 'static),
                            "one of the origins did not help"
                        );
                    }
                    failure.get_or_insert(error);
                }
            }
        }
        match failure {
            Some(error) if !absent => Err(error),
            // The primary said so, whatever the backups did.
            _ if absent => Ok(Fetched::Absent),
            _ => Err(FetchError::GivenUp),
        }
    }
}

/// What an answer says of the base's health. Any sensible one is a sign of life; so is nonsense under
/// one name, which says nothing of the others.
fn note(health: &Breaker, answer: &Result<Fetched, FetchError>) {
    match answer {
        Err(FetchError::Unreachable { .. }) => health.failed(Instant::now(), None),
        Err(FetchError::Refused {
            status: 429 | 500..,
            retry_after,
            ..
        }) => health.failed(Instant::now(), *retry_after),
        Ok(_) | Err(_) => health.worked(),
    }
}

fn question(
    request: reqwest::RequestBuilder,
    token: Option<&Token>,
    held: Option<&Head>,
) -> reqwest::RequestBuilder {
    // A compressed body has another length and another ETag than the picture.
    let mut request = request
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::ACCEPT, "*/*");
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    if let Some(etag) = held.and_then(|held| held.etag.as_ref()) {
        request = request.header(header::IF_NONE_MATCH, etag);
    } else if let Some(date) = held.and_then(|held| held.last_modified.as_ref()) {
        request = request.header(header::IF_MODIFIED_SINCE, date);
    }
    request
}

/// Who says how long the picture may be kept.
enum Wish {
    /// The answer itself.
    InTheAnswer,
    /// The base that led to the answer.
    Of(Option<HeaderValue>),
}

enum Redirect {
    No,
    To(Url),
    Nowhere,
}

fn redirect_of(response: &reqwest::Response, from: &Url) -> Redirect {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Redirect::No;
    }
    let location = response.headers().get(header::LOCATION);
    let next = location
        .and_then(|text| text.to_str().ok())
        .and_then(|text| from.join(text).ok());
    next.map_or(Redirect::Nowhere, Redirect::To)
}

/// Host and port, for messages: a base's query may be long, and a redirect's holds a secret.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Who was asked, and for what.
struct Asked<'a> {
    name: String,
    path: &'a ImagePath,
}

impl Asked<'_> {
    async fn read(
        &self,
        response: reqwest::Response,
        held: Option<&Head>,
        wish: Wish,
    ) -> Result<Fetched, FetchError> {
        let status = response.status().as_u16();
        let mut headers = response.headers().clone();
        if let Wish::Of(wish) = wish {
            headers.remove(header::EXPIRES);
            headers.remove(header::CACHE_CONTROL);
            headers.extend(wish.map(|wish| (header::CACHE_CONTROL, wish)));
        }
        let headers = &headers;
        let length = content_length(&response);
        let framed = response.version() >= http::Version::HTTP_2
            || length.is_some()
            || headers.contains_key(header::TRANSFER_ENCODING);
        let head = Response {
            status,
            headers,
            ends_by_closing: !framed,
            length,
        };
        match weigh(&head, self.path, held, Moment::now()) {
            Worth::Picture { head, keep, length } => {
                let pieces = self.begin(response, &head).await?;
                Ok(Fetched::Picture(Incoming {
                    head,
                    keep,
                    length,
                    pieces,
                }))
            }
            Worth::Unchanged(head) => Ok(Fetched::Unchanged(head)),
            Worth::Absent => Ok(Fetched::Absent),
            Worth::Refused { retry_after } => Err(FetchError::Refused {
                origin: self.name.clone(),
                status,
                retry_after,
            }),
            Worth::Unusable(what) => Err(self.unusable(what)),
        }
    }

    /// Waits for the first bytes, and lets the body begin only if they can be a picture's.
    async fn begin(&self, response: reqwest::Response, head: &Head) -> Result<Pieces, FetchError> {
        let mut rest = unbroken(response.bytes_stream())
            .filter_map(async |piece| match piece {
                Ok(piece) if piece.is_empty() => None,
                piece => Some(piece),
            })
            .boxed();
        let first = match rest.next().await {
            None => return Err(self.unusable("an empty body")),
            Some(Err(error)) => return Err(self.unreachable(error)),
            Some(Ok(first)) => first,
        };
        if begins_like_an_error(self.path, &head.content_type, &first) {
            return Err(self.unusable("an error page under the name of a picture"));
        }
        Ok(Box::pin(stream::once(async { Ok(first) }).chain(rest)))
    }

    fn unreachable(&self, source: impl std::error::Error + Send + Sync + 'static) -> FetchError {
        FetchError::Unreachable {
            origin: self.name.clone(),
            source: Box::new(source),
        }
    }

    fn unusable(&self, what: &'static str) -> FetchError {
        FetchError::Unusable {
            origin: self.name.clone(),
            what,
        }
    }
}

/// The pieces of a body, none of which may take too long.
fn unbroken(
    pieces: impl Stream<Item = Result<Bytes, reqwest::Error>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, BrokeOff>> + Send + 'static {
    stream::unfold(Some(pieces.boxed()), async |pieces| {
        let mut pieces = pieces?;
        match timeout(PAUSE, pieces.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
            Ok(Some(Err(error))) => Some((Err(BrokeOff(error.without_url().into())), None)),
            Err(late) => Some((Err(BrokeOff(late.into())), None)),
        }
    })
}

/// The header itself: a body's size hint also calls an empty body of no stated length zero.
fn content_length(response: &reqwest::Response) -> Option<u64> {
    response
        .headers()
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}
