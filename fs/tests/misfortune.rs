//! What the drive's client has to come through: silence that is asked for, pages of gateways,
//! replies that are lost, links that lead elsewhere, an authority that is a stranger.

mod bench;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use bench::Bench;
use futures_util::StreamExt;
use graph_emulator::{Act, Emulator, Entry, Fault, Options, Profile, ReplyBody, Route};
use tokio::net::TcpListener;
use tuyunfs::auth::{Authenticator, TokenError};
use tuyunfs::graph::{DriveKind, FoundDrive, Graph, GraphConfig};
use tuyunfs::ports::{DeltaFrom, DeltaNext, Drive, DriveError, Update, Upload, UploadTarget};
use tuyunfs::tree::{ContentId, DriveId, Item, ItemFacet, ItemId};

const MIB: usize = 1 << 20;

/// Longer than anything that is waited for here takes, by far.
const DEADLINE: Duration = Duration::from_secs(30);

/// A client, and the folder that it works in.
async fn client(bench: &Bench) -> (Graph, Item) {
    let config = GraphConfig {
        graph_url: bench.service.graph_url().to_owned(),
        ca_pem: None,
        ..GraphConfig::default()
    };
    let auth = bench.signed_in();
    let found = Graph::find(&config, auth.clone(), "", "").await.unwrap();
    let graph = Graph::of(&config, auth, &found).unwrap();
    let root = graph.ensure_root("/share/mount").await.unwrap();
    bench.service.reset_log();
    (graph, root)
}

fn upload(target: UploadTarget, bytes: &[u8]) -> Upload {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Upload {
        target,
        content: ContentId(1),
        file: Arc::new(file),
        size: bytes.len() as u64,
        modified: None,
    }
}

fn new_file(parent: &Item, name: &str) -> UploadTarget {
    UploadTarget::New {
        parent: parent.id.clone(),
        name: name.into(),
    }
}

