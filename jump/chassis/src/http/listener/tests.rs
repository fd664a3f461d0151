//! Listeners on loopback ports.

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

fn front() -> Front {
    Front::new("127.0.0.1:0", "listen")
}

async fn ask(stream: &mut TcpStream) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do() {
    let first = Listener::bind(front()).await.unwrap();
    let taken = first.local_addr().to_string();
    let error = Listener::bind(Front::new(taken.clone(), "listen"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {taken} (setting `listen`)")
    );
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error
            .hint()
            .unwrap()
            .contains("another program has this port")
    );
}

#[tokio::test]
async fn what_is_no_address_is_refused() {
    let error = Listener::bind(Front::new("8080", "listen"))
        .await
        .unwrap_err();
    assert!(matches!(error, ListenerError::Address { .. }));
    assert_eq!(error.code(), Code::Config);
}

#[tokio::test]
async fn a_running_request_finishes_after_stop() {
    let listener = Listener::bind(front()).await.unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let asked = CancellationToken::new();
    let (in_handler, stopping) = (asked.clone(), stop.clone());
    let router = Router::new().route(
        "/",
        get(|| async move {
            in_handler.cancel();
            stopping.cancelled().await;
            "whole"
        }),
    );
    let server = tokio::spawn(listener.serve(router, stop.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = tokio::spawn(async move { ask(&mut stream).await });
    asked.cancelled().await;
    stop.cancel();
    assert!(answer.await.unwrap().ends_with("whole"));
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_at_the_deadline() {
    let listener = Listener::bind(Front {
        drain: Duration::from_millis(50),
        ..front()
    })
    .await
    .unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let asked = CancellationToken::new();
    let in_handler = asked.clone();
    let router = Router::new().route(
        "/",
        get(|| async move {
            in_handler.cancel();
            std::future::pending::<&'static str>().await
        }),
    );
    let server = tokio::spawn(listener.serve(router, stop.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = tokio::spawn(async move { ask(&mut stream).await });
    asked.cancelled().await;
    stop.cancel();
    server.await.unwrap().unwrap();
    assert_eq!(answer.await.unwrap(), "");
}

#[tokio::test]
async fn a_head_that_does_not_arrive_ends_the_connection() {
    let listener = Listener::bind(Front {
        head: Duration::from_millis(50),
        ..front()
    })
    .await
    .unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let server = tokio::spawn(listener.serve(Router::new(), stop.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection stayed open");
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_too_many_is_closed() {
    let listener = Listener::bind(Front {
        connections: 1,
        ..front()
    })
    .await
    .unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(|| async { "here" }));
    let server = tokio::spawn(listener.serve(router, stop.clone()));
    let mut held = TcpStream::connect(address).await.unwrap();
    held.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    held.read_exact(&mut byte).await.unwrap();
    let mut refused = TcpStream::connect(address).await.unwrap();
    let mut nothing = Vec::new();
    let _ = refused.read_to_end(&mut nothing).await;
    assert_eq!(nothing, b"");
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_head_too_long_or_with_too_many_headers_is_refused() {
    let listener = Listener::bind(front()).await.unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let router = Router::new().fallback(|| async { "here" });
    let server = tokio::spawn(listener.serve(router, stop.clone()));
    let ask = async |target: String, headers: usize| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let lines = "x: y\r\n".repeat(headers);
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // What it has not read may reset the connection once it has answered.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(ask("/".into(), 60).await.ends_with("here"));
    assert!(
        ask(format!("/{}", "a".repeat(8_000)), 0)
            .await
            .ends_with("here")
    );
    for answer in [
        ask("/".into(), 100).await,
        ask(format!("/{}", "a".repeat(60_000)), 0).await,
    ] {
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    stop.cancel();
    server.await.unwrap().unwrap();
}

/// A certificate for `localhost`, written to the files; the client has to trust this one.
fn certify(files: &TlsFiles) -> reqwest::Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

async fn greet(trusted: reqwest::Certificate, address: SocketAddr) -> reqwest::Result<String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([trusted])
        .build()?;
    let url = format!("https://localhost:{}/", address.port());
    client.get(url).send().await?.text().await
}

#[tokio::test]
async fn a_certificate_that_was_replaced_is_taken_without_a_restart() {
    crate::start::install_crypto();
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
    };
    let first = certify(&files);
    let front = Front {
        look: Duration::from_millis(20),
        ..front().tls(Some(files.clone()))
    };
    let listener = Listener::bind(front).await.unwrap();
    let address = listener.local_addr();
    assert_eq!(listener.scheme(), "https");
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(|| async { "hello" }));
    let server = tokio::spawn(listener.serve(router, stop.clone()));
    assert_eq!(greet(first.clone(), address).await.unwrap(), "hello");

    std::fs::write(&files.cert, "half a cert").unwrap();
    assert_eq!(
        greet(first, address).await.unwrap(),
        "hello",
        "what is broken is not taken"
    );
    let second = certify(&files);
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while greet(second.clone(), address).await.is_err() {
        assert!(
            tokio::time::Instant::now() < end,
            "the new certificate was not taken"
        );
    }
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    crate::start::install_crypto();
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
    };
    let error = Listener::bind(front().tls(Some(files.clone())))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cert.pem"), "{error}");
    certify(&files);
    std::fs::write(&files.key, "no key").unwrap();
    let error = Listener::bind(front().tls(Some(files))).await.unwrap_err();
    assert_eq!(error.code(), Code::Config);
}
