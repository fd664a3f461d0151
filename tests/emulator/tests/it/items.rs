//! Items: read, listed, renamed, moved, deleted, copied.

use graph_emulator::{Mark, Profile, Route};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{id, json, on, refused, with};

#[tokio::test]
async fn an_item_is_found_by_id_and_by_path_in_any_case_and_form() {
    for profile in [
        Profile::PersonalClassic,
        Profile::PersonalMigrated,
        Profile::Business,
    ] {
        let drive = on(profile).await;
        drive
            .emulator
            .put_file("Pictures/Caf\u{e9}.png", b"x")
            .unwrap();
        let item = drive.get("root:/pictures/CAFE\u{301}.PNG").await;
        assert_eq!(item["name"], "Caf\u{e9}.png", "the stored form is kept");
        let again = drive.get(&format!("items/{}", id(&item))).await;
        assert_eq!(item["eTag"], again["eTag"]);
        let folder = id(&drive.get("root:/Pictures").await);
        let relative = drive.get(&format!("items/{folder}:/caf%C3%A9.png:")).await;
        assert_eq!(relative["id"], item["id"]);
    }
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_404_but_the_base_item_in_china() {
    let drive = on(Profile::Business).await;
    let response = drive
        .ask(Method::GET, "root:/nothing.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(refused(response).await, (404, "itemNotFound".to_owned()));

    let drive = on(Profile::China).await;
    let folder = drive.emulator.make_folder("a").unwrap();
    drive.emulator.put_file("a/there.txt", b"x").unwrap();
    let base = drive.get(&format!("items/{}:/there.txt:", folder.id)).await;
    assert_eq!(base["id"], folder.id.as_str());
    assert_eq!(drive.get("root:/a/missing").await["root"], json!({}));
    let odata = format!("items/{}/children('@a1')?@a1='there.txt'", folder.id);
    assert_eq!(drive.get(&odata).await["name"], "there.txt");
}

#[tokio::test]
async fn an_unchanged_item_answers_304_to_its_own_tag() {
    for profile in [Profile::PersonalClassic, Profile::Business] {
        let drive = on(profile).await;
        let node = drive.emulator.put_file("a.txt", b"x").unwrap();
        let quoted = if node.etag.starts_with('"') {
            node.etag
        } else {
            format!("\"{}\"", node.etag)
        };
        let ask = |tag: &str| {
            drive
                .ask(Method::GET, "root:/a.txt")
                .header("if-none-match", tag)
                .send()
        };
        assert_eq!(ask(&quoted).await.unwrap().status(), 304);
        assert_eq!(ask("\"other\"").await.unwrap().status(), 200);
        let naked = ask("naked").await.unwrap();
        assert_eq!(refused(naked).await, (400, "malformedEntityTag".to_owned()));
    }
}

#[tokio::test]
async fn tags_times_and_hashes_have_the_form_of_their_back_end() {
    let drive = on(Profile::PersonalClassic).await;
    drive.emulator.put_file("a.txt", b"hello world").unwrap();
    let item = drive.get("root:/a.txt").await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert!(!text(&item["eTag"]).contains('"'));
    assert_eq!(
        text(&item["createdDateTime"]).len(),
        "2026-02-19T10:52:15.123Z".len()
    );
    let hashes = &item["file"]["hashes"];
    assert_eq!(hashes["quickXorHash"], "aCgDG9jwBhDc4Q1yawMZAAAAAAA=");
    assert_eq!(
        hashes["sha1Hash"],
        "2AAE6C35C94FCFB415DBE95F408B9CE91EE846ED"
    );
    assert!(hashes["sha256Hash"].is_string());
    assert!(drive.get("root").await["cTag"].is_string());

    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"hello world").unwrap();
    let item = drive.get("root:/a.txt").await;
    assert!(text(&item["eTag"]).starts_with("\"{") && text(&item["eTag"]).ends_with(",1\""));
    assert_eq!(
        text(&item["createdDateTime"]).len(),
        "2026-02-19T10:52:15Z".len()
    );
    assert_eq!(
        item["file"]["hashes"],
        json!({ "quickXorHash": "aCgDG9jwBhDc4Q1yawMZAAAAAAA=" })
    );
    assert_eq!(drive.get("root").await["cTag"], Value::Null);
}

#[tokio::test]
async fn children_come_page_by_page_by_opaque_absolute_links() {
    let drive = on(Profile::Business).await;
    for number in 0..7 {
        drive
            .emulator
            .put_file(&format!("f/{number}.txt"), b"x")
            .unwrap();
    }
    let mut page = drive.get("root:/f:/children?$top=3&$select=id,name").await;
    let mut names = Vec::new();
    let mut pages = 1;
    loop {
        for item in page["value"].as_array().unwrap() {
            assert_eq!(item.as_object().unwrap().len(), 2, "{item}");
            names.push(item["name"].as_str().unwrap().to_owned());
        }
        let Some(link) = page.get("@odata.nextLink") else {
            break;
        };
        assert!(
            link.as_str()
                .unwrap()
                .starts_with(drive.emulator.graph_url())
        );
        page = json(drive.follow(link).await).await;
        pages += 1;
    }
    assert_eq!(
        names,
        [
            "0.txt", "1.txt", "2.txt", "3.txt", "4.txt", "5.txt", "6.txt"
        ]
    );
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn the_page_size_can_be_set_down_to_one() {
    let drive = with(Profile::Business, |settings| settings.page_cap = 1).await;
    drive.emulator.put_file("a", b"x").unwrap();
    drive.emulator.put_file("b", b"x").unwrap();
    let page = drive.get("root/children?$top=1000").await;
    assert_eq!(page["value"].as_array().unwrap().len(), 1);
    let page = json(drive.follow(&page["@odata.nextLink"]).await).await;
    assert_eq!(page["value"][0]["name"], "b");
    assert_eq!(page.get("@odata.nextLink"), None);
}

#[tokio::test]
async fn the_download_url_comes_when_it_is_named_or_nothing_is() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    let url = "@microsoft.graph.downloadUrl";
    assert!(drive.get("root:/a.txt").await[url].is_string());
    assert_eq!(drive.get("root:/a.txt?$select=id").await[url], Value::Null);
    let named = drive
        .get("root:/a.txt?select=id,@microsoft.graph.downloadUrl")
        .await;
    assert!(named[url].is_string());
    assert_eq!(named["name"], Value::Null);
}

#[tokio::test]
async fn a_folder_is_made_once_unless_the_conflict_says_otherwise() {
    let drive = on(Profile::Business).await;
    let make = |name: &str, conflict: &str| {
        drive
            .ask(Method::POST, "root/children")
            .json(&json!({ "name": name, "folder": {}, "@microsoft.graph.conflictBehavior": conflict }))
            .send()
    };
    let first = make("Dir", "fail").await.unwrap();
    assert_eq!(first.status(), 201);
    let first = json(first).await;
    let again = make("dir", "fail").await.unwrap();
    assert_eq!(refused(again).await, (409, "nameAlreadyExists".to_owned()));
    let kept = make("DIR", "replace").await.unwrap();
    assert_eq!(kept.status(), 200);
    assert_eq!(json(kept).await["id"], first["id"]);
    let other = make("dir", "rename").await.unwrap();
    assert_eq!(json(other).await["name"], "dir 1");
}

#[tokio::test]
async fn a_rename_over_a_file_needs_replace_and_loses_the_target() {
    let drive = on(Profile::Business).await;
    let temporary = drive.emulator.put_file("a.tmp", b"new").unwrap();
    let target = drive.emulator.put_file("a.txt", b"old").unwrap();
    let plain = drive.patch(&temporary.id, json!({ "name": "A.txt" })).await;
    assert_eq!(refused(plain).await, (409, "nameAlreadyExists".to_owned()));
    let body = json!({ "name": "a.txt", "@microsoft.graph.conflictBehavior": "replace" });
    assert_eq!(drive.patch(&temporary.id, body).await.status(), 200);
    let node = drive.emulator.node("a.txt").unwrap();
    assert_eq!(node.id, temporary.id);
    assert_eq!(drive.emulator.read_file("a.txt").unwrap(), b"new");
    let gone = drive
        .ask(Method::GET, &format!("items/{}", target.id))
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 404);
}

