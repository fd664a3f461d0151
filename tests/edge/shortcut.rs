//! The short way to a hit: what it answers, and what it leaves to the router, on one connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::node::{Node, eventually, secret, told};
use crate::origin::{Origin, Reply};

const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

/// More than is kept in memory, so that it is sent from its file.
fn large() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n % 249) as u8).collect()
}

async fn holding(body: &[u8]) -> (Origin, Node) {
    let origin = Origin::start().await;
    let reply = Reply::picture(body)
        .header("etag", "\"v1\"")
        .header("last-modified", DATE)
        .header("cache-control", "public, max-age=600");
    origin.serve("/mount/a.webp", reply);
    let node = Node::before(&origin).await;
    assert_eq!(told(node.get("/mount/a.webp").await).await.1, "MISS");
    node.holds(1).await;
    // Into memory, and asked for by a request that the short way does not take.
    assert_eq!(told(node.get("/mount/a.webp").await).await.1, "HIT");
    (origin, node)
}

/// A connection that sees every byte.
struct Wire(TcpStream);

struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Wire {
    async fn open(node: &Node) -> Self {
        Self(TcpStream::connect(node.address()).await.expect("connected"))
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("sent");
    }

    async fn ask(&mut self, lines: &str) -> Seen {
        self.say(&format!("{lines}\r\nhost: edge\r\n\r\n")).await;
        self.hear(lines.starts_with("HEAD")).await
    }

    async fn hear(&mut self, head_only: bool) -> Seen {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text");
        let mut lines = head.trim_end().lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().expect("a number"));
        let mut body = vec![0; if head_only { 0 } else { length }];
        self.0.read_exact(&mut body).await.expect("a whole body");
        Seen {
            status: status.and_then(|text| text.parse().ok()).expect("a status"),
            headers,
            body,
        }
    }
}

