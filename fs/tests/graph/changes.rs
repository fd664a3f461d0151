//! Remote changes by delta.

use super::client::*;

#[tokio::test]
async fn changes_since_a_link_come_page_by_page() {
    for profile in KINDS {
        let client = Client::with(profile, |settings| settings.delta_page_size = 2).await;
        let old = client.put(client.new_file("old"), b"x").await.unwrap();
        let page = client.delta(DeltaFrom::Now).await.unwrap();
        let DeltaNext::Round(mut link) = page.next else {
            panic!("{profile:?} {page:?}")
        };
        for n in 0..5 {
            client.put_elsewhere(&format!("{n}"), b"x");
        }
        client.bench.service.delete("/share/mount/old").unwrap();
        let mut items = Vec::new();
        let mut pages = 0;
        loop {
            let page = client.delta(DeltaFrom::Link(link)).await.unwrap();
            items.extend(page.items);
            pages += 1;
            match page.next {
                DeltaNext::Page(next) => link = next,
                DeltaNext::Round(_) => break,
            }
        }
        assert!(pages >= 3, "{profile:?} {pages}");
        for n in 0..5 {
            let name = n.to_string();
            let told = items
                .iter()
                .find(|item| item.name.as_deref() == Some(&name))
                .unwrap();
            assert_eq!(told.parent.as_ref(), Some(&client.root.id));
        }
        let tombstone = items.iter().rfind(|item| item.id == old.id).unwrap();
        assert_eq!(tombstone.facet, ItemFacet::Deleted);
    }
}

#[tokio::test]
async fn a_link_that_is_too_old_asks_for_a_fresh_start() {
    let client = Client::of(Profile::Business).await;
    let link = match client.delta(DeltaFrom::Now).await.unwrap().next {
        DeltaNext::Round(link) | DeltaNext::Page(link) => link,
    };
    client.bench.service.expire_deltas();
    let error = client
        .delta(DeltaFrom::Link(link.clone()))
        .await
        .unwrap_err();
    assert!(matches!(error, DriveError::Resync { .. }), "{error:?}");
    let code = "resyncChangesUploadDifferences".to_owned();
    let act = Act::Resync {
        code,
        top: false,
        location: true,
    };
    client.bench.service.inject(Fault::new(Route::Delta, act));
    let error = client.delta(DeltaFrom::Link(link)).await.unwrap_err();
    let DriveError::Resync {
        start: Some(start),
        keep_local: true,
    } = error
    else {
        panic!("{error:?}")
    };
    let page = client.delta(DeltaFrom::Link(start)).await.unwrap();
    assert!(page.items.iter().any(|item| item.id == client.root.id));
}

#[tokio::test]
async fn links_to_other_hosts_are_not_followed() {
    let client = Client::of(Profile::Business).await;
    let foreign = tuyunfs::ports::DeltaLink("https://graph.elsewhere.test/v1.0/x".into());
    let refused = client.delta(DeltaFrom::Link(foreign)).await;
    assert!(
        matches!(refused, Err(DriveError::Refused { .. })),
        "{refused:?}"
    );
    let host = client.bench.service.graph_url();
    let trick = tuyunfs::ports::DeltaLink(format!("{host}.elsewhere.test/v1.0/x"));
    let refused = client.delta(DeltaFrom::Link(trick)).await;
    assert!(
        matches!(refused, Err(DriveError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(client.bench.service.total(), 0);
}

#[tokio::test]
async fn a_drive_without_delta_says_so() {
    let client = Client::of(Profile::China).await;
    let error = client.delta(DeltaFrom::Now).await.unwrap_err();
    assert!(matches!(error, DriveError::NotSupported(_)), "{error:?}");
}
