//! Bytes from the drive: `graph-api.md` section 6.
//!
//! A read goes straight to the storage host, by the pre-authenticated URL that a listing or an
//! upload has left here: one request a file. A URL that has ended is renewed once. Nothing but
//! the bytes of the range that was asked for comes out: a whole file in place of a range is cut
//! to it, anything else is an error (traps T8 and T9).

use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use lru::LruCache;
use parking_lot::Mutex;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::address::item;
use super::classify::Verdict;
use super::client::{Graph, IDLE, Lane};
use super::send::{Tries, refused, unavailable};
use super::wire::DOWNLOAD_URL;
use crate::auth::plain;
use crate::ports::{ByteStream, Download, DriveError};
use crate::tree::ItemId;

/// The code of content that the service will not hand out (section 3.6).
const MALWARE: &str = "malwareDetected";

/// Between two URLs for an item that the storage host does not know yet (trap T23): it lags by
/// seconds.
const BEHIND: Duration = Duration::from_secs(1);

/// URLs that are kept: those of the largest folder that is listed in one go, at about 1 KiB each.
const KEPT: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// How long a URL is used. It lives for an hour (section 6); with less, one that is about to end
/// is not taken along into a long read.
const USED_FOR: Duration = Duration::from_mins(50);

/// Pre-authenticated URLs by item. They are secrets: never logged, never stored.
pub(super) struct Urls(Mutex<LruCache<ItemId, (String, Instant)>>);

impl Urls {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }

    pub(super) fn put(&self, id: ItemId, url: String) {
        self.0.lock().put(id, (url, Instant::now()));
    }

    pub(super) fn forget(&self, id: &ItemId) {
        self.0.lock().pop(id);
    }

    fn get(&self, id: &ItemId) -> Option<String> {
        let mut urls = self.0.lock();
        let (url, since) = urls.get(id)?;
        if since.elapsed() > USED_FOR {
            urls.pop(id);
            return None;
        }
        Some(url.clone())
    }
}

#[derive(Deserialize)]
struct WireUrl {
    #[serde(rename = "@microsoft.graph.downloadUrl")]
    url: Option<String>,
}

/// Which part of a body is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Bytes before it.
    skip: u64,
    /// Bytes of it.
    take: u64,
    /// Length of the whole content.
    total: u64,
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
                bytes: futures_util::stream::empty().boxed(),
            });
        }
        if let Some(url) = self.urls.get(id) {
            match self.fetch_from(&url, &range).await {
                Ok(download) => return Ok(download),
                Err(Shut::Other(error)) => return Err(error),
                Err(Shut::Url(what)) => {
                    tracing::debug!(item = %id, what, "the download URL has ended; asking for another");
                    self.urls.forget(id);
                }
            }
        }
        for last in [false, true] {
            let url = self.download_url(id).await?;
            match self.fetch_from(&url, &range).await {
                Ok(download) => {
                    self.urls.put(id.clone(), url);
                    return Ok(download);
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

    async fn fetch_from(&self, url: &str, range: &Range<u64>) -> Result<Download, Shut> {
        let mut tries = Tries::new();
        loop {
            let verdict = match self.open(url, range).await {
                Ok(download) => return Ok(download),
                Err(Opening::Shut(shut)) => return Err(shut),
                Err(Opening::Verdict(verdict)) => verdict,
            };
            self.wire.wait(verdict, &mut tries).await?;
        }
    }

    async fn open(&self, url: &str, range: &Range<u64>) -> Result<Download, Opening> {
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
                Ok(Download {
                    total,
                    bytes: cut(response, part, lane),
                })
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let total = text(response.headers(), CONTENT_RANGE).and_then(unsatisfied);
                match total.filter(|total| *total <= range.start) {
                    // The content is shorter than its item says (trap T5).
                    Some(total) => Ok(Download {
                        total,
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

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Which part of a reply's body is the range that was asked for; otherwise what is odd about it.
fn part(status: StatusCode, headers: &HeaderMap, range: &Range<u64>) -> Result<Part, String> {
    let odd = |what: &str| format!("the storage host answered with {what}");
    match status {
        StatusCode::PARTIAL_CONTENT => {
            let told = text(headers, CONTENT_RANGE).and_then(content_range);
            let (start, end, total) = told.ok_or_else(|| odd("a range that it does not name"))?;
            if start != range.start || end != range.end.min(total) {
                return Err(odd("another range"));
            }
            Ok(Part {
                skip: 0,
                take: end - start,
                total,
            })
        }
        // The whole content in place of a range.
        StatusCode::OK => {
            let length = text(headers, CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok());
            let total = length.ok_or_else(|| odd("a body of unknown length"))?;
            let start = range.start.min(total);
            Ok(Part {
                skip: start,
                take: range.end.min(total) - start,
                total,
            })
        }
        _ => Err(odd(status.as_str())),
    }
}

/// `bytes */total`
fn unsatisfied(value: &str) -> Option<u64> {
    value.strip_prefix("bytes */")?.parse().ok()
}

/// `bytes a-b/total`, as start, end (the byte after the last one) and total.
fn content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (span, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, last + 1, total))
}

/// Gives just the part; a body that ends before it does, or falls silent, is an error. The lane is
/// held until the end.
fn cut(mut response: reqwest::Response, part: Part, lane: Lane) -> ByteStream {
    let stream = async_stream::stream! {
        let _lane = lane;
        let (mut skip, mut left) = (part.skip, part.take);
        while left > 0 {
            let chunk: Bytes = match tokio::time::timeout(IDLE, response.chunk()).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_partial_reply_counts_only_for_just_the_range_that_was_asked_for() {
        let judge = |value: &str| {
            part(
                StatusCode::PARTIAL_CONTENT,
                &headers(&[(CONTENT_RANGE, value)]),
                &(10..20),
            )
            .ok()
        };
        assert_eq!(
            judge("bytes 10-19/100"),
            Some(Part {
                skip: 0,
                take: 10,
                total: 100
            })
        );
        assert_eq!(
            judge("bytes 10-14/15"),
            Some(Part {
                skip: 0,
                take: 5,
                total: 15
            })
        );
        assert_eq!(judge("bytes 10-14/100"), None);
        assert_eq!(judge("bytes 0-19/100"), None);
        assert_eq!(judge("bytes */100"), None);
    }

    #[test]
    fn a_refused_range_tells_how_long_the_content_is() {
        assert_eq!(unsatisfied("bytes */100"), Some(100));
        assert_eq!(unsatisfied("bytes 0-1/100"), None);
    }

    #[test]
    fn a_whole_content_is_cut_to_the_range() {
        let judge = |length: &str| {
            part(
                StatusCode::OK,
                &headers(&[(CONTENT_LENGTH, length)]),
                &(10..20),
            )
            .ok()
        };
        assert_eq!(
            judge("100"),
            Some(Part {
                skip: 10,
                take: 10,
                total: 100
            })
        );
        assert_eq!(
            judge("12"),
            Some(Part {
                skip: 10,
                take: 2,
                total: 12
            })
        );
        assert_eq!(
            judge("9"),
            Some(Part {
                skip: 9,
                take: 0,
                total: 9
            })
        );
        assert!(part(StatusCode::OK, &HeaderMap::new(), &(0..5)).is_err());
        assert!(part(StatusCode::NO_CONTENT, &HeaderMap::new(), &(0..5)).is_err());
    }
}
