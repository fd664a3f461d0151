//! Where the origin may send us.

use crate::node::{Node, secret, told};
use crate::origin::{Origin, Reply};

fn to(location: &str) -> Reply {
    Reply::status(302).header("location", location)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_within_the_bases_is_followed_without_the_token() {
    let origin = Origin::start().await;
    origin.serve("/a.webp", to("/elsewhere/a.webp?sig=secret"));
    origin.serve("/elsewhere/a.webp?sig=secret", Reply::picture(b"found"));
    let node = Node::with(&origin, |settings, home| {
        settings.origin.token_file = secret(home, "origin", "origin-token");
    })
    .await;
    assert_eq!(
        told(node.get("/a.webp").await).await,
        (200, "MISS".into(), b"found".to_vec())
    );
    let told_to = |target: &str| {
        let asked = origin.asked(target);
        asked[0].header("authorization").map(str::to_owned)
    };
    assert_eq!(told_to("/a.webp").as_deref(), Some("Bearer origin-token"));
    assert_eq!(told_to("/elsewhere/a.webp?sig=secret"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_into_the_own_network_is_not_followed() {
    let (origin, inside) = (Origin::start().await, Origin::start().await);
    inside.serve("/secret", Reply::picture(b"secret"));
    let port = inside.address().port();
    let targets = [
        inside.base() + "secret",
        format!("http://localhost:{port}/secret"),
        format!("http://[::ffff:127.0.0.1]:{port}/secret"),
        format!("http://user:word@127.0.0.1:{port}/secret"),
        "file:///etc/passwd".to_owned(),
        "ftp://example.com/".to_owned(),
    ];
    let node = Node::before(&origin).await;
    for (n, target) in targets.iter().enumerate() {
        let path = format!("/{n}.webp");
        origin.serve(&path, to(target));
        assert_eq!(node.get(&path).await.status(), 502, "{target}");
    }
    assert!(inside.log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_redirects_are_followed_and_no_more() {
    let origin = Origin::start().await;
    for n in 0..4 {
        origin.serve(&format!("/{n}"), to(&format!("/{}", n + 1)));
    }
    origin.serve("/4", Reply::picture(b"end"));
    let node = Node::before(&origin).await;
    assert_eq!(
        told(node.get("/1").await).await,
        (200, "MISS".into(), b"end".to_vec())
    );
    assert_eq!(node.get("/0").await.status(), 502);
    origin.serve("/loop", to("/loop"));
    assert_eq!(node.get("/loop").await.status(), 502);
    assert_eq!(origin.asked("/loop").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_host_behind_a_redirect_does_not_say_how_long_a_picture_is_kept() {
    let origin = Origin::start().await;
    let stored = || Reply::picture(b"stored").header("cache-control", "private, max-age=0");
    for (n, wish) in [None, Some("max-age=600"), Some("no-store")]
        .iter()
        .enumerate()
    {
        let told = to(&format!("/stored/{n}"));
        origin.serve(&format!("/stored/{n}"), stored());
        let told = match wish {
            Some(wish) => told.header("cache-control", wish),
            None => told,
        };
        origin.serve(&format!("/{n}.webp"), told);
    }
    let node = Node::before(&origin).await;
    for n in 0..3 {
        assert_eq!(told(node.get(&format!("/{n}.webp")).await).await.1, "MISS");
    }
    node.holds(2).await;
    for (n, cache) in ["HIT", "HIT", "MISS"].iter().enumerate() {
        let again = told(node.get(&format!("/{n}.webp")).await).await;
        assert_eq!(
            (again.1.as_str(), &again.2[..]),
            (*cache, &b"stored"[..]),
            "{n}"
        );
    }
}
