//! Delta: what a client learns about changes.

use graph_emulator::{Act, Fault, Profile, Route};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Signed, json, on, refused, with};

/// Follows a round to its end; gives the rows and the deltaLink.
async fn round(drive: &Signed, first: Value) -> (Vec<Value>, Value) {
    let mut page = first;
    let mut rows = Vec::new();
    for _ in 0..1000 {
        rows.extend(page["value"].as_array().unwrap().iter().cloned());
        let Some(next) = page.get("@odata.nextLink") else {
            return (rows, page["@odata.deltaLink"].clone());
        };
        assert_eq!(page.get("@odata.deltaLink"), None);
        page = json(drive.follow(next).await).await;
    }
    panic!("the round does not end");
}

async fn begin(drive: &Signed) -> (Vec<Value>, Value) {
    let first = drive.get("root/delta").await;
    round(drive, first).await
}

async fn resume(drive: &Signed, link: &Value) -> (Vec<Value>, Value) {
    let first = json(drive.follow(link).await).await;
    round(drive, first).await
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter()
        .map(|row| row["name"].as_str().unwrap_or("-"))
        .collect()
}

#[tokio::test]
async fn a_first_round_lists_what_lives_in_pages_without_paths() {
    let drive = with(Profile::PersonalClassic, |settings| {
        settings.delta_page_size = 1;
    })
    .await;
    drive.emulator.put_file("a/x.txt", b"x").unwrap();
    drive.emulator.put_file("gone.txt", b"x").unwrap();
    drive.emulator.delete("gone.txt").unwrap();
    let (rows, link) = begin(&drive).await;
    assert_eq!(names(&rows), ["root", "a", "x.txt"]);
    assert!(
        rows.iter()
            .all(|row| row["parentReference"]["path"].is_null())
    );
    assert!(
        link.as_str()
            .unwrap()
            .starts_with(drive.emulator.graph_url())
    );
    let (rows, _) = resume(&drive, &link).await;
    assert_eq!(rows, [] as [Value; 0]);
}

#[tokio::test]
async fn latest_lists_nothing_and_then_only_what_changes() {
    let drive = on(Profile::PersonalClassic).await;
    drive.emulator.put_file("old.txt", b"x").unwrap();
    let first = drive.get("root/delta?token=latest").await;
    let (rows, link) = round(&drive, first).await;
    assert_eq!(rows.len(), 0);
    drive.emulator.put_file("new.txt", b"one").unwrap();
    drive.emulator.put_file("new.txt", b"three").unwrap();
    let (rows, link) = resume(&drive, &link).await;
    assert_eq!(names(&rows), ["new.txt"]);
    assert_eq!(rows[0]["size"], 5, "the latest state");
    let (rows, _) = resume(&drive, &link).await;
    assert_eq!(rows.len(), 0);
}

#[tokio::test]
async fn a_move_is_the_same_id_under_another_parent() {
    let drive = on(Profile::PersonalClassic).await;
    let file = drive.emulator.put_file("a/x.txt", b"x").unwrap();
    let folder = drive.emulator.make_folder("b").unwrap();
    let (_, link) = begin(&drive).await;
    drive.emulator.move_into("a/x.txt", "b").unwrap();
    let (rows, _) = resume(&drive, &link).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["id"], file.id.as_str());
    assert_eq!(rows[0]["parentReference"]["id"], folder.id.as_str());
}

#[tokio::test]
async fn tombstones_lack_what_their_back_end_leaves_out() {
    let drive = on(Profile::PersonalClassic).await;
    drive.emulator.put_file("a/x.txt", b"x").unwrap();
    let (_, link) = begin(&drive).await;
    drive.emulator.delete("a").unwrap();
    let (rows, _) = resume(&drive, &link).await;
    let mut gone = names(&rows);
    gone.sort_unstable();
    assert_eq!(gone, ["a", "x.txt"]);
    assert!(
        rows.iter()
            .all(|row| row["deleted"].is_object() && row["size"].is_null())
    );

    let drive = on(Profile::Business).await;
    let folder = drive.emulator.make_folder("a").unwrap();
    drive.emulator.put_file("a/x.txt", b"x").unwrap();
    let (_, link) = begin(&drive).await;
    drive.emulator.delete("a").unwrap();
    let (rows, _) = resume(&drive, &link).await;
    assert_eq!(names(&rows), ["root", "-"]);
    assert_eq!(rows[1]["id"], folder.id.as_str());
    assert_eq!(rows[1]["size"], 0);
}

