//! Bytes from the drive: `graph-api.md` section 6.
//!
//! A read goes straight to the storage host, by the pre-authenticated URL that a listing or an
//! upload has left here: one request a file. A URL that has ended is renewed once. A body that
//! stalls or breaks off is gone on with at the byte where it did, as long as it is still the same
//! version. Nothing but the bytes of the range that was asked for comes out.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::address::item;
use super::classify::Verdict;
use super::client::{Graph, Wire};
use super::lanes::Lane;
use super::range::{Part, part, unsatisfied};
use super::send::{refused, text, unavailable};
use super::tries::Tries;
use super::wire::DOWNLOAD_URL;
use crate::auth::plain;
use crate::ports::{ByteStream, Download, DriveError};
use crate::tree::ItemId;

/// The code of content that the service will not hand out (section 3.6).
const MALWARE: &str = "malwareDetected";

/// Between two URLs for an item that the storage host does not know yet (trap T23): it lags by
/// seconds.
const BEHIND: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct WireUrl {
    #[serde(rename = "@microsoft.graph.downloadUrl")]
    url: Option<String>,
}

/// Silence in the middle of a body. Shorter than the reference's 30 to 60 seconds: there has to be
/// time to go on before whoever waits gives up (`mount.timeout`).
const STALL: Duration = Duration::from_secs(12);

/// How often one read is gone on with after its body broke off.
const RESUMES: u32 = 4;

/// A content that is being read.
struct Opened {
    total: u64,
    /// The storage host's own name for the version, where it gives one.
    version: Option<String>,
    bytes: ByteStream,
}

/// Why nothing can be read from a URL.
enum Shut {
    /// The URL has ended (section 6), or its item is too young: another one may do.
    Url(String),
    /// Anything else.
    Other(DriveError),
}

impl From<DriveError> for Shut {
    fn from(error: DriveError) -> Self {
        Self::Other(error)
    }
}

impl Graph {
    /// Opens a range of an item's content.
    pub(super) async fn fetch(
        &self,
        id: &ItemId,
        range: Range<u64>,
    ) -> Result<Download, DriveError> {
        if range.is_empty() {
            // A range of nothing cannot be asked for (section 6).
            return Ok(Download {
                total: range.end,
                version: None,
                bytes: futures_util::stream::empty().boxed(),
            });
        }
        let opened = self.open_item(id, &range).await?;
        Ok(Download {
            total: opened.total,
            version: opened.version.clone(),
            bytes: self.clone().go_on(id.clone(), range, opened),
        })
    }

    /// The bytes of a range, gone on with where the body breaks off.
    fn go_on(self, id: ItemId, range: Range<u64>, opened: Opened) -> ByteStream {
        let stream = async_stream::stream! {
            let Opened { total, version, mut bytes } = opened;
            let (mut at, end) = (range.start, range.end.min(total));
            let mut resumes = 0;
            loop {
                let trouble = match bytes.next().await {
                    None => return,
                    Some(Ok(chunk)) => {
                        at += chunk.len() as u64;
                        yield Ok(chunk);
                        continue;
                    }
                    Some(Err(trouble)) => trouble,
                };
                // The lane of the broken one is free for the next.
                drop(bytes);
                if at >= end {
                    return;
                }
                if resumes == RESUMES {
                    yield Err(trouble);
                    return;
                }
                resumes += 1;
                self.wire.meter.retry();
                tracing::debug!(item = %id, at, error = %trouble, "a download goes on where it broke off");
                let next = match self.open_item(&id, &(at..end)).await {
                    Ok(next) => next,
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                };
                let other = version.is_some() && next.version.is_some() && version != next.version;
                if other || next.total != total {
                    // Two versions must not mix in one file (section 6).
                    yield Err(unavailable("the content was replaced while it was being fetched"));
                    return;
                }
                bytes = next.bytes;
            }
        };
        stream.boxed()
    }

    async fn open_item(&self, id: &ItemId, range: &Range<u64>) -> Result<Opened, DriveError> {
        if let Some(url) = self.urls.get(id) {
            match self.fetch_from(&url, range).await {
                Ok(opened) => return Ok(opened),
                Err(Shut::Other(error)) => return Err(error),
                Err(Shut::Url(what)) => {
                    tracing::debug!(item = %id, what, "the download URL has ended; asking for another");
                    self.urls.forget(id);
                }
            }
        }
        for last in [false, true] {
            let url = self.young.insist(id, || self.download_url(id)).await?;
            match self.fetch_from(&url, range).await {
                Ok(opened) => {
                    self.urls.put(id.clone(), url);
                    return Ok(opened);
                }
                Err(Shut::Other(error)) => return Err(error),
                // Not proof that the item is gone: the storage host may only be behind.
                Err(Shut::Url(what)) if last => {
                    return Err(unavailable(format!(
                        "the content cannot be opened ({what})"
                    )));
                }
                Err(Shut::Url(_)) => tokio::time::sleep(BEHIND).await,
            }
        }
        Err(unavailable("the content cannot be opened"))
    }

