//! Tokens that are refused.

use super::client::*;

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_all() {
    let client = Client::with(Profile::Business, |settings| settings.latency_ms = 20).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    client.bench.service.expire_tokens();
    client.bench.service.reset_log();
    let all = join_all((0..20).map(|_| client.item(&item.id))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(client.bench.service.count(Route::Token), 1);
}

#[tokio::test]
async fn a_back_end_that_lost_its_own_sign_in_is_given_time() {
    let client = Client::of(Profile::PersonalClassic).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    client
        .bench
        .service
        .inject(Fault::status(Route::Item, 401).times(3));
    client.item(&item.id).await.unwrap();
    assert_eq!(
        client.bench.service.count(Route::Token),
        1,
        "one token was got, then it waited"
    );
}

#[tokio::test]
async fn a_dead_sign_in_is_told_apart_from_a_dead_network() {
    let client = Client::of(Profile::Business).await;
    client.bench.service.revoke_refresh_tokens();
    client.bench.service.expire_tokens();
    let error = client.item(&client.root.id).await.unwrap_err();
    assert!(matches!(error, DriveError::SignIn(_)), "{error:?}");
    let client = Client::of(Profile::Business).await;
    client
        .bench
        .service
        .inject(Fault::anywhere(Act::LoseRequest).always());
    let error = client.item(&client.root.id).await.unwrap_err();
    assert!(matches!(error, DriveError::Unavailable { .. }), "{error:?}");
}
