//! What is an origin's answer worth?
//!
//! A 200 is believed only if it can be a picture: error pages that come with 200, empty and
//! compressed bodies are not, and neither is an end that cannot be told from a cut.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use tuyun_protocol::ImagePath;

use crate::cache::freshness::{Lifetime, Said, admit};
use crate::cache::{Head, Moment};

/// What a response's head says, for the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// A picture, if its body begins like one.
    Picture {
        head: Head,
        keep: bool,
        length: Option<u64>,
    },
    /// The held version stands.
    Unchanged(Head),
    /// There is no such picture.
    Absent,
    /// An error of the origin's.
    Refused { retry_after: Option<Duration> },
    /// No picture.
    Unusable(&'static str),
}

/// The head of a response, as it came.
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
    /// Only closing the connection ends the body, so a cut looks like an end.
    pub(super) ends_by_closing: bool,
    /// The length of the body, if told.
    pub(super) length: Option<u64>,
}

/// Judges a response's head. `held` is the version that was asked about.
pub(super) fn weigh(
    response: &Response<'_>,
    path: &ImagePath,
    held: Option<&Head>,
    now: Moment,
) -> Worth {
    let headers = response.headers;
    match (response.status, held) {
        (200, _) => picture(response, path, now),
        (304, Some(held)) => Worth::Unchanged(renewed(headers, held, now)),
        (304, None) => Worth::Unusable("304 to a question that was not asked"),
        (404 | 410, _) => Worth::Absent,
        (201..=299, _) => Worth::Unusable("a success without a whole body"),
        _ => Worth::Refused {
            retry_after: retry_after(headers, now),
        },
    }
}

fn picture(response: &Response<'_>, path: &ImagePath, now: Moment) -> Worth {
    let headers = response.headers;
    if text(headers, &header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Worth::Unusable("a compressed body that was not asked for");
    }
    if response.length == Some(0) {
        return Worth::Unusable("an empty body");
    }
    let named = type_by_name(path);
    let content_type = match text(headers, &header::CONTENT_TYPE) {
        // What says nothing is outdone by the name, as tuyunfs itself would have it.
        None | Some("application/octet-stream" | "binary/octet-stream") => named
            .clone()
            .unwrap_or_else(|| "application/octet-stream".to_owned()),
        Some(said) => said.to_owned(),
    };
    if is_error_type(&content_type, named.as_deref()) {
        return Worth::Unusable("an error page under the name of a picture");
    }
    let cache_control = all_lines(headers, &header::CACHE_CONTROL);
    let admitted = admit(&said(headers, cache_control.as_deref()), now);
    let (lifetime, made) = admitted.unwrap_or((Lifetime::default(), now));
    let head = Head {
        content_type,
        etag: etag(headers),
        last_modified: last_modified(headers),
        cache_control,
        made,
        lifetime,
    };
    let keep = admitted.is_some() && !response.ends_by_closing;
    Worth::Picture {
        head,
        keep,
        length: response.length,
    }
}

/// The head after a 304: what it repeats is newer, what it leaves out stays (RFC 9111 4.3.4).
fn renewed(headers: &HeaderMap, held: &Head, now: Moment) -> Head {
    let cache_control =
        all_lines(headers, &header::CACHE_CONTROL).or_else(|| held.cache_control.clone());
    let admitted = admit(&said(headers, cache_control.as_deref()), now);
    // Forbidden to keep from now on: asked about each time until it is gone.
    let (lifetime, made) = admitted.unwrap_or((Lifetime::default(), now));
    Head {
        content_type: held.content_type.clone(),
        etag: etag(headers).or_else(|| held.etag.clone()),
        last_modified: last_modified(headers).or_else(|| held.last_modified.clone()),
        cache_control,
        made,
        lifetime,
    }
}

/// How pages begin, in lower case.
const PAGES: [&[u8]; 6] = [
    b"<!doctype",
    b"<html",
    b"<head",
    b"<body",
    b"<?xml",
    b"<script",
];

/// Whether a body that begins like this is a page or a JSON error under the name of a picture, a
/// film or a sound. Only clear words count: a single `<` may begin anything.
pub(super) fn begins_like_an_error(path: &ImagePath, content_type: &str, first: &[u8]) -> bool {
    let claimed = type_by_name(path).unwrap_or_else(|| content_type.to_owned());
    let binary = ["image/", "video/", "audio/"]
        .iter()
        .any(|kind| claimed.starts_with(kind))
        && !claimed.starts_with("image/svg");
    let first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    let first = first.trim_ascii_start();
    let page = PAGES.iter().any(|word| {
        first
            .get(..word.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    });
    let json = first
        .strip_prefix(b"{")
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\""));
    binary && (page || json)
}

fn is_error_type(said: &str, named: Option<&str>) -> bool {
    let essence = said
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let page = matches!(
        essence.as_str(),
        "text/html" | "application/xhtml+xml" | "application/json" | "application/problem+json"
    );
    page && named != Some(essence.as_str())
}

fn type_by_name(path: &ImagePath) -> Option<String> {
    mime_guess::from_path(path.as_str())
        .first_raw()
        .map(str::to_owned)
}

fn said<'a>(headers: &HeaderMap, cache_control: Option<&'a str>) -> Said<'a> {
    let date = |name| text(headers, name).map(date_of);
    Said {
        cache_control,
        expires: date(&header::EXPIRES),
        date: date(&header::DATE).flatten(),
        last_modified: date(&header::LAST_MODIFIED).flatten(),
        age: text(headers, &header::AGE)
            .and_then(|age| age.parse().ok())
            .map(Duration::from_secs),
        // Our request is the same for every visitor, so what varies by request headers does not
        // vary for us. `*` varies by something else.
        varies: headers
            .get_all(header::VARY)
            .iter()
            .any(|line| line.as_bytes().contains(&b'*')),
    }
}

fn retry_after(headers: &HeaderMap, now: Moment) -> Option<Duration> {
    let said = text(headers, &header::RETRY_AFTER)?;
    let seconds = said.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| date_of(said).map(|date| date.since(now)))
}

fn etag(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, &header::ETAG)?;
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    let quoted = opaque.len() >= 2 && opaque.starts_with('"') && opaque.ends_with('"');
    quoted.then(|| tag.to_owned())
}

fn last_modified(headers: &HeaderMap) -> Option<String> {
    let said = text(headers, &header::LAST_MODIFIED)?;
    date_of(said).map(|_| said.to_owned())
}

fn date_of(text: &str) -> Option<Moment> {
    httpdate::parse_http_date(text).ok().map(Moment::from)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers
        .get(name)?
        .to_str()
        .ok()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn all_lines(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

#[cfg(test)]
mod tests;
