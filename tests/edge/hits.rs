//! What is held is served: whole, in parts, or not at all to those who have it.

use crate::node::{Node, header, told};
use crate::origin::{Origin, Reply};

const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

fn picture() -> Reply {
    Reply::picture(b"0123456789")
        .header("etag", "\"v1\"")
        .header("last-modified", DATE)
        .header("cache-control", "public, max-age=600")
}

async fn holding() -> (Origin, Node) {
    let origin = Origin::start().await;
    origin.serve("/mount/pic/a.webp", picture());
    let node = Node::before(&origin).await;
    assert_eq!(told(node.get("/mount/pic/a.webp").await).await.1, "MISS");
    node.holds(1).await;
    (origin, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_fetched_once_and_served_with_all_that_is_known_of_it() {
    let origin = Origin::start().await;
    origin.serve("/mount/pic/a.webp", picture());
    let node = Node::before(&origin).await;

    let miss = node.get("/mount/pic/a.webp").await;
    assert_eq!(
        header(&miss, "cache-status"),
        "tuyun-edge; fwd=uri-miss; fwd-status=200; stored; ttl=600"
    );
    assert_eq!(
        told(miss).await,
        (200, "MISS".into(), b"0123456789".to_vec())
    );
    node.holds(1).await;

    let hit = node.get("/mount/pic/a.webp").await;
    for (name, value) in [
        ("content-type", "image/webp"),
        ("content-length", "10"),
        ("etag", "\"v1\""),
        ("last-modified", DATE),
        ("cache-control", "public, max-age=600"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(header(&hit, name), value, "{name}");
    }
    assert!(header(&hit, "age").parse::<u64>().is_ok_and(|age| age < 60));
    assert!(header(&hit, "cache-status").starts_with("tuyun-edge; hit; ttl="));
    assert_eq!(told(hit).await, (200, "HIT".into(), b"0123456789".to_vec()));
    assert_eq!(origin.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_makes_no_other_picture_and_never_reaches_the_origin() {
    let (origin, node) = holding().await;
    let hit = told(
        node.get("/mount/pic/a.webp?fmt=avif&w=100&utm_source=x")
            .await,
    )
    .await;
    assert_eq!(hit, (200, "HIT".into(), b"0123456789".to_vec()));
    assert_eq!(origin.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_picture_comes_from_disk_byte_for_byte() {
    let origin = Origin::start().await;
    let body: Vec<u8> = (0..1_500_000_u32).map(|n| (n % 251) as u8).collect();
    origin.serve(
        "/big.webp",
        Reply::picture(&body).header("cache-control", "max-age=600"),
    );
    let node = Node::before(&origin).await;
    assert_eq!(
        told(node.get("/big.webp").await).await,
        (200, "MISS".into(), body.clone())
    );
    node.holds(1).await;
    assert_eq!(
        told(node.get("/big.webp").await).await,
        (200, "HIT".into(), body.clone())
    );
    let part = node
        .request("GET", "/big.webp")
        .header("range", "bytes=1000000-1299999");
    let part = part.send().await.expect("an answer");
    assert_eq!(
        part.bytes().await.expect("a body"),
        body[1_000_000..1_300_000]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_answered_with_206_and_416() {
    let (_origin, node) = holding().await;
    let range = async |range: &str| {
        let request = node
            .request("GET", "/mount/pic/a.webp")
            .header("range", range);
        let response = request.send().await.expect("an answer");
        let told = header(&response, "content-range").to_owned();
        (
            response.status().as_u16(),
            told,
            response.bytes().await.expect("a body").to_vec(),
        )
    };
    assert_eq!(
        range("bytes=2-4").await,
        (206, "bytes 2-4/10".into(), b"234".to_vec())
    );
    assert_eq!(
        range("bytes=-3").await,
        (206, "bytes 7-9/10".into(), b"789".to_vec())
    );
    assert_eq!(
        range("bytes=8-99").await,
        (206, "bytes 8-9/10".into(), b"89".to_vec())
    );
    let beyond = range("bytes=10-").await;
    assert_eq!((beyond.0, beyond.1.as_str()), (416, "bytes */10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_are_answered_in_parts_from_memory_and_from_disk() {
    for length in [10_000_u32, 3_000_000] {
        let origin = Origin::start().await;
        let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let reply = Reply::picture(&body).header("cache-control", "max-age=600");
        origin.serve("/a.webp", reply);
        let node = Node::before(&origin).await;
        // While it comes there is one way through it, from front to back.
        let asked = node.request("GET", "/a.webp");
        let asked = asked.header("range", "bytes=0-9,-10").send().await;
        assert_eq!(told(asked.expect("an answer")).await.2, body);
        node.holds(1).await;
        let asked = node.request("GET", "/a.webp");
        let response = asked.header("range", "bytes=0-9,-10").send().await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 206);
        let kind = header(&response, "content-type").to_owned();
        let boundary = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .expect("in parts");
        let last = length - 10;
        let mut expected = Vec::new();
        for (first, part) in [(0, &body[..10]), (last, &body[last as usize..])] {
            let range = format!("bytes {first}-{}/{length}", first + 9);
            let head = format!(
                "\r\n--{boundary}\r\ncontent-type: image/webp\r\ncontent-range: {range}\r\n\r\n"
            );
            expected.extend_from_slice(head.as_bytes());
            expected.extend_from_slice(part);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let told_length = header(&response, "content-length").to_owned();
        assert_eq!(told_length, expected.len().to_string());
        assert_eq!(response.bytes().await.expect("a body"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_picture_that_is_not_held_is_cut_from_what_comes() {
    let origin = Origin::start().await;
    origin.serve("/a.webp", picture());
    let node = Node::before(&origin).await;
    let request = node.request("GET", "/a.webp").header("range", "bytes=3-5");
    let part = told(request.send().await.expect("an answer")).await;
    assert_eq!(part, (206, "MISS".into(), b"345".to_vec()));
    assert_eq!(origin.log()[0].header("range"), None);
    node.holds(1).await;
    assert_eq!(told(node.get("/a.webp").await).await.2, b"0123456789");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_another_version_gets_the_whole() {
    let (_origin, node) = holding().await;
    let ask = async |tag: &str| {
        let request = node.request("GET", "/mount/pic/a.webp");
        let request = request.header("range", "bytes=0-1").header("if-range", tag);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ask("\"v1\"").await, 206);
    assert_eq!(ask("\"v0\"").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_it_already_gets_304() {
    let (_origin, node) = holding().await;
    for (name, value) in [
        ("if-none-match", "\"v0\", \"v1\""),
        ("if-modified-since", DATE),
    ] {
        let request = node.request("GET", "/mount/pic/a.webp").header(name, value);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 304, "{name}");
        assert_eq!(header(&response, "etag"), "\"v1\"");
        assert!(response.bytes().await.expect("a body").is_empty());
    }
    let request = node
        .request("GET", "/mount/pic/a.webp")
        .header("if-none-match", "\"v0\"");
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_says_the_same_without_the_bytes_and_fills_the_cache() {
    let origin = Origin::start().await;
    origin.serve("/a.webp", picture());
    let node = Node::before(&origin).await;
    for cache in ["MISS", "HIT"] {
        let response = node
            .request("HEAD", "/a.webp")
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-length"), "10");
        assert_eq!(header(&response, "x-cache"), cache);
        assert!(response.bytes().await.expect("a body").is_empty());
        node.holds(1).await;
    }
    assert_eq!(
        origin
            .log()
            .iter()
            .map(|asked| asked.method.as_str())
            .collect::<Vec<_>>(),
        ["GET"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_only_read() {
    let (_origin, node) = holding().await;
    for method in ["POST", "PUT", "DELETE"] {
        let response = node
            .request(method, "/mount/pic/a.webp")
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(header(&response, "allow"), "GET, HEAD");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_with_a_question_mark_takes_the_path_as_its_value() {
    let origin = Origin::start().await;
    let target = "/api/raw/?path=/mount/pic/a%26b%20%2B.webp";
    origin.serve(target, picture());
    let node = Node::with(&origin, |settings, _| {
        settings.origin.primary = format!("{}api/raw/?path=/", origin.base());
    })
    .await;
    let got = told(node.get("/mount/pic/a&b%20+.webp?x=1").await).await;
    assert_eq!(got.0, 200, "{:?}", origin.log());
    assert_eq!(origin.asked(target).len(), 1);
}
