//! The service of China: no delta, and children that are addressed in another form.

use super::client::*;

#[tokio::test]
async fn in_china_files_of_every_size_are_made_and_replaced() {
    let client = Client::of(Profile::China).await;
    for (name, size) in [
        ("it's a+b #1 图.jpg", 1000),
        ("large 'x'", 5 * MIB),
        ("empty", 0),
    ] {
        client.bench.service.reset_log();
        let bytes = pattern(size);
        let item = client.put(client.new_file(name), &bytes).await.unwrap();
        assert_eq!(
            client.bench.service.total(),
            if size > 4 * MIB { 2 } else { 1 }
        );
        assert_eq!(client.held(name), (bytes, 1));
        let taken = client.put(client.new_file(name), &pattern(size)).await;
        assert!(
            matches!(taken, Err(DriveError::NameTaken)),
            "{name} {taken:?}"
        );
        client.put(replacing(&item), b"other").await.unwrap();
        assert_eq!(client.held(name), (b"other".to_vec(), 2));
        let found = client.child(&client.root.id, name).await.unwrap();
        assert_eq!(found.id, item.id);
    }
    let folder = client.create_folder(&client.root.id, "it's").await.unwrap();
    let target = UploadTarget::New {
        parent: folder.id,
        name: "in''it".into(),
    };
    client.put(target, b"bytes").await.unwrap();
    assert_eq!(client.held("it's/in''it").0, b"bytes");
}

#[tokio::test]
async fn in_china_a_name_with_a_newline_is_refused_for_good() {
    let client = Client::of(Profile::China).await;
    let refused = client.put(client.new_file("a\nb"), b"x").await;
    assert!(
        matches!(refused, Err(DriveError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(client.bench.service.count(Route::PutContent), 1);
}

#[tokio::test]
async fn a_service_that_answers_for_every_name_is_found_out() {
    let client = Client::configured(Profile::China, |config| config.china = false).await;
    // Making the folder has shown it: no name is taken for another one from then on.
    client.put(client.new_file("a"), b"bytes").await.unwrap();
    assert_eq!(client.held("a").0, b"bytes");
    let none = client.child(&client.root.id, "absent").await;
    assert!(matches!(none, Err(DriveError::NotFound)), "{none:?}");
}
