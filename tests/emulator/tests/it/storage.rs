//! The storage host: downloads by URLs that need no sign-in.

use std::time::Duration;

use graph_emulator::Profile;
use reqwest::{Method, Response};

use crate::client::{Signed, on, with};

async fn url(drive: &Signed, path: &str) -> String {
    let request = drive.ask(Method::GET, &format!("root:/{path}:/content"));
    let response = request.header("range", "bytes=0-1").send().await.unwrap();
    assert_eq!(response.status(), 302, "content is always a redirect");
    response.headers()["location"].to_str().unwrap().to_owned()
}

async fn range(drive: &Signed, url: &str, range: &str) -> Response {
    drive
        .http
        .get(url)
        .header("range", range)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn ranges_come_from_the_url_and_not_from_graph() {
    for profile in Profile::ALL {
        let drive = on(profile).await;
        drive.emulator.put_file("a.txt", b"0123456789").unwrap();
        let url = url(&drive, "a.txt").await;
        assert!(url.starts_with(drive.emulator.storage_url()));
        let part = range(&drive, &url, "bytes=2-4").await;
        assert_eq!(part.status(), 206);
        assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
        assert_eq!(part.text().await.unwrap(), "234");
        let suffix = range(&drive, &url, "bytes=-3").await;
        assert_eq!(suffix.status(), 200, "suffix ranges are ignored");
        let beyond = range(&drive, &url, "bytes=10-").await;
        assert_eq!(beyond.status(), 416);
        assert_eq!(beyond.headers()["content-range"], "bytes */10");
        let whole = drive.http.get(&url).send().await.unwrap();
        assert_eq!(whole.text().await.unwrap(), "0123456789");
    }
}

#[tokio::test]
async fn a_large_file_comes_back_whole() {
    let drive = on(Profile::Business).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
    drive.emulator.put_file("a.bin", &bytes).unwrap();
    let url = url(&drive, "a.bin").await;
    assert_eq!(
        drive
            .http
            .get(&url)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        bytes
    );
    let part = range(&drive, &url, "bytes=1000000-2999999").await;
    assert_eq!(part.bytes().await.unwrap(), bytes[1_000_000..]);
}

#[tokio::test]
async fn a_token_is_refused_on_the_storage_host_unless_it_overlooks_them() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    let url = url(&drive, "a.txt").await;
    let status = async || {
        let request = drive.http.get(&url).bearer_auth(&drive.token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status().await, 401);
    drive
        .emulator
        .adjust(|settings| settings.storage_takes_tokens = true);
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn a_download_url_expires_and_cannot_be_forged() {
    let drive = with(Profile::Business, |settings| {
        settings.download_url_seconds = 60;
    })
    .await;
    drive.emulator.put_file("a.txt", b"x").unwrap();
    let first = url(&drive, "a.txt").await;
    assert_eq!(drive.http.get(&first).send().await.unwrap().status(), 200);
    drive.emulator.advance(Duration::from_secs(61));
    assert_eq!(drive.http.get(&first).send().await.unwrap().status(), 401);
    let second = url(&drive, "a.txt").await;
    drive.emulator.expire_download_urls();
    assert_eq!(drive.http.get(&second).send().await.unwrap().status(), 401);
    let third = url(&drive, "a.txt")
        .await
        .replace("tempauth=v1.", "tempauth=v1.x");
    assert_eq!(drive.http.get(&third).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn an_empty_file_has_an_empty_body_and_no_range() {
    let drive = on(Profile::Business).await;
    drive.emulator.put_file("a.txt", b"").unwrap();
    let url = url(&drive, "a.txt").await;
    let whole = drive.http.get(&url).send().await.unwrap();
    assert_eq!(
        (whole.status().as_u16(), whole.bytes().await.unwrap().len()),
        (200, 0)
    );
    assert_eq!(range(&drive, &url, "bytes=0-").await.status(), 416);
}
