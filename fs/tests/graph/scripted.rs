//! What the emulated service does not say, said by one that answers as it is told.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use tuyunfs::graph::FoundDrive;
use tuyunfs::tree::DriveId;

use super::client::*;

/// What was asked: path, and the `Prefer` header.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A client of a service that gives these answers, one after the other.
async fn client(answers: Vec<Response<Body>>) -> (Bench, Arc<Graph>, Asked) {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = GraphConfig {
        graph_url: format!("http://{}", listener.local_addr().unwrap()),
        ..GraphConfig::default()
    };
    let (answers, asked) = (
        Arc::new(Mutex::new(VecDeque::from(answers))),
        Asked::default(),
    );
    let log = asked.clone();
    let answer = move |request: Request| async move {
        let prefer = request.headers().get("prefer");
        let prefer = prefer.map(|value| value.to_str().unwrap().to_owned());
        log.lock()
            .unwrap()
            .push((request.uri().path().to_owned(), prefer));
        answers.lock().unwrap().pop_front().unwrap()
    };
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let found = FoundDrive {
        id: DriveId::new("b!own"),
        kind: DriveKind::Business,
        owner: None,
        quota: None,
    };
    let graph = Graph::of(&config, bench.signed_in(), &found).unwrap();
    (bench, Arc::new(graph), asked)
}

fn json(text: &'static str) -> Response<Body> {
    Response::new(Body::from(text))
}

#[tokio::test]
async fn a_shortcut_leads_to_the_drive_that_has_the_item() {
    let (_bench, graph, asked) = client(vec![
        json(
            r#"{"value":[{"id":"01S","name":"Shared","parentReference":{"id":"01R"},"folder":{},
            "remoteItem":{"id":"01F","folder":{},"parentReference":{"driveId":"b!other"}}}]}"#,
        ),
        json(
            r#"{"value":[{"id":"01A","name":"a","size":1,"file":{},
            "parentReference":{"id":"01F"}}]}"#,
        ),
        json(r#"{"id":"01A","name":"b","size":1,"file":{},"parentReference":{"id":"01F"}}"#),
    ])
    .await;
    let listed = graph.children(&ItemId::new("01R")).await.unwrap();
    let ItemFacet::Shortcut {
        drive,
        item,
        folder: true,
    } = &listed[0].facet
    else {
        panic!("{listed:?}")
    };
    let there = ItemId::in_drive(drive, item.as_str());
    let below = graph.children(&there).await.unwrap();
    assert_eq!(below[0].parent.as_ref(), Some(&there));
    let place = Some((there, "b".to_owned()));
    let update = Update {
        place,
        ..Update::default()
    };
    let renamed = graph.update(&below[0].id, update.clone()).await.unwrap();
    assert_eq!(renamed.id, below[0].id);
    // Out of its drive it cannot go, and nothing is asked for that.
    let out = graph.update(&ItemId::new("01X"), update).await;
    assert!(matches!(out, Err(DriveError::Refused { .. })), "{out:?}");
    let prefer = Some("Include-Feature=AddToOneDrive".to_owned());
    let expected = [
        (
            "/v1.0/drives/b!own/items/01R/children".to_owned(),
            prefer.clone(),
        ),
        ("/v1.0/drives/b!other/items/01F/children".to_owned(), prefer),
        ("/v1.0/drives/b!other/items/01A".to_owned(), None),
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_budget_that_runs_low_is_spread_over_work_that_nobody_waits_for() {
    let low = || {
        Response::builder()
            .header("ratelimit-limit", "1200")
            .header("ratelimit-remaining", "60")
            .header("ratelimit-reset", "60")
            .body(Body::from(r#"{"id":"b!own"}"#))
            .unwrap()
    };
    let (_bench, graph, asked) = client((0..20).map(|_| low()).collect()).await;
    graph.quota().await.unwrap();
    let background = graph.background();
    let begun = std::time::Instant::now();
    for _ in 0..8 {
        graph.quota().await.unwrap();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "a program waits for these"
    );
    let begun = std::time::Instant::now();
    for _ in 0..4 {
        background.quota().await.unwrap();
    }
    // One a second, the first at once.
    assert!(
        begun.elapsed() >= Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(asked.lock().unwrap().len(), 13);
}

#[tokio::test]
async fn a_silence_is_kept_to_the_second_when_it_is_told_as_a_date() {
    let at = SystemTime::now() + Duration::from_secs(3);
    let refused = Response::builder()
        .status(429)
        .header("retry-after", httpdate::fmt_http_date(at))
        .body(Body::empty())
        .unwrap();
    let (_bench, graph, _asked) = client(vec![refused, json(r#"{"id":"b!own"}"#)]).await;
    graph.quota().await.unwrap();
    // A date has whole seconds.
    assert!(SystemTime::now() >= at - Duration::from_secs(1));
}

#[tokio::test]
async fn a_notebook_and_an_infected_file_are_told_as_what_they_are() {
    let (_bench, graph, _asked) = client(vec![json(
        r#"{"value":[{"id":"1","name":"N","package":{"type":"oneNote"},"folder":{}},
        {"id":"2","name":"m.exe","size":3,"file":{},"malware":{"description":"x"}}]}"#,
    )])
    .await;
    let listed = graph.children(&ItemId::new("01R")).await.unwrap();
    assert_eq!(listed[0].facet, ItemFacet::Other);
    let malware = ItemFacet::File {
        hash: None,
        malware: true,
    };
    assert_eq!(listed[1].facet, malware);
}
