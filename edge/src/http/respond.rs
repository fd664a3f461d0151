//! From an answer of the cache to a response.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tuyun_chassis::http::Problem;

use super::conditional::{Part, part};
use super::multipart::lay_out;
use super::{body, problem};
use crate::cache::freshness::ttl;
use crate::cache::{Answer, Content, Head, How, Moment, Reader};
use crate::traffic::Counters;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The request, as far as it shapes the response.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) now: Moment,
}

/// Where the bytes come from.
enum Source {
    Held(Content),
    Coming(Reader),
}

/// How the cache came by it, for those who look into headers.
struct Told {
    how: How,
    collapsed: bool,
    stored: bool,
}

/// The response to an answer.
pub(super) fn respond(answer: Answer, asked: &Asked<'_>, counters: &Arc<Counters>) -> Response {
    match answer {
        Answer::Stored {
            stored,
            how,
            collapsed,
        } => {
            let told = Told {
                how,
                collapsed,
                stored: true,
            };
            let source = Source::Held(stored.content);
            let record = &stored.record;
            picture(
                &record.head,
                Some(record.size),
                source,
                &told,
                asked,
                counters,
            )
        }
        Answer::Coming {
            coming,
            reader,
            how,
            collapsed,
        } => {
            let told = Told {
                how,
                collapsed,
                stored: coming.kept,
            };
            picture(
                &coming.head,
                coming.length,
                Source::Coming(reader),
                &told,
                asked,
                counters,
            )
        }
        Answer::Absent { known } => {
            let mut response = Problem::not_found("No such picture.").into_response();
            let headers = response.headers_mut();
            let status = if known {
                "tuyun-edge; hit"
            } else {
                "tuyun-edge; fwd=uri-miss; fwd-status=404"
            };
            headers.insert(CACHE_STATUS, HeaderValue::from_static(status));
            headers.insert(
                X_CACHE,
                HeaderValue::from_static(if known { "HIT" } else { "MISS" }),
            );
            response
        }
        Answer::Failed(error) => {
            let mut response = problem::of_fetch(&error).into_response();
            let headers = response.headers_mut();
            let status = HeaderValue::from_static("tuyun-edge; fwd=uri-miss; detail=failed");
            headers.insert(CACHE_STATUS, status);
            headers.insert(X_CACHE, HeaderValue::from_static("MISS"));
            response
        }
    }
}

fn picture(
    head: &Head,
    length: Option<u64>,
    source: Source,
    told: &Told,
    asked: &Asked<'_>,
    counters: &Arc<Counters>,
) -> Response {
    let is_get = asked.method == Method::GET;
    let part = part(asked.headers, head, length, is_get);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    common(headers, head, told, asked.now);
    let (status, range) = match part {
        Part::Nothing => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        Part::Beyond => {
            let mut refusal = Problem::of(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "The range lies behind the end.",
            )
            .into_response();
            let text = format!("bytes */{}", length.unwrap_or_default());
            set(refusal.headers_mut(), header::CONTENT_RANGE, &text);
            return refusal;
        }
        Part::Several(ranges) => {
            if let Source::Held(content) = &source {
                let total = length.unwrap_or_default();
                let layout = lay_out(ranges, &head.content_type, total, rand::random());
                set(headers, header::CONTENT_TYPE, &layout.content_type);
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(layout.length));
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                *response.body_mut() = body::parts(content, layout, counters);
                return response;
            }
            // What comes just now comes once, from front to back.
            (StatusCode::OK, length.map(|length| 0..length))
        }
        Part::Whole => (StatusCode::OK, length.map(|length| 0..length)),
        Part::Some(range) => {
            let total = length.unwrap_or_default();
            let text = format!("bytes {}-{}/{total}", range.start, range.end - 1);
            set(headers, header::CONTENT_RANGE, &text);
            (StatusCode::PARTIAL_CONTENT, Some(range))
        }
    };
    set(headers, header::CONTENT_TYPE, &head.content_type);
    if let Some(range) = &range {
        headers.insert(
            header::CONTENT_LENGTH,
            HeaderValue::from(range.end - range.start),
        );
    }
    *response.status_mut() = status;
    if is_get {
        let counters = Arc::clone(counters);
        *response.body_mut() = match (source, range) {
            (Source::Held(content), range) => {
                body::held(content, range.unwrap_or_default(), counters)
            }
            (Source::Coming(mut reader), range) => {
                if status == StatusCode::PARTIAL_CONTENT
                    && let Some(range) = range
                {
                    reader.narrow(range.start, range.end);
                }
                body::coming(reader, counters)
            }
        };
    }
    response
}

/// What every answer about a picture carries, 304 included.
fn common(headers: &mut HeaderMap, head: &Head, told: &Told, now: Moment) {
    lasting(headers, head);
    headers.insert(header::AGE, HeaderValue::from(head.age(now).as_secs()));
    set(headers, CACHE_STATUS, &cache_status(told, ttl(head, now)));
    headers.insert(X_CACHE, HeaderValue::from_static(x_cache(told.how)));
}

/// What of it stays the same for as long as the picture does.
pub(crate) fn lasting(headers: &mut HeaderMap, head: &Head) {
    if let Some(etag) = &head.etag {
        set(headers, header::ETAG, etag);
    }
    if let Some(date) = &head.last_modified {
        set(headers, header::LAST_MODIFIED, date);
    }
    if let Some(said) = &head.cache_control {
        set(headers, header::CACHE_CONTROL, said);
    } else {
        // What we guessed of its life holds for browsers as well.
        let text = format!("public, max-age={}", head.lifetime.fresh_secs);
        set(headers, header::CACHE_CONTROL, &text);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // Pictures are public, and a page that reads one by script was sent here by jump, which says
    // the same.
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
}

/// RFC 9211.
fn cache_status(told: &Told, ttl: i64) -> String {
    let mut text = String::from("tuyun-edge; ");
    text.push_str(match told.how {
        How::Hit | How::Stale => "hit",
        How::Miss => "fwd=uri-miss; fwd-status=200",
        How::Revalidated => "fwd=stale; fwd-status=304",
        How::Expired => "fwd=stale; fwd-status=200",
    });
    let fetched = matches!(told.how, How::Miss | How::Expired);
    if fetched && told.stored {
        text.push_str("; stored");
    }
    if told.collapsed {
        text.push_str("; collapsed");
    }
    if !fetched || told.stored {
        text.push_str("; ttl=");
        text.push_str(&ttl.to_string());
    }
    text
}

fn x_cache(how: How) -> &'static str {
    match how {
        How::Hit => "HIT",
        How::Miss => "MISS",
        How::Revalidated => "REVALIDATED",
        How::Expired => "EXPIRED",
        How::Stale => "STALE",
    }
}

/// Values of the origin's were headers once and are again; one that cannot be is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}
