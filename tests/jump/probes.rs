//! Nodes that stop answering, and nodes whose address has to be proven.

use std::time::Duration;

use harness::wait::until_async;
use reqwest::Method;
use serde_json::{Value, json};
use tuyun_chassis::settings::Period;
use tuyun_jump::Settings;

use crate::jump::Running;
use crate::node::{Node, Signed, now};

fn often(settings: &mut Settings) {
    settings.nodes.probe = Period(Duration::from_millis(100));
    settings.nodes.allow_private = true;
}

async fn report(jump: &Running, id: &str, node: &Node) {
    let body = json!({ "server_id": id, "url": node.url(), "ttl": 1200 });
    assert_eq!(Signed::new("token-all", &body).send(jump).await.status, 200);
}

async fn sent_to(jump: &Running, url: &str) {
    let expected = format!("{url}x");
    until_async("visitors are sent there", async || {
        (jump.sent("/x").await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_node_gets_no_visitors_though_its_lease_lives() {
    let jump = Running::start(often).await;
    let (first, second) = (Node::start(200).await, Node::start(200).await);
    report(&jump, "2", &first).await;
    report(&jump, "3", &second).await;
    assert_eq!(jump.sent("/x").await, format!("{}x", first.url()));
    first.kill();
    sent_to(&jump, &second.url()).await;
    second.kill();
    sent_to(&jump, "https://origin.example/").await;
    let nodes = jump.admin("/_api/nodes").await.json();
    assert_eq!(
        (&nodes["nodes"][0]["state"], &nodes["nodes"][1]["state"]),
        (&json!("down"), &json!("down"))
    );
    jump.stop().await;
}

#[tokio::test]
async fn a_node_that_says_it_is_unwell_rests_until_it_is_well() {
    let jump = Running::start(often).await;
    let node = Node::start(200).await;
    report(&jump, "2", &node).await;
    node.answer(503);
    sent_to(&jump, "https://origin.example/").await;
    assert!(node.asked() >= 2, "one failure is not a death");
    node.answer(200);
    sent_to(&jump, &node.url()).await;
    jump.stop().await;
}

#[tokio::test]
async fn nodes_of_others_and_private_addresses_are_not_probed() {
    let jump = Running::start(|settings| {
        often(settings);
        settings.nodes.allow_private = false;
    })
    .await;
    let private = Node::start(503).await;
    report(&jump, "3", &private).await;
    jump.stop().await;

    let jump = Running::start(often).await;
    let (original, ours) = (Node::start(503).await, Node::start(200).await);
    jump.report("2", &original.url()).await;
    report(&jump, "3", &ours).await;
    until_async("ours was asked several times", async || {
        (ours.asked() > 4).then_some(())
    })
    .await;
    assert_eq!((original.asked(), private.asked()), (0, 0));
    assert_eq!(jump.sent("/x").await, format!("{}x", original.url()));
    jump.stop().await;
}

fn auto(node: &Node) -> Value {
    json!({ "server_id": "home", "url": "auto", "scheme": "http", "port": node.port() })
}

#[tokio::test]
async fn a_node_that_does_not_know_its_address_gets_visitors_once_it_was_reached() {
    let jump = Running::start(|settings| {
        settings.nodes.allow_private = true;
        // Not probed in a rhythm: the heartbeat itself has to cause it.
        settings.nodes.probe = Period::seconds(0);
    })
    .await;
    let node = Node::start(503).await;
    assert_eq!(
        Signed::new("token-home", &auto(&node))
            .send(&jump)
            .await
            .status,
        200
    );
    until_async("it was asked", async || (node.asked() > 0).then_some(())).await;
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    node.answer(200);
    assert_eq!(
        Signed::new("token-home", &auto(&node))
            .send(&jump)
            .await
            .status,
        200
    );
    sent_to(&jump, &node.url()).await;
    // Proven, it stays so with the next heartbeats.
    assert_eq!(
        Signed::new("token-home", &auto(&node))
            .send(&jump)
            .await
            .status,
        200
    );
    assert_eq!(jump.sent("/x").await, format!("{}x", node.url()));
    jump.stop().await;
}

#[tokio::test]
async fn an_unknown_address_is_taken_only_signed_with_the_node_s_own_token() {
    let jump = Running::start(|settings| settings.nodes.allow_private = true).await;
    let node = Node::start(200).await;
    let shared = json!({ "server_id": "2", "url": "auto", "scheme": "http", "port": node.port() });
    let mut by_token = auto(&node);
    by_token["token"] = "token-home".into();
    for answer in [
        Signed::new("token-all", &shared).send(&jump).await,
        jump.update(by_token).await,
    ] {
        assert_eq!(
            (answer.status, &answer.json()["msg"]),
            (400, &json!("Invalid token."))
        );
    }
    for odd in [
        json!({ "scheme": "ftp" }),
        json!({ "port": 0 }),
        json!({ "port": 70_000 }),
    ] {
        let mut body = auto(&node);
        let (name, value) = odd.as_object().unwrap().iter().next().unwrap();
        body[name] = value.clone();
        assert_eq!(
            Signed::new("token-home", &body).send(&jump).await.status,
            400,
            "{odd}"
        );
    }
    jump.stop().await;
}

#[tokio::test]
async fn an_unknown_address_has_to_be_global_and_is_the_client_s() {
    let jump = Running::start(|settings| {
        settings.limit.trusted_proxies = vec!["127.0.0.1".into()];
    })
    .await;
    let node = Node::start(200).await;
    for (from, expected) in [
        ("127.0.0.1", 400),
        ("192.168.1.7", 400),
        ("100.64.0.9", 400),
        ("1.1.1.1", 200),
    ] {
        let signed = Signed::at(now(), Method::POST, "token-home", &auto(&node));
        let mut headers: Vec<_> = signed
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        headers.push(("x-forwarded-for", from));
        let answer = jump
            .send(Method::POST, "/_api/update", &headers, signed.body.clone())
            .await;
        assert_eq!(answer.status, expected, "{from}: {answer:?}");
    }
    let nodes = jump.admin("/_api/nodes").await.json();
    assert_eq!(
        nodes["nodes"][0]["url"],
        format!("http://1.1.1.1:{}/", node.port())
    );
    assert_eq!(nodes["nodes"][0]["state"], "unproven");
    jump.stop().await;
}

#[tokio::test]
async fn nodes_that_beat_often_do_not_put_off_the_probes_of_others() {
    let jump = Running::start(|settings| {
        often(settings);
        settings.nodes.probe = Period(Duration::from_millis(300));
        settings.limit.update_per_second = 1000;
    })
    .await;
    let (dead, home) = (Node::start(200).await, Node::start(200).await);
    report(&jump, "2", &dead).await;
    dead.kill();
    let expected = format!("{}x", home.url());
    until_async("the dead one is found out all the same", async || {
        let beat = Signed::new("token-home", &auto(&home)).send(&jump).await;
        assert_eq!(beat.status, 200);
        (jump.sent("/x").await == expected).then_some(())
    })
    .await;
    jump.stop().await;
}

#[tokio::test]
async fn a_node_whose_address_changes_gets_visitors_at_the_new_one_once_it_was_reached_there() {
    let jump = Running::start(often).await;
    let (old, new) = (Node::start(200).await, Node::start(503).await);
    let home = |node: &Node| Signed::new("token-home", &auto(node));
    assert_eq!(home(&old).send(&jump).await.status, 200);
    sent_to(&jump, &old.url()).await;
    assert_eq!(home(&new).send(&jump).await.status, 200);
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    until_async("it was asked there", async || {
        (new.asked() > 1).then_some(())
    })
    .await;
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    new.answer(200);
    sent_to(&jump, &new.url()).await;
    jump.stop().await;
}

#[tokio::test]
async fn a_node_that_comes_and_goes_returns_more_slowly_each_time() {
    let jump = Running::start(often).await;
    let node = Node::start(200).await;
    report(&jump, "2", &node).await;
    let mut returns = Vec::new();
    for _ in 0..4 {
        node.answer(503);
        sent_to(&jump, "https://origin.example/").await;
        let before = node.asked();
        node.answer(200);
        sent_to(&jump, &node.url()).await;
        returns.push(node.asked() - before);
    }
    assert!(returns[0] < returns[3] && returns[3] >= 6, "{returns:?}");
    jump.stop().await;
}