#[tokio::test]
async fn folders_are_never_replaced_and_never_moved_into_themselves() {
    let drive = on(Profile::PersonalClassic).await;
    let inner = drive.emulator.make_folder("a/b").unwrap();
    let outer = drive.emulator.make_folder("a").unwrap();
    let other = drive.emulator.make_folder("c").unwrap();
    let replace = json!({ "name": "a", "@microsoft.graph.conflictBehavior": "replace" });
    assert_eq!(drive.patch(&other.id, replace).await.status(), 409);
    let inside = json!({ "parentReference": { "id": inner.id } });
    assert_eq!(drive.patch(&outer.id, inside).await.status(), 400);
}

#[tokio::test]
async fn a_move_keeps_the_id_and_needs_the_real_id_of_the_root() {
    let drive = on(Profile::Business).await;
    let file = drive.emulator.put_file("a/x.txt", b"x").unwrap();
    let alias = drive
        .patch(&file.id, json!({ "parentReference": { "id": "root" } }))
        .await;
    assert_eq!(alias.status(), 404);
    let root = id(&drive.get("root").await);
    let body = json!({ "parentReference": { "id": root }, "name": "y.txt" });
    let moved = json(drive.patch(&file.id, body).await).await;
    assert_eq!(moved["id"], file.id.as_str());
    assert_eq!(drive.emulator.node("y.txt").unwrap().id, file.id);
    assert_eq!(drive.emulator.node("a/x.txt"), None);
}

