//! The status page, in a real browser.

use std::path::Path;
use std::time::Duration;

use harness::browser::{Browser, NEEDS};
use harness::needs;
use harness::wait::until_async;
use reqwest::Method;
use serde_json::{Value, json};
use tuyun_chassis::settings::Period;
use tuyun_jump::settings::PolicyName;

use crate::jump::{ADMIN, Running};
use crate::node::{Node, Signed};

/// Two weeks that look like two weeks.
fn days(scale: u64) -> Value {
    let day = |n: u64| {
        let out = (40 + (n * 37) % 60) * scale;
        json!({ "date": format!("2026-11-{:02}", 27 - n), "traffic_out": out, "traffic_in": out / 9 })
    };
    (0..14).map(day).collect()
}

fn figures(scale: u64) -> Value {
    json!({ "get": 120 * scale, "hits": 111 * scale, "traffic_in": 700_000 * scale, "traffic_out": 9_400_000 * scale })
}

/// A jump with a fleet: two that live, one that is dead, one of an original.
async fn fleet() -> (Running, Vec<Node>) {
    let jump = Running::start(|settings| {
        settings.policy = PolicyName::Weighted;
        settings.nodes.probe = Period(Duration::from_millis(100));
        settings.nodes.figures = Period(Duration::from_millis(200));
        settings.nodes.allow_private = true;
    })
    .await;
    let mut nodes = Vec::new();
    for (id, token, labels, load) in [
        (
            "1",
            "token-one",
            json!({ "isp": "telecom", "province": "guangdong", "country": "cn" }),
            12_u64,
        ),
        (
            "2",
            "token-all",
            json!({ "isp": "unicom", "country": "cn" }),
            61,
        ),
        ("home", "token-home", json!({}), 0),
    ] {
        let node = Node::start(200).await;
        node.say(figures(load + 7), days(1_000_000 * (load + 20)));
        let body = json!({ "server_id": id, "url": node.url(), "capacity": 100, "load": load,
            "labels": labels, "version": "tuyun-edge 0.1.0" });
        assert_eq!(Signed::new(token, &body).send(&jump).await.status, 200);
        nodes.push(node);
    }
    nodes[2].answer(503);
    jump.report("7", "https://original.example/").await;
    until_async("one is dead, and figures are known", async || {
        let overview = jump.admin("/_api/overview").await.json();
        let known = overview["fleet"].as_array()?.iter();
        let known = known
            .filter(|node| node["figures"]["get"].as_u64() > Some(0))
            .count();
        (overview["nodes"]["down"] == 1 && known >= 3).then_some(())
    })
    .await;
    (jump, nodes)
}

#[tokio::test]
async fn the_overview_tells_strangers_how_many_and_the_operator_who() {
    let (jump, _nodes) = fleet().await;
    jump.sent("/x").await;
    let public = jump.get("/_api/overview").await.json();
    assert_eq!(
        public["nodes"],
        json!({ "up": 3, "down": 1, "unproven": 0, "draining": 0 })
    );
    assert_eq!(public["redirects"]["to_node"], 1);
    assert_eq!(public["operator"], false);
    assert!(public["fleet"].is_null() && public["days"].is_null());
    let all = jump.admin("/_api/overview").await.json();
    assert_eq!(all["fleet"].as_array().unwrap().len(), 4);
    let last = all["days"].as_array().unwrap().last().unwrap();
    assert_eq!(last["date"], "2026-11-27");
    let expected: u64 = 40 * 1_000_000 * ((12 + 20) + (61 + 20) + 20);
    assert_eq!(last["traffic_out"], expected);
    jump.stop().await;
}

