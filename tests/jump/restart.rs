//! What a restart knows, and files that change while jump runs.

use harness::process::run;
use harness::wait::until_async;
use reqwest::Method;
use serde_json::json;
use tuyun_chassis::settings::Period;

use crate::jump::{Running, file};
use crate::node::Signed;

#[tokio::test]
async fn without_redis_a_restart_knows_its_nodes_and_the_operator_s_orders() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.json");
    let start = || Running::start(|settings| settings.snapshot = path.to_str().unwrap().into());
    let jump = start().await;
    jump.report("2", "https://two.example/").await;
    jump.report("3", "https://three.example/").await;
    jump.order(Method::POST, "/_api/nodes/2", &json!({ "drain": true }))
        .await;
    jump.stop().await;
    let again = start().await;
    assert_eq!(again.sent("/x").await, "https://three.example/x");
    let nodes = again.admin("/_api/nodes").await.json();
    assert_eq!(nodes["nodes"][0]["state"], "draining");
    let left = nodes["nodes"][1]["ttl"].as_u64().unwrap();
    assert!(
        (1100..=1200).contains(&left),
        "the life it had, and no more: {left}"
    );
    until_async("two looks at the registry have passed", async || {
        let nodes = again.admin("/_api/nodes").await.json();
        (nodes["nodes"][1]["ttl"].as_u64()? + 2 < left).then_some(())
    })
    .await;
    assert_eq!(again.sent("/x").await, "https://three.example/x");
    again.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_put_aside_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.json");
    std::fs::write(&path, "{\"version\":1,\"nodes\":[{]").unwrap();
    let jump = Running::start(|settings| settings.snapshot = path.to_str().unwrap().into()).await;
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    jump.stop().await;
    assert!(dir.path().join("nodes.unreadable").exists() && path.exists());
}

#[tokio::test]
async fn a_node_that_is_added_gets_in_without_a_restart_and_the_line_to_paste_sets_it_up() {
    let tokens = file("* token-all\n");
    let tokens_path = tokens.path().to_str().unwrap().to_owned();
    let jump = Running::start(|settings| {
        settings.nodes.token_file = tokens_path.clone();
        settings.nodes.probe = Period::seconds(0);
    })
    .await;
    let add = || {
        run(
            "tuyun-jump",
            &[
                "node",
                "add",
                "new",
                "--url",
                "https://jump.example/",
                "--node-url",
                "https://me.example:1/",
                "--origin",
                "https://origin.example/",
                "--nodes.token-file",
                &tokens_path,
            ],
        )
    };
    let added = add();
    assert!(added.status.success(), "{added:?}");
    let line = String::from_utf8(added.stdout).unwrap();
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    let book = std::fs::read_to_string(tokens.path()).unwrap();
    let token = book
        .lines()
        .find_map(|line| line.strip_prefix("new "))
        .unwrap()
        .to_owned();
    assert!(token.len() == 64 && line.contains(&token));
    let body = json!({ "server_id": "new", "url": "https://me.example:1/" });
    until_async("the node gets in", async || {
        (Signed::new(&token, &body).send(&jump).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(
        Signed::new("token-all", &body).send(&jump).await.status,
        400,
        "for itself alone"
    );

    // Pasted, with the folder and the last step taken out of the system, it makes settings that can be used.
    let root = tempfile::tempdir().unwrap();
    let there = format!("{}/etc/tuyun", root.path().display());
    let script = line
        .replace("/etc/tuyun", &there)
        .replace("systemctl", "true systemctl");
    let pasted = std::process::Command::new("sh")
        .args(["-c", &script])
        .status()
        .unwrap();
    assert!(pasted.success());
    let settings = std::fs::read_to_string(format!("{there}/edge.toml")).unwrap();
    let settings: toml::Table = settings.parse().unwrap();
    assert_eq!(settings["server_id"].as_str(), Some("new"));
    assert_eq!(settings["url"].as_str(), Some("https://me.example:1/"));
    assert_eq!(
        settings["origin"]["primary"].as_str(),
        Some("https://origin.example/")
    );
    assert_eq!(
        settings["jump"]["urls"][0].as_str(),
        Some("https://jump.example/")
    );
    let kept = std::fs::read_to_string(format!("{there}/edge-jump-token")).unwrap();
    assert_eq!(kept.trim(), token);

    let twice = add();
    assert_eq!(twice.status.code(), Some(2), "{twice:?}");
    assert_eq!(std::fs::read_to_string(tokens.path()).unwrap(), book);
    jump.stop().await;
}
