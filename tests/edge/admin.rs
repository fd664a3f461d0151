//! Figures, health, limits, and what only the owner may do.

use serde_json::{Value, json};

use crate::node::{ADMIN, Node, header, told};
use crate::origin::{Origin, Reply};

async fn holding(names: &[&str]) -> (Origin, Node) {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    for name in names {
        origin.serve(
            name,
            Reply::picture(b"0123456789").header("cache-control", "max-age=600"),
        );
        assert_eq!(told(node.get(name).await).await.0, 200);
    }
    node.holds(names.len() as u64).await;
    (origin, node)
}

async fn purge(node: &Node, order: Value) -> (u16, Value) {
    let request = node
        .request("POST", "/_api/purge")
        .bearer_auth(ADMIN)
        .json(&order);
    let response = request.send().await.expect("an answer");
    (
        response.status().as_u16(),
        response.json().await.expect("JSON"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_pictures_and_folders_and_leaves_their_neighbours() {
    let (origin, node) = holding(&["/p/1.webp", "/p/2.webp", "/pq/3.webp", "/4.webp"]).await;
    let purged = purge(
        &node,
        json!({ "paths": ["/4.webp", "/none.webp"], "prefixes": ["/p/"] }),
    )
    .await;
    assert_eq!(purged, (200, json!({ "code": 0, "purged": 3 })));
    assert_eq!(node.entries().await, 1);
    assert_eq!(told(node.get("/pq/3.webp").await).await.1, "HIT");
    assert_eq!(told(node.get("/p/1.webp").await).await.1, "MISS");
    assert_eq!(origin.asked("/p/1.webp").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_no_order_changes_nothing() {
    let (_origin, node) = holding(&["/1.webp"]).await;
    let (status, problem) = purge(&node, json!({ "paths": ["/1.webp", "/../x"] })).await;
    assert_eq!((status, &problem["code"]), (400, &json!(400)));
    assert_eq!(node.entries().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_removes_what_was_not_used_for_so_many_days() {
    let (_origin, node) = holding(&["/1.webp", "/2.webp"]).await;
    let clean = async |query: &str| {
        let request = node
            .request("GET", &format!("/_api/cache_clean{query}"))
            .bearer_auth(ADMIN);
        let response = request.send().await.expect("an answer");
        (
            response.status().as_u16(),
            response.json::<Value>().await.expect("JSON"),
        )
    };
    assert_eq!(clean("?day=1").await, (200, json!({ "size": 0 })));
    assert_eq!(clean("?day=0").await, (200, json!({ "size": 20 })));
    assert_eq!(node.entries().await, 0);
    assert_eq!(clean("").await.0, 400);
    assert_eq!(clean("?day=soon").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nobody_changes_anything() {
    let (_origin, node) = holding(&["/1.webp"]).await;
    for (method, path) in [("POST", "/_api/purge"), ("GET", "/_api/cache_clean?day=0")] {
        let nothing = node.request(method, path).body("{\"prefixes\":[\"/\"]}");
        assert_eq!(nothing.send().await.expect("an answer").status(), 401);
        let wrong = node
            .request(method, path)
            .body("{\"prefixes\":[\"/\"]}")
            .bearer_auth("guess");
        assert_eq!(wrong.send().await.expect("an answer").status(), 401);
        let query = format!(
            "{path}{}token={ADMIN}",
            if path.contains('?') { '&' } else { '?' }
        );
        let query = node.request(method, &query).body("{\"prefixes\":[\"/\"]}");
        assert_eq!(query.send().await.expect("an answer").status(), 401);
    }
    assert_eq!(node.entries().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_an_admin_token_lets_nobody_in() {
    let origin = Origin::start().await;
    let node = Node::with(&origin, |settings, _| settings.admin.token_file.clear()).await;
    for (method, path) in [("POST", "/_api/purge"), ("GET", "/_api/cache_clean?day=0")] {
        let response = node
            .request(method, path)
            .bearer_auth("")
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_count_what_went_through() {
    let (_origin, node) = holding(&["/1.webp"]).await;
    told(node.get("/1.webp").await).await;
    let status: Value = node.get("/_api/status").await.json().await.expect("JSON");
    assert_eq!(status["server_id"], "1");
    assert!(status["uptime"].is_u64());
    assert_eq!(
        (
            &status["get"],
            &status["traffic_in"],
            &status["traffic_out"],
            &status["hits"]
        ),
        (&json!(2), &json!(10), &json!(20), &json!(1))
    );
    let days: Vec<Value> = node.get("/_api/traffic").await.json().await.expect("JSON");
    assert_eq!(days.len(), 14);
    assert_eq!(
        (&days[0]["traffic_in"], &days[0]["traffic_out"]),
        (&json!(10), &json!(20))
    );
    let dates: Vec<&str> = days
        .iter()
        .map(|day| day["date"].as_str().expect("a date"))
        .collect();
    assert!(dates.windows(2).all(|pair| pair[0] > pair[1]), "{dates:?}");
    assert!(dates.iter().all(|date| date.len() == 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_control_say_that_it_lives() {
    let (_origin, node) = holding(&["/1.webp"]).await;
    let health = node.get("/_api/health").await;
    assert_eq!(health.status(), 200);
    assert_eq!(
        health.json::<Value>().await.expect("JSON"),
        json!({ "ok": true, "server_id": "1" })
    );
    assert_eq!(node.control("/healthz").await.status(), 200);
    assert_eq!(node.control("/readyz").await.status(), 200);
    let metrics = node.control("/metrics").await.text().await.expect("text");
    for line in [
        "tuyun_edge_answers_total{result=\"miss\"} 1",
        "tuyun_edge_fetched_bytes_total 10",
        "tuyun_edge_cache_bytes 10",
        "tuyun_edge_entries 1",
    ] {
        assert!(
            metrics.lines().any(|known| known == line),
            "{line}\n{metrics}"
        );
    }
    assert_eq!(
        node.raw("/healthz").await,
        404,
        "not on the public listener"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_gets_so_many_requests_a_second() {
    let origin = Origin::start().await;
    let node = Node::with(&origin, |settings, _| {
        settings.limit.per_second = 3;
        settings.limit.trusted_proxies = vec!["127.0.0.1".into()];
    })
    .await;
    let ask = async |client: &str| {
        let request = node
            .request("GET", "/_api/health")
            .header("x-forwarded-for", client);
        request.send().await.expect("an answer")
    };
    for _ in 0..3 {
        assert_eq!(ask("203.0.113.1").await.status(), 200);
    }
    let refused = ask("203.0.113.1").await;
    assert_eq!(refused.status(), 429);
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(ask("203.0.113.2").await.status(), 200, "another address");
}
