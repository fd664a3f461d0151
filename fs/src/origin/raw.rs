//! Raw files: head, whole or in part, streamed as they come.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tuyun_chassis::http::Problem;
use tuyun_protocol::ImagePath;

use super::Origin;
use super::asked::{self, Unclear};
use super::conditions::{Held, Verdict, judge};
use crate::ports::DriveError;
use crate::vfs::{Picture, VfsError};

/// How much is read at once. The first piece is read before the head is sent, so that a picture
/// of usual size is either whole or a 503; larger pieces would cost memory for each reader.
const PIECE: usize = 1 << 20;

/// When to come back, where nobody knows: longer than a hiccup, shorter than a visitor's patience
/// with a page that an edge fills again.
const COME_BACK: Duration = Duration::from_secs(10);

/// `GET {prefix}/{path}`.
pub(super) async fn by_path(State(origin): State<Arc<Origin>>, request: Request) -> Response {
    let path = asked::by_path(request.uri().path(), &origin.prefix);
    answer(&origin, path, request.method(), request.headers()).await
}

/// `GET /api/raw?path={prefix}/{path}`.
pub(super) async fn by_query(State(origin): State<Arc<Origin>>, request: Request) -> Response {
    let path = asked::by_query(request.uri().query().unwrap_or_default(), &origin.prefix);
    answer(&origin, path, request.method(), request.headers()).await
}

async fn answer(
    origin: &Origin,
    path: Result<ImagePath, Unclear>,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let refused = Problem::of(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.");
        return ([(header::ALLOW, "GET, HEAD")], refused).into_response();
    }
    let path = match path {
        Ok(path) => path,
        Err(Unclear::Elsewhere) => return Problem::not_found("Not found.").into_response(),
        Err(Unclear::NoPath) => {
            return Problem::bad_request("The query needs path=.").into_response();
        }
        Err(Unclear::Bad(bad)) => return Problem::bad_request(bad.to_string()).into_response(),
    };
    match send(origin, &path, method, headers).await {
        Ok(response) => response,
        Err(error) => refuse(&path, &error).into_response(),
    }
}

async fn send(
    origin: &Origin,
    path: &ImagePath,
    method: &Method,
    asked: &HeaderMap,
) -> Result<Response, VfsError> {
    let picture = origin.vfs.picture(path).await?;
    let held = Held {
        etag: picture.etag.as_deref(),
        modified: picture.attr.mtime,
        size: picture.size,
    };
    let verdict = judge(asked, *method == Method::GET, held);
    let mut response = Response::default();
    describe(origin, path, &picture, response.headers_mut());
    let size = picture.size;
    let range = match verdict {
        Verdict::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(header::CONTENT_TYPE);
            return Ok(response);
        }
        Verdict::Unsatisfiable => {
            let problem = Problem::of(StatusCode::RANGE_NOT_SATISFIABLE, "No such range.");
            return Ok((
                [(header::CONTENT_RANGE, format!("bytes */{size}"))],
                problem,
            )
                .into_response());
        }
        Verdict::Whole => 0..size,
        Verdict::Part(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let told = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            put(response.headers_mut(), header::CONTENT_RANGE, &told);
            range
        }
    };
    let length = HeaderValue::from(range.end - range.start);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length);
    if *method == Method::GET {
        *response.body_mut() = body(picture, range).await?;
    }
    Ok(response)
}

/// The body. An error behind the first piece breaks the connection.
async fn body(picture: Picture, range: Range<u64>) -> Result<Body, VfsError> {
    let first = piece(&picture, &range).await?;
    let mut rest = range.start + first.len() as u64..range.end;
    if rest.is_empty() {
        return Ok(Body::from(first));
    }
    Ok(Body::from_stream(async_stream::stream! {
        yield Ok(first);
        while !rest.is_empty() {
            match piece(&picture, &rest).await {
                Ok(bytes) => {
                    rest.start += bytes.len() as u64;
                    yield Ok(bytes);
                }
                Err(error) => {
                    tracing::warn!(node = %picture.attr.node, %error,
                        "a picture broke off; its connection is reset");
                    yield Err(error);
                    return;
                }
            }
        }
    }))
}

/// The next piece of a range; all that was asked for, or an error.
async fn piece(picture: &Picture, range: &Range<u64>) -> Result<Bytes, VfsError> {
    let wanted = usize::try_from(range.end - range.start).map_or(PIECE, |left| left.min(PIECE));
    let bytes = picture.read(range.start, wanted).await?;
    if bytes.len() == wanted {
        return Ok(bytes);
    }
    Err(VfsError::Damaged(format!(
        "{} bytes where {wanted} should be",
        bytes.len()
    )))
}

fn describe(origin: &Origin, path: &ImagePath, picture: &Picture, headers: &mut HeaderMap) {
    if let Some(etag) = &picture.etag {
        put(headers, header::ETAG, &format!("\"{etag}\""));
    }
    if let Some(at) = date(picture.attr.mtime) {
        put(headers, header::LAST_MODIFIED, &at);
    }
    headers.insert(header::CACHE_CONTROL, origin.cache_control.clone());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let kind = mime_guess::from_path(path.as_str())
        .first_raw()
        .unwrap_or("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if can_run(kind) {
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(SANDBOX),
        );
    }
}

/// A date as headers have it; none for those that a program set outside of the years 1970 to
/// 9999, which cannot be written.
fn date(at: SystemTime) -> Option<String> {
    const END: Duration = Duration::from_hours(70_389_528); // 10000-01-01
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    (since < END).then(|| httpdate::fmt_http_date(at))
}

/// What visitors upload may not act in the name of the site that shows it.
const SANDBOX: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";

fn can_run(kind: &str) -> bool {
    kind == "image/svg+xml" || kind == "text/html" || kind.ends_with("xml")
}

/// A header from text of ours. What cannot be sent, such as an eTag with an odd byte that a
/// service made up, is left out: a missing validator is never wrong.
fn put(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Absent only when it is known to be; unknown is 503 and when to come back.
fn refuse(path: &ImagePath, error: &VfsError) -> Problem {
    match error {
        VfsError::NotFound
        | VfsError::NotDirectory
        | VfsError::IsDirectory
        | VfsError::InvalidName(_)
        | VfsError::NameTooLong => Problem::not_found("Not found."),
        VfsError::Refused(_) => {
            tracing::warn!(path = path.as_str(), %error, "a picture cannot be served");
            Problem::of(StatusCode::FORBIDDEN, "The drive does not hand this out.")
        }
        VfsError::Unreachable(cause) => {
            tracing::warn!(path = path.as_str(), %cause, "a picture cannot be served now");
            let wait = match &**cause {
                DriveError::Unavailable {
                    retry_after: Some(wait),
                    ..
                } => *wait,
                _ => COME_BACK,
            };
            Problem::unavailable("Not known at present.", wait)
        }
        VfsError::TimedOut
        | VfsError::Damaged(_)
        | VfsError::Disk(_)
        | VfsError::Journal(_)
        | VfsError::Exists
        | VfsError::NotEmpty
        | VfsError::ReadOnly
        | VfsError::BadHandle
        | VfsError::Busy
        | VfsError::InvalidArgument
        | VfsError::OtherDrive
        | VfsError::TooLarge
        | VfsError::NotSupported => {
            tracing::warn!(path = path.as_str(), %error, "a picture cannot be served now");
            Problem::unavailable("Not to be had at present.", COME_BACK)
        }
    }
}
