//! Misses: one fetch for everybody, and nothing but whole pictures in the cache.

use futures_util::StreamExt as _;
use futures_util::future::join_all;

use crate::node::{Node, eventually, header, told};
use crate::origin::{Gate, Origin, Reply};

fn body() -> Vec<u8> {
    (0..100_000_u32).map(|n| (n % 253) as u8).collect()
}

fn kept(reply: Reply) -> Reply {
    reply.header("cache-control", "max-age=600")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_readers_of_a_missing_picture_make_one_fetch() {
    let origin = Origin::start().await;
    let gate = Gate::shut();
    let body = body();
    let reply = Reply::bare(200)
        .header("content-type", "image/webp")
        .header("content-length", "100000")
        .send(&body[..50_000])
        .wait(&gate)
        .send(&body[50_000..]);
    origin.serve("/a.webp", kept(reply));
    let node = Node::before(&origin).await;
    // All heads are there before the body can end: all two hundred share one fetch.
    let responses = join_all((0..200).map(|_| node.get("/a.webp"))).await;
    let collapsed = responses
        .iter()
        .filter(|response| header(response, "cache-status").contains("; collapsed"))
        .count();
    assert_eq!(collapsed, 199);
    gate.open();
    for response in responses {
        assert_eq!(told(response).await, (200, "MISS".into(), body.clone()));
    }
    assert_eq!(origin.asked("/a.webp").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_joins_late_gets_bytes_before_the_fetch_ends() {
    let origin = Origin::start().await;
    let gate = Gate::shut();
    let reply = Reply::bare(200)
        .header("content-length", "10")
        .send(b"01234")
        .wait(&gate)
        .send(b"56789");
    origin.serve("/a.webp", kept(reply));
    let node = Node::before(&origin).await;
    for _ in 0..2 {
        let response = node.get("/a.webp").await;
        let mut pieces = response.bytes_stream();
        let first = pieces.next().await.expect("a piece").expect("no error");
        assert_eq!(first, b"01234"[..]);
    }
    gate.open();
    node.holds(1).await;
    assert_eq!(origin.asked("/a.webp").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_when_its_only_reader_leaves() {
    let origin = Origin::start().await;
    let gate = Gate::shut();
    let reply = Reply::bare(200)
        .header("content-length", "10")
        .send(b"01234")
        .wait(&gate)
        .send(b"56789");
    origin.serve("/a.webp", kept(reply));
    let node = Node::before(&origin).await;
    drop(node.get("/a.webp").await);
    gate.open();
    node.holds(1).await;
    assert_eq!(
        told(node.get("/a.webp").await).await,
        (200, "HIT".into(), b"0123456789".to_vec())
    );
    assert_eq!(origin.asked("/a.webp").len(), 1);
}

/// The visitor must see a broken answer or an error, never a 200 that looks whole; the next one
/// asks the origin again.
async fn never_passes_for_whole(reply: Reply) {
    let origin = Origin::start().await;
    origin.serve("/a.webp", kept(reply));
    let node = Node::before(&origin).await;
    for round in 1..=2 {
        // The connection may break before the head is out.
        if let Ok(response) = node.request("GET", "/a.webp").send().await
            && response.status() == 200
        {
            assert!(
                response.bytes().await.is_err(),
                "a cut answer passed for whole"
            );
        }
        eventually("the fetch has ended", async || {
            node.get("/_api/status")
                .await
                .json::<serde_json::Value>()
                .await
                .expect("JSON")["fetching"]
                == 0
        })
        .await;
        assert_eq!(
            origin.asked("/a.webp").len(),
            round,
            "a cut answer was kept"
        );
    }
    assert_eq!(node.entries().await, 0);
    let left = std::fs::read_dir(node.cache().join("incoming"))
        .expect("a folder")
        .count();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_shorter_than_its_length_never_passes_for_whole() {
    let short = Reply::bare(200)
        .header("content-length", "100000")
        .send(&body()[..60_000]);
    never_passes_for_whole(short).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_lacks_its_last_byte_never_passes_for_whole() {
    let short = Reply::bare(200)
        .header("content-length", "100000")
        .send(&body()[..99_999]);
    never_passes_for_whole(short).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_without_its_end_never_passes_for_whole() {
    let cut = Reply::bare(200)
        .header("transfer-encoding", "chunked")
        .send(b"5\r\n01234\r\n");
    never_passes_for_whole(cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_than_the_tag_names_never_pass_for_whole() {
    // The tag of `hello world`.
    let tag = "\"6828031bd8f00610dce10d726b03190000000000-b\"";
    never_passes_for_whole(Reply::picture(b"hello wormd").header("etag", tag)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_that_the_tag_names_are_kept() {
    let origin = Origin::start().await;
    let tag = "\"6828031bd8f00610dce10d726b03190000000000-b\"";
    origin.serve(
        "/a.webp",
        kept(Reply::picture(b"hello world").header("etag", tag)),
    );
    let node = Node::before(&origin).await;
    assert_eq!(told(node.get("/a.webp").await).await.2, b"hello world");
    node.holds(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_picture_is_a_502_and_never_kept() {
    let page = b"<!DOCTYPE html><html>try later</html>";
    let html = Reply::picture(page).header("content-type", "text/html");
    let disguised = Reply::picture(page);
    let json = Reply::picture(b"{\"error\":\"x\"}").header("content-type", "application/json");
    let empty = Reply::picture(b"");
    let empty_chunked = Reply::bare(200)
        .header("transfer-encoding", "chunked")
        .send(b"0\r\n\r\n");
    let packed = Reply::picture(b"0123").header("content-encoding", "gzip");
    for reply in [html, disguised, json, empty, empty_chunked, packed] {
        let origin = Origin::start().await;
        origin.serve("/a.webp", kept(reply));
        let node = Node::before(&origin).await;
        let response = node.get("/a.webp").await;
        assert_eq!(response.status(), 502);
        assert!(!header(&response, "retry-after").is_empty());
        let problem: serde_json::Value = response.json().await.expect("JSON");
        assert_eq!(problem["code"], 502);
        assert_eq!(node.entries().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_kept_is_served_and_asked_for_again() {
    for (name, value) in [
        ("cache-control", "no-store"),
        ("cache-control", "private"),
        ("vary", "*"),
    ] {
        let origin = Origin::start().await;
        origin.serve("/a.webp", Reply::picture(b"0123456789").header(name, value));
        let node = Node::before(&origin).await;
        for round in 1..=2 {
            assert_eq!(
                told(node.get("/a.webp").await).await,
                (200, "MISS".into(), b"0123456789".to_vec())
            );
            assert_eq!(origin.asked("/a.webp").len(), round);
        }
        assert_eq!(node.entries().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_larger_than_the_whole_cache_passes_through() {
    let origin = Origin::start().await;
    let body: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 241) as u8).collect();
    origin.serve("/big.webp", kept(Reply::picture(&body)));
    let node = Node::with(&origin, |settings, _| {
        settings.cache.max_size = "1MiB".parse().expect("a size");
    })
    .await;
    assert_eq!(
        told(node.get("/big.webp").await).await,
        (200, "MISS".into(), body)
    );
    assert_eq!(node.entries().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_written_serves_without_storing() {
    let origin = Origin::start().await;
    origin.serve("/a.webp", kept(Reply::picture(&body())));
    let node = Node::before(&origin).await;
    // A file where the folder was: creating fails, for root as well.
    let incoming = node.cache().join("incoming");
    std::fs::remove_dir(&incoming).expect("removed");
    std::fs::write(&incoming, b"").expect("written");
    for round in 1..=2 {
        assert_eq!(
            told(node.get("/a.webp").await).await,
            (200, "MISS".into(), body())
        );
        assert_eq!(origin.asked("/a.webp").len(), round);
    }
    let status: serde_json::Value = node.get("/_api/status").await.json().await.expect("JSON");
    assert_eq!(status["storing"], false);
    std::fs::remove_file(&incoming).expect("removed");
    std::fs::create_dir(&incoming).expect("made");
    told(node.get("/a.webp").await).await;
    node.holds(1).await;
}
