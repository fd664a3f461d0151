//! Requests that go wrong as they do in the field.

use std::time::{Duration, Instant};

use graph_emulator::{Act, Fault, Host, Profile, Reply, ReplyBody, Route};
use reqwest::Method;
use serde_json::Value;

use crate::client::{json, on, with};

#[tokio::test]
async fn a_refusal_comes_before_the_effect_with_its_retry_after() {
    let drive = on(Profile::Business).await;
    drive.emulator.inject(
        Fault::status(Route::PutContent, 429)
            .retry_after(7)
            .times(2),
    );
    for _ in 0..2 {
        let response = drive.put("a.txt", b"x").await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "7");
        let body = json(response).await;
        assert_eq!(body["error"]["code"], "activityLimitReached");
        assert_eq!(body["error"]["innerError"]["code"], "throttledRequest");
        assert_eq!(drive.emulator.node("a.txt"), None);
    }
    assert_eq!(drive.put("a.txt", b"x").await.status(), 201);
    assert_eq!(drive.emulator.requests()[0].retry_after, Some(7));
    drive.emulator.inject(Fault::status(Route::PutContent, 503));
    assert!(
        !drive
            .put("a.txt", b"x")
            .await
            .headers()
            .contains_key("retry-after")
    );
}

#[tokio::test]
async fn an_effect_may_be_hidden_behind_an_error() {
    let drive = on(Profile::Business).await;
    drive
        .emulator
        .inject(Fault::status_after_effect(Route::PutContent, 504));
    assert_eq!(drive.put("a.txt", b"x").await.status(), 504);
    assert_eq!(drive.emulator.read_file("a.txt").unwrap(), b"x");
}

