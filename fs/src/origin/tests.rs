//! The origin over HTTP, with a drive that does as it is told.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio_util::sync::DropGuard;
use tower::ServiceExt as _;

use super::*;
use crate::outbox::feed::What;
use crate::scripted::Rig;

/// Larger than what is fetched whole before it is answered.
const LARGE: usize = (8 << 20) + 12345;

struct Site {
    rig: Rig,
    router: Router,
    _stop: DropGuard,
    _tokens: tempfile::NamedTempFile,
}

impl Site {
    async fn with(files: Vec<(&'static str, Bytes)>) -> Self {
        let rig = Rig::over(files).await;
        let mut tokens = tempfile::NamedTempFile::new().unwrap();
        writeln!(tokens, "open-sesame").unwrap();
        let settings = settings::Origin {
            tokens_file: tokens.path().to_str().unwrap().into(),
            ..settings::Origin::default()
        };
        let stop = CancellationToken::new();
        let router = router(rig.vfs.clone(), &settings, stop.clone()).unwrap();
        Self {
            rig,
            router,
            _stop: stop.drop_guard(),
            _tokens: tokens,
        }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Bytes) {
        let response = self.ask("GET", path, headers).await;
        let status = response.status().as_u16();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_is_not_uploaded_is_served_with_its_validators() {
    let site = Site::with(Vec::new()).await;
    site.rig.put("a.gif", b"GIF89a").await;
    let response = site.ask("GET", "/mount/a.gif", &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), "image/gif");
    assert_eq!(header(&response, "content-length"), "6");
    assert_eq!(header(&response, "accept-ranges"), "bytes");
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    assert_eq!(
        header(&response, "cache-control"),
        "public, max-age=86400, stale-if-error=864000"
    );
    let (etag, modified) = (
        header(&response, "etag").to_owned(),
        header(&response, "last-modified").to_owned(),
    );
    assert!(
        etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2,
        "{etag}"
    );
    assert!(!modified.is_empty());
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "GIF89a"
    );

    let head = site
        .ask("HEAD", "/mount/a.gif", &[("range", "bytes=0-0")])
        .await;
    assert_eq!(
        (head.status().as_u16(), header(&head, "content-length")),
        (200, "6")
    );
    assert!(
        head.into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );

    let known = site
        .ask("GET", "/mount/a.gif", &[("if-none-match", &etag)])
        .await;
    assert_eq!(known.status(), 304);
    assert_eq!(header(&known, "etag"), etag);
    assert_eq!(
        site.get("/mount/a.gif", &[("if-modified-since", &modified)])
            .await
            .0,
        304
    );
    let part = site
        .ask("GET", "/mount/a.gif", &[("range", "bytes=3-")])
        .await;
    assert_eq!(
        (part.status().as_u16(), header(&part, "content-range")),
        (206, "bytes 3-5/6")
    );
    assert_eq!(header(&part, "content-length"), "3");
    assert_eq!(part.into_body().collect().await.unwrap().to_bytes(), "89a");
    let behind = site
        .ask("GET", "/mount/a.gif", &[("range", "bytes=6-")])
        .await;
    assert_eq!(
        (behind.status().as_u16(), header(&behind, "content-range")),
        (416, "bytes */6")
    );
    for path in [
        "/api/raw?path=/mount/a.gif",
        "/api/raw/?path=%2Fmount%2Fa.gif",
    ] {
        assert_eq!(
            site.get(path, &[]).await,
            (200, Bytes::from_static(b"GIF89a")),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_is_said_only_of_what_is_known_to_be_absent() {
    let site = Site::with(vec![("far.png", pattern(100))]).await;
    site.rig.drive.offline.store(true, Ordering::Relaxed);
    let unknown = site.ask("GET", "/mount/nothing.png", &[]).await;
    assert_eq!(unknown.status(), 503, "the folder was never listed");
    assert!(!header(&unknown, "retry-after").is_empty());
    site.rig.drive.offline.store(false, Ordering::Relaxed);
    let (status, body) = site.get("/mount/nothing.png", &[]).await;
    assert_eq!(
        (status, body),
        (
            404,
            Bytes::from_static(br#"{"code":404,"msg":"Not found."}"#)
        )
    );
    site.rig.drive.offline.store(true, Ordering::Relaxed);
    assert_eq!(
        site.get("/mount/nothing.png", &[]).await.0,
        404,
        "known by now"
    );
    assert_eq!(
        site.get("/mount/far.png", &[]).await.0,
        503,
        "known, and not here"
    );
    assert_eq!(site.get("/mount/far.png/below", &[]).await.0, 404);
    site.rig.drive.offline.store(false, Ordering::Relaxed);
    assert_eq!(site.get("/mount/far.png", &[]).await, (200, pattern(100)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_completed_is_an_error_and_never_short() {
    let site = Site::with(vec![("large.bin", pattern(LARGE))]).await;
    let whole = site.get("/mount/large.bin", &[]).await;
    assert!(whole == (200, pattern(LARGE)));

    let site = Site::with(vec![("large.bin", pattern(LARGE))]).await;
    site.rig.drive.breaks_at.store(5 << 20, Ordering::Relaxed);
    let broken = site.ask("GET", "/mount/large.bin", &[]).await;
    assert_eq!(broken.status(), 200);
    assert_eq!(header(&broken, "content-length"), LARGE.to_string());
    let mut body = broken.into_body().into_data_stream();
    let mut came = 0;
    let ended = loop {
        match body.next().await {
            Some(Ok(bytes)) => came += bytes.len(),
            Some(Err(_)) => break "reset",
            None => break "ended",
        }
    };
    assert_eq!(ended, "reset");
    assert!(came <= 5 << 20, "{came}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_large_file_is_served_without_the_rest() {
    let site = Site::with(vec![("large.bin", pattern(LARGE))]).await;
    let (status, bytes) = site.get("/mount/large.bin", &[("range", "bytes=-5")]).await;
    assert_eq!((status, bytes), (206, pattern(LARGE).slice(LARGE - 5..)));
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_are_refused_politely() {
    let site = Site::with(Vec::new()).await;
    site.rig.put("page.html", b"<script>").await;
    let table = [
        ("GET", "/", 404),
        ("GET", "/mount", 404),
        ("GET", "/elsewhere/a.gif", 404),
        ("GET", "/mount/../a.gif", 400),
        ("GET", "/mount/%00", 400),
        ("GET", "/api/raw", 400),
        ("GET", "/api/raw?path=/mount/a/../b", 400),
        ("GET", "/_api/nothing", 404),
        ("POST", "/mount/a.gif", 405),
        ("DELETE", "/api/raw?path=/mount/a.gif", 405),
    ];
    for (method, path, status) in table {
        let response = site.ask(method, path, &[]).await;
        assert_eq!(response.status(), status, "{method} {path}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(said["code"].as_u64().is_some_and(|code| code > 0), "{said}");
    }
    let page = site.ask("GET", "/mount/page.html", &[]).await;
    assert!(header(&page, "content-security-policy").starts_with("sandbox"));
}

async fn events(body: &mut axum::body::BodyDataStream, until: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains(until) {
            text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("events in time");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_as_they_happen_and_again_to_whoever_missed_them() {
    const TOKEN: (&str, &str) = ("authorization", "Bearer open-sesame");
    let site = Site::with(Vec::new()).await;
    assert_eq!(site.get("/_api/changes", &[]).await.0, 401);
    let response = site.ask("GET", "/_api/changes", &[TOKEN]).await;
    assert_eq!(header(&response, "content-type"), "text/event-stream");
    let mut live = response.into_body().into_data_stream();
    let start = events(&mut live, "\n\n").await;
    let cursor: u64 = start.trim().strip_prefix("id: ").unwrap().parse().unwrap();
    site.rig.put("a.gif", b"GIF89a").await;
    let put = events(&mut live, "\n\n").await;
    assert!(put.contains("event: put\n"), "{put}");
    assert!(
        put.contains(r#""path":"/mount/a.gif""#) && put.contains(r#""size":6"#),
        "{put}"
    );
    assert!(put.contains(&format!("id: {}\n", cursor + 1)), "{put}");
    site.rig
        .vfs
        .ledger()
        .feed
        .push(What::DeletePrefix { path: "old".into() });
    let gone = events(&mut live, "\n\n").await;
    assert!(
        gone.contains("event: delete\ndata: {\"prefix\":\"/mount/old\"}\n"),
        "{gone}"
    );
    drop(live);

    let since = (cursor + 1).to_string();
    let again = site
        .ask("GET", "/_api/changes", &[TOKEN, ("last-event-id", &since)])
        .await;
    let missed = events(&mut again.into_body().into_data_stream(), "\n\n").await;
    assert!(
        missed.contains("/mount/old") && !missed.contains("a.gif"),
        "{missed}"
    );
    for old in ["1", "nonsense"] {
        let again = site
            .ask("GET", "/_api/changes", &[TOKEN, ("last-event-id", old)])
            .await;
        let reset = events(&mut again.into_body().into_data_stream(), "\n\n").await;
        assert!(reset.contains("event: reset\n"), "{old}: {reset}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_of_ours_the_feed_is_closed() {
    let rig = Rig::over(Vec::new()).await;
    let closed = settings::Origin::default();
    let router = router(rig.vfs.clone(), &closed, CancellationToken::new()).unwrap();
    let request = Request::get("/_api/changes").body(Body::empty()).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), 403);
}
