//! Redis over TLS and in a Cluster, and what the whole fleet counts together.

use harness::process::free_port;
use harness::redis::{Cluster, Redis};
use harness::wait::until_async;
use reqwest::Method;
use tuyun_jump::Settings;

use crate::jump::{Answer, Running};

async fn sent_to(jump: &Running, expected: &str) {
    until_async("visitors are sent there", async || {
        (jump.sent("/x").await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn redis_is_spoken_to_over_tls_and_only_with_a_certificate_to_trust() {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert = file("cert.pem", made.cert.pem());
    let key = file("key.pem", made.signing_key.serialize_pem());
    let port = free_port();
    let redis = Redis::start_with(
        free_port(),
        &[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &cert,
            "--tls-auth-clients",
            "no",
        ],
    );
    let start = async |ca: &str| {
        let ca = ca.to_owned();
        Running::start(move |settings: &mut Settings| {
            settings.redis = format!("rediss://localhost:{port}/");
            settings.redis_ca_file = ca;
        })
        .await
    };
    let trusting = start(&cert).await;
    assert_eq!(trusting.control("/readyz").await.status, 200);
    trusting.report("2", "https://two.example/").await;
    assert_eq!(
        redis.ask(&["-n", "2", "get", "jump_2"]),
        "https://two.example/"
    );
    trusting.stop().await;
    let wary = start("").await;
    assert_eq!(wary.control("/readyz").await.status, 503);
    wary.stop().await;
}

#[tokio::test]
async fn jumps_share_their_nodes_in_a_cluster() {
    let cluster = Cluster::start();
    let start = || Running::start(|settings| settings.redis = cluster.url());
    let (here, there) = (start().await, start().await);
    for id in ["2", "3", "7", "9"] {
        here.report(id, &format!("https://{id}.example/")).await;
    }
    until_async("all of them are found, on whichever master", async || {
        let nodes = there.admin("/_api/nodes").await.json();
        (nodes["nodes"].as_array().unwrap().len() == 4).then_some(())
    })
    .await;
    assert_eq!(cluster.get("jump_7"), "https://7.example/");
    let path = "/_api/nodes/2";
    here.order(Method::POST, path, &serde_json::json!({ "drain": true }))
        .await;
    sent_to(&there, "https://3.example/x").await;
    here.order(Method::DELETE, "/_api/nodes/3", &serde_json::json!({}))
        .await;
    sent_to(&there, "https://7.example/x").await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn the_fleet_counts_an_address_once_wherever_it_asks() {
    let redis = Redis::start();
    let start = || {
        Running::start(|settings| {
            settings.redis = redis.url();
            settings.limit.fleet = true;
            settings.limit.redirect_per_second = 30;
            settings.limit.trusted_proxies = vec!["127.0.0.1".into()];
        })
    };
    let jumps = [start().await, start().await, start().await];
    let ask = async |n: usize, from: &str| -> Answer {
        let headers = [("x-forwarded-for", from)];
        jumps[n % 3]
            .send(Method::GET, "/x", &headers, String::new())
            .await
    };
    let began = std::time::Instant::now();
    let mut allowed = 0;
    for n in 0..75 {
        let answer = ask(n, "198.51.100.1").await;
        match answer.status {
            302 => allowed += 1,
            429 => assert_eq!(answer.header("retry-after"), Some("1")),
            other => panic!("{other}"),
        }
    }
    let refilled = 1 + usize::try_from(began.elapsed().as_millis()).unwrap() * 30 / 1000;
    assert!(
        (30..=30 + refilled).contains(&allowed),
        "{allowed} of 75, {refilled} came back"
    );
    assert_eq!(ask(0, "198.51.100.2").await.status, 302);
    // Without Redis each jump has its own count, and nobody waits.
    drop(redis);
    until_async("it is known to be gone", async || {
        (jumps[0].control("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(ask(0, "198.51.100.3").await.status, 302);
    for jump in jumps {
        jump.stop().await;
    }
}
