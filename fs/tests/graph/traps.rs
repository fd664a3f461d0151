//! What users of the service met, each with what is to be done about it (`graph-api.md` 11).

use graph_emulator::Mark;
use tuyunfs::ports::LOCKED_VAULT;

use super::client::*;

#[tokio::test]
async fn what_was_made_a_moment_ago_is_not_taken_for_absent() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        client
            .bench
            .service
            .adjust(|settings| settings.young_404_ms = 1500);
        let folder = client.create_folder(&client.root.id, "f").await.unwrap();
        assert!(client.children(&folder.id).await.unwrap().is_empty());
        let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
        assert_eq!(client.item(&item.id).await.unwrap().id, item.id);
        let item = client.put(client.new_file("b"), b"bytes").await.unwrap();
        let update = Update {
            place: Some((folder.id.clone(), "c".into())),
            ..Update::default()
        };
        client.update(&item.id, update).await.unwrap();
        assert_eq!(client.held("f/c").0, b"bytes", "{profile:?}");
    }
}

#[tokio::test]
async fn a_locked_vault_is_unreadable_and_all_around_it_is_not() {
    let client = Client::of(Profile::PersonalMigrated).await;
    let vault = client
        .create_folder(&client.root.id, "Vault")
        .await
        .unwrap();
    client.put_elsewhere("a", b"x");
    client
        .bench
        .service
        .mark("/share/mount/Vault", Some(Mark::Vault))
        .unwrap();
    let locked = client.children(&vault.id).await;
    assert!(
        matches!(&locked, Err(DriveError::Refused { code, .. }) if code == LOCKED_VAULT),
        "{locked:?}"
    );
    assert_eq!(client.children(&client.root.id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_folder_that_is_too_large_for_a_page_is_listed_in_smaller_ones() {
    let client = Client::of(Profile::Business).await;
    for n in 0..60 {
        client.put_elsewhere(&n.to_string(), b"x");
    }
    client.bench.service.reset_log();
    client
        .bench
        .service
        .inject(Fault::status(Route::Children, 504).times(2));
    assert_eq!(client.children(&client.root.id).await.unwrap().len(), 60);
    let entries = client.bench.service.requests();
    let asked = |size: &str| entries.iter().filter(|it| it.path.contains(size)).count();
    let sizes = ["top=1000&", "top=200&", "top=50&"].map(asked);
    assert_eq!((sizes[0], sizes[1]), (1, 1));
    assert!(sizes[2] >= 1, "{entries:?}");
}

#[tokio::test]
async fn a_move_whose_reply_was_a_504_is_looked_at_and_not_repeated() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let folder = client.create_folder(&client.root.id, "f").await.unwrap();
        let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
        let update = || Update {
            place: Some((folder.id.clone(), "b".into())),
            held: item.etag.clone(),
            ..Update::default()
        };
        client
            .bench
            .service
            .inject(Fault::status_after_effect(Route::Patch, 504));
        let moved = client.update(&item.id, update()).await.unwrap();
        assert_eq!(moved.parent.as_ref(), Some(&folder.id));
        assert_eq!(client.bench.service.count(Route::Patch), 1, "{profile:?}");
        // Another one, while the service is still at it.
        client
            .bench
            .service
            .mark("/share/mount/f/b", Some(Mark::Locked))
            .unwrap();
        let locked = client
            .update(
                &item.id,
                Update {
                    held: None,
                    ..update()
                },
            )
            .await;
        assert!(matches!(locked, Err(DriveError::Locked(_))), "{locked:?}");
    }
}

#[tokio::test]
async fn a_move_that_did_not_take_place_is_sent_again_after_looks() {
    let client = Client::of(Profile::Business).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    client
        .bench
        .service
        .inject(Fault::status(Route::Patch, 504));
    let update = Update {
        place: Some((client.root.id.clone(), "b".into())),
        held: item.etag.clone(),
        ..Update::default()
    };
    client.update(&item.id, update).await.unwrap();
    assert_eq!(client.held("b").0, b"bytes");
    assert_eq!(client.bench.service.count(Route::Patch), 2);
    assert_eq!(client.bench.service.count(Route::Item), 3);
}

#[tokio::test]
async fn what_a_library_does_not_let_be_written_is_refused_and_not_absent() {
    let mut client = Client::of(Profile::Library).await;
    let item = client
        .put(client.new_file("page.aspx"), b"one")
        .await
        .unwrap();
    client.restart(); // the item is young no more
    client
        .bench
        .service
        .inject(Fault::status(Route::PutContent, 404).times(2));
    let refused = client.put(replacing(&item), b"two").await;
    assert!(
        matches!(refused, Err(DriveError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(client.held("page.aspx").0, b"one");
    // Once is an accident.
    client
        .bench
        .service
        .inject(Fault::status(Route::PutContent, 404));
    client.put(replacing(&item), b"two").await.unwrap();
}

#[tokio::test]
async fn a_file_that_no_session_can_be_had_for_goes_in_one_request() {
    for profile in KINDS {
        let mut client = Client::of(profile).await;
        let item = client.put(client.new_file("shared"), b"one").await.unwrap();
        client.restart(); // the item is young no more
        client
            .bench
            .service
            .inject(Fault::status(Route::CreateSession, 404));
        let bytes = pattern(5 * MIB);
        client.put(replacing(&item), &bytes).await.unwrap();
        assert_eq!(client.held("shared"), (bytes, 2), "{profile:?}");
    }
}

#[tokio::test]
async fn a_412_with_the_right_tag_stops_nothing() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let item = client.put(client.new_file("a"), b"one").await.unwrap();
        client
            .bench
            .service
            .adjust(|settings| settings.if_match_always_412 = true);
        for bytes in [b"two".to_vec(), pattern(5 * MIB)] {
            let now = client.item(&item.id).await.unwrap();
            client.put(replacing(&now), &bytes).await.unwrap();
            assert_eq!(client.held("a").0, bytes, "{profile:?}");
        }
        let now = client.item(&item.id).await.unwrap();
        let update = Update {
            place: Some((client.root.id.clone(), "b".into())),
            held: now.etag,
            ..Update::default()
        };
        let now = client.update(&item.id, update).await.unwrap();
        client.delete(&item.id, now.etag.as_ref()).await.unwrap();
        assert_eq!(client.bench.service.node("/share/mount/b"), None);
        // And a tag that is not the right one still does.
        let item = client.put(client.new_file("c"), b"one").await.unwrap();
        client.put_elsewhere("c", b"theirs");
        let stale = client.put(replacing(&item), b"two").await;
        assert!(
            matches!(stale, Err(DriveError::Conflict)),
            "{profile:?} {stale:?}"
        );
    }
}

#[tokio::test]
async fn changes_that_never_end_are_given_up() {
    let client = Client::with(Profile::Business, |settings| {
        settings.delta_loops = true;
        settings.delta_page_size = 1;
    })
    .await;
    let mut from = DeltaFrom::Start;
    for _ in 0..10 {
        match client.delta(from).await {
            Ok(page) => match page.next {
                DeltaNext::Page(link) => from = DeltaFrom::Link(link),
                DeltaNext::Round(_) => panic!("it was to loop"),
            },
            Err(DriveError::Unavailable { .. }) => return,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("went round and round");
}

#[tokio::test]
async fn what_the_service_shows_of_running_uploads_is_left_out() {
    let client = Client::of(Profile::Business).await;
    let DeltaNext::Round(link) = client.delta(DeltaFrom::Now).await.unwrap().next else {
        panic!("no link")
    };
    client.put_elsewhere("~tmp12_a.jpg", b"half");
    client.put_elsewhere("a.jpg", b"whole");
    let listed = client.children(&client.root.id).await.unwrap();
    let changed = client.delta(DeltaFrom::Link(link)).await.unwrap().items;
    for items in [listed, changed] {
        let names: Vec<_> = items
            .iter()
            .filter_map(|item| item.name.as_deref())
            .collect();
        assert!(
            names.contains(&"a.jpg") && !names.contains(&"~tmp12_a.jpg"),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn what_a_library_rewrites_after_an_upload_is_taken_as_it_is() {
    for name in ["a.docx", "a.pdf"] {
        for size in [1000, 5 * MIB] {
            let client = Client::with(Profile::Library, |it| it.rewrite_ms = 1).await;
            let item = client
                .put(client.new_file(name), &pattern(size))
                .await
                .unwrap();
            let service = &client.bench.service;
            let uploads = service.count(Route::PutContent) + service.count(Route::Fragment);
            assert_eq!(uploads, 1, "{name} {size}");
            let rewritten = service
                .wait_until(Duration::from_secs(30), |it| {
                    it.read_file(&format!("/share/mount/{name}")).unwrap() != pattern(size)
                })
                .await;
            assert!(rewritten);
            // What is there now is read whole, whatever its size was told to be.
            let now = client.item(&item.id).await.unwrap();
            let read = client.read_all(&item.id, 0, now.size + 1000).await.unwrap();
            assert_eq!(read, client.held(name).0);
        }
    }
}
