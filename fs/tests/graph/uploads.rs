//! Small files, in one request each.

use super::client::*;

#[tokio::test]
async fn a_new_small_file_is_one_request() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let bytes = pattern(100_000);
        let item = client
            .put(client.new_file("a+b #1 图.jpg"), &bytes)
            .await
            .unwrap();
        assert_eq!(client.bench.service.total(), 1, "{profile:?}");
        assert_eq!(client.held("a+b #1 图.jpg"), (bytes.clone(), 1));
        assert_eq!(
            (item.size, item.parent.as_ref()),
            (100_000, Some(&client.root.id))
        );
        // And what was sent is read by one more, at the storage host.
        assert_eq!(client.read_all(&item.id, 0, 100_000).await.unwrap(), bytes);
        assert_eq!(client.bench.service.total(), 2, "{profile:?}");
        assert_eq!(client.bench.service.count(Route::Download), 1);
    }
}

#[tokio::test]
async fn an_empty_file_is_one_request() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let item = client.put(client.new_file("empty"), b"").await.unwrap();
        assert_eq!((item.size, client.bench.service.total()), (0, 1));
        assert_eq!(client.read_all(&item.id, 0, 0).await.unwrap(), b"");
        assert_eq!(
            client.bench.service.total(),
            1,
            "nothing is asked for what has no bytes"
        );
    }
}

#[tokio::test]
async fn a_new_file_never_replaces_one_of_that_name() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        client.put_elsewhere("Photo.jpg", b"theirs");
        for name in ["Photo.jpg", "photo.JPG"] {
            let small = client.put(client.new_file(name), b"ours").await;
            assert!(
                matches!(small, Err(DriveError::NameTaken)),
                "{profile:?} {small:?}"
            );
            let large = client.put(client.new_file(name), &pattern(5 * MIB)).await;
            assert!(
                matches!(large, Err(DriveError::NameTaken)),
                "{profile:?} {large:?}"
            );
        }
        assert_eq!(client.held("Photo.jpg"), (b"theirs".to_vec(), 1));
        assert_eq!(client.bench.service.open_sessions(), 0);
    }
}

#[tokio::test]
async fn a_replacement_is_taken_for_just_the_version_that_it_was_made_for() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let first = client.put(client.new_file("a"), b"one").await.unwrap();
        let second = client.put(replacing(&first), b"two").await.unwrap();
        assert_eq!(
            (&second.id, client.held("a").0),
            (&first.id, b"two".to_vec())
        );
        for bytes in [b"three".to_vec(), pattern(5 * MIB)] {
            let stale = client.put(replacing(&first), &bytes).await;
            assert!(
                matches!(stale, Err(DriveError::Conflict)),
                "{profile:?} {stale:?}"
            );
        }
        let large = pattern(5 * MIB);
        client.put(replacing(&second), &large).await.unwrap();
        assert_eq!(client.held("a").0, large);
    }
}

#[tokio::test]
async fn an_upload_whose_reply_was_lost_is_recognised_and_not_repeated() {
    for fault in [
        Fault::lost_reply(Route::PutContent),
        Fault::status_after_effect(Route::PutContent, 504).body(ReplyBody::Html),
        Fault::new(Route::PutContent, Act::EmptyBody),
    ] {
        let client = Client::of(Profile::Business).await;
        client.bench.service.inject(fault.clone());
        let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
        assert_eq!(
            (item.size, client.held("a")),
            (5, (b"bytes".to_vec(), 1)),
            "{fault:?}"
        );
        // Without a version to hold on to, too, there is one version more and not two.
        client.bench.service.inject(fault.clone());
        let target = UploadTarget::Replace {
            id: item.id.clone(),
            held: None,
        };
        client.put(target, b"other").await.unwrap();
        assert_eq!(client.held("a"), (b"other".to_vec(), 2), "{fault:?}");
        assert_eq!(
            client.bench.service.count(Route::PutContent),
            2,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn an_upload_that_did_not_arrive_is_sent_again() {
    for fault in [
        Fault::new(Route::PutContent, Act::LoseRequest),
        Fault::status(Route::PutContent, 500),
        Fault::status(Route::PutContent, 409).code("resourceModified", None),
        Fault::status(Route::PutContent, 412).code("resourceModified", None),
    ] {
        let client = Client::of(Profile::Business).await;
        client.bench.service.inject(fault.clone());
        client.put(client.new_file("a"), b"bytes").await.unwrap();
        assert_eq!(client.held("a"), (b"bytes".to_vec(), 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_full_drive_says_so() {
    let client = Client::with(Profile::Business, |settings| settings.quota_total = 6 << 20).await;
    client
        .put(client.new_file("a"), &pattern(4 * MIB))
        .await
        .unwrap();
    let small = client.put(client.new_file("b"), &pattern(3 * MIB)).await;
    assert!(matches!(small, Err(DriveError::QuotaFull)), "{small:?}");
    let large = client.put(client.new_file("c"), &pattern(5 * MIB)).await;
    assert!(matches!(large, Err(DriveError::QuotaFull)), "{large:?}");
}

#[tokio::test]
async fn a_time_is_carried_without_a_second_version() {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_001);
    for profile in KINDS {
        let client = Client::of(profile).await;
        for (name, size) in [("small", 1000), ("large", 5 * MIB)] {
            let target = client.new_file(name);
            let item = client
                .put_at(target, &pattern(size), Some(modified))
                .await
                .unwrap();
            assert_eq!(item.modified, Some(modified), "{profile:?} {name}");
            assert_eq!(client.held(name).1, 1, "{profile:?} {name}");
        }
        let item = client
            .put_at(client.new_file("empty"), b"", Some(modified))
            .await
            .unwrap();
        assert_eq!((item.size, item.modified), (0, Some(modified)));
    }
}

#[tokio::test]
async fn bytes_that_cannot_be_read_here_are_our_own_disks_fault() {
    let client = Client::of(Profile::Business).await;
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(b"short", 0).unwrap();
    let file: Arc<File> = Arc::new(file);
    let target = client.new_file("a");
    let upload = Upload {
        target,
        content: ContentId(1),
        file,
        size: 6,
        modified: None,
    };
    let error = client.upload(upload).await.unwrap_err();
    assert!(matches!(error, DriveError::Disk(_)), "{error:?}");
    assert_eq!(client.bench.service.total(), 0);
}
