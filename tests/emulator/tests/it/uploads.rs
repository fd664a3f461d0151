//! Contents: in one request and in sessions.

use graph_emulator::{Profile, Route};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{id, json, on, refused, with};

const UNIT: usize = 327_680;

#[tokio::test]
async fn a_simple_upload_creates_then_replaces_and_keeps_the_id() {
    let drive = on(Profile::Business).await;
    let first = drive.put("a.txt", b"one").await;
    assert_eq!(first.status(), 201);
    let first = json(first).await;
    let second = drive.put("a.txt", b"three").await;
    assert_eq!(second.status(), 200);
    let second = json(second).await;
    assert_eq!(first["id"], second["id"]);
    assert_ne!(first["cTag"], second["cTag"]);
    assert_eq!(second["size"], 5);
    let by_id = drive.ask(Method::PUT, &format!("items/{}/content", id(&first)));
    assert_eq!(by_id.body("four").send().await.unwrap().status(), 200);
    assert_eq!(drive.emulator.versions("a.txt").len(), 3);
    assert_eq!(drive.emulator.read_file("a.txt").unwrap(), b"four");
}

#[tokio::test]
async fn a_taken_name_fails_or_gets_a_number_when_asked_to() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    let put = |query: &str| {
        drive
            .ask(Method::PUT, &format!("root:/a.txt:/content?{query}"))
            .body("y")
            .send()
    };
    let fail = put("@microsoft.graph.conflictBehavior=fail").await.unwrap();
    assert_eq!(refused(fail).await, (409, "nameAlreadyExists".to_owned()));
    let rename = put("@microsoft.graph.conflictBehavior=rename")
        .await
        .unwrap();
    assert_eq!(rename.status(), 201);
    assert_eq!(json(rename).await["name"], "a 1.txt");
}

#[tokio::test]
async fn conditions_of_an_upload_are_honoured() {
    let drive = on(Profile::PersonalClassic).await;
    let old = drive.emulator.put_file("a.txt", b"x").unwrap();
    let put = |name: &str, value: String| {
        drive
            .ask(Method::PUT, "root:/a.txt:/content")
            .header(name, value)
            .body("y")
            .send()
    };
    let absent = put("if-none-match", "*".to_owned()).await.unwrap();
    assert_eq!(absent.status(), 412);
    let fresh = put("if-match", format!("\"{}\"", old.etag)).await.unwrap();
    assert_eq!(fresh.status(), 200);
    let stale = put("if-match", format!("\"{}\"", old.etag)).await.unwrap();
    assert_eq!(stale.status(), 412);
}

#[tokio::test]
async fn a_missing_parent_is_404() {
    let drive = on(Profile::Business).await;
    assert_eq!(drive.put("no/such/a.txt", b"x").await.status(), 404);
}

#[tokio::test]
async fn a_session_takes_fragments_in_order_and_keeps_the_clients_time() {
    for profile in [Profile::PersonalClassic, Profile::Business] {
        let drive = on(profile).await;
        let bytes: Vec<u8> = (0..UNIT + 5)
            .map(|n| u8::try_from(n % 249).unwrap())
            .collect();
        let item = json!({ "@microsoft.graph.conflictBehavior": "fail",
            "fileSystemInfo": { "lastModifiedDateTime": "2020-01-02T03:04:05Z" } });
        let url = drive.session("big.bin", item).await;
        let first = drive.fragment(&url, 0, &bytes[..UNIT], bytes.len()).await;
        assert_eq!(first.status(), 202);
        let range = format!("{UNIT}-{}", bytes.len() - 1);
        assert_eq!(json(first).await["nextExpectedRanges"], json!([range]));
        let status = json(drive.http.get(&url).send().await.unwrap()).await;
        assert_eq!(status["nextExpectedRanges"], json!([range]));
        let last = drive
            .fragment(&url, UNIT, &bytes[UNIT..], bytes.len())
            .await;
        assert_eq!(last.status(), 201);
        let item = json(last).await;
        let mtime = item["fileSystemInfo"]["lastModifiedDateTime"]
            .as_str()
            .unwrap();
        assert!(mtime.starts_with("2020-01-02T03:04:05"), "{mtime}");
        assert_eq!(drive.emulator.read_file("big.bin").unwrap(), bytes);
        assert_eq!(drive.emulator.versions("big.bin").len(), 1);
        let after = drive.http.get(&url).send().await.unwrap();
        assert_eq!(after.status(), 404, "a finished session is gone");
    }
}

