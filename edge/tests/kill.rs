//! Killed in the middle of storing, the cache holds whole pictures only.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path as Name;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

/// Enough to meet every phase: before, in and after the body, its rename and its entry. The long form
/// asks for more by `GAUNTLET_ROUNDS`.
const ROUNDS: usize = 10;
const PICTURES: usize = 30;
const SIZE: usize = 200_000;
const PATIENCE: Duration = Duration::from_secs(20);

fn picture(name: usize) -> Vec<u8> {
    let noise = (0..SIZE).map(|at| u8::try_from((at * 31 + name * 7) % 251).expect("below 256"));
    b"RIFF".iter().copied().chain(noise).take(SIZE).collect()
}

/// Sends a picture in small pieces, so that many are on their way at once.
async fn send(Name(name): Name<String>) -> Response {
    let name = name
        .strip_suffix(".webp")
        .and_then(|number| number.parse().ok())
        .expect("a number");
    let body = Bytes::from(picture(name));
    let pieces = (0..SIZE)
        .step_by(8_192)
        .map(move |at| body.slice(at..SIZE.min(at + 8_192)));
    let pieces = stream::iter(pieces).then(async |piece| {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>(piece)
    });
    let headers = [
        ("content-type", "image/webp".to_owned()),
        ("content-length", SIZE.to_string()),
        ("cache-control", "max-age=600".to_owned()),
        ("etag", format!("\"{name}\"")),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

struct Edge {
    child: Child,
    base: String,
}

impl Edge {
    fn start(origin: &str, cache: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tuyun-edge"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--control.listen",
                "127.0.0.1:0",
            ])
            .args(["--limit.per-second", "0", "--origin.primary", origin])
            .arg("--cache.dir")
            .arg(cache)
            .env_clear()
            .env("TUYUN_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let base = loop {
            let line = lines
                .next()
                .expect("it says where it serves")
                .expect("UTF-8");
            if let Some((_, rest)) = line.split_once("address=") {
                let address = rest.split_whitespace().next().expect("an address");
                break format!("http://{address}");
            }
        };
        // Somebody has to read on, or a full pipe would hold the program up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, base }
    }

    fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

/// A test that fails leaves no process behind.
impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn fetch(client: &reqwest::Client, url: String) -> Option<(u16, String, Bytes)> {
    let response = client.get(url).timeout(PATIENCE).send().await.ok()?;
    let status = response.status();
    let cache = response.headers().get("x-cache")?.to_str().ok()?.to_owned();
    Some((status.as_u16(), cache, response.bytes().await.ok()?))
}

fn files(dir: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_storing_it_holds_whole_pictures_only() {
    tuyun_chassis::start::install_crypto();
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let origin = format!("http://{}/", listener.local_addr().expect("an address"));
    let router = Router::new().route("/{name}", get(send));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let mut dir = tempfile::tempdir().expect("a directory");
    let (mut hits, mut misses) = (0, 0);
    let rounds = std::env::var("GAUNTLET_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    for round in 0..rounds {
        if round % ROUNDS == 0 {
            // A cache that has been killed so often is worth keeping, but not for ever.
            dir = tempfile::tempdir().expect("a directory");
        }
        let cache = dir.path().join("cache");
        let edge = Edge::start(&origin, &cache);
        let names: Vec<usize> = (0..PICTURES).map(|n| round * PICTURES + n).collect();
        let base = edge.base.clone();
        let fetches = names
            .iter()
            .map(|name| fetch(&client, format!("{base}/{name}.webp")));
        // Killed as soon as so many have come: the others are anywhere between nothing and whole.
        let mut coming = stream::iter(fetches).buffer_unordered(PICTURES);
        for _ in 0..=round * 2 % PICTURES {
            coming.next().await;
        }
        edge.kill();
        drop(coming);

        let edge = Edge::start(&origin, &cache);
        assert!(
            files(cache.join("incoming")).is_empty(),
            "half a picture was left"
        );
        for name in names {
            let url = format!("{}/{name}.webp", edge.base);
            let (status, how, bytes) = fetch(&client, url).await.expect("an answer");
            assert_eq!(status, 200, "picture {name}, {how}");
            assert!(bytes == picture(name), "picture {name} is wrong, {how}");
            match how.as_str() {
                "HIT" => hits += 1,
                "MISS" => misses += 1,
                other => panic!("{other}"),
            }
        }
        for body in files(cache.join("bodies")).into_iter().flat_map(files) {
            assert_eq!(body.metadata().expect("metadata").len(), SIZE as u64);
        }
        edge.kill();
    }
    println!("{rounds} kills: {hits} pictures survived, {misses} were fetched again, all whole");
    // Otherwise the kills came too early or too late to show anything.
    assert!(hits > 0 && misses > 0, "{hits} survived, {misses} did not");
}
