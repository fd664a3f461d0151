//! Which node gets whom: by weight, by place, by order.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use tuyun_jump::settings::PolicyName;

use crate::jump::{Running, file};
use crate::node::Signed;

/// A node as ours report, with more than an address.
async fn report(jump: &Running, id: &str, more: Value) {
    let mut body = json!({ "server_id": id, "url": format!("https://{id}.example/") });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    assert_eq!(Signed::new("token-all", &body).send(jump).await.status, 200);
}

/// How a thousand paths fall on the nodes.
async fn shares(jump: &Running) -> BTreeMap<String, u32> {
    let mut shares = BTreeMap::new();
    for number in 0..1000 {
        let sent = jump.sent(&format!("/pic/{number}.webp")).await;
        let host = sent.split('/').nth(2).unwrap().to_owned();
        *shares.entry(host).or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn weighted_gives_each_node_its_share_and_the_operator_s_word_counts_more() {
    let jump = Running::start(|settings| settings.policy = PolicyName::Weighted).await;
    report(&jump, "2", json!({ "capacity": 300 })).await;
    report(&jump, "3", json!({ "capacity": 100 })).await;
    let fair = shares(&jump).await;
    assert!((700..800).contains(&fair["2.example"]), "{fair:?}");
    let order = json!({ "weight": 2700 });
    assert_eq!(
        jump.order(Method::POST, "/_api/nodes/3", &order)
            .await
            .status,
        200
    );
    let ordered = shares(&jump).await;
    assert!((860..940).contains(&ordered["3.example"]), "{ordered:?}");
    jump.stop().await;
}

#[tokio::test]
async fn a_visitor_is_sent_near_and_explain_says_why() {
    let table = file("1.2.0.0/16,telecom,guangdong,cn\n2400:3200::/32,unicom,,cn\n");
    let jump = Running::start(|settings| {
        settings.geo.table = table.path().to_str().unwrap().into();
        settings.limit.trusted_proxies = vec!["127.0.0.1".into()];
    })
    .await;
    report(&jump, "2", json!({})).await;
    report(
        &jump,
        "3",
        json!({ "labels": { "isp": "Telecom", "country": "CN" } }),
    )
    .await;
    report(
        &jump,
        "4",
        json!({ "labels": { "isp": "unicom", "country": "cn" } }),
    )
    .await;
    let from = async |address: &str| {
        let headers = [("x-forwarded-for", address)];
        let answer = jump.send(Method::GET, "/x", &headers, String::new()).await;
        answer.location().to_owned()
    };
    assert_eq!(from("1.2.3.4").await, "https://3.example/x");
    assert_eq!(from("2400:3200::9").await, "https://4.example/x");
    assert_eq!(from("9.9.9.9").await, "https://2.example/x");

    let explained = jump
        .admin("/_api/explain?path=/x&address=1.2.3.4")
        .await
        .json();
    assert_eq!(explained["server_id"], "3");
    assert_eq!(
        explained["visitor"],
        json!({ "isp": "telecom", "province": "guangdong", "country": "cn" })
    );
    let why = explained["why"].as_str().unwrap();
    assert!(
        why.starts_with("the nearest nodes, by country, provider; of those,"),
        "{why}"
    );
    let verdicts: Vec<&Value> = explained["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["verdict"])
        .collect();
    assert_eq!(
        verdicts,
        ["another is nearer", "chosen", "another is nearer"]
    );
    assert_eq!(
        jump.admin("/_api/explain?path=/x&address=here")
            .await
            .status,
        400
    );

    // The operator may say where a node is that does not.
    let order = json!({ "labels": { "isp": "telecom", "province": "guangdong", "country": "cn" } });
    jump.order(Method::POST, "/_api/nodes/2", &order).await;
    assert_eq!(from("1.2.3.4").await, "https://2.example/x");
    jump.stop().await;
}

#[tokio::test]
async fn a_node_that_is_drained_or_drains_gets_nobody_at_once_and_returns_when_told() {
    let jump = Running::start(|_| ()).await;
    for id in ["2", "3"] {
        report(&jump, id, json!({})).await;
    }
    let path = "/_api/nodes/2";
    jump.order(Method::POST, path, &json!({ "drain": true }))
        .await;
    assert_eq!(jump.sent("/x").await, "https://3.example/x");
    report(&jump, "2", json!({})).await;
    assert_eq!(
        jump.sent("/x").await,
        "https://3.example/x",
        "a heartbeat changes nothing"
    );
    jump.order(Method::POST, path, &json!({ "drain": false }))
        .await;
    assert_eq!(jump.sent("/x").await, "https://2.example/x");
    report(&jump, "2", json!({ "draining": true })).await;
    assert_eq!(jump.sent("/x").await, "https://3.example/x");
    report(&jump, "2", json!({})).await;
    assert_eq!(jump.sent("/x").await, "https://2.example/x");
    assert_eq!(
        jump.order(Method::DELETE, path, &json!({})).await.status,
        200
    );
    assert_eq!(jump.sent("/x").await, "https://3.example/x");
    for (body, id) in [
        (json!({ "drain": 1 }), "2"),
        (json!([]), "2"),
        (json!({}), "a%20b"),
    ] {
        let path = format!("/_api/nodes/{id}");
        assert_eq!(
            jump.order(Method::POST, &path, &body).await.status,
            400,
            "{body} {id}"
        );
    }
    jump.stop().await;
}

#[tokio::test]
async fn orders_need_the_operator() {
    let jump = Running::start(|_| ()).await;
    jump.report("2", "https://two.example/").await;
    for method in [Method::POST, Method::DELETE] {
        let answer = jump
            .send(method, "/_api/nodes/2", &[], "{\"drain\":true}".into())
            .await;
        assert_eq!(answer.status, 401);
    }
    assert_eq!(jump.sent("/x").await, "https://two.example/x");
    jump.stop().await;
}
