//! Paths that try to climb.

use crate::node::Node;
use crate::origin::{Origin, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_climbs_is_refused_before_anybody_is_asked() {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    for target in [
        "/../etc/passwd",
        "/a/../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/..%2fmain.py",
        "/a/%2E%2e%2f%2e%2E/b",
        "/./a",
        "/a//b",
        "//a",
        "/a/",
        "/a%5cb",
        "/a\\b",
        "/a%00b",
        "/a%0d%0ab",
        "/a%7fb",
        "/%ff",
        "/%",
        "/%zz",
    ] {
        assert_eq!(node.raw(target).await, 400, "{target}");
    }
    assert!(origin.log().is_empty(), "{:?}", origin.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_decoded_once_and_encoded_again() {
    let origin = Origin::start().await;
    for target in [
        "/%252e%252e/etc/passwd",
        "/a%20b%3Fc%23d.webp",
        "/%E5%9B%BE.webp",
        "/a+b.webp",
    ] {
        origin.serve(target, Reply::picture(b"here"));
    }
    let node = Node::before(&origin).await;
    // `%252e` is the name `%2e`, no step up: asked for as such, and stored under a name of ours.
    assert_eq!(node.raw("/%252e%252e/etc/passwd").await, 200);
    assert_eq!(node.raw("/a%20b%3fc%23d.webp").await, 200);
    assert_eq!(node.raw("/%e5%9b%be.webp").await, 200);
    assert_eq!(node.raw("/a+b.webp").await, 200);
    assert_eq!(origin.log().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_paths_are_never_pictures_however_they_are_spelt() {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    for target in [
        "/_api",
        "/_api/",
        "/_api/changes",
        "/%5Fapi/changes",
        "/_api/x/y",
    ] {
        assert_eq!(node.raw(target).await, 404, "{target}");
    }
    assert!(origin.log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn this_is_no_open_proxy() {
    let (origin, other) = (Origin::start().await, Origin::start().await);
    other.serve("/a.webp", Reply::picture(b"other"));
    let node = Node::before(&origin).await;
    assert_eq!(
        node.raw(&format!("http://{}/a.webp", other.address()))
            .await,
        404
    );
    assert!(other.log().is_empty());
    assert_eq!(origin.log()[0].target, "/a.webp");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_icon_comes_from_the_pictures_and_its_absence_is_no_error() {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    assert_eq!(node.raw("/favicon.ico").await, 204);
    let origin = Origin::start().await;
    origin.serve("/mount/pic/favicon.webp", Reply::picture(b"icon"));
    let node = Node::before(&origin).await;
    assert_eq!(
        crate::node::told(node.get("/favicon.ico").await).await.2,
        b"icon"
    );
}
