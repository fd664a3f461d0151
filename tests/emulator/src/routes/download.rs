//! The bytes of a file, from a URL that needs no sign-in.
//!
//! Everything the URL stands for is inside it, signed: the drive, the item, until when. So a page
//! of a thousand children costs no memory.

use std::time::Duration;

use axum::{body::Body, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::body;
use crate::{
    clock,
    refusal::Refusal,
    render,
    store::Mark,
    world::{State, World},
};

/// What a pre-authenticated URL stands for.
#[derive(Debug, Serialize, Deserialize)]
struct Ticket {
    drive: usize,
    item: String,
    version: Option<u32>,
    until_ms: i64,
    epoch: u64,
}

/// The signed part of a download URL.
pub(super) fn sign(
    world: &World,
    state: &State,
    drive: usize,
    item: &str,
    version: Option<u32>,
) -> String {
    let life = Duration::from_secs(state.settings.download_url_seconds);
    let ticket = Ticket {
        drive,
        item: item.to_owned(),
        version,
        until_ms: clock::after(world.now(), life).as_millisecond(),
        epoch: state.url_epoch,
    };
    // Plain numbers and text always serialise.
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&ticket).unwrap_or_default());
    let mark = seal(world, &payload);
    format!("v1.{payload}.{mark}")
}

fn seal(world: &World, payload: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{}{payload}", world.secret)))
}

fn check(world: &World, text: &str) -> Option<Ticket> {
    let (payload, mark) = text.strip_prefix("v1.")?.split_once('.')?;
    if seal(world, payload) != mark {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// `GET` or `HEAD` of the bytes.
pub(super) fn answer(
    world: &World,
    request: &Request<Body>,
    tempauth: &str,
) -> Result<Response, Refusal> {
    let expired = || {
        Refusal::new(
            401,
            "unauthenticated",
            "The download URL is not valid any more.",
        )
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Refusal::method("GET, HEAD"));
    }
    let ticket = check(world, tempauth).ok_or_else(expired)?;
    let state = world.state();
    if ticket.epoch != state.url_epoch || world.now().as_millisecond() >= ticket.until_ms {
        return Err(expired());
    }
    let drive = &state.drives[ticket.drive];
    let item = drive.find(&ticket.item)?;
    let file = item.file().ok_or_else(Refusal::not_found)?;
    if item.mark == Some(Mark::Malware) {
        return Err(Refusal::new(
            403,
            "malwareDetected",
            "Malware was detected in this item.",
        ));
    }
    let content = match ticket.version.filter(|number| *number != file.number) {
        None => &file.content,
        Some(number) => {
            let old = file.older.iter().find(|old| old.number == number);
            &old.ok_or_else(Refusal::not_found)?.content
        }
    };
    let length = content.length();
    let ignore = state.settings.ignore_range || ticket.version.is_some();
    let part = if ignore {
        Part::Whole
    } else {
        Part::of(request.headers(), length)
    };
    let (status, range) = match part {
        Part::Whole => (StatusCode::OK, 0..length),
        Part::Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        Part::Beyond => {
            return Err(
                Refusal::new(416, "invalidRange", "The range is not satisfiable.")
                    .header(header::CONTENT_RANGE, format!("bytes */{length}")),
            );
        }
    };
    let mut reply = Response::new(if request.method() == Method::HEAD {
        Body::empty()
    } else {
        body::stream(content, range.clone())?
    });
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(range.end - range.start),
    );
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(render::mime(&item.name)),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let mut put = |name, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    let etag = item.etag(&drive.switches);
    put(
        header::ETAG,
        if etag.starts_with('"') {
            etag
        } else {
            format!("\"{etag}\"")
        },
    );
    put(header::LAST_MODIFIED, http_date(item.modified));
    if status == StatusCode::PARTIAL_CONTENT {
        put(
            header::CONTENT_RANGE,
            format!("bytes {}-{}/{length}", range.start, range.end - 1),
        );
    }
    Ok(reply)
}

fn http_date(time: jiff::Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Which bytes were asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Some(std::ops::Range<u64>),
    Beyond,
}

impl Part {
    /// Suffix ranges, several ranges and what cannot be read are ignored, as the service does.
    fn of(headers: &HeaderMap, length: u64) -> Self {
        let text = headers
            .get(header::RANGE)
            .and_then(|value| value.to_str().ok());
        let Some((first, last)) = text
            .and_then(|text| text.strip_prefix("bytes="))
            .filter(|text| !text.contains(','))
            .and_then(|text| text.split_once('-'))
        else {
            return Self::Whole;
        };
        let Ok(first) = first.trim().parse::<u64>() else {
            return Self::Whole;
        };
        let last = match last.trim() {
            "" => u64::MAX,
            text => match text.parse::<u64>() {
                Ok(last) if last >= first => last,
                _ => return Self::Whole,
            },
        };
        if first >= length {
            return Self::Beyond;
        }
        Self::Some(first..last.saturating_add(1).min(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str, length: u64) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::try_from(range).unwrap());
        Part::of(&headers, length)
    }

    #[test]
    fn only_one_absolute_range_counts() {
        assert_eq!(part("bytes=0-4", 10), Part::Some(0..5));
        assert_eq!(part("bytes=5-", 10), Part::Some(5..10));
        assert_eq!(part("bytes=5-99", 10), Part::Some(5..10));
        for ignored in ["bytes=-5", "bytes=0-1,3-4", "bytes=4-2", "items=0-1"] {
            assert_eq!(part(ignored, 10), Part::Whole, "{ignored}");
        }
    }

    #[test]
    fn a_range_that_begins_at_the_end_is_beyond_it() {
        assert_eq!(part("bytes=10-", 10), Part::Beyond);
        assert_eq!(part("bytes=0-0", 0), Part::Beyond);
    }
}
