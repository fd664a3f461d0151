//! Drives: whose, and how full.

use graph_emulator::Profile;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{json, on, refused, with};

#[tokio::test]
async fn every_way_to_the_drive_gives_the_same_drive() {
    let drive = on(Profile::Business).await;
    for path in [
        "me/drive",
        "users/ada@contoso.com/drive",
        "sites/root/drive",
    ] {
        let found = json(drive.graph(Method::GET, path).send().await.unwrap()).await;
        assert_eq!(found["id"], drive.emulator.drive_id().as_str(), "{path}");
        assert_eq!(found["driveType"], "business");
    }
    let list = json(drive.graph(Method::GET, "me/drives").send().await.unwrap()).await;
    assert_eq!(list["value"].as_array().unwrap().len(), 1);
    let root = drive.get("root").await;
    assert_eq!(root["parentReference"]["driveType"], "business");
    assert_eq!(root["parentReference"]["id"], Value::Null);
}

#[tokio::test]
async fn a_library_stands_beside_the_users_own_drive() {
    let drive = on(Profile::Library).await;
    let mine = json(drive.graph(Method::GET, "me/drive").send().await.unwrap()).await;
    let site = json(
        drive
            .graph(Method::GET, "sites/root/drive")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(mine["driveType"], "business");
    assert_eq!(site["driveType"], "documentLibrary");
    assert_eq!(site["id"], drive.emulator.drive_id().as_str());
    assert_ne!(mine["id"], site["id"]);
}

#[tokio::test]
async fn the_quota_counts_versions_on_work_drives_and_may_be_zeros() {
    for (profile, used) in [(Profile::Business, 30), (Profile::PersonalClassic, 20)] {
        let drive = on(profile).await;
        drive.emulator.put_file("a", [0; 10]).unwrap();
        drive.emulator.put_file("a", [1; 20]).unwrap();
        let quota = drive.get("?$select=quota").await;
        assert_eq!(quota["quota"]["used"], used);
        assert_eq!(quota["quota"]["state"], "normal");
        assert_eq!(quota["id"], Value::Null);
        drive
            .emulator
            .adjust(|settings| settings.quota_zeros = true);
        let quota = drive.get("?$select=quota").await;
        assert_eq!(quota["quota"]["total"], 0);
    }
}

#[tokio::test]
async fn what_does_not_fit_is_507() {
    let drive = with(Profile::Business, |settings| settings.quota_total = 100).await;
    assert_eq!(drive.put("a", &[0; 60]).await.status(), 201);
    let response = drive.put("b", &[0; 60]).await;
    assert_eq!(
        refused(response).await,
        (507, "quotaLimitReached".to_owned())
    );
    let session = drive
        .ask(Method::POST, "root:/c:/createUploadSession")
        .json(&json!({ "item": { "fileSize": 60 } }))
        .send()
        .await
        .unwrap();
    assert_eq!(session.status(), 507);
}

#[tokio::test]
async fn a_personal_drive_id_may_lose_its_zero_inside_items() {
    let drive = with(Profile::PersonalClassic, |settings| {
        settings.drive_id_quirk = true;
    })
    .await;
    let id = drive.emulator.drive_id();
    assert_eq!((id.len(), &id[..1]), (16, "0"));
    let item = drive.get("root").await;
    let quirky = item["parentReference"]["driveId"].as_str().unwrap();
    assert_eq!(quirky, id.trim_start_matches('0').to_uppercase());
    let upper = drive.graph(Method::GET, &format!("drives/{}/root", id.to_uppercase()));
    assert_eq!(upper.send().await.unwrap().status(), 200);
    let dropped = drive.graph(Method::GET, &format!("drives/{quirky}/root"));
    assert_eq!(dropped.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn every_reply_carries_a_request_id() {
    let drive = on(Profile::Business).await;
    let good = drive.ask(Method::GET, "root").send().await.unwrap();
    assert!(good.headers().contains_key("request-id"));
    let bad = drive.ask(Method::GET, "root:/none").send().await.unwrap();
    let header = bad.headers()["request-id"].to_str().unwrap().to_owned();
    assert_eq!(
        json(bad).await["error"]["innerError"]["request-id"],
        header.as_str()
    );
}