#[tokio::test]
async fn a_change_of_case_alone_is_a_rename() {
    let drive = on(Profile::Business).await;
    let file = drive.emulator.put_file("readme.txt", b"x").unwrap();
    assert_eq!(
        drive
            .patch(&file.id, json!({ "name": "ReadMe.TXT" }))
            .await
            .status(),
        200
    );
    assert_eq!(drive.emulator.node("ReadMe.TXT").unwrap().id, file.id);
}

#[tokio::test]
async fn setting_times_adds_a_version_on_work_drives_alone() {
    for (profile, versions) in [(Profile::Business, 2), (Profile::PersonalClassic, 1)] {
        let drive = on(profile).await;
        let file = drive.emulator.put_file("a.txt", b"x").unwrap();
        let body =
            json!({ "fileSystemInfo": { "lastModifiedDateTime": "2020-01-02T03:04:05.678Z" } });
        let item = json(drive.patch(&file.id, body).await).await;
        let cut = if profile == Profile::Business {
            "05Z"
        } else {
            "05.678Z"
        };
        let mtime = item["fileSystemInfo"]["lastModifiedDateTime"]
            .as_str()
            .unwrap();
        assert_eq!(mtime, format!("2020-01-02T03:04:{cut}"));
        assert_ne!(item["eTag"], file.etag.as_str());
        assert_eq!(drive.emulator.versions("a.txt").len(), versions);
    }
}

