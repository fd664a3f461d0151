//! Over restarts, and at starts that cannot work.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tuyun_chassis::exit::{Code, Explain as _};
use tuyun_edge::{Edge, EdgeError, Settings};

use crate::node::{Node, client, eventually, settings, told};
use crate::origin::{Origin, Reply};

fn kept(body: &[u8]) -> Reply {
    Reply::picture(body)
        .header("cache-control", "max-age=600")
        .header("etag", "\"1\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_and_what_was_counted_outlive_a_restart() {
    let origin = Origin::start().await;
    origin.serve("/a.webp", kept(b"0123456789"));
    let large: Vec<u8> = (0..700_000_u32).map(|n| (n % 250) as u8).collect();
    origin.serve("/b.webp", kept(&large));
    let node = Node::before(&origin).await;
    told(node.get("/a.webp").await).await;
    told(node.get("/b.webp").await).await;
    node.holds(2).await;
    let before: Vec<Value> = node.get("/_api/traffic").await.json().await.expect("JSON");

    let node = node.restarted().await;
    let after: Vec<Value> = node.get("/_api/traffic").await.json().await.expect("JSON");
    assert_eq!(before[0]["traffic_out"], 700_010);
    // At midnight the first row is another day.
    assert!(after == before || after[1] == before[0]);
    assert_eq!(
        told(node.get("/a.webp").await).await,
        (200, "HIT".into(), b"0123456789".to_vec())
    );
    assert_eq!(
        told(node.get("/b.webp").await).await,
        (200, "HIT".into(), large)
    );
    let status: Value = node.get("/_api/status").await.json().await.expect("JSON");
    assert_eq!(
        (&status["get"], &status["traffic_in"]),
        (&4.into(), &700_010.into())
    );
    assert_eq!(origin.log().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_runs_when_it_stops_is_brought_to_its_end() {
    let origin = Origin::start().await;
    let gate = crate::origin::Gate::shut();
    let reply = Reply::bare(200)
        .header("content-length", "10")
        .send(b"01234")
        .wait(&gate);
    origin.serve(
        "/a.webp",
        reply.send(b"56789").header("cache-control", "max-age=600"),
    );
    let node = Node::before(&origin).await;
    let response = node.get("/a.webp").await;
    let restarting = tokio::spawn(node.restarted());
    gate.open();
    assert_eq!(response.bytes().await.expect("whole"), b"0123456789"[..]);
    let node = restarting.await.expect("restarted");
    assert_eq!(told(node.get("/a.webp").await).await.1, "HIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_disk_is_noticed_and_fetched_again() {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    for name in ["/gone.webp", "/short.webp", "/flipped.webp"] {
        origin.serve(name, kept(name.as_bytes()));
        told(node.get(name).await).await;
    }
    node.holds(3).await;
    let node = node.restarted().await;
    for file in bodies(&node) {
        let body = std::fs::read(&file).expect("read");
        match body.as_slice() {
            b"/gone.webp" => std::fs::remove_file(&file).expect("removed"),
            b"/short.webp" => std::fs::write(&file, b"/short").expect("written"),
            _ => std::fs::write(&file, b"/flipPed.webp").expect("written"),
        }
    }
    for name in ["/gone.webp", "/short.webp", "/flipped.webp"] {
        assert_eq!(
            told(node.get(name).await).await,
            (200, "MISS".into(), name.into())
        );
        assert_eq!(origin.asked(name).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_picture_too_large_for_memory_is_noticed_as_well() {
    let (origin, body) = (Origin::start().await, vec![7; 3_000_000]);
    let node = Node::before(&origin).await;
    origin.serve("/a.webp", kept(&body));
    told(node.get("/a.webp").await).await;
    node.holds(1).await;
    let node = node.restarted().await;
    let file = bodies(&node).remove(0);
    let mut damaged = body.clone();
    damaged[2_000_000] ^= 1;
    std::fs::write(&file, damaged).expect("written");
    let got = told(node.get("/a.webp").await).await;
    assert!(got == (200, "MISS".into(), body));
    assert_eq!(origin.asked("/a.webp").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_no_entry_stands_for_are_removed_after_a_start() {
    let origin = Origin::start().await;
    origin.serve("/a.webp", kept(b"0123456789"));
    let node = Node::before(&origin).await;
    told(node.get("/a.webp").await).await;
    node.holds(1).await;
    let stray = node.cache().join("bodies/ff/00000001000000ff");
    std::fs::write(&stray, b"nobody's").expect("written");
    let node = node.restarted().await;
    eventually("the stray is gone", async || !stray.exists()).await;
    assert_eq!(bodies(&node).len(), 1);
    assert_eq!(told(node.get("/a.webp").await).await.1, "HIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_size_the_cache_gives_up_what_was_used_least_recently() {
    let origin = Origin::start().await;
    let node = Node::with(&origin, |settings, _| {
        settings.cache.max_size = "100KiB".parse().expect("a size");
    })
    .await;
    for n in 0..30 {
        let name = format!("/{n}.webp");
        origin.serve(&name, kept(&[n; 10_000]));
        told(node.get(&name).await).await;
        eventually("it is stored", async || {
            let status: Value = node.get("/_api/status").await.json().await.expect("JSON");
            status["fetching"] == 0
        })
        .await;
    }
    eventually("enough has gone", async || {
        let status: Value = node.get("/_api/status").await.json().await.expect("JSON");
        status["cache_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes <= 102_400)
    })
    .await;
    assert_eq!(told(node.get("/29.webp").await).await.1, "HIT");
    eventually("the files have gone, too", async || {
        bodies(&node).len() <= 10
    })
    .await;
}

fn bodies(node: &Node) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(node.cache().join("bodies")).expect("folders");
    let folders = folders.map(|folder| folder.expect("a folder").path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).expect("files"));
    files.map(|file| file.expect("a file").path()).collect()
}

async fn refused(settings: Settings) -> EdgeError {
    client(); // the process needs its crypto
    let error = Edge::bind(settings).await.err().expect("refused");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_said_with_what_to_do() {
    let origin = Origin::start().await;
    let home = tempfile::tempdir().expect("a directory");
    let mut settings = settings(&origin.base(), home.path());
    settings.listen = origin.address().to_string();
    let error = refused(settings).await;
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains(&origin.address().to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_in_use_is_said_with_what_to_do() {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    let mut settings = settings(&origin.base(), std::path::Path::new("/"));
    settings.cache.dir = node.cache().to_str().expect("UTF-8").into();
    let error = refused(settings).await;
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_directory_that_cannot_be_used_is_said_with_what_to_do() {
    let origin = Origin::start().await;
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("file"), b"").expect("written");
    let mut below_a_file = settings(&origin.base(), home.path());
    below_a_file.cache.dir = home
        .path()
        .join("file/cache")
        .to_str()
        .expect("UTF-8")
        .into();
    assert_eq!(refused(below_a_file).await.code(), Code::Unavailable);

    let locked = home.path().join("locked");
    std::fs::create_dir(&locked).expect("made");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).expect("set");
    if std::fs::create_dir(locked.join("probe")).is_ok() {
        return; // root may write everywhere
    }
    let mut forbidden = settings(&origin.base(), home.path());
    forbidden.cache.dir = locked.join("cache").to_str().expect("UTF-8").into();
    assert_eq!(refused(forbidden).await.code(), Code::Permission);
}