async fn read(graph: &Graph, id: &ItemId, len: u64) -> Result<Vec<u8>, DriveError> {
    let mut download = graph.read(id, 0..len).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = download.bytes.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// The one request that was told to keep silent, and all that came after it.
fn after_the_refusal(bench: &Bench) -> (Entry, Vec<Entry>) {
    let mut entries = bench.service.requests();
    let at = entries
        .iter()
        .position(|entry| entry.retry_after.is_some())
        .unwrap();
    let rest = entries.split_off(at + 1);
    (entries.pop().unwrap(), rest)
}

#[tokio::test]
async fn no_route_of_a_host_is_asked_before_its_silence_ends() {
    for (refused, status) in [
        (Route::Item, 429),
        (Route::Download, 429),
        (Route::Children, 503),
    ] {
        let bench = Bench::start(Profile::Business, |_| {}).await;
        let (graph, root) = client(&bench).await;
        let item = graph
            .upload(upload(new_file(&root, "a"), b"bytes"))
            .await
            .unwrap();
        let other = graph
            .upload(upload(new_file(&root, "b"), b"other"))
            .await
            .unwrap();
        bench.service.reset_log();
        bench
            .service
            .inject(Fault::status(refused, status).retry_after(1));
        let graph = Arc::new(graph);
        let first = tokio::spawn({
            let (graph, item, root) = (graph.clone(), item.clone(), root.clone());
            async move {
                match refused {
                    Route::Item => graph.item(&item.id).await.map(drop),
                    Route::Download => read(&graph, &item.id, 5).await.map(drop),
                    _ => graph.children(&root.id).await.map(drop),
                }
            }
        });
        let closed = async {
            while graph.silent_for().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, closed).await.unwrap();
        let rename = Update {
            place: Some((root.id.clone(), "c".into())),
            ..Update::default()
        };
        let large = pattern(5 * MIB);
        let (listed, bytes, small, session, folder, renamed, page, space) = tokio::join!(
            graph.children(&root.id),
            read(&graph, &item.id, 5),
            graph.upload(upload(new_file(&root, "d"), b"x")),
            graph.upload(upload(new_file(&root, "e"), &large)),
            graph.create_folder(&root.id, "f"),
            graph.update(&other.id, rename),
            graph.delta(DeltaFrom::Now),
            graph.quota(),
        );
        first.await.unwrap().unwrap();
        listed.unwrap();
        assert_eq!(bytes.unwrap(), b"bytes");
        for made in [small, session, folder, renamed] {
            made.unwrap();
        }
        page.unwrap();
        space.unwrap();
        let (entry, rest) = after_the_refusal(&bench);
        let until = entry.arrived_ms + entry.took_ms.unwrap() + 1000;
        let asked = |other: &&Entry| other.host == entry.host && other.arrived_ms < until;
        let loud = rest.iter().find(asked);
        assert!(loud.is_none(), "{refused:?}: {loud:?} came before {until}");
        assert!(rest.len() >= 9, "{refused:?}: {}", rest.len());
        assert_eq!(graph.silent_for(), None);
    }
}

#[tokio::test]
async fn a_503_without_a_time_is_tried_again_and_holds_up_nobody_else() {
    let bench = Bench::start(Profile::PersonalMigrated, |_| {}).await;
    let (graph, root) = client(&bench).await;
    bench.service.inject(Fault::status(Route::Item, 503));
    let (item, quota) = tokio::join!(graph.item(&root.id), async {
        assert!(bench.service.wait_for(Route::Item, 1, DEADLINE).await);
        let quota = graph.quota().await;
        assert_eq!(bench.service.count(Route::Item), 1, "the other one waited");
        quota
    });
    assert_eq!(item.unwrap().id, root.id);
    quota.unwrap();
    assert_eq!(bench.service.count(Route::Item), 2);
    assert_eq!(graph.silent_for(), None);
}

#[tokio::test]
async fn pages_of_gateways_say_no_more_than_their_status() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    client(&bench).await;
    // A client that has not made the folder itself, and believes that it is gone.
    let (graph, root) = client(&bench).await;
    let html = |route, status| {
        bench
            .service
            .inject(Fault::status(route, status).body(ReplyBody::Html));
    };
    html(Route::Item, 404);
    let absent = graph.item(&root.id).await;
    assert!(matches!(absent, Err(DriveError::NotFound)), "{absent:?}");
    html(Route::CreateFolder, 409);
    let taken = graph.create_folder(&root.id, "f").await;
    assert!(matches!(taken, Err(DriveError::NameTaken)), "{taken:?}");
    html(Route::Patch, 423);
    let locked = graph.update(&root.id, Update::default()).await;
    assert!(matches!(locked, Err(DriveError::Locked(_))), "{locked:?}");
    html(Route::Quota, 400);
    html(Route::Drive, 400);
    let refused = graph.quota().await;
    let Err(DriveError::Refused { code, message }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((code.as_str(), message.as_str()), ("http 400", ""));
    html(Route::Children, 502);
    assert_eq!(graph.children(&root.id).await.unwrap(), []);
    assert_eq!(bench.service.count(Route::Children), 2);
}

#[tokio::test]
async fn a_session_that_is_not_found_for_a_moment_goes_on_where_it_was() {
    for profile in [Profile::Business, Profile::PersonalMigrated] {
        let bench = Bench::start(profile, |_| {}).await;
        let (graph, root) = client(&bench).await;
        let bytes = pattern(22 * MIB);
        bench
            .service
            .inject(Fault::status(Route::Fragment, 404).after(1));
        let sent = upload(new_file(&root, "large"), &bytes);
        graph.upload(sent).await.unwrap();
        let path = "/share/mount/large";
        assert_eq!(bench.service.read_file(path).unwrap(), bytes);
        assert_eq!(bench.service.versions(path).len(), 1, "{profile:?}");
        assert_eq!(bench.service.count(Route::CreateSession), 1, "{profile:?}");
        // All bytes once, and the fragment that was refused.
        let sent: u64 = bench
            .service
            .requests()
            .iter()
            .filter(|entry| entry.route == Route::Fragment && entry.status != Some(404))
            .filter_map(|entry| entry.sent)
            .sum();
        assert_eq!(sent, bytes.len() as u64, "{profile:?}");
        assert_eq!(bench.service.count(Route::SessionStatus), 1, "{profile:?}");
    }
}

#[tokio::test]
async fn a_replacement_that_was_committed_with_a_500_is_one_version_more() {
    for profile in [Profile::Business, Profile::PersonalMigrated] {
        let bench = Bench::start(profile, |_| {}).await;
        let (graph, root) = client(&bench).await;
        let first = upload(new_file(&root, "a"), b"first");
        let first = graph.upload(first).await.unwrap();
        let bytes = pattern(5 * MIB);
        let before = bench.service.versions("/share/mount/a").len();
        bench
            .service
            .inject(Fault::status_after_effect(Route::Fragment, 500));
        let target = UploadTarget::Replace {
            id: first.id.clone(),
            held: first.etag.clone(),
        };
        let item = graph.upload(upload(target, &bytes)).await.unwrap();
        assert_eq!(
            (item.id, item.size),
            (first.id, bytes.len() as u64),
            "{profile:?}"
        );
        assert_eq!(bench.service.read_file("/share/mount/a").unwrap(), bytes);
        assert_eq!(
            bench.service.versions("/share/mount/a").len(),
            before + 1,
            "{profile:?}"
        );
        assert_eq!(bench.service.count(Route::CreateSession), 1);
    }
}

#[tokio::test]
async fn a_rename_whose_reply_was_lost_is_looked_at_and_not_repeated() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let (graph, root) = client(&bench).await;
    let item = graph
        .upload(upload(new_file(&root, "a"), b"bytes"))
        .await
        .unwrap();
    bench.service.inject(Fault::lost_reply(Route::Patch));
    let update = Update {
        place: Some((root.id.clone(), "b".into())),
        ..Update::default()
    };
    let renamed = graph.update(&item.id, update).await.unwrap();
    assert_eq!((renamed.id, renamed.name.as_deref()), (item.id, Some("b")));
    assert_eq!(bench.service.node("/share/mount/a"), None);
    assert_eq!(bench.service.count(Route::Patch), 1);
}