impl Seen {
    /// Sorted, without what passes with time.
    fn lasting(&self) -> Vec<(String, String)> {
        let passing = ["age", "date", "cache-status"];
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| !passing.contains(&name.as_str()));
        headers.sort();
        headers
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(other, _)| other == name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_short_way_says_what_the_router_says() {
    for body in [b"0123456789".to_vec(), large()] {
        let (_origin, node) = holding(&body).await;
        let mut wire = Wire::open(&node).await;
        let short = wire.ask("GET /mount/a.webp HTTP/1.1").await;
        // A condition that does not hold: the same answer, by the router.
        let long = wire
            .ask("GET /mount/a.webp HTTP/1.1\r\nif-none-match: \"other\"")
            .await;
        assert_eq!((short.status, long.status), (200, 200));
        assert_eq!(short.lasting(), long.lasting());
        for name in ["age", "date", "cache-status"] {
            assert!(short.has(name) && long.has(name), "{name}");
        }
        assert!(short.body == body && long.body == body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_together_are_answered_in_their_order() {
    let (origin, node) = holding(b"0123456789").await;
    origin.serve("/b.webp", Reply::picture(b"another"));
    let mut wire = Wire::open(&node).await;
    let hit = "GET /mount/a.webp HTTP/1.1\r\nhost: edge\r\n\r\n";
    let head = "HEAD /mount/a.webp?x=1 HTTP/1.1\r\nhost: edge\r\n\r\n";
    let miss = "GET /b.webp HTTP/1.1\r\nhost: edge\r\n\r\n";
    wire.say(&[hit, head, miss, hit].concat()).await;
    assert_eq!(wire.hear(false).await.body, b"0123456789");
    let only = wire.hear(true).await;
    assert!(
        only.headers
            .contains(&("content-length".into(), "10".into()))
    );
    assert_eq!(wire.hear(false).await.body, b"another");
    assert_eq!(wire.hear(false).await.body, b"0123456789");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_come_byte_by_byte() {
    let (_origin, node) = holding(b"0123456789").await;
    let mut wire = Wire::open(&node).await;
    for byte in "GET /mount/a.webp HTTP/1.1\r\nhost: edge\r\n\r\n".bytes() {
        wire.0.write_all(&[byte]).await.expect("sent");
        wire.0.flush().await.expect("sent");
        tokio::task::yield_now().await;
    }
    assert_eq!(wire.hear(false).await.body, b"0123456789");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_close_is_closed() {
    let (_origin, node) = holding(b"0123456789").await;
    let mut wire = Wire::open(&node).await;
    let seen = wire
        .ask("GET /mount/a.webp HTTP/1.1\r\nconnection: close")
        .await;
    assert!(
        seen.headers
            .contains(&("connection".into(), "close".into()))
    );
    assert_eq!(wire.0.read(&mut [0]).await.expect("an end"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_picture_is_gone_from_the_short_way_too() {
    let (origin, node) = holding(b"0123456789").await;
    let mut wire = Wire::open(&node).await;
    assert_eq!(wire.ask("GET /mount/a.webp HTTP/1.1").await.status, 200);
    origin.serve("/mount/a.webp", Reply::status(404));
    let order = node
        .request("POST", "/_api/purge")
        .bearer_auth(crate::node::ADMIN)
        .body(r#"{"paths":["mount/a.webp"]}"#);
    assert_eq!(order.send().await.expect("an answer").status(), 200);
    assert_eq!(wire.ask("GET /mount/a.webp HTTP/1.1").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_hits_are_the_same_on_http_1_and_2() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("PEM");
    for body in [b"0123456789".to_vec(), large()] {
        let origin = Origin::start().await;
        origin.serve(
            "/a.webp",
            Reply::picture(&body).header("cache-control", "max-age=600"),
        );
        let node = Node::with(&origin, |settings, home| {
            settings.tls.cert = secret(home, "cert.pem", &made.cert.pem());
            settings.tls.key = secret(home, "key.pem", &made.signing_key.serialize_pem());
        })
        .await;
        let url = format!("https://localhost:{}/a.webp", node.address().port());
        let client = |builder: reqwest::ClientBuilder| {
            let builder = builder.no_proxy().tls_certs_only([trusted.clone()]);
            builder.build().expect("a client")
        };
        let plain = || reqwest::Client::builder();
        let (one, two) = (client(plain().http1_only()), client(plain()));
        for (client, version) in [
            (&one, reqwest::Version::HTTP_11),
            (&two, reqwest::Version::HTTP_2),
        ] {
            eventually("it is held", async || {
                let response = client.get(&url).send().await.expect("an answer");
                assert_eq!(response.version(), version);
                let (status, cache, bytes) = told(response).await;
                assert!(status == 200 && bytes == body);
                cache == "HIT"
            })
            .await;
            // On the connection that is open, again and again.
            for _ in 0..3 {
                let response = client.get(&url).send().await.expect("an answer");
                assert!(told(response).await == (200, "HIT".into(), body.clone()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_on_the_short_way() {
    let origin = Origin::start().await;
    origin.serve(
        "/a.webp",
        Reply::picture(b"x").header("cache-control", "max-age=600"),
    );
    let node = Node::with(&origin, |settings, _| settings.limit.per_second = 20).await;
    let mut wire = Wire::open(&node).await;
    let mut refused = 0;
    for _ in 0..60 {
        let seen = wire.ask("GET /a.webp HTTP/1.1").await;
        refused += usize::from(seen.status == 429);
    }
    assert!(refused >= 20, "{refused} of 60 were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_on_its_way_arrives_though_the_node_stops_and_idle_ones_are_let_go() {
    let body = large();
    let (_origin, node) = holding(&body).await;
    let mut idle = Wire::open(&node).await;
    assert_eq!(
        idle.ask("GET /mount/a.webp HTTP/1.1").await.body.len(),
        body.len()
    );
    let mut busy = Wire::open(&node).await;
    busy.say("GET /mount/a.webp HTTP/1.1\r\nhost: edge\r\n\r\n")
        .await;
    // It is being sent, and does not fit into what the sockets hold.
    busy.0.peek(&mut [0]).await.expect("a first byte");
    let stopping = tokio::spawn(node.stop());
    let mut byte = [0];
    let end = tokio::time::timeout(Duration::from_secs(10), idle.0.read(&mut byte));
    assert_eq!(end.await.expect("in time").expect("an end"), 0);
    assert_eq!(busy.hear(false).await.body, body);
    stopping.await.expect("stopped");
}
