//! However a redirect is asked for, it is the same redirect: by the short way and by the router, one
//! after the other and several at once, over TLS, by HTTP/1.1 and HTTP/2.

use std::time::Duration;

use reqwest::{Certificate, Client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::jump::Running;

/// The lines of an answer, without the one that tells the time.
fn lines(answer: &str) -> Vec<String> {
    let mut lines: Vec<String> = answer
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("date: "))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn the_short_way_answers_as_the_router_does() {
    let jump = Running::start(|_| ()).await;
    jump.report("2", "https://two.example/").await;
    for target in ["/a", "/%E5%9B%BE/1%20%2b.webp?x=%2F..&y", "/a?", "/a%23b"] {
        for method in ["GET", "HEAD"] {
            let line = format!("{method} {target} HTTP/1.1");
            let short = jump.raw(&line).await;
            // A length makes it the router's.
            let long = jump.raw(&format!("{line}\r\nContent-Length: 0")).await;
            assert!(short.starts_with("HTTP/1.1 302 "), "{short}");
            assert_eq!(lines(&short), lines(&long), "{line}");
        }
    }
    jump.stop().await;
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_their_order_and_others_in_between() {
    let jump = Running::start(|_| ()).await;
    jump.report("2", "https://two.example/").await;
    let address = jump.url();
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await.unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut text: String = (0..50).map(|n| get(&format!("/{n}"))).collect();
    text += &get("/_api/health");
    text += &get("/last");
    text += "GET /../x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // In pieces that end anywhere.
    for piece in text.as_bytes().chunks(101) {
        stream.write_all(piece).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let places: Vec<usize> = (0..50)
        .map(|n| {
            answer
                .find(&format!("location: https://two.example/{n}\r\n"))
                .unwrap()
        })
        .chain([answer.find("\"status\":\"ok\"").unwrap()])
        .chain([answer.find("https://two.example/last\r\n").unwrap()])
        .chain([answer.find("HTTP/1.1 400 ").unwrap()])
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    jump.stop().await;
}

#[tokio::test]
async fn over_tls_by_both_versions_and_with_a_certificate_that_was_renewed() {
    let names = || vec!["localhost".to_owned()];
    let (old, new) = (
        rcgen::generate_simple_self_signed(names()).unwrap(),
        rcgen::generate_simple_self_signed(names()).unwrap(),
    );
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let write = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    };
    write(&old);
    let jump = Running::start(|settings| {
        settings.tls.cert = cert.to_str().unwrap().into();
        settings.tls.key = key.to_str().unwrap().into();
    })
    .await;
    let url = jump.url().replace("http://127.0.0.1", "https://localhost") + "a.webp?w=1";
    let ask = async |made: &rcgen::CertifiedKey<rcgen::KeyPair>, two: bool| {
        let root = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let builder = Client::builder()
            .no_proxy()
            .tls_certs_only([root])
            .redirect(reqwest::redirect::Policy::none());
        let builder = if two { builder } else { builder.http1_only() };
        let answer = builder.build().unwrap().get(&url).send().await.ok()?;
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        Some((answer.version(), location))
    };
    let expected = "https://origin.example/a.webp?w=1".to_owned();
    let one = Some((reqwest::Version::HTTP_11, expected.clone()));
    assert_eq!(ask(&old, false).await, one);
    assert_eq!(
        ask(&old, true).await,
        Some((reqwest::Version::HTTP_2, expected))
    );
    write(&new);
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while ask(&new, false).await != one {
        assert!(
            std::time::Instant::now() < end,
            "the new certificate is not taken"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    jump.stop().await;
}
