//! Who may show pictures, and links that end.

use harness::process::run;
use reqwest::Method;

use crate::jump::{Answer, Running, file};

async fn from(jump: &Running, path: &str, referer: &str) -> Answer {
    let headers = [("referer", referer)];
    let headers = if referer.is_empty() {
        &[][..]
    } else {
        &headers
    };
    jump.send(Method::GET, path, headers, String::new()).await
}

#[tokio::test]
async fn only_pages_of_the_sites_named_may_show_pictures() {
    let jump = Running::start(|settings| {
        settings.hotlink.sites = vec!["blog.example".into(), "*.blog.example".into()];
    })
    .await;
    for (referer, status) in [
        ("https://blog.example/post", 302),
        ("https://www.blog.example/", 302),
        ("", 302),
        ("https://evil.example/?https://blog.example/", 403),
        ("https://blog.example.evil.example/", 403),
    ] {
        assert_eq!(from(&jump, "/x", referer).await.status, status, "{referer}");
    }
    let metrics = jump.control("/metrics").await.text;
    assert!(
        metrics.contains("tuyun_jump_refused_total{reason=\"hotlink\"} 2\n"),
        "{metrics}"
    );
    jump.stop().await;
    let jump = Running::start(|settings| {
        settings.hotlink.sites = vec!["blog.example".into()];
        settings.hotlink.empty_referer = false;
    })
    .await;
    assert_eq!(from(&jump, "/x", "").await.status, 403);
    assert_eq!(jump.get("/_api/health").await.status, 200);
    jump.stop().await;
}

#[tokio::test]
async fn a_link_that_the_program_signs_passes_until_it_ends_and_goes_on_whole() {
    let keys = file("the first key\nthe second\n");
    let key_file = keys.path().to_str().unwrap().to_owned();
    let jump = Running::start(|settings| {
        settings.hotlink.key_file = key_file.clone();
        settings.hotlink.require_signed = true;
        settings.hotlink.sites = vec!["blog.example".into()];
    })
    .await;
    jump.report("2", "https://two.example/").await;
    let made = run(
        "tuyun-jump",
        &[
            "link",
            "/mount/图 1.webp",
            "--for",
            "1h",
            "--hotlink.key-file",
            &key_file,
        ],
    );
    assert!(made.status.success(), "{made:?}");
    let link = String::from_utf8(made.stdout).unwrap();
    let link = link.trim_end();
    assert_eq!(
        from(&jump, link, "https://evil.example/").await.location(),
        format!("https://two.example{link}")
    );
    let (path, query) = link.split_once('?').unwrap();
    let expires = query.split('&').next().unwrap();
    for (forged, said) in [
        (path.to_owned(), "has to be signed"),
        (
            format!("{path}?{}", query.replace("expires=1", "expires=2")),
            "signature is not right",
        ),
        (
            format!("/mount/other.webp?{query}"),
            "signature is not right",
        ),
        (format!("{path}?{expires}"), "signature is not right"),
    ] {
        let answer = from(&jump, &forged, "https://blog.example/").await;
        assert_eq!(answer.status, 403, "{forged}");
        assert!(answer.text.contains(said), "{forged}: {}", answer.text);
    }
    let over = run(
        "tuyun-jump",
        &[
            "link",
            "/a.webp",
            "--for",
            "0s",
            "--hotlink.key-file",
            &key_file,
        ],
    );
    let over = String::from_utf8(over.stdout).unwrap();
    let answer = jump.get(over.trim_end()).await;
    assert!(
        answer.status == 403 && answer.text.contains("has expired"),
        "{answer:?}"
    );
    jump.stop().await;
}
