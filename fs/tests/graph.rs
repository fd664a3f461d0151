//! The drive's client, against an emulated service of every kind.

mod bench;

use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bench::Bench;
use futures_util::StreamExt;
use futures_util::future::join_all;
use graph_emulator::{Act, Fault, Host, NodeKind, Profile, ReplyBody, Route, Settings};
use tuyunfs::graph::{DriveKind, FoundDrive, Graph, GraphConfig};
use tuyunfs::ports::{
    DeltaFrom, DeltaNext, Drive, DriveError, Quota, Update, Upload, UploadTarget,
};
use tuyunfs::tree::{ETag, Item, ItemFacet, ItemId};

const MIB: usize = 1 << 20;

/// Kinds whose tags, ids and times look different.
const KINDS: [Profile; 3] = [
    Profile::PersonalClassic,
    Profile::PersonalMigrated,
    Profile::Business,
];

/// A client of an emulated drive, and the folder that it works in.
struct Client {
    bench: Bench,
    graph: Graph,
    root: Item,
}

impl Deref for Client {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl Client {
    async fn of(profile: Profile) -> Self {
        Self::with(profile, |_| {}).await
    }

    async fn with(profile: Profile, adjust: impl FnOnce(&mut Settings)) -> Self {
        let bench = Bench::start(profile, adjust).await;
        // A library is nobody's own drive: its id is named.
        let named = if profile == Profile::Library {
            bench.service.drive_id()
        } else {
            String::new()
        };
        let found = find(&bench, &named).await.unwrap();
        let config = GraphConfig {
            graph_url: bench.service.graph_url().to_owned(),
            ca_pem: None,
        };
        let graph = Graph::of(&config, bench.signed_in(), &found).unwrap();
        let root = graph.ensure_root("/share/mount").await.unwrap();
        bench.service.reset_log();
        Self { bench, graph, root }
    }

    fn new_file(&self, name: &str) -> UploadTarget {
        UploadTarget::New {
            parent: self.root.id.clone(),
            name: name.into(),
        }
    }

    async fn put(&self, target: UploadTarget, bytes: &[u8]) -> Result<Item, DriveError> {
        self.put_at(target, bytes, None).await
    }

    async fn put_at(
        &self,
        target: UploadTarget,
        bytes: &[u8],
        modified: Option<SystemTime>,
    ) -> Result<Item, DriveError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let file = Arc::new(file);
        self.upload(Upload {
            target,
            file,
            size: bytes.len() as u64,
            modified,
        })
        .await
    }

    async fn read_all(&self, id: &ItemId, start: u64, end: u64) -> Result<Vec<u8>, DriveError> {
        let mut download = self.read(id, start..end).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = download.bytes.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    }

    /// What the drive holds in our folder under a name, in how many versions.
    fn held(&self, name: &str) -> (Vec<u8>, usize) {
        let path = format!("/share/mount/{name}");
        let node = self
            .bench
            .service
            .node(&path)
            .unwrap_or_else(|| panic!("no {path}"));
        (self.bench.service.read_file(&path).unwrap(), node.versions)
    }

    fn put_elsewhere(&self, name: &str, bytes: &[u8]) {
        self.bench
            .service
            .put_file(&format!("/share/mount/{name}"), bytes)
            .unwrap();
    }
}

async fn find(bench: &Bench, drive_id: &str) -> Result<FoundDrive, DriveError> {
    let config = GraphConfig {
        graph_url: bench.service.graph_url().to_owned(),
        ca_pem: None,
    };
    Graph::find(&config, bench.signed_in(), drive_id, "").await
}

fn replacing(item: &Item) -> UploadTarget {
    UploadTarget::Replace {
        id: item.id.clone(),
        held: item.etag.clone(),
    }
}

/// Bytes that tell where they are from.
fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

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
async fn a_large_file_goes_in_a_session_and_a_lost_fragment_reply_is_asked_for() {
    for profile in KINDS {
        let client = Client::of(profile).await;
        let bytes = pattern(22 * MIB);
        client
            .bench
            .service
            .inject(Fault::lost_reply(Route::Fragment).after(1));
        let item = client.put(client.new_file("large"), &bytes).await.unwrap();
        assert_eq!(
            (item.size, client.held("large")),
            (bytes.len() as u64, (bytes, 1))
        );
        let service = &client.bench.service;
        assert_eq!(service.count(Route::CreateSession), 1, "{profile:?}");
        // Three fragments, none of them twice: the one without a reply had been stored.
        assert_eq!(service.count(Route::Fragment), 3, "{profile:?}");
        assert_eq!(service.count(Route::SessionStatus), 1, "{profile:?}");
        assert_eq!(service.open_sessions(), 0);
        // The storage host refuses whoever shows a token.
        let storage = service
            .requests()
            .into_iter()
            .filter(|entry| entry.host == Host::Storage);
        assert!(storage.into_iter().all(|entry| entry.status != Some(401)));
    }
}

