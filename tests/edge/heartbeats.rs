//! Telling jump: signed, with a token, and goodbye.

use serde_json::{Value, json};
use tuyun_edge::settings::{Auth, Settings};
use tuyun_protocol::{Signature, Token, UPDATE_PATH};

use crate::node::{Node, eventually, secret, told};
use crate::origin::{Asked, Origin, Reply};

const TOKEN: &str = "the-jump-token";

/// A jump is an HTTP server like any other.
async fn jump() -> Origin {
    let jump = Origin::start().await;
    let ok = "{\"code\":0,\"msg\":\"ok\"}";
    jump.serve(
        UPDATE_PATH,
        Reply::picture(ok.as_bytes()).header("content-type", "application/json"),
    );
    jump
}

async fn reporting(origin: &Origin, jump: &str, adapt: impl FnOnce(&mut Settings)) -> Node {
    let jump = jump.to_owned();
    Node::with(origin, |settings, home| {
        settings.url = "https://me.example:45678".into();
        settings.jump.urls = vec![jump];
        settings.jump.token_file = secret(home, "jump", TOKEN);
        settings.jump.interval = "1s".parse().expect("a period");
        adapt(settings);
    })
    .await
}

async fn beats(jump: &Origin, count: usize) -> Vec<Asked> {
    eventually("jump has heard enough", async || {
        jump.asked(UPDATE_PATH).len() >= count
    })
    .await;
    jump.asked(UPDATE_PATH)
}

fn body(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_heartbeat_carries_no_token_and_a_goodbye_ends_it() {
    let (origin, jump) = (Origin::start().await, jump().await);
    let node = reporting(&origin, &jump.base(), |_| {}).await;
    let beats = beats(&jump, 2).await;
    let mut nonces = Vec::new();
    for beat in &beats {
        assert_eq!(beat.method, "POST");
        let expected = json!({
            "server_id": "1",
            "url": "https://me.example:45678/",
            "ttl": 4,
            "version": concat!("tuyun-edge/", env!("CARGO_PKG_VERSION")),
        });
        assert_eq!(body(beat), expected);
        let signature = Signature::from_headers(|name| beat.header(name));
        let signature = signature.expect("well formed").expect("signed");
        assert!(signature.fits(&Token::new(TOKEN), "POST", UPDATE_PATH, &beat.body));
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs();
        signature.check_time(now).expect("in time");
        nonces.push(signature.nonce().clone());
    }
    assert_ne!(nonces[0], nonces[1]);

    node.stop().await;
    let asked = jump.asked(UPDATE_PATH);
    let goodbye = asked.last().expect("something");
    assert_eq!(
        (goodbye.method.as_str(), body(goodbye)),
        ("DELETE", json!({ "server_id": "1" }))
    );
    let signature = Signature::from_headers(|name| goodbye.header(name));
    let signature = signature.expect("well formed").expect("signed");
    assert!(signature.fits(&Token::new(TOKEN), "DELETE", UPDATE_PATH, &goodbye.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_last_beat_failed_says_goodbye_all_the_same() {
    let (origin, jump) = (Origin::start().await, jump().await);
    let node = reporting(&origin, &jump.base(), |_| {}).await;
    let known = beats(&jump, 1).await.len();
    jump.serve(UPDATE_PATH, Reply::status(503));
    beats(&jump, known + 2).await;
    node.stop().await;
    let asked = jump.asked(UPDATE_PATH);
    assert_eq!(asked.last().expect("something").method, "DELETE");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_jump_gets_the_token_inside() {
    let (origin, jump) = (Origin::start().await, jump().await);
    let node = reporting(&origin, &jump.base(), |settings| {
        settings.jump.auth = Auth::Token;
        settings.server_id = "3".into();
    })
    .await;
    let beat = beats(&jump, 1).await.remove(0);
    let sent = body(&beat);
    assert_eq!(
        (&sent["token"], &sent["server_id"], &sent["url"]),
        (
            &json!(TOKEN),
            &json!("3"),
            &json!("https://me.example:45678/")
        )
    );
    assert_eq!(beat.header("content-type"), Some("application/json"));
    assert_eq!(beat.header("tuyun-signature"), None);
    node.stop().await;
    let asked = jump.asked(UPDATE_PATH);
    let goodbye = asked.last().expect("something");
    assert_eq!(body(goodbye), json!({ "server_id": "3", "token": TOKEN }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_know_its_address_tells_scheme_and_port() {
    let (origin, jump) = (Origin::start().await, jump().await);
    let node = reporting(&origin, &jump.base(), |settings| {
        settings.url = "auto".into();
    })
    .await;
    let beat = body(&beats(&jump, 1).await[0]);
    assert_eq!(
        (&beat["url"], &beat["scheme"], &beat["port"]),
        (
            &json!("auto"),
            &json!("http"),
            &json!(node.address().port())
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_that_is_down_or_refuses_hurts_nobody_and_no_other_jump() {
    let (origin, good) = (Origin::start().await, jump().await);
    origin.serve("/a.webp", Reply::picture(b"here"));
    let down = Origin::start().await.base();
    let refusing = Origin::start().await;
    refusing.serve(UPDATE_PATH, Reply::status(400));
    let node = reporting(&origin, &good.base(), |settings| {
        settings.jump.urls.extend([down, refusing.base()]);
    })
    .await;
    beats(&refusing, 2).await;
    beats(&good, 2).await;
    assert_eq!(told(node.get("/a.webp").await).await.2, b"here");
    node.stop().await;
    assert!(
        refusing.log().iter().all(|asked| asked.method == "POST"),
        "it never knew this node"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_jump_is_not_followed() {
    let (origin, elsewhere, jump) = (Origin::start().await, jump().await, Origin::start().await);
    let to = format!("{}_api/update", elsewhere.base());
    jump.serve(UPDATE_PATH, Reply::status(307).header("location", &to));
    let _node = reporting(&origin, &jump.base(), |settings| {
        settings.jump.auth = Auth::Token;
    })
    .await;
    beats(&jump, 2).await;
    assert!(elsewhere.log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_below_a_prefix_is_told_there() {
    let (origin, jump) = (Origin::start().await, Origin::start().await);
    let behind = format!("/jump{UPDATE_PATH}");
    jump.serve(&behind, Reply::picture(b"{\"code\":0,\"msg\":\"ok\"}"));
    let node = reporting(&origin, &format!("{}jump/", jump.base()), |_| {}).await;
    eventually("jump has heard of it", async || {
        !jump.asked(&behind).is_empty()
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_it_carries_and_whom_it_is_near() {
    let (origin, jump) = (Origin::start().await, jump().await);
    let _node = reporting(&origin, &jump.base(), |settings| {
        settings.jump.capacity = 50;
        settings.jump.isp = "Telecom".into();
        settings.jump.country = "CN".into();
    })
    .await;
    let said = body(&beats(&jump, 1).await[0]);
    assert_eq!(said["capacity"], 50);
    assert_eq!(said["labels"], json!({ "isp": "telecom", "country": "cn" }));
}
