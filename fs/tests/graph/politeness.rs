//! Silence when it is asked for, and few connections.

use super::client::*;

#[tokio::test]
async fn nothing_is_sent_while_the_service_asks_for_silence() {
    let client = Client::with(Profile::Business, |settings| settings.latency_ms = 20).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    client
        .bench
        .service
        .inject(Fault::status(Route::Item, 429).retry_after(2));
    let all = join_all((0..60).map(|_| client.item(&item.id))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(client.bench.service.count(Route::Item), 61);
    assert_silent(&client);
}

#[tokio::test]
async fn a_long_silence_is_reported_and_kept() {
    let client = Client::of(Profile::Business).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    client
        .bench
        .service
        .inject(Fault::status(Route::Item, 503).retry_after(120));
    let asked = |error: DriveError| match error {
        DriveError::Unavailable {
            retry_after: Some(left),
            ..
        } => left.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(client.item(&item.id).await.unwrap_err()), 120);
    client.bench.service.reset_log();
    assert!(asked(client.quota().await.unwrap_err()) > 110);
    assert!(asked(client.put(client.new_file("b"), b"x").await.unwrap_err()) > 110);
    assert_eq!(client.bench.service.total(), 0);
    // Another host has not asked for it.
    client.read_all(&item.id, 0, 5).await.unwrap();
    assert!(client.silent_for().is_some());
}

#[tokio::test]
async fn no_more_than_eight_connections_are_used() {
    let client = Client::with(Profile::Business, |settings| settings.latency_ms = 5).await;
    let names: Vec<String> = (0..100).map(|n| format!("{n}.jpg")).collect();
    let puts = names
        .iter()
        .map(|name| client.put(client.new_file(name), b"bytes"));
    assert!(join_all(puts).await.iter().all(Result::is_ok));
    let entries = client.bench.service.requests();
    let connections: std::collections::HashSet<u64> =
        entries.iter().map(|entry| entry.connection).collect();
    assert_eq!(entries.len(), 100);
    assert!(connections.len() <= 8, "{}", connections.len());
    let agent = entries[0].user_agent.as_deref().unwrap();
    assert!(agent.starts_with("NONISV|Tuyun|tuyunfs/"), "{agent}");
}

#[tokio::test]
async fn reads_one_after_the_other_share_a_connection() {
    let client = Client::of(Profile::Business).await;
    let item = client
        .put(client.new_file("a"), &pattern(100_000))
        .await
        .unwrap();
    client.bench.service.reset_log();
    for start in 0..10 {
        client
            .read_all(&item.id, start * 1000, start * 1000 + 1000)
            .await
            .unwrap();
    }
    let entries = client.bench.service.requests();
    assert_eq!(entries.len(), 10);
    assert!(
        entries
            .iter()
            .all(|entry| entry.connection == entries[0].connection)
    );
}

#[tokio::test]
async fn a_storage_host_that_throttles_is_left_alone_and_graph_is_not() {
    let client = Client::of(Profile::Business).await;
    let item = client
        .put(client.new_file("a"), &pattern(1000))
        .await
        .unwrap();
    client
        .bench
        .service
        .inject(Fault::status(Route::Download, 429).retry_after(2));
    let (read, again) = tokio::join!(client.read_all(&item.id, 0, 1000), async {
        let closed = async {
            while client.silent_for().is_none() {
                tokio::task::yield_now().await;
            }
        };
        let deadline = Duration::from_secs(30);
        tokio::time::timeout(deadline, closed).await.unwrap();
        client.item(&item.id).await.unwrap();
        client.bench.service.requests().len()
    });
    read.unwrap();
    assert_eq!(again, 3, "Graph was asked during the silence of the other");
    assert_silent(&client);
}

#[tokio::test]
async fn what_a_program_waits_for_goes_before_what_nobody_waits_for() {
    let client = Client::with(Profile::Business, |settings| settings.latency_ms = 30).await;
    let item = client.put(client.new_file("a"), b"x").await.unwrap();
    client.bench.service.reset_log();
    let background = client.graph.background();
    let looks = join_all((0..60).map(|_| background.quota()));
    let lookup = async {
        let service = &client.bench.service;
        assert!(
            service
                .wait_until(Duration::from_secs(30), |it| it.total() > 0)
                .await
        );
        client.item(&item.id).await.unwrap();
    };
    let (looked, ()) = tokio::join!(looks, lookup);
    assert!(looked.iter().all(Result::is_ok));
    let entries = client.bench.service.requests();
    let at = entries
        .iter()
        .position(|it| it.route == Route::Item)
        .unwrap();
    assert_eq!(entries.len(), 61);
    assert!(at <= 16, "{at}");
}

#[tokio::test]
async fn bytes_keep_to_the_rate_that_is_set() {
    let rate: tuyunfs::graph::Timetable = "64KiB".parse().unwrap();
    let client = Client::configured(Profile::Business, |config| {
        config.upload_limit = rate.clone();
        config.download_limit = rate;
    })
    .await;
    let bytes = pattern(160 << 10);
    let begun = std::time::Instant::now();
    let item = client.put(client.new_file("a"), &bytes).await.unwrap();
    let sent = begun.elapsed();
    assert_eq!(client.held("a"), (bytes.clone(), 1));
    let begun = std::time::Instant::now();
    let read = client.read_all(&item.id, 0, bytes.len() as u64).await;
    let fetched = begun.elapsed();
    assert_eq!(read.unwrap(), bytes);
    // 2.5 seconds each, of which a quarter may be caught up.
    for took in [sent, fetched] {
        assert!(took >= Duration::from_secs(2), "{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}
