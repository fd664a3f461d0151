//! Leases in a real Redis, shared with programs that write keys as the originals do.

use std::time::{Duration, Instant};

use harness::process::free_port;
use harness::redis::Redis;
use harness::wait::until_async;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use reqwest::Method;
use serde_json::json;

use crate::jump::Running;
use crate::node::{Node, Signed};

/// Redis as another program sees it, in the database that the originals use.
async fn other(redis: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(format!("{}2", redis.url())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn start(url: String) -> Running {
    Running::start(|settings| settings.redis = url).await
}

async fn sent_to(jump: &Running, expected: &str) {
    until_async(&format!("visitors are sent to {expected}"), async || {
        (jump.sent("/x").await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lease_stands_where_the_originals_look_for_it() {
    let redis = Redis::start();
    let jump = start(redis.url()).await;
    let mut other = other(&redis).await;
    jump.report("2", "https://two.example").await;
    let url: String = other.get("jump_2").await.unwrap();
    assert_eq!(url, "https://two.example/");
    let life: i64 = other.ttl("jump_2").await.unwrap();
    assert!((1190..=1200).contains(&life), "{life}");
    let life: i64 = other.ttl("tuyun:node:2").await.unwrap();
    assert!((1190..=1200).contains(&life), "{life}");

    let body = json!({ "token": "token-all", "server_id": "2", "url": "https://two.example/",
        "ttl": 20 });
    assert_eq!(jump.update(body).await.status, 200);
    let life: i64 = other.ttl("jump_2").await.unwrap();
    assert!((10..=20).contains(&life), "{life}");

    let leave = json!({ "token": "token-all", "server_id": 2 }).to_string();
    assert_eq!(
        jump.send(Method::DELETE, "/_api/update", &[], leave)
            .await
            .status,
        200
    );
    let keys: Vec<String> = other.keys("*").await.unwrap();
    assert_eq!(keys, [""; 0]);
    jump.stop().await;
}

#[tokio::test]
async fn nodes_that_an_original_jump_keeps_are_found_and_lost() {
    let redis = Redis::start();
    let jump = start(redis.url()).await;
    let mut other = other(&redis).await;
    let _: () = other
        .set_ex("jump_4", "https://four.example/", 1200)
        .await
        .unwrap();
    sent_to(&jump, "https://four.example/x").await;
    // As the originals let it be written: without the final `/`, by another node of that number.
    let _: () = other
        .set_ex("jump_4", "https://new.example", 1200)
        .await
        .unwrap();
    sent_to(&jump, "https://new.example/x").await;
    let _: () = other
        .set_ex("jump_3", "https://three.example/", 4)
        .await
        .unwrap();
    sent_to(&jump, "https://three.example/x").await;
    sent_to(&jump, "https://new.example/x").await;
    let _: () = other.del("jump_4").await.unwrap();
    sent_to(&jump, "https://origin.example/x").await;
    jump.stop().await;
}

#[tokio::test]
async fn keys_that_make_no_node_disturb_nothing() {
    let redis = Redis::start();
    let mut other = other(&redis).await;
    let _: () = other.set("jump_5", "javascript:alert(1)").await.unwrap();
    let _: () = other.set("jump_", "https://nobody.example/").await.unwrap();
    let _: () = other
        .set("jump_a b", "https://nobody.example/")
        .await
        .unwrap();
    let _: () = other.set("jump_6", "").await.unwrap();
    let _: () = other.set("jump_7", &b"\xff\xfe"[..]).await.unwrap();
    let _: () = other.rpush("jump_8", "a list").await.unwrap();
    let _: () = other.set("tuyun:node:9", "{not json").await.unwrap();
    let _: () = other.set("jump_9", "https://nine.example/").await.unwrap();
    let jump = start(redis.url()).await;
    assert_eq!(
        jump.sent("/x").await,
        "https://nine.example/x",
        "known before the first visitor"
    );
    assert_eq!(jump.control("/readyz").await.status, 200);
    let nodes = jump.admin("/_api/nodes").await.json();
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
    jump.stop().await;
}

#[tokio::test]
async fn several_jumps_share_their_nodes_and_a_restart_knows_them() {
    let redis = Redis::start();
    let (here, there) = (start(redis.url()).await, start(redis.url()).await);
    here.report("2", "https://two.example/").await;
    sent_to(&there, "https://two.example/x").await;
    here.stop().await;
    let again = start(redis.url()).await;
    assert_eq!(again.sent("/x").await, "https://two.example/x");
    let leave = json!({ "token": "token-all", "server_id": 2 }).to_string();
    assert_eq!(
        again
            .send(Method::DELETE, "/_api/update", &[], leave)
            .await
            .status,
        200
    );
    assert_eq!(
        again.sent("/x").await,
        "https://origin.example/x",
        "here at once"
    );
    sent_to(&there, "https://origin.example/x").await;
    again.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn a_database_that_the_url_names_is_used() {
    let redis = Redis::start();
    let jump = start(format!("{}5", redis.url())).await;
    jump.report("2", "https://two.example/").await;
    let client = redis::Client::open(format!("{}5", redis.url())).unwrap();
    let mut five = client.get_multiplexed_async_connection().await.unwrap();
    let url: String = five.get("jump_2").await.unwrap();
    assert_eq!(url, "https://two.example/");
    jump.stop().await;
}

#[tokio::test]
async fn with_redis_gone_visitors_and_nodes_are_answered_as_before() {
    let redis = Redis::start();
    let port = redis.port();
    let jump = start(redis.url()).await;
    let mut other = other(&redis).await;
    jump.report("2", "https://two.example/").await;
    let _: () = other
        .set_ex("jump_3", "https://three.example/", 1200)
        .await
        .unwrap();
    until_async("both are known", async || {
        let nodes = jump.admin("/_api/nodes").await.json();
        (nodes["nodes"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    drop(redis);
    until_async("readyz says that Redis is gone", async || {
        let ready = jump.control("/readyz").await;
        (ready.status == 503 && ready.json()["why"]["redis"].is_string()).then_some(())
    })
    .await;
    assert_eq!(
        jump.get("/_api/health").await.status,
        200,
        "it still serves"
    );
    assert_eq!(jump.get("/_api/health").await.json()["status"], "degraded");

    // Nothing waits for Redis: visitors are sent on, nodes are heard, one leaves.
    let began = Instant::now();
    assert_eq!(jump.sent("/x").await, "https://two.example/x");
    jump.report("10", "https://ten.example/").await;
    let leave = json!({ "token": "token-all", "server_id": 2 }).to_string();
    assert_eq!(
        jump.send(Method::DELETE, "/_api/update", &[], leave)
            .await
            .status,
        200
    );
    assert_eq!(jump.sent("/x").await, "https://three.example/x");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );

    // Back, and empty: what was heard meanwhile is told, what only Redis knew is gone.
    let redis = Redis::start_on(port);
    until_async("readyz says that all is well", async || {
        (jump.control("/readyz").await.status == 200).then_some(())
    })
    .await;
    sent_to(&jump, "https://ten.example/x").await;
    let mut other = self::other(&redis).await;
    let keys: Vec<String> = other.keys("jump_*").await.unwrap();
    assert_eq!(keys, ["jump_10"]);
    jump.stop().await;
}

#[tokio::test]
async fn without_redis_at_its_start_jump_starts_and_says_so() {
    let port = free_port();
    let jump = start(format!("redis://127.0.0.1:{port}/")).await;
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    let ready = jump.control("/readyz").await;
    assert_eq!(ready.status, 503);
    let why = ready.json()["why"]["redis"].as_str().unwrap().to_owned();
    assert!(
        why.contains("Redis did not answer") && why.contains("check `redis`"),
        "{why}"
    );
    jump.report("2", "https://two.example/").await;
    assert_eq!(jump.sent("/x").await, "https://two.example/x");
    let redis = Redis::start_on(port);
    until_async("it is ready", async || {
        (jump.control("/readyz").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(jump.sent("/x").await, "https://two.example/x");
    let url: String = other(&redis).await.get("jump_2").await.unwrap();
    assert_eq!(url, "https://two.example/");
    jump.stop().await;
}

#[tokio::test]
async fn a_heartbeat_that_one_jump_has_taken_is_refused_by_the_others() {
    let redis = Redis::start();
    let (one, other) = (start(redis.url()).await, start(redis.url()).await);
    let body = json!({ "server_id": "2", "url": "https://two.example/" });
    let beat = Signed::new("token-all", &body);
    assert_eq!(beat.send(&one).await.status, 200);
    assert_eq!(beat.send(&other).await.status, 400);
    assert_eq!(
        Signed::new("token-all", &body).send(&other).await.status,
        200
    );
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn an_original_is_asked_for_its_figures_by_one_jump_of_the_fleet_and_all_know_them() {
    let redis = Redis::start();
    let url = redis.url();
    let start = || {
        Running::start(|settings| {
            settings.redis = url.clone();
            settings.nodes.figures = tuyun_chassis::settings::Period(Duration::from_millis(100));
            settings.nodes.allow_private = true;
        })
    };
    let (here, there) = (start().await, start().await);
    let node = Node::start(200).await;
    node.say(
        json!({ "get": 7, "traffic_in": 1, "traffic_out": 9 }),
        json!([]),
    );
    here.report("2", &node.url()).await;
    for jump in [&here, &there] {
        until_async("its figures are known", async || {
            let overview = jump.admin("/_api/overview").await.json();
            (overview["fleet"][0]["figures"]["get"] == 7).then_some(())
        })
        .await;
    }
    // Longer than either waits before its first look.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(node.figures_asked(), 1);
    here.stop().await;
    there.stop().await;
}