#[tokio::test]
async fn whoever_signs_in_gets_a_cookie_that_strangers_and_forms_cannot_use() {
    let jump = Running::start(|_| ()).await;
    jump.report("2", "https://two.example/").await;
    let json = [("content-type", "application/json")];
    let enter = |token: &str| json!({ "token": token }).to_string();
    let wrong = jump
        .send(Method::POST, "/_api/session", &json, enter("wrong"))
        .await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    let entered = jump
        .send(Method::POST, "/_api/session", &json, enter(ADMIN))
        .await;
    let cookie = entered.header("set-cookie").unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    let with = [("cookie", cookie), ("content-type", "application/json")];
    let drain = r#"{"drain":true}"#.to_owned();
    let form = [("cookie", cookie), ("content-type", "text/plain")];
    let path = "/_api/nodes/2";
    assert_eq!(
        jump.send(Method::POST, path, &json, drain.clone())
            .await
            .status,
        401
    );
    assert_eq!(
        jump.send(Method::POST, path, &form, drain.clone())
            .await
            .status,
        415
    );
    assert_eq!(jump.sent("/x").await, "https://two.example/x");
    assert_eq!(
        jump.send(Method::POST, path, &with, drain).await.status,
        200
    );
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    jump.stop().await;
}

#[tokio::test]
async fn in_a_browser_the_operator_signs_in_sees_the_fleet_and_drains_a_node() {
    if !needs::met(NEEDS) {
        return;
    }
    let (jump, _nodes) = fleet().await;
    for _ in 0..40 {
        jump.sent("/mount/a.webp").await;
    }
    let mut browser = Browser::open(&jump.url()).await;
    browser
        .until(
            "strangers see the page",
            "document.body.dataset.ready === 'public'",
        )
        .await;
    let text = browser.run("document.body.innerText").await.to_string();
    assert!(
        text.contains("alive") && !text.contains("127.0.0.1"),
        "{text}"
    );
    let script = format!(
        "document.querySelector('[name=token]').value = '{ADMIN}'; document.getElementById('enter').submit()"
    );
    browser.run(&script).await;
    browser
        .until(
            "the operator sees the fleet",
            "document.body.dataset.ready === 'operator'",
        )
        .await;
    assert_eq!(
        browser
            .run("document.querySelectorAll('#nodes tr').length")
            .await,
        4
    );
    assert_eq!(
        browser
            .run("document.querySelectorAll('#days rect').length")
            .await,
        28
    );
    assert_eq!(
        browser
            .run("document.querySelectorAll('#nodes .down').length")
            .await,
        1
    );
    // Nothing of the page comes from elsewhere.
    let elsewhere = "performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).length";
    assert_eq!(browser.run(elsewhere).await, 0);

    browser
        .run("document.getElementById('language').click()")
        .await;
    assert_eq!(browser.run("document.documentElement.lang").await, "zh-CN");
    let text = browser.run("document.body.innerText").await.to_string();
    assert!(
        text.contains("存活") && text.contains("最近 14 天"),
        "{text}"
    );
    browser
        .run("document.getElementById('language').click()")
        .await;

    let colour = "getComputedStyle(document.body).backgroundColor";
    let light = browser.run(colour).await;
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    if let Some(folder) = std::env::var_os("SCREENSHOTS") {
        browser
            .picture(&Path::new(&folder).join("jump-page.png"))
            .await;
    }
    browser.tell("Emulation.setEmulatedMedia", dark).await;
    assert_ne!(browser.run(colour).await, light);
    if let Some(folder) = std::env::var_os("SCREENSHOTS") {
        browser
            .run("document.getElementById('language').click()")
            .await;
        browser
            .picture(&Path::new(&folder).join("jump-page-dark.zh-CN.png"))
            .await;
    }

    browser
        .run("document.querySelector('[data-node=\"2\"] [data-act=drain]').click()")
        .await;
    browser
        .until(
            "the page shows it",
            "!!document.querySelector('[data-node=\"2\"] .draining')",
        )
        .await;
    let nodes = jump.admin("/_api/nodes").await.json();
    assert_eq!(nodes["nodes"][1]["state"], "draining");
    browser
        .run("document.getElementById('leave').click()")
        .await;
    browser
        .until(
            "it is a stranger's page again",
            "document.body.dataset.ready === 'public'",
        )
        .await;
    jump.stop().await;
}