#[tokio::test]
async fn work_drives_list_the_ancestors_of_a_change_unless_told_not_to() {
    let drive = on(Profile::Business).await;
    drive.emulator.make_folder("a/b").unwrap();
    let (_, link) = begin(&drive).await;
    drive.emulator.put_file("a/b/x.txt", b"x").unwrap();
    let (rows, _) = resume(&drive, &link).await;
    assert_eq!(names(&rows), ["root", "a", "b", "x.txt"]);
    assert!(rows.iter().all(|row| row["cTag"].is_null()));
    let alone = drive
        .http
        .get(link.as_str().unwrap())
        .header("deltaExcludeParent", "true")
        .bearer_auth(&drive.token)
        .send()
        .await
        .unwrap();
    assert_eq!(json(alone).await["value"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn which_folder_can_carry_delta_depends_on_the_back_end() {
    for (profile, root, folder) in [
        (Profile::PersonalClassic, 200, 200),
        (Profile::PersonalMigrated, 200, 200),
        (Profile::Business, 200, 501),
        (Profile::Library, 200, 501),
        (Profile::China, 400, 400),
    ] {
        let drive = on(profile).await;
        let id = drive.emulator.make_folder("a").unwrap().id;
        let status = async |path: String| {
            drive
                .ask(Method::GET, &path)
                .send()
                .await
                .unwrap()
                .status()
                .as_u16()
        };
        assert_eq!(status("root/delta".to_owned()).await, root, "{profile:?}");
        assert_eq!(
            status(format!("items/{id}/delta")).await,
            folder,
            "{profile:?}"
        );
    }
}

#[tokio::test]
async fn a_folders_delta_sees_what_leaves_it_as_gone() {
    let drive = on(Profile::PersonalClassic).await;
    drive.emulator.put_file("a/x.txt", b"x").unwrap();
    drive.emulator.put_file("other.txt", b"x").unwrap();
    let folder = drive.emulator.node("a").unwrap().id;
    let first = drive.get(&format!("items/{folder}/delta")).await;
    let (rows, link) = round(&drive, first).await;
    assert_eq!(names(&rows), ["a", "x.txt"]);
    drive.emulator.make_folder("b").unwrap();
    drive.emulator.move_into("a/x.txt", "b").unwrap();
    let (rows, _) = resume(&drive, &link).await;
    assert_eq!(names(&rows), ["x.txt"]);
    assert!(rows[0]["deleted"].is_object());
}

#[tokio::test]
async fn a_token_that_is_too_old_is_410_and_leads_to_a_fresh_start() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    let (_, link) = begin(&drive).await;
    drive.emulator.expire_deltas();
    let gone = drive.follow(&link).await;
    assert_eq!(gone.status(), 410);
    let fresh = json!(gone.headers()["location"].to_str().unwrap());
    assert_eq!(refused(gone).await.1, "resyncChangesApplyDifferences");
    let (rows, _) = resume(&drive, &fresh).await;
    assert_eq!(names(&rows), ["root", "a.txt"]);
    let garbage = drive
        .ask(Method::GET, "root/delta?token=garbage")
        .send()
        .await
        .unwrap();
    assert_eq!(garbage.status(), 400);
}

#[tokio::test]
async fn either_resync_code_can_be_injected_with_and_without_a_location() {
    let drive = on(Profile::Business).await;
    let code = "resyncChangesUploadDifferences";
    for (top, location) in [(false, true), (true, false)] {
        let act = Act::Resync {
            code: code.to_owned(),
            top,
            location,
        };
        drive.emulator.inject(Fault::new(Route::Delta, act));
        let gone = drive.ask(Method::GET, "root/delta").send().await.unwrap();
        assert_eq!(gone.status(), 410);
        assert_eq!(gone.headers().contains_key("location"), location);
        assert_eq!(refused(gone).await.1, code);
    }
}

#[tokio::test]
async fn times_are_tokens_on_work_drives() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("before.txt", b"x").unwrap();
    drive.emulator.advance(std::time::Duration::from_secs(100));
    let edge = drive.get("root:/before.txt").await["createdDateTime"]
        .as_str()
        .unwrap()
        .to_owned();
    drive.emulator.put_file("after.txt", b"x").unwrap();
    let later: String = edge
        .parse::<jiff::Timestamp>()
        .unwrap()
        .checked_add(jiff::SignedDuration::from_secs(50))
        .unwrap()
        .to_string();
    let page = drive.get(&format!("root/delta?token={later}")).await;
    let (rows, _) = round(&drive, page).await;
    assert_eq!(names(&rows), ["root", "after.txt"]);
    let personal = on(Profile::PersonalClassic).await;
    let refusal = personal.ask(Method::GET, &format!("root/delta?token={later}"));
    assert_eq!(refusal.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn quirks_of_delta_can_be_turned_on() {
    let drive = with(Profile::PersonalClassic, |settings| {
        settings.delta_duplicates = true;
        settings.delta_page_size = 1;
    })
    .await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    let (rows, link) = begin(&drive).await;
    assert_eq!(names(&rows), ["root", "root", "a.txt", "a.txt"]);

    drive
        .emulator
        .adjust(|settings| settings.delta_lag_ms = 60_000);
    drive.emulator.put_file("b.txt", b"x").unwrap();
    let (rows, link) = resume(&drive, &link).await;
    assert_eq!(rows.len(), 0, "not visible yet");
    drive.emulator.advance(std::time::Duration::from_secs(61));
    let (rows, link) = resume(&drive, &link).await;
    assert_eq!(names(&rows), ["b.txt", "b.txt"]);

    drive.emulator.adjust(|settings| {
        settings.delta_lag_ms = 0;
        settings.delta_loses_tombstones = true;
    });
    drive.emulator.delete("b.txt").unwrap();
    let (rows, _) = resume(&drive, &link).await;
    assert_eq!(rows.len(), 0);

    drive
        .emulator
        .adjust(|settings| settings.delta_loops = true);
    let page = drive.get("root/delta").await;
    let next = json(drive.follow(&page["@odata.nextLink"]).await).await;
    assert_eq!(page["@odata.nextLink"], next["@odata.nextLink"]);
}

#[tokio::test]
async fn the_options_of_a_round_hold_in_its_links() {
    let drive = with(Profile::Business, |settings| settings.delta_page_size = 1).await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    let page = drive.get("root/delta?$select=id,name").await;
    let (rows, link) = round(&drive, page).await;
    assert!(
        rows.iter().all(|row| row.as_object().unwrap().len() == 2),
        "{rows:?}"
    );
    drive.emulator.put_file("b.txt", b"x").unwrap();
    let (rows, _) = resume(&drive, &link).await;
    assert!(
        rows.iter().all(|row| row.as_object().unwrap().len() == 2),
        "{rows:?}"
    );
}
