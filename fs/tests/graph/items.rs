//! Items and folders: found, listed, made, changed, removed.

use super::client::*;

#[tokio::test]
async fn every_page_of_a_folder_is_listed_and_each_item_once() {
    let client = Client::with(Profile::Business, |settings| settings.page_cap = 3).await;
    for n in 0..10 {
        client.put_elsewhere(&format!("{n}"), b"x");
    }
    client.bench.service.reset_log();
    let items = client.children(&client.root.id).await.unwrap();
    let mut names: Vec<_> = items.into_iter().filter_map(|item| item.name).collect();
    names.sort();
    assert_eq!(names, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(client.bench.service.count(Route::Children), 4);
    let gone = client.children(&ItemId::new("01NOSUCHITEM")).await;
    assert!(matches!(gone, Err(DriveError::NotFound)), "{gone:?}");
}

#[tokio::test]
async fn a_child_is_found_by_the_name_that_the_drive_takes_for_the_same() {
    for profile in [Profile::Business, Profile::China] {
        let client = Client::of(profile).await;
        client.put_elsewhere("ReadMe.txt", b"x");
        let found = client.child(&client.root.id, "readme.TXT").await.unwrap();
        assert_eq!(found.name.as_deref(), Some("ReadMe.txt"));
        let none = client.child(&client.root.id, "absent").await;
        assert!(
            matches!(none, Err(DriveError::NotFound)),
            "{profile:?} {none:?}"
        );
    }
}

#[tokio::test]
async fn a_folder_is_made_unless_the_name_is_taken() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let made = client.create_folder(&client.root.id, "2026").await.unwrap();
        assert_eq!(
            (made.facet, made.name.as_deref()),
            (ItemFacet::Folder, Some("2026"))
        );
        let again = client.create_folder(&client.root.id, "2026").await;
        assert!(matches!(again, Err(DriveError::NameTaken)), "{again:?}");
        let nowhere = client
            .create_folder(&ItemId::new("01NOSUCHITEM"), "x")
            .await;
        assert!(matches!(nowhere, Err(DriveError::NotFound)), "{nowhere:?}");
    }
}

#[tokio::test]
async fn an_item_is_renamed_moved_and_timed_in_one_request() {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_001);
    for profile in KINDS {
        let client = Client::of(profile).await;
        let folder = client.create_folder(&client.root.id, "sub").await.unwrap();
        let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
        client.put_elsewhere("sub/taken", b"x");
        client.bench.service.reset_log();
        let place = |name: &str| Some((folder.id.clone(), name.to_owned()));
        let update = Update {
            place: place("b"),
            modified: Some(modified),
            ..Update::default()
        };
        let moved = client.update(&item.id, update).await.unwrap();
        assert_eq!(
            (moved.id, moved.modified),
            (item.id.clone(), Some(modified))
        );
        assert_eq!(client.held("sub/b").0, b"bytes");
        assert_eq!(client.bench.service.total(), 1);
        let update = Update {
            place: place("taken"),
            ..Update::default()
        };
        let taken = client.update(&item.id, update.clone()).await;
        assert!(matches!(taken, Err(DriveError::NameTaken)), "{taken:?}");
        client
            .update(
                &item.id,
                Update {
                    replace: true,
                    ..update
                },
            )
            .await
            .unwrap();
        assert_eq!(client.held("sub/taken").0, b"bytes");
        let stale = Update {
            modified: Some(modified),
            held: item.etag,
            ..Update::default()
        };
        let stale = client.update(&item.id, stale).await;
        assert!(
            matches!(stale, Err(DriveError::Conflict)),
            "{profile:?} {stale:?}"
        );
    }
}

#[tokio::test]
async fn a_deletion_is_for_a_version_and_may_have_happened_before() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
        let stale = client
            .delete(&item.id, Some(&ETag::new("\"{AAAA},9\"")))
            .await;
        assert!(
            matches!(stale, Err(DriveError::Conflict)),
            "{profile:?} {stale:?}"
        );
        client
            .bench
            .service
            .inject(Fault::lost_reply(Route::Delete));
        client.delete(&item.id, item.etag.as_ref()).await.unwrap();
        assert_eq!(client.bench.service.node("/share/mount/a"), None);
        client.delete(&item.id, None).await.unwrap();
        let gone = client.item(&item.id).await;
        assert!(matches!(gone, Err(DriveError::NotFound)), "{gone:?}");
    }
}
