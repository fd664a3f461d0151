//! Ranges of content.

use super::client::*;

#[tokio::test]
async fn a_listed_file_is_read_by_one_request_and_by_range() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let bytes = pattern(MIB);
        client.put_elsewhere("a", &bytes);
        let items = client.children(&client.root.id).await.unwrap();
        client.bench.service.reset_log();
        let mut download = client.read(&items[0].id, 1000..5000).await.unwrap();
        assert_eq!(download.total, MIB as u64);
        let mut read = Vec::new();
        while let Some(chunk) = download.bytes.next().await {
            read.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(read, bytes[1000..5000]);
        assert_eq!(client.bench.service.total(), 1, "{profile:?}");
        // As far as the content goes, and no further.
        let end = MIB as u64;
        assert_eq!(
            client
                .read_all(&items[0].id, end - 10, end + 90)
                .await
                .unwrap()
                .len(),
            10
        );
        assert_eq!(
            client
                .read_all(&items[0].id, end + 10, end + 90)
                .await
                .unwrap(),
            b""
        );
    }
}

#[tokio::test]
async fn a_whole_file_in_place_of_a_range_is_cut_to_it() {
    let client = Client::of(Profile::Business).await;
    let bytes = pattern(300_000);
    let item = client.put(client.new_file("a"), &bytes).await.unwrap();
    client
        .bench
        .service
        .inject(Fault::new(Route::Download, Act::IgnoreRange).always());
    assert_eq!(
        client.read_all(&item.id, 100_000, 200_000).await.unwrap(),
        bytes[100_000..200_000]
    );
    assert_eq!(client.read_all(&item.id, 0, 300_000).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_body_that_is_cut_short_again_and_again_is_an_error_that_tells_no_address() {
    let client = Client::of(Profile::Business).await;
    let item = client
        .put(client.new_file("a"), &pattern(300_000))
        .await
        .unwrap();
    client
        .bench
        .service
        .inject(Fault::new(Route::Download, Act::CutBody { after: 1000 }).always());
    let error = client.read_all(&item.id, 0, 300_000).await.unwrap_err();
    let DriveError::Unavailable { what, .. } = &error else {
        panic!("{error:?}")
    };
    let host = client
        .bench
        .service
        .storage_url()
        .trim_start_matches("http://");
    for secret in ["http", "tempauth", host] {
        assert!(
            !what.contains(secret) && !format!("{error:?}").contains(secret),
            "{error:?}"
        );
    }
    client.bench.service.clear_faults();
    assert_eq!(
        client.read_all(&item.id, 0, 300_000).await.unwrap().len(),
        300_000
    );
}

#[tokio::test]
async fn an_error_of_the_storage_host_never_becomes_content() {
    let client = Client::of(Profile::Business).await;
    let item = client
        .put(client.new_file("a"), &pattern(300_000))
        .await
        .unwrap();
    let html = Fault::status(Route::Download, 500).body(ReplyBody::Html);
    client.bench.service.inject(html);
    assert_eq!(
        client.read_all(&item.id, 0, 300_000).await.unwrap(),
        pattern(300_000)
    );
}

#[tokio::test]
async fn a_download_url_that_has_ended_is_renewed_once() {
    let client = Client::of(Profile::PersonalClassic).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    client.bench.service.expire_download_urls();
    client.bench.service.reset_log();
    assert_eq!(client.read_all(&item.id, 1, 4).await.unwrap(), b"yte");
    // The old URL, the item for another, the new one.
    assert_eq!(client.bench.service.total(), 3);
    client
        .bench
        .service
        .inject(Fault::status(Route::Download, 404).always());
    let error = client.read_all(&item.id, 1, 4).await.unwrap_err();
    // The storage host does not decide what is absent.
    assert!(matches!(error, DriveError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn what_the_drive_found_malware_in_is_refused_for_good() {
    let client = Client::of(Profile::Business).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    let mark = Some(graph_emulator::Mark::Malware);
    client.bench.service.mark("/share/mount/a", mark).unwrap();
    let error = client.read_all(&item.id, 0, 5).await.unwrap_err();
    assert!(matches!(error, DriveError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_or_stalls_is_gone_on_with_where_it_did() {
    for act in [
        Act::CutBody { after: 100_000 },
        Act::Stall {
            after: 100_000,
            millis: 3_600_000,
        },
    ] {
        let client = Client::of(Profile::Business).await;
        let bytes = pattern(300_000);
        let item = client.put(client.new_file("a"), &bytes).await.unwrap();
        client.bench.service.reset_log();
        let fault = Fault::new(Route::Download, act.clone());
        client.bench.service.inject(fault);
        let read = client.read_all(&item.id, 1000, 300_000).await.unwrap();
        assert!(read == bytes[1000..], "{act:?}");
        assert_eq!(client.bench.service.count(Route::Download), 2, "{act:?}");
    }
}

#[tokio::test]
async fn a_url_that_ends_in_the_middle_is_renewed_at_the_same_byte() {
    let client = Client::of(Profile::PersonalMigrated).await;
    let bytes = pattern(300_000);
    let item = client.put(client.new_file("a"), &bytes).await.unwrap();
    let service = &client.bench.service;
    service.inject(Fault::new(Route::Download, Act::CutBody { after: 100_000 }));
    let mut download = client.read(&item.id, 0..300_000).await.unwrap();
    service.expire_download_urls();
    service.reset_log();
    let mut read = Vec::new();
    while let Some(chunk) = download.bytes.next().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    assert!(read == bytes);
    let asked: Vec<_> = service.requests().iter().map(|it| it.route).collect();
    assert_eq!(asked, [Route::Download, Route::Item, Route::Download]);
}

#[tokio::test]
async fn two_versions_never_mix_in_one_read() {
    let client = Client::of(Profile::Business).await;
    let item = client
        .put(client.new_file("a"), &pattern(300_000))
        .await
        .unwrap();
    let service = &client.bench.service;
    service.inject(Fault::new(Route::Download, Act::CutBody { after: 100_000 }));
    let mut download = client.read(&item.id, 0..300_000).await.unwrap();
    client.put_elsewhere("a", &vec![7; 300_000]);
    let mut read = Vec::new();
    let error = loop {
        match download.bytes.next().await.unwrap() {
            Ok(chunk) => read.extend_from_slice(&chunk),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DriveError::Unavailable { .. }), "{error:?}");
    assert!(read[..] == pattern(300_000)[..read.len()]);
}
