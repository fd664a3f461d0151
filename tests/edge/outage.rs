//! When the origin is old, wrong, slow or gone.

use crate::node::{Node, header, told};
use crate::origin::{Origin, Reply};

fn old(body: &[u8]) -> Reply {
    Reply::picture(body)
        .header("etag", "\"v1\"")
        .header("cache-control", "max-age=0")
}

/// A node that holds a picture which is past its life.
async fn holding(reply: Reply) -> (Origin, Node) {
    let origin = Origin::start().await;
    origin.serve("/a.webp", reply);
    let node = Node::before(&origin).await;
    told(node.get("/a.webp").await).await;
    node.holds(1).await;
    (origin, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_picture_is_asked_about_and_served_when_it_still_stands() {
    let (origin, node) = holding(old(b"first")).await;
    let unchanged = Reply::bare(304)
        .header("etag", "\"v1\"")
        .header("cache-control", "max-age=600");
    origin.serve("/a.webp", unchanged.header("content-length", "0"));
    let response = node.get("/a.webp").await;
    assert!(header(&response, "cache-status").starts_with("tuyun-edge; fwd=stale; fwd-status=304"));
    assert_eq!(
        told(response).await,
        (200, "REVALIDATED".into(), b"first".to_vec())
    );
    assert_eq!(origin.log()[1].header("if-none-match"), Some("\"v1\""));
    // The 304 has given it a new life.
    assert_eq!(told(node.get("/a.webp").await).await.1, "HIT");
    assert_eq!(origin.log().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_picture_that_was_replaced_is_replaced_here() {
    let (origin, node) = holding(old(b"first")).await;
    let newer = Reply::picture(b"second")
        .header("etag", "\"v2\"")
        .header("cache-control", "max-age=60");
    origin.serve("/a.webp", newer);
    assert_eq!(
        told(node.get("/a.webp").await).await,
        (200, "EXPIRED".into(), b"second".to_vec())
    );
    crate::node::eventually("the new one is held", async || {
        told(node.get("/a.webp").await).await.1 == "HIT"
    })
    .await;
    assert_eq!(told(node.get("/a.webp").await).await.2, b"second");
    assert_eq!(node.entries().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_was_deleted_is_gone_here_as_well() {
    let (origin, node) = holding(old(b"first")).await;
    origin.serve("/a.webp", Reply::status(404));
    assert_eq!(node.get("/a.webp").await.status(), 404);
    assert_eq!(node.entries().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_origin_gone_what_is_held_is_served_stale() {
    let (origin, node) = holding(old(b"first")).await;
    drop(origin);
    for _ in 0..2 {
        let response = node.get("/a.webp").await;
        assert!(header(&response, "cache-status").starts_with("tuyun-edge; hit; ttl="));
        assert_eq!(
            told(response).await,
            (200, "STALE".into(), b"first".to_vec())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_fails_is_as_good_as_gone() {
    for status in [500, 502, 503, 429, 403] {
        let (origin, node) = holding(old(b"first")).await;
        origin.serve("/a.webp", Reply::status(status));
        assert_eq!(
            told(node.get("/a.webp").await).await,
            (200, "STALE".into(), b"first".to_vec())
        );
        assert_eq!(node.entries().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_revalidated_is_never_served_stale() {
    for said in ["max-age=0, must-revalidate", "no-cache"] {
        let (origin, node) = holding(old(b"first").header("cache-control", said)).await;
        origin.serve("/a.webp", Reply::status(500));
        assert_eq!(node.get("/a.webp").await.status(), 502, "{said}");
        assert_eq!(node.entries().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_past_its_life_is_served_at_once_where_the_origin_allows_it() {
    let gate = crate::origin::Gate::shut();
    let said = "max-age=0, stale-while-revalidate=600";
    let (origin, node) = holding(old(b"first").header("cache-control", said)).await;
    let waiting = Reply::bare(200)
        .header("content-length", "6")
        .wait(&gate)
        .send(b"second");
    origin.serve("/a.webp", waiting.header("cache-control", "max-age=600"));
    assert_eq!(
        told(node.get("/a.webp").await).await,
        (200, "STALE".into(), b"first".to_vec())
    );
    gate.open();
    crate::node::eventually("the new one is held", async || {
        told(node.get("/a.webp").await).await == (200, "HIT".into(), b"second".to_vec())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_known_is_not_absent() {
    let origin = Origin::start().await;
    origin.serve("/busy.webp", Reply::status(503).header("retry-after", "17"));
    origin.serve("/broken.webp", Reply::status(500));
    let node = Node::before(&origin).await;

    let busy = node.get("/busy.webp").await;
    assert_eq!(
        (busy.status().as_u16(), header(&busy, "retry-after")),
        (503, "17")
    );
    let broken = node.get("/broken.webp").await;
    assert_eq!(broken.status(), 502);
    assert_eq!(header(&broken, "content-type"), "application/json");

    let address = origin.address().to_string();
    drop(origin);
    let gone = node.get("/gone.webp").await;
    assert_eq!(gone.status(), 502);
    assert!(!header(&gone, "retry-after").is_empty());
    let text = gone.text().await.expect("a body");
    assert!(
        !text.contains(&address),
        "the origin's address is nobody's business: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_comes_back_is_asked_at_once() {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    let address = origin.address();
    drop(origin);
    assert_eq!(node.get("/a.webp").await.status(), 502);
    let origin = Origin::at(address).await;
    origin.serve("/a.webp", Reply::picture(b"back"));
    assert_eq!(
        told(node.get("/a.webp").await).await,
        (200, "MISS".into(), b"back".to_vec())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_of_the_origin_is_believed_for_a_moment_only_until_it_is_purged() {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    for _ in 0..3 {
        assert_eq!(node.get("/a.webp").await.status(), 404);
    }
    assert_eq!(origin.asked("/a.webp").len(), 1);
    origin.serve("/a.webp", Reply::picture(b"here"));
    let purge = node
        .request("POST", "/_api/purge")
        .bearer_auth(crate::node::ADMIN);
    let purge = purge
        .body("{\"paths\":[\"/a.webp\"]}")
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        purge.text().await.expect("a body"),
        "{\"code\":0,\"purged\":0}"
    );
    assert_eq!(told(node.get("/a.webp").await).await.2, b"here");
}

async fn with_backup() -> (Origin, Origin, Node) {
    let (primary, backup) = (Origin::start().await, Origin::start().await);
    let node = Node::with(&primary, |settings, home| {
        settings.origin.backup = vec![backup.base()];
        settings.origin.token_file = crate::node::secret(home, "origin", "origin-token");
    })
    .await;
    (primary, backup, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_helps_when_the_primary_is_gone_fails_or_does_not_have_it() {
    let (primary, backup, node) = with_backup().await;
    for name in ["/missing.webp", "/failing.webp", "/gone.webp"] {
        backup.serve(name, Reply::picture(name.as_bytes()));
    }
    primary.serve("/failing.webp", Reply::status(500));
    assert_eq!(
        told(node.get("/missing.webp").await).await.2,
        b"/missing.webp"
    );
    assert_eq!(
        told(node.get("/failing.webp").await).await.2,
        b"/failing.webp"
    );
    drop(primary);
    assert_eq!(told(node.get("/gone.webp").await).await.2, b"/gone.webp");
    assert!(
        backup
            .log()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_goes_first_and_gets_the_token() {
    let (primary, backup, node) = with_backup().await;
    primary.serve("/a.webp", Reply::picture(b"primary"));
    backup.serve("/a.webp", Reply::picture(b"backup"));
    assert_eq!(told(node.get("/a.webp").await).await.2, b"primary");
    assert_eq!(
        primary.log()[0].header("authorization"),
        Some("Bearer origin-token")
    );
    assert!(backup.log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_primary_knows_what_is_absent() {
    let (primary, backup, node) = with_backup().await;
    assert_eq!(node.get("/nowhere.webp").await.status(), 404);
    backup.serve("/a.webp", Reply::status(500));
    assert_eq!(node.get("/a.webp").await.status(), 404);
    drop(primary);
    assert_eq!(node.get("/unknown.webp").await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_keeps_failing_is_left_alone_and_its_backup_asked_at_once() {
    let (primary, backup) = (Origin::start().await, Origin::start().await);
    let alone = Node::before(&primary).await;
    let backed = Node::with(&primary, |settings, _| {
        settings.origin.backup = vec![backup.base()];
    })
    .await;
    for n in 0..20 {
        let path = format!("/{n}.webp");
        primary.serve(&path, Reply::status(500));
        backup.serve(&path, Reply::picture(b"picture"));
    }
    for (node, expected) in [(&alone, 503), (&backed, 200)] {
        let before = primary.log().len();
        for n in 0..20 {
            let response = node.get(&format!("/{n}.webp")).await;
            if n >= 10 {
                assert_eq!(response.status(), expected);
                let again = header(&response, "retry-after");
                assert_eq!(again.is_empty(), expected == 200, "{again}");
            }
        }
        // Five, and one for each time that a rest has passed meanwhile.
        let asked = primary.log().len() - before;
        assert!((5..=9).contains(&asked), "asked {asked} times");
    }
    // One question is let through now and then, so that it is found to be back.
    primary.serve("/back.webp", Reply::picture(b"back"));
    crate::node::eventually("the primary is asked again", async || {
        alone.get("/back.webp").await.status() == 200
    })
    .await;
}
