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
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, RANGE};
use serde::Deserialize;

use super::address::item;
use super::client::{Graph, plain};
use super::wire::DOWNLOAD_URL;
use crate::ports::{ByteStream, Download, DriveError};
use crate::tree::ItemId;

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
#[derive(Debug, PartialEq, Eq)]
struct Part {
    /// Bytes before it.
    skip: u64,
    /// Bytes of it.
    take: u64,
    /// Length of the whole content.
    total: u64,
}

impl Graph {
    pub(super) async fn fetch(
        &self,
        id: &ItemId,
        range: Range<u64>,
    ) -> Result<Download, DriveError> {
        let known = self.urls.get(id);
        let fresh = known.is_none();
        let url = match known {
            Some(url) => url,
            None => self.download_url(id).await?,
        };
        match self.fetch_from(&url, &range).await {
            // 401, 403, 404 and 410 say that the URL has ended: once, another one is asked for.
            Err(DriveError::Refused { .. } | DriveError::NotFound | DriveError::Resync { .. })
                if !fresh =>
            {
                self.urls.forget(id);
                let url = self.download_url(id).await?;
                self.fetch_from(&url, &range).await
            }
            other => other,
        }
    }

    async fn download_url(&self, id: &ItemId) -> Result<String, DriveError> {
        let path = item(&self.drive, id);
        let url = format!("{}?$select=id,{DOWNLOAD_URL}", self.url(&path));
        let reply = self
            .wire
            .graph(Method::GET, &url, |request| request)
            .await?;
        let told: WireUrl = reply.json("the item's URL")?;
        let found = if let Some(url) = told.url {
            url
        } else {
            // Some items show it only as the redirect of their content.
            let url = format!("{}/content", self.url(&path));
            let reply = self
                .wire
                .graph(Method::GET, &url, |request| request)
                .await?;
            let location = reply.headers.get(reqwest::header::LOCATION);
            location
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
                .ok_or_else(|| DriveError::Unavailable {
                    what: "the drive does not say where the content is".into(),
                    retry_after: None,
                })?
        };
        self.urls.put(id.clone(), found.clone());
        Ok(found)
    }

    async fn fetch_from(&self, url: &str, range: &Range<u64>) -> Result<Download, DriveError> {
        let wanted = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let response = self
            .wire
            .stream(url, |request| request.header(RANGE, &wanted))
            .await?;
        let part = part(response.status(), response.headers(), range)?;
        let total = part.total;
        Ok(Download {
            total,
            bytes: cut(response, &part),
        })
    }
}

/// Which part of a reply's body is the range that was asked for.
fn part(status: StatusCode, headers: &HeaderMap, range: &Range<u64>) -> Result<Part, DriveError> {
    let odd = |what: &str| DriveError::Unavailable {
        what: format!("the storage host answered with {what}"),
        retry_after: None,
    };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match status {
        StatusCode::PARTIAL_CONTENT => {
            let told = text(CONTENT_RANGE).and_then(content_range);
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
            let length = text(CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok());
            let total = length.ok_or_else(|| odd("a body of unknown length"))?;
            let end = range.end.min(total);
            let take = end
                .checked_sub(range.start)
                .ok_or_else(|| odd("a shorter content"))?;
            Ok(Part {
                skip: range.start,
                take,
                total,
            })
        }
        _ => Err(odd(status.as_str())),
    }
}

/// `bytes a-b/total`, as start, end (the byte after the last one) and total.
fn content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (span, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, last + 1, total))
}

/// Gives just the part; a body that ends before it does is an error.
fn cut(mut response: reqwest::Response, part: &Part) -> ByteStream {
    let (mut skip, mut left) = (part.skip, part.take);
    let stream = async_stream::stream! {
        while left > 0 {
            let chunk: Bytes = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    yield Err(lost(format!("the body ended {left} bytes early")));
                    return;
                }
                Err(error) => {
                    yield Err(lost(plain(error)));
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

fn lost(what: String) -> DriveError {
    DriveError::Unavailable {
        what,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(reqwest::header::HeaderName, &str)]) -> HeaderMap {
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
        assert_eq!(judge("9"), None);
        assert!(part(StatusCode::OK, &HeaderMap::new(), &(0..5)).is_err());
        assert!(part(StatusCode::NO_CONTENT, &HeaderMap::new(), &(0..5)).is_err());
    }
}
