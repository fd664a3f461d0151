//! The control listener, and the emulator under TLS and on its own thread.

use std::time::Duration;

use graph_emulator::{Emulator, Listen, Options, Profile, Route};
use serde_json::{Value, json};

use crate::client::{http, on};

#[tokio::test]
async fn everything_a_test_needs_is_there_as_json() {
    let drive = on(Profile::Business).await;
    let base = drive.emulator.control_url();
    let post = |path: &str, body: Value| {
        let request = drive.http.post(format!("{base}{path}")).json(&body);
        async move {
            let response = request.send().await.unwrap();
            assert!(
                response.status().is_success(),
                "{:?}",
                response.text().await
            );
            response.json::<Value>().await.unwrap()
        }
    };
    let get = |path: &str| {
        let request = drive.http.get(format!("{base}{path}"));
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    assert_eq!(
        get("/").await["drive_id"],
        drive.emulator.drive_id().as_str()
    );
    let put = drive
        .http
        .put(format!("{base}/file?path=a/b.txt"))
        .body("hello world");
    let node: Value = put.send().await.unwrap().json().await.unwrap();
    assert_eq!(node["quick_xor_hash"], "aCgDG9jwBhDc4Q1yawMZAAAAAAA=");
    post("/rename", json!({ "path": "a/b.txt", "name": "c.txt" })).await;
    post("/folder", json!({ "path": "d" })).await;
    post("/move", json!({ "path": "a/c.txt", "folder": "d" })).await;
    let tree = get("/tree").await;
    let paths: Vec<&str> = tree
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["a", "d", "d/c.txt"]);
    let file = drive
        .http
        .get(format!("{base}/file?path=d/c.txt"))
        .send()
        .await
        .unwrap();
    assert_eq!(file.text().await.unwrap(), "hello world");
    post("/delete", json!({ "path": "a" })).await;

    post(
        "/faults",
        json!({ "route": "item", "act": { "act": "refuse", "status": 503 } }),
    )
    .await;
    let status = drive
        .ask(reqwest::Method::GET, "root")
        .send()
        .await
        .unwrap()
        .status();
    assert_eq!(status, 503);
    assert_eq!(get("/counts").await["routes"]["item"], 1);
    assert_eq!(get("/requests").await[0]["fault"], "refuse 503");
    post(
        "/wait",
        json!({ "route": "item", "timeout_ms": 1000, "completed": true }),
    )
    .await;

    let patch = drive
        .http
        .patch(format!("{base}/settings"))
        .json(&json!({ "latency_ms": 5 }));
    assert_eq!(
        patch.send().await.unwrap().json::<Value>().await.unwrap()["latency_ms"],
        5
    );
    assert_eq!(drive.emulator.settings().latency_ms, 5);
    let wrong = drive
        .http
        .patch(format!("{base}/settings"))
        .json(&json!({ "latency": 5 }));
    assert_eq!(wrong.send().await.unwrap().status(), 400);

    let token = post("/token", json!({ "client_id": "x" })).await;
    assert!(token["refresh_token"].is_string());
    post("/expire", json!({ "what": "access_tokens" })).await;
    let status = drive
        .ask(reqwest::Method::GET, "root")
        .send()
        .await
        .unwrap()
        .status();
    assert_eq!(status, 401);
}

#[test]
fn an_emulator_on_its_own_thread_serves_a_test_that_blocks() {
    let emulator = Emulator::launch(Options::new(Profile::Business)).unwrap();
    let token = emulator.issue_token("a-client").access_token;
    let url = format!("{}/v1.0/me/drive/root", emulator.graph_url());
    let asking = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            http()
                .get(url)
                .bearer_auth(token)
                .send()
                .await
                .unwrap()
                .status()
                .as_u16()
        })
    });
    let arrived = |running: &graph_emulator::Running| running.completed(Route::Item) == 1;
    assert!(emulator.block_until(Duration::from_secs(10), arrived));
    assert_eq!(asking.join().unwrap(), 200);
    let never = |running: &graph_emulator::Running| running.count(Route::Delta) > 0;
    assert!(!emulator.block_until(Duration::from_millis(10), never));
}

#[tokio::test]
async fn under_tls_the_authority_is_given_and_vouches_for_the_public_names() {
    let dir = tempfile::tempdir().unwrap();
    let ca_out = dir.path().join("ca.pem");
    let options = Options {
        tls: true,
        ca_out: Some(ca_out.clone()),
        listen: Listen {
            public: Some(([127, 0, 0, 1], 0).into()),
            ..Listen::default()
        },
        ..Options::new(Profile::Business)
    };
    let emulator = Emulator::start(options).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(&ca_out).unwrap(),
        emulator.ca_pem().unwrap()
    );
    let port = url::Url::parse(emulator.graph_url())
        .unwrap()
        .port()
        .unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([
            reqwest::Certificate::from_pem(emulator.ca_pem().unwrap().as_bytes()).unwrap(),
        ]);
    for name in [
        "graph.microsoft.com",
        "login.microsoftonline.com",
        "contoso-my.sharepoint.com",
    ] {
        client = client.resolve(name, ([127, 0, 0, 1], port).into());
    }
    let client = client.build().unwrap();
    let token = emulator.issue_token("a-client").access_token;
    emulator.put_file("a.txt", b"x").unwrap();
    let url = format!("{}/v1.0/me/drive/root:/a.txt", emulator.graph_url());
    assert!(url.starts_with("https://graph.microsoft.com:"));
    let item: Value = client
        .get(url)
        .bearer_auth(token)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let download = item["@microsoft.graph.downloadUrl"].as_str().unwrap();
    assert!(download.starts_with("https://contoso-my.sharepoint.com:"));
    assert_eq!(
        client
            .get(download)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "x"
    );
    let login = format!("{}/common/oauth2/v2.0/token", emulator.login_url());
    assert_eq!(client.post(login).send().await.unwrap().status(), 400);
}