#[tokio::test]
async fn a_resync_says_whose_word_counts_wherever_its_code_stands() {
    let bench = Bench::start(Profile::PersonalMigrated, |_| {}).await;
    let (graph, root) = client(&bench).await;
    let DeltaNext::Round(link) = graph.delta(DeltaFrom::Now).await.unwrap().next else {
        panic!("more than a link")
    };
    for (code, keeps) in [
        ("resyncChangesApplyDifferences", false),
        ("resyncChangesUploadDifferences", true),
    ] {
        for (top, location) in [(true, false), (false, true)] {
            bench.service.inject(Fault::new(
                Route::Delta,
                Act::Resync {
                    code: code.into(),
                    top,
                    location,
                },
            ));
            let told = graph.delta(DeltaFrom::Link(link.clone())).await;
            let Err(DriveError::Resync { start, keep_local }) = told else {
                panic!("{told:?}")
            };
            assert_eq!((start.is_some(), keep_local), (location, keeps), "{code}");
        }
    }
    // From the start, everything there is comes.
    bench.service.put_file("/share/mount/a", b"x").unwrap();
    let page = graph.delta(DeltaFrom::Start).await.unwrap();
    assert!(matches!(page.next, DeltaNext::Round(_)), "{:?}", page.next);
    let told = |name| {
        page.items
            .iter()
            .rfind(|item| item.name.as_deref() == Some(name))
            .unwrap()
    };
    assert_eq!(told("mount").id, root.id);
    assert_eq!(told("a").parent.as_ref(), Some(&root.id));
    assert!(matches!(told("a").facet, ItemFacet::File { .. }));
}

/// A service that answers every request with this.
async fn answering(status: StatusCode, body: String) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(move |uri: Uri| async move {
        assert!(uri.path().starts_with("/v1.0/"), "{uri}");
        (status, [("content-type", "application/json")], body)
    });
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, serving)
}

#[tokio::test]
async fn a_listing_is_not_followed_to_another_host() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let next = format!("http://{}/v1.0/next", elsewhere.local_addr().unwrap());
    let page = format!(r#"{{"value":[{{"id":"1","name":"a"}}],"@odata.nextLink":"{next}"}}"#);
    let (address, serving) = answering(StatusCode::OK, page).await;
    let config = GraphConfig {
        graph_url: address,
        ca_pem: None,
        ..GraphConfig::default()
    };
    let found = FoundDrive {
        id: DriveId::new("b!x"),
        kind: DriveKind::Business,
        owner: None,
        quota: None,
    };
    let graph = Graph::of(&config, bench.signed_in(), &found).unwrap();
    let listed = graph.children(&ItemId::new("01ROOT")).await;
    let Err(DriveError::Refused { code, .. }) = &listed else {
        panic!("{listed:?}")
    };
    assert_eq!(code, "foreignLink");
    let came = futures_util::FutureExt::now_or_never(elsewhere.accept());
    assert!(came.is_none(), "the token was carried there");
    serving.abort();
}

#[tokio::test]
async fn a_drive_behind_an_authority_of_its_own_is_trusted_by_its_certificate_alone() {
    // Installs the TLS provider, too.
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let service = Emulator::start(Options::new(Profile::Business).with_tls())
        .await
        .unwrap();
    let pair = service.issue_token(bench::CLIENT);
    let mut token = bench.ended_token();
    token.login_url = service.login_url().to_owned();
    token.refresh_token = pair.refresh_token.into();
    bench.store().save(&token).unwrap();
    let ca_pem = service.ca_pem().map(|pem| pem.as_bytes().to_vec());
    let mut config = bench.config.clone();
    config.login_url = service.login_url().to_owned();
    let stranger = Authenticator::new(config.clone(), bench.store()).unwrap();
    let error = stranger.access().await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { .. }), "{error:?}");
    // A file that holds none must not look like one that is trusted.
    config.ca_pem = Some(b"DER, or a key".to_vec());
    let mistaken = Authenticator::new(config.clone(), bench.store()).unwrap();
    let error = mistaken.access().await.unwrap_err();
    assert!(matches!(error, TokenError::Configuration(_)), "{error:?}");
    assert!(error.to_string().contains("drive.ca_file"), "{error}");
    config.ca_pem.clone_from(&ca_pem);
    let auth = Authenticator::new(config, bench.store()).unwrap();
    let config = GraphConfig {
        graph_url: service.graph_url().to_owned(),
        ca_pem,
        ..GraphConfig::default()
    };
    let found = Graph::find(&config, auth.clone(), "", "").await.unwrap();
    let graph = Graph::of(&config, auth, &found).unwrap();
    let root = graph.ensure_root("/share/mount").await.unwrap();
    let item = graph
        .upload(upload(new_file(&root, "a"), b"bytes"))
        .await
        .unwrap();
    assert_eq!(read(&graph, &item.id, 5).await.unwrap(), b"bytes");
}
