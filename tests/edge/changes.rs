//! The origin tells what changes, and the node does not wait for a picture's life to end.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{Node, eventually, secret, told};
use crate::origin::{Gate, Origin, Reply};

const FEED: &str = "/_api/changes";

/// What a changed picture may take to be gone from here.
const AT_ONCE: Duration = Duration::from_secs(1);

fn feed() -> Reply {
    Reply::bare(200).header("content-type", "text/event-stream")
}

fn picture(body: &[u8], etag: &str) -> Reply {
    Reply::picture(body)
        .header("etag", etag)
        .header("cache-control", "max-age=86400")
}

/// A node whose token opens the feed.
async fn before(origin: &Origin, prefetch: bool) -> Node {
    Node::with(origin, |settings, home| {
        settings.origin.token_file = secret(home, "origin", "the-token");
        settings.origin.prefetch = prefetch;
    })
    .await
}

async fn follows(node: &Node) {
    eventually("the feed is followed", async || {
        let status: Value = node.get("/_api/status").await.json().await.expect("JSON");
        status["changes"] == "followed"
    })
    .await;
}

/// A picture that the origin stands by when it is asked about.
fn stand(origin: &Origin, path: &str) {
    origin.rule(path, |asked| match asked.header("if-none-match") {
        Some("\"v1\"") => Reply::bare(304)
            .header("etag", "\"v1\"")
            .header("cache-control", "max-age=86400")
            .header("content-length", "0"),
        _ => picture(b"old", "\"v1\""),
    });
}

/// Until they are held, and out of the doubt in which everything stands that was fetched in the very
/// second in which the feed began.
async fn hold(node: &Node, paths: &[&str]) {
    for path in paths {
        eventually("it is held", async || {
            told(node.get(path).await).await.1 == "HIT"
        })
        .await;
    }
    node.holds(paths.len() as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_or_replaced_at_the_origin_is_gone_here_within_a_second() {
    let (origin, gate, end) = (Origin::start().await, Gate::shut(), Gate::shut());
    let held = [
        "/mount/a.webp",
        "/mount/b.webp",
        "/mount/c/d.webp",
        "/mount/e.webp",
    ];
    for path in held {
        stand(&origin, path);
    }
    let events = "id: 2\nevent: delete\ndata: {\"path\":\"/mount/a.webp\"}\n\n\
        id: 3\nevent: put\ndata: {\"path\":\"/mount/b.webp\",\"etag\":\"v2\",\"size\":3}\n\n\
        id: 4\nevent: delete\ndata: {\"prefix\":\"/mount/c\"}\n\n\
        id: 5\nevent: put\ndata: {\"path\":\"/mount/e.webp\",\"etag\":\"v1\",\"size\":3}\n\n";
    let reply = feed()
        .send(b"id: 1\n\n")
        .wait(&gate)
        .send(events.as_bytes());
    origin.serve(FEED, reply.wait(&end));
    let node = before(&origin, false).await;
    follows(&node).await;
    hold(&node, &held).await;

    origin.serve("/mount/a.webp", Reply::status(404));
    origin.serve("/mount/b.webp", picture(b"new", "\"v2\""));
    origin.serve("/mount/c/d.webp", Reply::status(404));
    let began = Instant::now();
    gate.open();
    eventually("all of it has happened", async || {
        node.get("/mount/a.webp").await.status() == 404
            && told(node.get("/mount/b.webp").await).await.2 == b"new"
            && node.get("/mount/c/d.webp").await.status() == 404
    })
    .await;
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    // This one had the version that was told of already.
    assert_eq!(told(node.get("/mount/e.webp").await).await.1, "HIT");
    let asked = &origin.asked(FEED)[0];
    assert_eq!(asked.header("authorization"), Some("Bearer the-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_broke_off_is_taken_up_where_it_ended_after_a_restart_too() {
    let origin = Origin::start().await;
    origin.rule(FEED, |asked| match asked.header("last-event-id") {
        None => feed().send(b"id: 7\n\n"),
        Some(_) => feed().send(b": ping\n\n").wait(&Gate::shut()),
    });
    let node = before(&origin, false).await;
    let with = async |times: usize| {
        eventually("it was asked again", async || {
            origin.asked(FEED).len() >= times
        })
        .await;
        let asked = origin.asked(FEED);
        asked[times - 1].header("last-event-id").map(str::to_owned)
    };
    assert_eq!(with(1).await, None);
    assert_eq!(with(2).await.as_deref(), Some("7"));
    let _again = node.restarted().await;
    assert_eq!(with(3).await.as_deref(), Some("7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_gap_what_is_held_is_asked_about_and_then_believed_again() {
    let (origin, gate, end) = (Origin::start().await, Gate::shut(), Gate::shut());
    stand(&origin, "/a.webp");
    let reply = feed().send(b"id: 1\n\n").wait(&gate);
    let reply = reply.send(b"id: 9\nevent: reset\ndata: {}\n\n").wait(&end);
    origin.serve(FEED, reply);
    let node = before(&origin, false).await;
    follows(&node).await;
    hold(&node, &["/a.webp"]).await;
    gate.open();
    eventually("it is asked about", async || {
        told(node.get("/a.webp").await).await == (200, "REVALIDATED".into(), b"old".to_vec())
    })
    .await;
    hold(&node, &["/a.webp"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_pictures_are_fetched_ahead_where_that_is_wanted() {
    for prefetch in [true, false] {
        let origin = Origin::start().await;
        origin.serve("/new.webp", picture(b"new", "\"v1\""));
        origin.serve("/film.webp", picture(b"new", "\"v1\""));
        let events = "id: 2\nevent: put\ndata: {\"path\":\"/film.webp\",\"size\":99999999}\n\n\
            id: 3\nevent: put\ndata: {\"path\":\"/new.webp\",\"etag\":\"v1\",\"size\":3}\n\n\
            id: 4\nevent: delete\ndata: {\"path\":\"/mark.webp\"}\n\n";
        origin.serve("/mark.webp", picture(b"mark", "\"v1\""));
        let (gate, end) = (Gate::shut(), Gate::shut());
        let reply = feed()
            .send(b"id: 1\n\n")
            .wait(&gate)
            .send(events.as_bytes());
        origin.serve(FEED, reply.wait(&end));
        let node = before(&origin, prefetch).await;
        follows(&node).await;
        assert_eq!(told(node.get("/mark.webp").await).await.0, 200);
        node.holds(1).await;
        origin.serve("/mark.webp", Reply::status(404));
        gate.open();
        // All that was told before it has been done once this one is gone.
        eventually("the mark is gone", async || {
            node.get("/mark.webp").await.status() == 404
        })
        .await;
        node.holds(u64::from(prefetch)).await;
        assert_eq!(origin.asked("/new.webp").len(), usize::from(prefetch));
        assert!(origin.asked("/film.webp").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_without_a_feed_or_a_node_without_a_token_serves_as_ever() {
    let origin = Origin::start().await;
    origin.serve("/a.webp", picture(b"picture", "\"v1\""));
    for node in [Node::before(&origin).await, before(&origin, false).await] {
        hold(&node, &["/a.webp"]).await;
    }
    eventually("one of them has asked", async || {
        origin.asked(FEED).len() == 1
    })
    .await;
}
