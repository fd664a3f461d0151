//! Large files, in upload sessions.

use super::client::*;

/// Bytes that fragments carried, taken or not.
fn sent(client: &Client) -> u64 {
    let entries = client.bench.service.requests();
    let fragments = entries.iter().filter(|it| it.route == Route::Fragment);
    fragments.filter_map(|it| it.sent).sum()
}

#[tokio::test]
async fn a_large_file_goes_in_a_session_and_a_lost_fragment_reply_is_asked_for() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let bytes = pattern(32 * MIB);
        client
            .bench
            .service
            .inject(Fault::lost_reply(Route::Fragment).after(1));
        let item = client.put(client.new_file("large"), &bytes).await.unwrap();
        assert_eq!(
            (item.size, client.held("large")),
            (bytes.len() as u64, (bytes.clone(), 1))
        );
        let service = &client.bench.service;
        assert_eq!(service.count(Route::CreateSession), 1, "{profile:?}");
        // No byte twice: the fragment without a reply had been stored.
        assert!(service.count(Route::Fragment) >= 3, "{profile:?}");
        assert_eq!(sent(&client), bytes.len() as u64, "{profile:?}");
        assert_eq!(service.count(Route::SessionStatus), 1, "{profile:?}");
        assert_eq!(service.open_sessions(), 0);
        // The storage host refuses whoever shows a token.
        let storage = service
            .requests()
            .into_iter()
            .filter(|entry| entry.host == Host::Storage);
        assert!(storage.into_iter().all(|entry| entry.status != Some(401)));
    }
}

#[tokio::test]
async fn a_session_whose_last_reply_was_lost_is_judged_by_the_item() {
    for fault in [
        Fault::status_after_effect(Route::Fragment, 500),
        Fault::lost_reply(Route::Fragment),
        Fault::new(Route::Fragment, Act::EmptyBody),
    ] {
        let client = Client::of(Profile::Business).await;
        let bytes = pattern(5 * MIB);
        client.bench.service.inject(fault.clone());
        let item = client.put(client.new_file("large"), &bytes).await.unwrap();
        assert_eq!(client.held("large"), (bytes, 1), "{fault:?}");
        assert_eq!(item.name.as_deref(), Some("large"));
        assert_eq!(client.bench.service.count(Route::Fragment), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_lost_is_begun_anew_once() {
    let client = Client::of(Profile::Business).await;
    let bytes = pattern(12 * MIB);
    client
        .bench
        .service
        .inject(Fault::status(Route::Fragment, 401).after(1));
    client.put(client.new_file("large"), &bytes).await.unwrap();
    assert_eq!(client.held("large"), (bytes.clone(), 1));
    assert_eq!(client.bench.service.count(Route::CreateSession), 2);
    assert_eq!(
        client.bench.service.open_sessions(),
        0,
        "the lost one does not hold the name"
    );
    client
        .bench
        .service
        .inject(Fault::status(Route::Fragment, 401).always());
    let given_up = client.put(client.new_file("other"), &bytes).await;
    assert!(
        matches!(given_up, Err(DriveError::Unavailable { .. })),
        "{given_up:?}"
    );
    assert_eq!(client.bench.service.count(Route::CreateSession), 4);
    assert_eq!(client.bench.service.open_sessions(), 0);
}

#[tokio::test]
async fn a_throttled_fragment_waits_with_its_session_kept() {
    let client = Client::of(Profile::PersonalMigrated).await;
    let bytes = pattern(12 * MIB);
    client
        .bench
        .service
        .inject(Fault::status(Route::Fragment, 429).retry_after(2).after(1));
    client.put(client.new_file("large"), &bytes).await.unwrap();
    assert_eq!(client.held("large"), (bytes, 1));
    assert_eq!(client.bench.service.count(Route::CreateSession), 1);
    assert_silent(&client);
}

#[tokio::test]
async fn a_name_that_an_unfinished_upload_holds_is_locked_and_not_taken() {
    let client = Client::of(Profile::Business).await;
    // A session is made, and its reply lost with the only way to cancel it.
    client
        .bench
        .service
        .inject(Fault::lost_reply(Route::CreateSession));
    let blocked = client
        .put(client.new_file("large"), &pattern(5 * MIB))
        .await;
    assert!(matches!(blocked, Err(DriveError::Locked(_))), "{blocked:?}");
}

/// Sends a new content of a file while another client writes it, at the moment when the reply to
/// the first fragment is on its way.
async fn overtaken(size: usize, fault: Option<Fault>) {
    for profile in KINDS {
        let client = Arc::new(Client::of(profile).await);
        let item = client.put(client.new_file("a"), b"one").await.unwrap();
        let service = &client.bench.service;
        if let Some(fault) = &fault {
            service.inject(fault.clone());
        }
        service.hold_reply(Route::Fragment);
        let uploading = {
            let (client, target) = (Arc::clone(&client), replacing(&item));
            tokio::spawn(async move { client.put(target, &pattern(size)).await })
        };
        let long = Duration::from_mins(1);
        assert!(service.wait_for(Route::Fragment, 1, long).await);
        client.put_elsewhere("a", b"theirs");
        service.release(Route::Fragment);
        let stale = uploading.await.unwrap();
        assert!(
            matches!(stale, Err(DriveError::Conflict)),
            "{profile:?} {stale:?}"
        );
        assert_eq!(client.held("a").0, b"theirs", "{profile:?}");
        assert_eq!(service.open_sessions(), 0, "{profile:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_wrote_while_a_large_file_was_sent_is_not_replaced() {
    overtaken(32 * MIB, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_wrote_before_a_session_was_begun_anew_is_not_replaced() {
    overtaken(5 * MIB, Some(Fault::status(Route::Fragment, 401))).await;
}