    async fn download_url(&self, id: &ItemId) -> Result<String, DriveError> {
        let path = item(&self.drive, id);
        let url = format!("{}?$select=id,{DOWNLOAD_URL}", self.url(&path));
        let reply = self.wire.ask(Method::GET, &url, |request| request).await?;
        let told: WireUrl = reply.json("the item's URL")?;
        if let Some(url) = told.url {
            return Ok(url);
        }
        // Some items show it only as the redirect of their content.
        let url = format!("{}/content", self.url(&path));
        let reply = self.wire.ask(Method::GET, &url, |request| request).await?;
        let location = reply
            .headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let location = location.filter(|_| reply.status.is_redirection());
        location
            .map(str::to_owned)
            .ok_or_else(|| unavailable("the drive does not say where the content is"))
    }

    async fn fetch_from(&self, url: &str, range: &Range<u64>) -> Result<Opened, Shut> {
        let mut tries = Tries::new();
        loop {
            let verdict = match self.open(url, range).await {
                Ok(opened) => return Ok(opened),
                Err(Opening::Shut(shut)) => return Err(shut),
                Err(Opening::Verdict(verdict)) => verdict,
            };
            self.wire
                .wait(&self.wire.gate(url), verdict, &mut tries)
                .await?;
        }
    }

    async fn open(&self, url: &str, range: &Range<u64>) -> Result<Opened, Opening> {
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let wanted = HeaderValue::from_str(&wanted).map_err(|_| unavailable("an odd range"));
        let headers = HeaderMap::from_iter([(RANGE, wanted.map_err(Shut::Other)?)]);
        let (response, lane) = self
            .wire
            .stream(url, headers)
            .await
            .map_err(Opening::Verdict)?;
        let status = response.status();
        match status {
            StatusCode::PARTIAL_CONTENT | StatusCode::OK => {
                let part = part(status, response.headers(), range)
                    .map_err(|odd| Opening::Verdict(Verdict::Again(odd)))?;
                let total = part.total;
                let version = text(response.headers(), &ETAG).map(str::to_owned);
                Ok(Opened {
                    total,
                    version,
                    bytes: cut(self.wire.clone(), response, part, lane),
                })
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let total = text(response.headers(), &CONTENT_RANGE).and_then(unsatisfied);
                match total.filter(|total| *total <= range.start) {
                    // The content is shorter than its item says (trap T5).
                    Some(total) => Ok(Opened {
                        total,
                        version: None,
                        bytes: futures_util::stream::empty().boxed(),
                    }),
                    None => Err(Opening::Verdict(Verdict::Again(
                        "416 without a length".into(),
                    ))),
                }
            }
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::GONE => {
                let infected = response.headers().contains_key("x-virus-infected");
                let message = "the drive found malware in it".to_owned();
                let malware = || DriveError::Refused {
                    code: MALWARE.into(),
                    message,
                };
                match refused(response, false).await {
                    _ if infected => Err(Shut::Other(malware()).into()),
                    Verdict::Final(error @ DriveError::Refused { .. }) if is_malware(&error) => {
                        Err(Shut::Other(error).into())
                    }
                    _ => Err(Shut::Url(status.as_str().to_owned()).into()),
                }
            }
            _ if status.is_success() || status.is_redirection() => {
                let odd = format!("the storage host answered {}", status.as_str());
                Err(Opening::Verdict(Verdict::Again(odd)))
            }
            _ => Err(Opening::Verdict(refused(response, false).await)),
        }
    }
}

/// Why a try did not open a stream.
enum Opening {
    Shut(Shut),
    Verdict(Verdict),
}

impl From<Shut> for Opening {
    fn from(shut: Shut) -> Self {
        Self::Shut(shut)
    }
}

fn is_malware(error: &DriveError) -> bool {
    matches!(error, DriveError::Refused { code, .. } if code == MALWARE)
}

/// Gives just the part; a body that ends before it does, or falls silent, is an error. The lane is
/// held until the end.
fn cut(wire: Wire, mut response: reqwest::Response, part: Part, lane: Lane) -> ByteStream {
    let stream = async_stream::stream! {
        let _lane = lane;
        let (mut skip, mut left) = (part.skip, part.take);
        while left > 0 {
            let chunk: Bytes = match tokio::time::timeout(STALL, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => {
                    yield Err(unavailable(format!("the body ended {left} bytes early")));
                    return;
                }
                Ok(Err(error)) => {
                    yield Err(unavailable(plain(error)));
                    return;
                }
                Err(_) => {
                    yield Err(unavailable(format!("the body fell silent {left} bytes early")));
                    return;
                }
            };
            wire.meter.down(chunk.len() as u64);
            wire.down.spend(chunk.len()).await;
            let over = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= over as u64;
            let rest = chunk.slice(over..);
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            if wanted > 0 {
                left -= wanted as u64;
                yield Ok(rest.slice(..wanted));
            }
        }
    };
    stream.boxed()
}
