//! Signed heartbeats: the token proves itself and does not travel.

use reqwest::Method;
use serde_json::json;

use crate::jump::{Answer, Running};
use crate::node::{Signed, now};

fn refused(answer: &Answer) {
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(
        (&answer.json()["code"], &answer.json()["msg"]),
        (&json!(1002), &json!("Invalid token."))
    );
}

#[tokio::test]
async fn a_signed_heartbeat_is_taken_and_a_signed_farewell_too() {
    let jump = Running::start(|settings| settings.nodes.require_signed = true).await;
    let body = json!({ "server_id": "home", "url": "https://home.example/", "ttl": 20 });
    assert_eq!(
        Signed::new("token-home", &body).send(&jump).await.status,
        200
    );
    assert_eq!(jump.sent("/x").await, "https://home.example/x");
    let leave = Signed::at(
        now(),
        Method::DELETE,
        "token-home",
        &json!({ "server_id": "home" }),
    );
    assert_eq!(leave.send(&jump).await.status, 200);
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    jump.stop().await;
}

#[tokio::test]
async fn where_signatures_are_required_a_token_in_the_body_is_refused() {
    let jump = Running::start(|settings| settings.nodes.require_signed = true).await;
    let body = json!({ "token": "token-all", "server_id": 2, "url": "https://two.example/" });
    refused(&jump.update(body).await);
    jump.stop().await;
}

#[tokio::test]
async fn a_signature_that_came_before_is_refused() {
    let jump = Running::start(|_| ()).await;
    let signed = Signed::new(
        "token-all",
        &json!({ "server_id": 2, "url": "https://two.example/" }),
    );
    assert_eq!(signed.send(&jump).await.status, 200);
    refused(&signed.send(&jump).await);
    jump.stop().await;
}

#[tokio::test]
async fn a_signature_from_another_time_is_refused() {
    let jump = Running::start(|_| ()).await;
    let body = json!({ "server_id": 2, "url": "https://two.example/" });
    for time in [now() - 310, now() + 310, 0] {
        refused(
            &Signed::at(time, Method::POST, "token-all", &body)
                .send(&jump)
                .await,
        );
    }
    for time in [now() - 290, now() + 290] {
        let taken = Signed::at(time, Method::POST, "token-all", &body)
            .send(&jump)
            .await;
        assert_eq!(taken.status, 200);
    }
    jump.stop().await;
}

#[tokio::test]
async fn nothing_that_was_signed_can_be_changed() {
    let jump = Running::start(|_| ()).await;
    let body = json!({ "server_id": 2, "url": "https://two.example/" });
    let mut other_body = Signed::new("token-all", &body);
    other_body.body = other_body.body.replace("two", "six");
    refused(&other_body.send(&jump).await);
    let mut other_method = Signed::new("token-all", &body);
    other_method.method = Method::DELETE;
    refused(&other_method.send(&jump).await);
    for changed in 0..3 {
        let mut half = Signed::new("token-all", &body);
        half.headers.remove(changed);
        refused(&half.send(&jump).await);
    }
    refused(&Signed::new("wrong", &body).send(&jump).await);
    let for_one = json!({ "server_id": 1, "url": "https://one.example/" });
    refused(&Signed::new("token-all", &for_one).send(&jump).await);
    // The token in the body does not help a signature that is wrong.
    let mut both = Signed::new("token-all", &body);
    both.body =
        json!({ "token": "token-all", "server_id": 2, "url": "https://six.example/" }).to_string();
    refused(&both.send(&jump).await);
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    jump.stop().await;
}