#[tokio::test]
async fn the_last_fragment_may_fail_though_the_file_is_there() {
    let drive = on(Profile::Business).await;
    let url = drive.session("a.bin", serde_json::json!({})).await;
    drive
        .emulator
        .inject(Fault::status_after_effect(Route::Fragment, 500));
    assert_eq!(drive.fragment(&url, 0, b"1234", 4).await.status(), 500);
    assert_eq!(drive.emulator.read_file("a.bin").unwrap(), b"1234");
    assert_eq!(drive.http.get(&url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_lost_reply_closes_the_connection_after_the_effect() {
    let drive = on(Profile::Business).await;
    drive.emulator.inject(Fault::lost_reply(Route::PutContent));
    let request = drive
        .ask(Method::PUT, "root:/a.txt:/content")
        .body("x")
        .send()
        .await;
    assert!(request.is_err());
    assert_eq!(drive.emulator.read_file("a.txt").unwrap(), b"x");
    let entry = drive.emulator.requests().pop().unwrap();
    assert_eq!((entry.status, entry.done), (None, true));

    drive
        .emulator
        .inject(Fault::new(Route::PutContent, Act::LoseRequest));
    let request = drive
        .ask(Method::PUT, "root:/b.txt:/content")
        .body("x")
        .send()
        .await;
    assert!(request.is_err());
    assert_eq!(drive.emulator.node("b.txt"), None);
}

#[tokio::test]
async fn a_success_may_come_without_its_body() {
    let drive = on(Profile::Business).await;
    drive
        .emulator
        .inject(Fault::new(Route::PutContent, Act::EmptyBody));
    let response = drive.put("a.txt", b"x").await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.bytes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_download_may_ignore_its_range_break_off_or_stand_still() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.bin", vec![7; 500_000]).unwrap();
    let item = drive.get("root:/a.bin").await;
    let url = item["@microsoft.graph.downloadUrl"].as_str().unwrap();
    let get = || drive.http.get(url).header("range", "bytes=0-399999").send();

    drive
        .emulator
        .inject(Fault::new(Route::Download, Act::IgnoreRange));
    let whole = get().await.unwrap();
    assert_eq!(
        (whole.status().as_u16(), whole.content_length()),
        (200, Some(500_000))
    );

    drive
        .emulator
        .inject(Fault::new(Route::Download, Act::CutBody { after: 1000 }));
    let cut = get().await.unwrap();
    assert_eq!(
        (cut.status().as_u16(), cut.content_length()),
        (206, Some(400_000))
    );
    assert!(cut.bytes().await.is_err());

    drive.emulator.inject(Fault::new(
        Route::Download,
        Act::Stall {
            after: 10,
            millis: 80,
        },
    ));
    let began = Instant::now();
    assert_eq!(get().await.unwrap().bytes().await.unwrap().len(), 400_000);
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn an_error_body_may_be_html_or_nothing() {
    let drive = on(Profile::Business).await;
    drive
        .emulator
        .inject(Fault::status(Route::Item, 502).body(ReplyBody::Html));
    drive
        .emulator
        .inject(Fault::status(Route::Item, 503).body(ReplyBody::Empty));
    let html = drive.ask(Method::GET, "root").send().await.unwrap();
    assert_eq!(html.headers()["content-type"], "text/html");
    assert!(html.text().await.unwrap().starts_with("<html>"));
    let empty = drive.ask(Method::GET, "root").send().await.unwrap();
    assert_eq!(
        (
            empty.status().as_u16(),
            empty.text().await.unwrap().as_str()
        ),
        (503, "")
    );
}

#[tokio::test]
async fn a_young_item_may_not_be_found_for_a_while() {
    let drive = with(Profile::Business, |settings| settings.young_404_ms = 60_000).await;
    let item = json(drive.put("a.txt", b"x").await).await;
    let path = format!("items/{}", item["id"].as_str().unwrap());
    assert_eq!(
        drive.ask(Method::GET, &path).send().await.unwrap().status(),
        404
    );
    drive.emulator.advance(Duration::from_secs(61));
    assert_eq!(
        drive.ask(Method::GET, &path).send().await.unwrap().status(),
        200
    );
}

#[tokio::test]
async fn latency_is_added_to_every_request_and_a_delay_to_one() {
    let drive = with(Profile::Business, |settings| settings.latency_ms = 60).await;
    let took = || async {
        let began = Instant::now();
        drive.get("root").await;
        began.elapsed()
    };
    assert!(took().await >= Duration::from_millis(60));
    drive.emulator.adjust(|settings| settings.latency_ms = 0);
    drive
        .emulator
        .inject(Fault::new(Route::Item, Act::Delay { millis: 70 }));
    assert!(took().await >= Duration::from_millis(70));
}

#[tokio::test]
async fn a_held_upload_takes_no_effect_until_it_is_released() {
    let drive = on(Profile::Business).await;
    let within = Duration::from_secs(10);
    drive.emulator.hold(Route::PutContent);
    let upload = drive.ask(Method::PUT, "root:/a.txt:/content").body("x");
    let upload = tokio::spawn(upload.send());
    assert!(drive.emulator.wait_for(Route::PutContent, 1, within).await);
    assert_eq!(drive.emulator.node("a.txt"), None);
    assert_eq!(drive.emulator.completed(Route::PutContent), 0);
    drive.emulator.release(Route::PutContent);
    assert_eq!(upload.await.unwrap().unwrap().status(), 201);
    assert!(drive.emulator.node("a.txt").is_some());

    drive.emulator.hold_reply(Route::PutContent);
    let upload = drive.ask(Method::PUT, "root:/b.txt:/content").body("x");
    let upload = tokio::spawn(upload.send());
    assert!(
        drive
            .emulator
            .wait_until(within, |running| running.node("b.txt").is_some())
            .await
    );
    assert_eq!(drive.emulator.completed(Route::PutContent), 1);
    drive.emulator.release(Route::PutContent);
    assert_eq!(upload.await.unwrap().unwrap().status(), 201);
}

#[tokio::test]
async fn a_fault_on_any_route_and_by_path_strikes_where_it_says() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    drive.emulator.put_file("b.txt", b"x").unwrap();
    let reply = Reply {
        status: 423,
        ..Reply::default()
    };
    drive.emulator.inject(
        Fault::anywhere(Act::Refuse(reply))
            .on_path("b.txt")
            .always(),
    );
    let status = |path: &'static str| async {
        drive
            .ask(Method::GET, path)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(status("root:/a.txt").await, 200);
    assert_eq!(status("root:/b.txt").await, 423);
    assert_eq!(status("root:/b.txt:/content").await, 423);
    drive.emulator.clear_faults();
    assert_eq!(status("root:/b.txt").await, 200);
}

#[tokio::test]
async fn the_log_tells_what_was_asked_without_secrets() {
    let drive = on(Profile::Business).await;
    drive.put("a.txt", b"hello").await;
    let item = drive
        .get("root:/a.txt?$select=id,@microsoft.graph.downloadUrl")
        .await;
    let url = item["@microsoft.graph.downloadUrl"].as_str().unwrap();
    drive.http.get(url).send().await.unwrap();
    let entries = drive.emulator.requests();
    let routes: Vec<Route> = entries.iter().map(|entry| entry.route).collect();
    assert_eq!(routes, [Route::PutContent, Route::Item, Route::Download]);
    assert_eq!((entries[0].status, entries[0].sent), (Some(201), Some(5)));
    assert_eq!(entries[2].host, Host::Storage);
    let all = serde_json::to_string(&entries).unwrap();
    assert!(!all.contains("tempauth") && !all.contains(&drive.token));
    assert_eq!(
        entries[0].connection, entries[1].connection,
        "one connection to Graph"
    );
    drive.emulator.reset_log();
    assert_eq!(
        (drive.emulator.total(), drive.emulator.requests().len()),
        (0, 0)
    );
    let none: Vec<Value> = Vec::new();
    assert_eq!(
        serde_json::to_value(drive.emulator.requests()).unwrap(),
        Value::from(none)
    );
}
