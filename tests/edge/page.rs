//! The status page, in a real browser.

use std::path::Path;

use harness::browser::{Browser, NEEDS};
use harness::needs;
use serde_json::json;

use crate::node::{Node, header};
use crate::origin::{Origin, Reply};

/// A node that has served: two pictures fetched, one of them often.
async fn busy() -> (Origin, Node) {
    let origin = Origin::start().await;
    for name in ["/mount/a.webp", "/mount/b.webp"] {
        let picture = Reply::picture(&vec![7; 150_000]).header("cache-control", "max-age=3600");
        origin.serve(name, picture);
    }
    let node = Node::before(&origin).await;
    let get = async |path: &str| {
        let got = node.get(path).await;
        assert_eq!(got.bytes().await.expect("whole").len(), 150_000);
    };
    for (name, held) in [("/mount/b.webp", 1), ("/mount/a.webp", 2)] {
        get(name).await;
        node.holds(held).await;
    }
    for _ in 0..8 {
        get("/mount/a.webp").await;
    }
    (origin, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_lets_no_script_but_its_own_run_and_says_the_most_without_any() {
    let (_origin, node) = busy().await;
    let page = node.get("/").await;
    let policy = header(&page, "content-security-policy").to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    let nonce = policy.split("script-src 'nonce-").nth(1).expect("a nonce");
    let nonce = nonce.split('\'').next().expect("its end").to_owned();
    assert_eq!(header(&page, "cache-control"), "no-store");
    let text = page.text().await.expect("text");
    assert_eq!(text.matches("<script").count(), 1);
    assert!(text.contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(text.contains("Node 1 holds 2 pictures") && !text.contains("{{"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_browser_the_page_shows_the_figures_in_two_languages_light_and_dark() {
    if !needs::met(NEEDS) {
        return;
    }
    let (_origin, node) = busy().await;
    let mut browser = Browser::open(&node.url("/")).await;
    browser
        .until("figures are there", "document.body.dataset.ready === 'yes'")
        .await;
    let text = browser.run("document.body.innerText").await.to_string();
    for said in ["tuyun-edge 1", "80.0 %", "1.5 MB", "1.2 MB", "hit rate"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let bars = browser.run("document.querySelectorAll('#days rect').length");
    assert_eq!(bars.await, 28);
    let rows = browser.run("document.querySelectorAll('#rows tr').length");
    assert_eq!(rows.await, 14);
    let trouble = browser.run("document.getElementById('trouble').hidden");
    assert_eq!(trouble.await, true);
    let elsewhere = "performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).length";
    assert_eq!(browser.run(elsewhere).await, 0);
    screenshot(&mut browser, "edge-page.png").await;

    browser
        .run("document.getElementById('language').click()")
        .await;
    assert_eq!(browser.run("document.documentElement.lang").await, "zh-CN");
    let text = browser.run("document.body.innerText").await.to_string();
    assert!(
        text.contains("命中率") && text.contains("最近 14 天"),
        "{text}"
    );
    let colour = "getComputedStyle(document.body).backgroundColor";
    let light = browser.run(colour).await;
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.tell("Emulation.setEmulatedMedia", dark).await;
    assert_ne!(browser.run(colour).await, light);
    screenshot(&mut browser, "edge-page-dark.zh-CN.png").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_browser_the_page_says_what_is_wrong() {
    if !needs::met(NEEDS) {
        return;
    }
    let origin = Origin::start().await;
    origin.serve("/a.webp", Reply::status(500));
    let node = Node::before(&origin).await;
    node.get("/a.webp").await;
    let mut browser = Browser::open(&node.url("/")).await;
    let said =
        "document.getElementById('trouble').innerText.includes('The origin does not answer')";
    browser.until("the page says so", said).await;
}

async fn screenshot(browser: &mut Browser, name: &str) {
    if let Some(folder) = std::env::var_os("SCREENSHOTS") {
        browser.picture(&Path::new(&folder).join(name)).await;
    }
}
