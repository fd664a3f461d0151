//! Requests per action, on every kind of drive: any request to any of the service's hosts counts.

use super::client::*;

/// Requests that an action took.
async fn count<T>(client: &Client, action: impl Future<Output = T>) -> (T, u64) {
    client.bench.service.reset_log();
    let done = action.await;
    (done, client.bench.service.total())
}

#[tokio::test]
async fn each_action_takes_as_few_requests_as_can_be() {
    for profile in Profile::ALL {
        let client = Client::of(profile).await;
        let bytes = pattern(100_000);
        let (item, new) = count(&client, client.put(client.new_file("a.jpg"), &bytes)).await;
        let item = item.unwrap();
        let (read, cold) = count(&client, client.read_all(&item.id, 0, 100_000)).await;
        assert_eq!(read.unwrap(), bytes);
        client.bench.service.expire_download_urls();
        let (read, stale) = count(&client, client.read_all(&item.id, 0, 100_000)).await;
        read.unwrap();
        let (item, overwrite) = count(&client, client.put(replacing(&item), b"other")).await;
        let item = item.unwrap();
        let update = Update {
            place: Some((client.root.id.clone(), "b.jpg".into())),
            held: item.etag.clone(),
            ..Update::default()
        };
        let (item, rename) = count(&client, client.update(&item.id, update)).await;
        let item = item.unwrap();
        let (deleted, delete) = count(&client, client.delete(&item.id, item.etag.as_ref())).await;
        deleted.unwrap();
        let taken = [new, cold, overwrite, rename, delete];
        assert_eq!(taken, [1; 5], "{profile:?}");
        // The ended URL is tried, then asked for anew.
        assert_eq!(stale, 3, "{profile:?}");
    }
}

#[tokio::test]
async fn an_overwrite_with_a_time_of_its_own_is_two_requests_and_a_look() {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_001);
    for profile in Profile::ALL {
        let client = Client::of(profile).await;
        let target = client.new_file("a.jpg");
        let (item, new) = count(&client, client.put_at(target, b"one", Some(modified))).await;
        assert_eq!(new, 2, "{profile:?}");
        let target = replacing(&item.unwrap());
        let over = client.put_at(target, b"other", Some(modified));
        let (item, overwrite) = count(&client, over).await;
        assert_eq!(item.unwrap().modified, Some(modified));
        // In a session, the version is looked at beforehand (trap T18).
        let session = client.kind().has_versions();
        assert_eq!(overwrite, 2 + u64::from(session), "{profile:?}");
        assert_eq!(
            client.held("a.jpg").1,
            2,
            "one version a close: {profile:?}"
        );
    }
}

#[tokio::test]
async fn what_was_asked_is_counted_by_endpoint_and_outcome() {
    let client = Client::of(Profile::Business).await;
    let before = client.traffic();
    let item = client
        .put(client.new_file("a"), &pattern(1000))
        .await
        .unwrap();
    client
        .bench
        .service
        .inject(Fault::status(Route::Item, 429).retry_after(1));
    client.item(&item.id).await.unwrap();
    client.read_all(&item.id, 0, 1000).await.unwrap();
    let traffic = client.traffic();
    let count = |endpoint: &str, class: &str| {
        let of = |traffic: &tuyunfs::graph::Traffic| {
            let classes = traffic.requests.get(endpoint);
            classes
                .and_then(|classes| classes.get(class).copied())
                .unwrap_or(0)
        };
        of(&traffic) - of(&before)
    };
    assert_eq!((count("upload", "2xx"), count("download", "2xx")), (1, 1));
    assert_eq!((count("item", "429"), count("item", "2xx")), (1, 1));
    assert_eq!((traffic.bytes_up, traffic.bytes_down), (1000, 1000));
    assert_eq!((traffic.retries, traffic.throttled_seconds), (1, 1));
    assert_eq!(traffic.last_5_minutes - before.last_5_minutes, 4);
}