#[tokio::test]
async fn fragments_that_do_not_fit_are_refused_and_change_nothing() {
    let drive = on(Profile::Business).await;
    let url = drive.session("a.bin", json!({})).await;
    let bytes = vec![7; UNIT];
    let total = 3 * UNIT;
    assert_eq!(drive.fragment(&url, 0, &bytes, total).await.status(), 202);
    let overlap = drive.fragment(&url, 0, &bytes, total).await;
    assert_eq!(refused(overlap).await, (416, "fragmentOverlap".to_owned()));
    let hole = drive.fragment(&url, 2 * UNIT, &bytes, total).await;
    assert_eq!(refused(hole).await, (416, "fragmentOutOfOrder".to_owned()));
    let odd = drive.fragment(&url, UNIT, &bytes[..100], total).await;
    assert_eq!(odd.status(), 400);
    let other = drive.fragment(&url, UNIT, &bytes, total + 1).await;
    assert_eq!(
        refused(other).await,
        (400, "fragmentLengthMismatch".to_owned())
    );
    let status = json(drive.http.get(&url).send().await.unwrap()).await;
    assert_eq!(
        status["nextExpectedRanges"],
        json!([format!("{UNIT}-{}", total - 1)])
    );
}

#[tokio::test]
async fn a_refused_fragment_is_answered_though_its_bytes_are_on_their_way() {
    let drive = on(Profile::Business).await;
    let url = drive.session("a.bin", json!({})).await;
    let bytes = vec![7; 40 * UNIT];
    for _ in 0..5 {
        let hole = drive.fragment(&url, UNIT, &bytes, 50 * UNIT).await;
        assert_eq!(refused(hole).await, (416, "fragmentOutOfOrder".to_owned()));
    }
    let mut connections: Vec<u64> = drive
        .emulator
        .requests()
        .iter()
        .filter(|entry| entry.route == Route::Fragment)
        .map(|entry| entry.connection)
        .collect();
    connections.dedup();
    assert_eq!(connections.len(), 1, "the connection goes on");
}

#[tokio::test]
async fn a_fragment_of_sixty_mebibytes_is_too_large() {
    let drive = on(Profile::Business).await;
    let url = drive.session("a.bin", json!({})).await;
    let bytes = vec![0; 60 * 1024 * 1024];
    let response = drive.fragment(&url, 0, &bytes, bytes.len() + UNIT).await;
    assert_eq!(
        refused(response).await,
        (400, "maxFragmentLengthExceeded".to_owned())
    );
}

