//! Quirks that are off until asked for.

use graph_emulator::Profile;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{json, on, refused, with};

const OLD: &str = "2020-01-02T03:04:05Z";

#[tokio::test]
async fn a_rename_may_reset_the_time_and_change_the_ctag() {
    for quirk in [false, true] {
        let drive = with(Profile::Business, |settings| {
            settings.rename_resets_mtime = quirk;
            settings.rename_bumps_ctag = quirk;
        })
        .await;
        let file = drive.emulator.put_file("a.txt", b"x").unwrap();
        let times = json!({ "fileSystemInfo": { "lastModifiedDateTime": OLD } });
        drive.patch(&file.id, times.clone()).await;
        let renamed = json(drive.patch(&file.id, json!({ "name": "b.txt" })).await).await;
        assert_eq!(
            renamed["fileSystemInfo"]["lastModifiedDateTime"] != OLD,
            quirk
        );
        assert_eq!(renamed["cTag"].as_str() != file.ctag.as_deref(), quirk);
        let mut sent_along = times;
        sent_along["name"] = "c.txt".into();
        let kept = json(drive.patch(&file.id, sent_along).await).await;
        assert_eq!(kept["fileSystemInfo"]["lastModifiedDateTime"], OLD);
    }
}

#[tokio::test]
async fn a_condition_may_fail_whatever_the_tag() {
    let drive = with(Profile::Business, |settings| {
        settings.if_match_always_412 = true;
    })
    .await;
    let file = drive.emulator.put_file("a.txt", b"x").unwrap();
    let request = drive.ask(Method::DELETE, &format!("items/{}", file.id));
    let response = request.header("if-match", &file.etag).send().await.unwrap();
    assert_eq!(response.status(), 412);
    let plain = drive.ask(Method::DELETE, &format!("items/{}", file.id));
    assert_eq!(plain.send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_plus_in_a_path_may_be_read_as_a_space() {
    let drive = with(Profile::PersonalClassic, |settings| {
        settings.plus_is_space = true;
    })
    .await;
    let item = json(drive.put("a+b.txt", b"x").await).await;
    assert_eq!(item["name"], "a b.txt");
    drive
        .emulator
        .adjust(|settings| settings.plus_is_space = false);
    let item = json(drive.put("c+d.txt", b"x").await).await;
    assert_eq!(item["name"], "c+d.txt");
}

#[tokio::test]
async fn hashes_may_be_missing_and_are_missing_on_empty_files() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("empty", b"").unwrap();
    drive.emulator.put_file("full", b"x").unwrap();
    assert_eq!(
        drive.get("root:/empty").await["file"]["hashes"],
        Value::Null
    );
    assert!(drive.get("root:/full").await["file"]["hashes"].is_object());
    drive
        .emulator
        .adjust(|settings| settings.hide_hashes = true);
    assert_eq!(drive.get("root:/full").await["file"]["hashes"], Value::Null);
}

#[tokio::test]
async fn downloads_may_ignore_ranges_and_sessions_may_vanish() {
    let drive = with(Profile::Business, |settings| settings.ignore_range = true).await;
    drive.emulator.put_file("a.txt", b"0123").unwrap();
    let item = drive.get("root:/a.txt").await;
    let url = item["@microsoft.graph.downloadUrl"].as_str().unwrap();
    let whole = drive
        .http
        .get(url)
        .header("range", "bytes=1-2")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            whole.status().as_u16(),
            whole.text().await.unwrap().as_str()
        ),
        (200, "0123")
    );

    let url = drive.session("b.bin", json!({})).await;
    drive.emulator.expire_sessions();
    let gone = drive.fragment(&url, 0, b"1234", 4).await;
    assert_eq!(refused(gone).await, (404, "itemNotFound".to_owned()));
}
