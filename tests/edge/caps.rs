//! Traffic that is used up: visitors are turned away until there is more, over a restart, too.

use serde_json::Value;
use tuyun_edge::settings::Settings;
use tuyun_protocol::UPDATE_PATH;

use crate::node::{Node, eventually, header, secret};
use crate::origin::{Origin, Reply};

const CAP: &str = "100KB";

fn capped(settings: &mut Settings) {
    settings.limit.traffic_per_day = CAP.parse().expect("a size");
}

async fn is_shut(node: &Node) {
    eventually("the node is shut", async || {
        node.get("/_api/health").await.status() == 503
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_traffic_is_used_up_turns_visitors_away_and_leaves_its_jumps() {
    let (origin, jump) = (Origin::start().await, Origin::start().await);
    jump.serve(UPDATE_PATH, Reply::picture(b"{\"code\":0,\"msg\":\"ok\"}"));
    let picture = Reply::picture(&vec![7; 60_000]).header("cache-control", "max-age=3600");
    origin.serve("/a.webp", picture);
    let base = jump.base();
    let node = Node::with(&origin, |settings, home| {
        settings.url = "https://me.example:45678".into();
        settings.jump.urls = vec![base];
        settings.jump.token_file = secret(home, "jump", "the-jump-token");
        settings.jump.interval = "1s".parse().expect("a period");
        capped(settings);
    })
    .await;
    eventually("jump knows the node", async || {
        !jump.asked(UPDATE_PATH).is_empty()
    })
    .await;
    for _ in 0..2 {
        let got = node.get("/a.webp").await;
        assert_eq!(got.status(), 200);
        assert_eq!(got.bytes().await.expect("whole").len(), 60_000);
    }

    is_shut(&node).await;
    for path in ["/a.webp", "/a.webp?w=640", "/other.webp"] {
        let refused = node.get(path).await;
        assert_eq!(refused.status(), 503, "{path}");
        let wait: u64 = header(&refused, "retry-after").parse().expect("seconds");
        assert!((1..=86_400).contains(&wait), "{wait}");
        assert_eq!(header(&refused, "cache-control"), "no-store");
    }
    assert!(origin.asked("/other.webp").is_empty());
    eventually("jump hears a goodbye", async || {
        let asked = jump.asked(UPDATE_PATH);
        asked.last().is_some_and(|last| last.method == "DELETE")
    })
    .await;
    assert_eq!(node.control("/readyz").await.status(), 503);
    let status: Value = node.get("/_api/status").await.json().await.expect("JSON");
    assert_eq!(status["used_up"], "day");
    assert_eq!(node.get("/").await.status(), 200, "the page still answers");

    // Whoever restarts it gets no new traffic.
    let node = node.restarted().await;
    is_shut(&node).await;
    assert_eq!(node.get("/a.webp").await.status(), 503);
}