#[tokio::test]
async fn an_empty_file_cannot_be_uploaded_in_a_session() {
    let drive = on(Profile::Business).await;
    let response = drive
        .ask(Method::POST, "root:/a:/createUploadSession")
        .json(&json!({ "item": { "fileSize": 0 } }))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn work_drives_have_one_session_for_a_name_until_it_is_cancelled() {
    let drive = on(Profile::Business).await;
    let url = drive.session("a.bin", json!({})).await;
    let open = || {
        drive
            .ask(Method::POST, "root:/A.BIN:/createUploadSession")
            .json(&json!({}))
            .send()
    };
    assert_eq!(
        refused(open().await.unwrap()).await,
        (409, "nameAlreadyExists".to_owned())
    );
    assert_eq!(drive.put("a.bin", b"x").await.status(), 409);
    assert_eq!(drive.http.delete(&url).send().await.unwrap().status(), 204);
    assert_eq!(open().await.unwrap().status(), 200);

    let drive = on(Profile::PersonalClassic).await;
    drive.session("a.bin", json!({})).await;
    drive.session("a.bin", json!({})).await;
    assert_eq!(drive.emulator.open_sessions(), 2);
}

#[tokio::test]
async fn a_session_ends_when_nothing_comes_and_a_fragment_pushes_the_end_away() {
    let minutes = |n: u64| std::time::Duration::from_secs(60 * n);
    let drive = on(Profile::Business).await;
    let url = drive.session("a.bin", json!({})).await;
    let bytes = vec![1; UNIT];
    drive.emulator.advance(minutes(14));
    assert_eq!(
        drive.fragment(&url, 0, &bytes, 4 * UNIT).await.status(),
        202
    );
    drive.emulator.advance(minutes(14));
    assert_eq!(
        drive.fragment(&url, UNIT, &bytes, 4 * UNIT).await.status(),
        202
    );
    drive.emulator.advance(minutes(16));
    assert_eq!(
        drive
            .fragment(&url, 2 * UNIT, &bytes, 4 * UNIT)
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn the_signature_of_an_upload_url_ends_after_a_day_whatever_is_sent() {
    let drive = with(Profile::Business, |settings| {
        settings.session_seconds = 40 * 3600;
    })
    .await;
    let url = drive.session("a.bin", json!({})).await;
    drive.emulator.advance(std::time::Duration::from_hours(25));
    assert_eq!(drive.http.get(&url).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_session_never_takes_a_token() {
    let drive = on(Profile::Business).await;
    let url = drive.session("a.bin", json!({})).await;
    for method in [Method::PUT, Method::GET, Method::DELETE] {
        let request = drive.http.request(method, &url).bearer_auth(&drive.token);
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    assert_eq!(drive.emulator.open_sessions(), 1);
}

#[tokio::test]
async fn a_conflict_at_commit_keeps_the_bytes_for_another_name() {
    let drive = on(Profile::PersonalClassic).await;
    let item = json!({ "@microsoft.graph.conflictBehavior": "fail" });
    let url = drive.session("a.bin", item).await;
    drive.emulator.put_file("a.bin", b"meanwhile").unwrap();
    let bytes = [5; 100];
    let conflict = drive.fragment(&url, 0, &bytes, bytes.len()).await;
    assert_eq!(
        refused(conflict).await,
        (409, "nameAlreadyExists".to_owned())
    );
    let commit = drive
        .ask(Method::PUT, "root")
        .json(&json!({ "name": "b.bin", "@microsoft.graph.sourceUrl": url }))
        .send()
        .await
        .unwrap();
    assert_eq!(commit.status(), 201);
    assert_eq!(drive.emulator.read_file("b.bin").unwrap(), bytes);
    assert_eq!(drive.emulator.read_file("a.bin").unwrap(), b"meanwhile");
}

#[tokio::test]
async fn a_deferred_commit_waits_for_the_word() {
    let drive = on(Profile::Business).await;
    let response = drive
        .ask(Method::POST, "root:/a.bin:/createUploadSession")
        .json(&json!({ "deferCommit": true }))
        .send()
        .await
        .unwrap();
    let body: Value = json(response).await;
    let url = body["uploadUrl"].as_str().unwrap();
    assert_eq!(drive.fragment(url, 0, b"late", 4).await.status(), 202);
    assert_eq!(drive.emulator.node("a.bin"), None);
    let commit = drive
        .http
        .post(url)
        .header("content-length", "0")
        .send()
        .await
        .unwrap();
    assert_eq!(commit.status(), 201);
    assert_eq!(drive.emulator.read_file("a.bin").unwrap(), b"late");
}

#[tokio::test]
async fn an_if_match_that_grew_stale_fails_the_commit() {
    let drive = on(Profile::Business).await;
    let old = drive.emulator.put_file("a.bin", b"one").unwrap();
    let response = drive
        .ask(
            Method::POST,
            &format!("items/{}/createUploadSession", old.id),
        )
        .header("if-match", &old.etag)
        .json(&json!({}))
        .send()
        .await
        .unwrap();
    let url = json(response).await["uploadUrl"]
        .as_str()
        .unwrap()
        .to_owned();
    drive.emulator.put_file("a.bin", b"two").unwrap();
    assert_eq!(drive.fragment(&url, 0, b"three", 5).await.status(), 412);
    assert_eq!(drive.emulator.read_file("a.bin").unwrap(), b"two");
}

#[tokio::test]
async fn documents_are_rewritten_and_tags_bumped_some_time_after_the_upload() {
    let drive = with(Profile::Library, |settings| settings.rewrite_ms = 1).await;
    let path = format!("drives/{}/root:/a.docx:/content", drive.emulator.drive_id());
    let put = drive
        .graph(Method::PUT, &path)
        .body("x")
        .send()
        .await
        .unwrap();
    let sent = json(put).await;
    let within = std::time::Duration::from_secs(10);
    let grown = |running: &graph_emulator::Running| running.node("a.docx").unwrap().size > 1;
    assert!(drive.emulator.wait_until(within, grown).await);
    assert_ne!(
        drive.emulator.node("a.docx").unwrap().etag,
        sent["eTag"].as_str().unwrap()
    );

    let drive = with(Profile::Business, |settings| settings.etag_bump_ms = 1).await;
    let sent = json(drive.put("a.jpg", b"x").await).await;
    let bumped = |running: &graph_emulator::Running| {
        running.node("a.jpg").unwrap().etag != sent["eTag"].as_str().unwrap()
    };
    assert!(drive.emulator.wait_until(within, bumped).await);
    let node = drive.emulator.node("a.jpg").unwrap();
    assert_eq!(node.ctag.as_deref(), sent["cTag"].as_str());
    assert_eq!(drive.emulator.count(Route::PutContent), 1);
}