#[tokio::test]
async fn a_session_whose_last_reply_was_lost_is_judged_by_the_item() {
    for fault in [
        Fault::status_after_effect(Route::Fragment, 500),
        Fault::lost_reply(Route::Fragment),
        Fault::new(Route::Fragment, Act::EmptyBody),
    ] {
        let client = Client::of(Profile::Business).await;
        let bytes = pattern(5 * MIB);
        client.bench.service.inject(fault.clone());
        let item = client.put(client.new_file("large"), &bytes).await.unwrap();
        assert_eq!(client.held("large"), (bytes, 1), "{fault:?}");
        assert_eq!(item.name.as_deref(), Some("large"));
        assert_eq!(client.bench.service.count(Route::Fragment), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_lost_is_begun_anew_once() {
    let client = Client::of(Profile::Business).await;
    let bytes = pattern(12 * MIB);
    client
        .bench
        .service
        .inject(Fault::status(Route::Fragment, 401).after(1));
    client.put(client.new_file("large"), &bytes).await.unwrap();
    assert_eq!(client.held("large"), (bytes.clone(), 1));
    assert_eq!(client.bench.service.count(Route::CreateSession), 2);
    assert_eq!(
        client.bench.service.open_sessions(),
        0,
        "the lost one does not hold the name"
    );
    client
        .bench
        .service
        .inject(Fault::status(Route::Fragment, 401).always());
    let given_up = client.put(client.new_file("other"), &bytes).await;
    assert!(
        matches!(given_up, Err(DriveError::Unavailable { .. })),
        "{given_up:?}"
    );
    assert_eq!(client.bench.service.count(Route::CreateSession), 4);
    assert_eq!(client.bench.service.open_sessions(), 0);
}

#[tokio::test]
async fn a_throttled_fragment_waits_with_its_session_kept() {
    let client = Client::of(Profile::PersonalMigrated).await;
    let bytes = pattern(12 * MIB);
    client
        .bench
        .service
        .inject(Fault::status(Route::Fragment, 429).retry_after(2).after(1));
    client.put(client.new_file("large"), &bytes).await.unwrap();
    assert_eq!(client.held("large"), (bytes, 1));
    assert_eq!(client.bench.service.count(Route::CreateSession), 1);
    assert_silent(&client);
}

#[tokio::test]
async fn a_name_that_an_unfinished_upload_holds_is_locked_and_not_taken() {
    let client = Client::of(Profile::Business).await;
    // A session is made, and its reply lost with the only way to cancel it.
    client
        .bench
        .service
        .inject(Fault::lost_reply(Route::CreateSession));
    let blocked = client
        .put(client.new_file("large"), &pattern(5 * MIB))
        .await;
    assert!(matches!(blocked, Err(DriveError::Locked(_))), "{blocked:?}");
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

/// Nothing arrived while the service had asked for silence.
fn assert_silent(client: &Client) {
    let entries = client.bench.service.requests();
    let asked: Vec<_> = entries
        .iter()
        .filter(|entry| entry.retry_after.is_some())
        .collect();
    assert!(!asked.is_empty());
    for refused in asked {
        let from = refused.arrived_ms + refused.took_ms.unwrap();
        // What was under way when the refusal left is nobody's fault.
        let (from, until) = (from + 50, from + refused.retry_after.unwrap() * 1000);
        let loud = entries
            .iter()
            .find(|entry| (from..until).contains(&entry.arrived_ms));
        assert!(
            loud.is_none(),
            "{loud:?} came during the silence of {refused:?}"
        );
    }
}

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
    assert!(asked(client.read_all(&item.id, 0, 5).await.err().unwrap()) > 110);
    assert_eq!(client.bench.service.total(), 0);
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
async fn a_body_that_is_cut_short_is_an_error_that_tells_no_address() {
    let client = Client::of(Profile::Business).await;
    let item = client
        .put(client.new_file("a"), &pattern(300_000))
        .await
        .unwrap();
    client
        .bench
        .service
        .inject(Fault::new(Route::Download, Act::CutBody { after: 1000 }));
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

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_all() {
    let client = Client::with(Profile::Business, |settings| settings.latency_ms = 20).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    client.bench.service.expire_tokens();
    client.bench.service.reset_log();
    let all = join_all((0..20).map(|_| client.item(&item.id))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(client.bench.service.count(Route::Token), 1);
}

#[tokio::test]
async fn a_back_end_that_lost_its_own_sign_in_is_given_time() {
    let client = Client::of(Profile::PersonalClassic).await;
    let item = client.put(client.new_file("a"), b"bytes").await.unwrap();
    client
        .bench
        .service
        .inject(Fault::status(Route::Item, 401).times(3));
    client.item(&item.id).await.unwrap();
    assert_eq!(
        client.bench.service.count(Route::Token),
        1,
        "one token was got, then it waited"
    );
}

#[tokio::test]
async fn a_dead_sign_in_is_told_apart_from_a_dead_network() {
    let client = Client::of(Profile::Business).await;
    client.bench.service.revoke_refresh_tokens();
    client.bench.service.expire_tokens();
    let error = client.item(&client.root.id).await.unwrap_err();
    assert!(matches!(error, DriveError::SignIn(_)), "{error:?}");
    let client = Client::of(Profile::Business).await;
    client
        .bench
        .service
        .inject(Fault::anywhere(Act::LoseRequest).always());
    let error = client.item(&client.root.id).await.unwrap_err();
    assert!(matches!(error, DriveError::Unavailable { .. }), "{error:?}");
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
        file,
        size: 6,
        modified: None,
    };
    let error = client.upload(upload).await.unwrap_err();
    assert!(matches!(error, DriveError::Disk(_)), "{error:?}");
    assert_eq!(client.bench.service.total(), 0);
}
