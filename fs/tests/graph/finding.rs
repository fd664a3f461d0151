//! Which drive it is, and the folder of it that is mounted.

use super::client::*;

#[tokio::test]
async fn a_drive_of_every_kind_is_found_and_its_folder_made_once() {
    for profile in Profile::ALL {
        let client = Client::of(profile).await;
        let kind = client.kind();
        match profile {
            Profile::PersonalClassic | Profile::PersonalMigrated => {
                assert_eq!(kind, DriveKind::Personal);
            }
            Profile::Library => assert_eq!(kind, DriveKind::DocumentLibrary),
            Profile::Business | Profile::China => assert_eq!(kind, DriveKind::Business),
        }
        assert_eq!(client.root.facet, ItemFacet::Folder);
        assert_eq!(client.root.name.as_deref(), Some("mount"));
        let again = client.ensure_root("share/mount/").await.unwrap();
        assert_eq!(again.id, client.root.id);
        assert_eq!(client.bench.service.count(Route::CreateFolder), 0);
        let other = client.ensure_root("/Share/图 库/a+b#c").await.unwrap();
        assert_ne!(other.id, client.root.id);
        let made = client.bench.service.node("/share/图 库/a+b#c").unwrap();
        assert_eq!(
            (made.kind, made.id.as_str()),
            (NodeKind::Folder, other.id.as_str())
        );
    }
}

#[tokio::test]
async fn a_file_in_the_way_of_the_folder_is_named() {
    let client = Client::of(Profile::Business).await;
    client.put_elsewhere("file", b"x");
    let error = client
        .ensure_root("/share/mount/file/below")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("`file`"), "{error}");
}

#[tokio::test]
async fn a_drive_is_used_under_the_id_that_was_asked_for() {
    let bench = Bench::start(Profile::PersonalClassic, |settings| {
        settings.drive_id_quirk = true;
    })
    .await;
    let id = bench.service.drive_id();
    assert_eq!(find(&bench, &id).await.unwrap().id.as_str(), id);
    find(&bench, "").await.unwrap();
    assert!(matches!(
        find(&bench, "0123456789abcdef").await,
        Err(DriveError::NotFound)
    ));
}

#[tokio::test]
async fn the_space_is_told_or_unknown() {
    let client = Client::with(Profile::Business, |settings| settings.quota_total = 1 << 30).await;
    let Some(Quota { total, remaining }) = client.quota().await.unwrap() else {
        panic!("unknown")
    };
    assert_eq!(total, 1 << 30);
    assert!(remaining <= total);
    client
        .bench
        .service
        .adjust(|settings| settings.quota_zeros = true);
    assert_eq!(client.quota().await.unwrap(), None);
}