#[tokio::test]
async fn a_stale_if_match_changes_nothing() {
    let drive = on(Profile::Business).await;
    let file = drive.emulator.put_file("a.txt", b"x").unwrap();
    drive.emulator.put_file("a.txt", b"y").unwrap();
    for method in [Method::PATCH, Method::DELETE] {
        let request = drive.ask(method, &format!("items/{}", file.id));
        let response = request
            .header("if-match", &file.etag)
            .json(&json!({ "name": "b.txt" }))
            .send()
            .await
            .unwrap();
        assert_eq!(
            refused(response).await,
            (412, "entityTagDoesNotMatch".to_owned())
        );
    }
    assert!(drive.emulator.node("a.txt").is_some());
    let star = drive
        .ask(Method::DELETE, &format!("items/{}", file.id))
        .header("if-match", "*");
    assert_eq!(star.send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_deleted_folder_takes_all_below_it_and_personal_drives_bring_it_back() {
    let drive = on(Profile::PersonalClassic).await;
    drive.emulator.put_file("a/b/c.txt", b"x").unwrap();
    let folder = drive.emulator.node("a").unwrap();
    let path = format!("items/{}", folder.id);
    assert_eq!(
        drive
            .ask(Method::DELETE, &path)
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
    assert_eq!(drive.emulator.tree(), []);
    assert_eq!(
        drive
            .ask(Method::DELETE, &path)
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    let back = drive
        .ask(Method::POST, &format!("{path}/restore"))
        .send()
        .await
        .unwrap();
    assert_eq!(back.status(), 200);
    assert_eq!(drive.emulator.read_file("a/b/c.txt").unwrap(), b"x");
}

#[tokio::test]
async fn permanent_delete_is_for_work_drives() {
    for (profile, status) in [(Profile::Business, 204), (Profile::PersonalClassic, 405)] {
        let drive = on(profile).await;
        let file = drive.emulator.put_file("a.txt", b"x").unwrap();
        let request = drive.ask(Method::POST, &format!("items/{}/permanentDelete", file.id));
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn versions_are_listed_newest_first_and_each_can_be_read() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"one").unwrap();
    let file = drive.emulator.put_file("a.txt", b"three").unwrap();
    let list = drive.get(&format!("items/{}/versions", file.id)).await;
    assert_eq!(list["value"][0]["id"], "2.0");
    assert_eq!(list["value"][1]["size"], 3);
    let request = drive.ask(
        Method::GET,
        &format!("items/{}/versions/1.0/content", file.id),
    );
    let redirect = request.send().await.unwrap();
    assert_eq!(redirect.status(), 302);
    let url = redirect.headers()["location"].to_str().unwrap();
    let old = drive
        .http
        .get(url)
        .header("range", "bytes=0-0")
        .send()
        .await
        .unwrap();
    assert_eq!(old.status(), 200, "ranges of old versions are ignored");
    assert_eq!(old.bytes().await.unwrap(), "one");
}

#[tokio::test]
async fn a_copy_is_watched_without_a_token_until_it_is_done() {
    let drive = on(Profile::Business).await;
    let source = drive.emulator.put_file("a/b.txt", b"x").unwrap();
    let root = id(&drive.get("root").await);
    let response = drive
        .ask(Method::POST, &format!("items/{}/copy", source.id))
        .json(&json!({ "parentReference": { "driveId": drive.emulator.drive_id(), "id": root }, "name": "c.txt" }))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
    let monitor = response.headers()["location"].to_str().unwrap().to_owned();
    let first = drive.http.get(&monitor).send().await.unwrap();
    assert_eq!(first.status(), 202);
    assert_eq!(json(first).await["status"], "inProgress");
    let second = json(drive.http.get(&monitor).send().await.unwrap()).await;
    assert_eq!(second["status"], "completed");
    assert_eq!(
        second["resourceId"],
        drive.emulator.node("c.txt").unwrap().id.as_str()
    );
}

#[tokio::test]
async fn vaults_notebooks_locked_and_infected_items_refuse_what_they_must() {
    let drive = on(Profile::Business).await;
    drive.emulator.make_folder("vault").unwrap();
    drive.emulator.mark("vault", Some(Mark::Vault)).unwrap();
    let list = drive
        .ask(Method::GET, "root:/vault:/children")
        .send()
        .await
        .unwrap();
    assert_eq!(refused(list).await, (400, "invalidResourceId".to_owned()));

    drive.emulator.make_package("notes").unwrap();
    let item = drive.get("root:/notes").await;
    assert_eq!(
        (&item["file"], &item["folder"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(drive.put("notes", b"x").await.status(), 409);

    drive.emulator.put_file("open.docx", b"x").unwrap();
    drive
        .emulator
        .mark("open.docx", Some(Mark::Locked))
        .unwrap();
    assert_eq!(refused(drive.put("open.docx", b"y").await).await.0, 423);

    drive.emulator.put_file("bad.exe", b"x").unwrap();
    drive.emulator.mark("bad.exe", Some(Mark::Malware)).unwrap();
    let content = drive
        .ask(Method::GET, "root:/bad.exe:/content")
        .send()
        .await
        .unwrap();
    assert_eq!(refused(content).await, (403, "malwareDetected".to_owned()));
}

#[tokio::test]
async fn a_batch_answers_each_member_by_its_own_outcome() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    let base = format!("/drives/{}", drive.emulator.drive_id());
    let body = json!({ "requests": [
        { "id": "1", "method": "GET", "url": format!("{base}/root:/a.txt?$select=name") },
        { "id": "2", "method": "GET", "url": format!("{base}/root:/none") },
        { "id": "3", "method": "DELETE", "url": format!("{base}/root:/a.txt"), "dependsOn": ["2"] },
        { "id": "4", "method": "GET", "url": format!("{base}/root:/a.txt:/content") },
    ] });
    let response = drive
        .graph(Method::POST, "$batch")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let replies = json(response).await;
    let by_id = |id: &str| {
        let all = replies["responses"].as_array().unwrap();
        all.iter().find(|reply| reply["id"] == id).unwrap().clone()
    };
    assert_eq!(by_id("1")["body"]["name"], "a.txt");
    assert_eq!(by_id("2")["status"], 404);
    assert_eq!(by_id("3")["status"], 424);
    assert_eq!(by_id("4")["status"], 302);
    assert!(by_id("4")["headers"]["Location"].is_string());
    assert_eq!(drive.emulator.count(Route::Item), 2);

    let many: Vec<Value> = (0..21)
        .map(|n| json!({ "id": n.to_string(), "method": "GET", "url": format!("{base}/root") }))
        .collect();
    let response = drive
        .graph(Method::POST, "$batch")
        .json(&json!({ "requests": many }))
        .send()
        .await;
    assert_eq!(response.unwrap().status(), 400);
}
