//! So many requests per second and address.

use reqwest::Method;
use serde_json::json;

use crate::jump::{Answer, Running};

async fn ask(jump: &Running, from: &str) -> Answer {
    jump.send(
        Method::GET,
        "/x",
        &[("x-forwarded-for", from)],
        String::new(),
    )
    .await
}

#[tokio::test]
async fn too_many_redirects_for_one_address_are_429_with_the_time_to_wait() {
    let jump = Running::start(|settings| {
        settings.limit.redirect_per_second = 30;
        settings.limit.trusted_proxies = vec!["127.0.0.1".into()];
    })
    .await;
    // Asked one after the other, the limit refills a little meanwhile: it has to end soon after.
    let mut allowed = 0;
    let refused = loop {
        let answer = ask(&jump, "198.51.100.1").await;
        if answer.status != 302 {
            break answer;
        }
        allowed += 1;
        assert!(allowed < 3000, "no limit at all");
    };
    assert!(allowed >= 30, "only {allowed} were allowed");
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(refused.json()["code"], 429);
    assert_eq!(
        ask(&jump, "198.51.100.2").await.status,
        302,
        "others are not affected"
    );
    jump.stop().await;
}

#[tokio::test]
async fn ipv6_neighbours_in_one_64_are_one_visitor() {
    let jump = Running::start(|settings| {
        settings.limit.redirect_per_second = 1;
        settings.limit.trusted_proxies = vec!["127.0.0.1".into()];
    })
    .await;
    assert_eq!(ask(&jump, "2001:db8:1:1::1").await.status, 302);
    assert_eq!(ask(&jump, "2001:db8:1:1:ffff::2").await.status, 429);
    assert_eq!(ask(&jump, "2001:db8:1:2::1").await.status, 302);
    jump.stop().await;
}

#[tokio::test]
async fn a_stranger_cannot_escape_the_limit_with_a_header() {
    let jump = Running::start(|settings| settings.limit.redirect_per_second = 1).await;
    assert_eq!(ask(&jump, "198.51.100.1").await.status, 302);
    assert_eq!(ask(&jump, "198.51.100.2").await.status, 429);
    jump.stop().await;
}

#[tokio::test]
async fn too_many_heartbeats_from_one_address_are_429() {
    let jump = Running::start(|settings| settings.limit.update_per_second = 5).await;
    let body = json!({ "token": "wrong", "server_id": 2, "url": "https://two.example/" });
    let mut seen = Vec::new();
    while seen.last() != Some(&429) && seen.len() < 500 {
        let answer = jump.update(body.clone()).await;
        if answer.status == 429 {
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        seen.push(answer.status);
    }
    assert!(seen.len() > 5 && seen[..5] == [400; 5], "{seen:?}");
    assert_eq!(seen.last(), Some(&429));
    assert_eq!(
        jump.get("/x").await.status,
        302,
        "visitors from there are not affected"
    );
    jump.stop().await;
}
