//! Upload sessions over restarts.

use super::client::*;

/// Longer than anything that is waited for here takes, by far.
const DEADLINE: Duration = Duration::from_secs(30);

/// Begins an upload, and ends the client as a crash would when the service is asked for the nth
/// fragment, or before it hears of it.
async fn crash_at(client: &Client, upload: Upload, fragments: u64, carried_out: bool) {
    let graph = client.graph.clone();
    let sending = tokio::spawn(async move { graph.upload(upload).await });
    let service = &client.bench.service;
    assert!(service.wait_for(Route::Fragment, fragments, DEADLINE).await);
    if carried_out {
        // Its reply is held back: the bytes have to be there.
        let committed = async {
            while service.open_sessions() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, committed).await.unwrap();
    }
    sending.abort();
    assert!(sending.await.is_err());
}

fn upload(target: UploadTarget, bytes: &[u8], content: u64) -> Upload {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Upload {
        target,
        content: ContentId(content),
        file: Arc::new(file),
        size: bytes.len() as u64,
        modified: None,
    }
}

/// The next fragment but one is not answered for as long as anybody waits.
fn stop_at_the_second(client: &Client) {
    let stop = Act::Delay { millis: 3_600_000 };
    client
        .bench
        .service
        .inject(Fault::new(Route::Fragment, stop).after(1));
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart_where_it_was() {
    for profile in KINDS {
        let mut client = Client::of(profile).await;
        let bytes = pattern(22 * MIB);
        stop_at_the_second(&client);
        crash_at(
            &client,
            upload(client.new_file("large"), &bytes, 7),
            2,
            false,
        )
        .await;
        client.restart();
        client.bench.service.reset_log();
        let again = upload(client.new_file("large"), &bytes, 7);
        let item = client.upload(again).await.unwrap();
        assert_eq!(item.size, bytes.len() as u64);
        assert_eq!(client.held("large"), (bytes, 1), "{profile:?}");
        let service = &client.bench.service;
        assert_eq!(service.count(Route::CreateSession), 0, "{profile:?}");
        assert_eq!(service.count(Route::SessionStatus), 1, "{profile:?}");
        let entries = service.requests();
        let sent = entries.iter().filter(|it| it.route == Route::Fragment);
        let sent: u64 = sent.filter_map(|it| it.sent).sum();
        assert_eq!(
            sent,
            12 << 20,
            "what was there is not sent again: {profile:?}"
        );
    }
}

#[tokio::test]
async fn a_session_of_older_bytes_does_not_block_the_name() {
    for profile in KINDS {
        let mut client = Client::of(profile).await;
        stop_at_the_second(&client);
        let old = upload(client.new_file("large"), &pattern(22 * MIB), 7);
        crash_at(&client, old, 2, false).await;
        client.restart();
        let newer = upload(client.new_file("large"), b"newer!", 8);
        client.upload(newer).await.unwrap();
        assert_eq!(client.held("large"), (b"newer!".to_vec(), 1), "{profile:?}");
        assert_eq!(client.bench.service.count(Route::SessionCancel), 1);
        assert_eq!(client.bench.service.open_sessions(), 0, "{profile:?}");
    }
}

#[tokio::test]
async fn an_upload_that_was_complete_before_the_restart_is_not_sent_again() {
    for profile in KINDS {
        let mut client = Client::of(profile).await;
        let bytes = pattern(5 * MIB);
        let first = client
            .put(client.new_file("other"), b"first")
            .await
            .unwrap();
        // What commits a replacement is a fragment of its own.
        for (name, target, fragments) in [
            ("large", client.new_file("large"), 1),
            ("other", replacing(&first), 2),
        ] {
            let service = &client.bench.service;
            service.reset_log();
            let (after, millis) = (0, 3_600_000);
            let stall = Act::Stall { after, millis };
            service.inject(Fault::new(Route::Fragment, stall).after(fragments - 1));
            let begun = upload(target.clone(), &bytes, 7);
            crash_at(&client, begun, fragments, true).await;
            client.bench.service.clear_faults();
            client.restart();
            let item = client.upload(upload(target, &bytes, 7)).await.unwrap();
            assert_eq!(item.size, bytes.len() as u64);
            assert_eq!(client.held(name).0, bytes, "{profile:?}");
            assert_eq!(
                client.bench.service.count(Route::Fragment),
                fragments,
                "{profile:?}"
            );
            assert_eq!(client.bench.service.count(Route::CreateSession), 1);
        }
        assert_eq!(client.held("other").1, 2, "one version more: {profile:?}");
    }
}

#[tokio::test]
async fn a_session_whose_day_is_over_is_begun_anew() {
    for profile in [Profile::Business, Profile::PersonalMigrated] {
        let mut client = Client::of(profile).await;
        let bytes = pattern(12 * MIB);
        stop_at_the_second(&client);
        crash_at(
            &client,
            upload(client.new_file("large"), &bytes, 7),
            2,
            false,
        )
        .await;
        client.bench.service.expire_sessions();
        client.restart();
        let again = upload(client.new_file("large"), &bytes, 7);
        client.upload(again).await.unwrap();
        assert_eq!(client.held("large"), (bytes, 1), "{profile:?}");
        assert_eq!(client.bench.service.count(Route::CreateSession), 2);
    }
}

#[tokio::test]
async fn a_network_that_is_gone_does_not_end_a_session() {
    let client = Client::of(Profile::Business).await;
    let bytes = pattern(12 * MIB);
    let lost = |route| Fault::new(route, Act::LoseRequest);
    client
        .bench
        .service
        .inject(lost(Route::Fragment).after(1).always());
    client
        .bench
        .service
        .inject(lost(Route::SessionStatus).always());
    client.bench.service.inject(lost(Route::Item).always());
    let failed = client
        .upload(upload(client.new_file("large"), &bytes, 7))
        .await;
    assert!(
        matches!(failed, Err(DriveError::Unavailable { .. })),
        "{failed:?}"
    );
    client.bench.service.clear_faults();
    let again = upload(client.new_file("large"), &bytes, 7);
    client.upload(again).await.unwrap();
    assert_eq!(client.held("large"), (bytes, 1));
    assert_eq!(client.bench.service.count(Route::CreateSession), 1);
}
