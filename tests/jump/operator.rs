//! What the operator sees.

use serde_json::json;
use tuyun_jump::settings::PolicyName;

use crate::jump::Running;

#[tokio::test]
async fn the_roster_and_the_reasons_are_for_the_operator_alone() {
    let jump = Running::start(|_| ()).await;
    for path in ["/_api/nodes", "/_api/explain?path=x"] {
        let answer = jump.get(path).await;
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer"))
        );
        assert_eq!(jump.admin(path).await.status, 200);
    }
    jump.stop().await;
    let jump = Running::start(|settings| settings.admin.token_file.clear()).await;
    assert_eq!(jump.admin("/_api/nodes").await.status, 403);
    jump.stop().await;
}

#[tokio::test]
async fn it_explains_who_would_serve_a_path_and_why() {
    let jump = Running::start(|_| ()).await;
    let explained = jump.admin("/_api/explain?path=/a%20b.webp").await.json();
    assert_eq!(explained["target"], "origin");
    assert_eq!(explained["why"], "no node is alive");
    jump.report("3", "https://three.example/").await;
    jump.report("2", "https://two.example/").await;
    let explained = jump.admin("/_api/explain?path=/a%20b.webp").await.json();
    assert_eq!(explained["server_id"], "2");
    assert_eq!(explained["location"], "https://two.example/a%20b.webp");
    assert_eq!(explained["policy"], "priority");
    assert_eq!(explained["nodes"][1]["server_id"], "3");
    assert_eq!(jump.admin("/_api/explain").await.status, 400);
    assert_eq!(jump.admin("/_api/explain?path=../x").await.status, 400);
    jump.stop().await;
}

#[tokio::test]
async fn affinity_gives_each_path_its_node() {
    let jump = Running::start(|settings| settings.policy = PolicyName::Affinity).await;
    jump.report("2", "https://two.example/").await;
    jump.report("3", "https://three.example/").await;
    let mut hosts = std::collections::BTreeSet::new();
    for number in 0..40 {
        let path = format!("/pic/{number}.webp");
        let sent = jump.sent(&path).await;
        assert_eq!(
            sent,
            jump.sent(&format!("{path}?w=320"))
                .await
                .replace("?w=320", "")
        );
        hosts.insert(sent.split('/').nth(2).unwrap().to_owned());
    }
    assert_eq!(
        hosts.into_iter().collect::<Vec<_>>(),
        ["three.example", "two.example"]
    );
    jump.stop().await;
}

#[tokio::test]
async fn health_is_public_and_metrics_are_the_operator_s() {
    let jump = Running::start(|_| ()).await;
    jump.report("2", "https://two.example/").await;
    let health = jump.get("/_api/health").await;
    assert_eq!(
        (health.status, health.json()),
        (200, json!({ "status": "ok", "nodes": 1 }))
    );
    assert_eq!(jump.control("/healthz").await.status, 200);
    let ready = jump.control("/readyz").await;
    assert_eq!(
        (ready.status, ready.json()),
        (200, json!({ "ready": true }))
    );
    jump.sent("/x").await;
    let metrics = jump.control("/metrics").await;
    let kind = metrics.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    for line in [
        "tuyun_jump_redirects_total{target=\"node\"} 1\n",
        "tuyun_jump_redirects_total{target=\"origin\"} 0\n",
        "tuyun_jump_heartbeats_total{outcome=\"ok\"} 1\n",
        "tuyun_jump_nodes{state=\"up\"} 1\n",
    ] {
        assert!(metrics.text.contains(line), "no {line} in {}", metrics.text);
    }
    jump.stop().await;
}

#[tokio::test]
async fn the_page_says_how_many_nodes_live_and_not_where() {
    let jump = Running::start(|_| ()).await;
    assert!(jump.get("/").await.text.contains("No node is alive"));
    jump.report("2", "https://two.example/").await;
    let page = jump.get("/").await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(page.text.contains("1 node is alive"), "{}", page.text);
    assert!(!page.text.contains("two.example"));
    jump.stop().await;
}
