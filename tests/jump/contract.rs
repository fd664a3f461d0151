//! The contract, row by row, as programs of others rely on it.

use std::time::{Duration, Instant};

use harness::wait::until_async;
use reqwest::Method;
use serde_json::{Value, json};

use crate::jump::Running;

#[tokio::test]
async fn an_original_s_heartbeat_brings_visitors_with_path_and_query() {
    let jump = Running::start(|_| ()).await;
    let body = json!({ "token": "token-all", "server_id": 2, "url": "https://two.example/" });
    let answer = jump.update(body).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "code": 0, "msg": "ok" }))
    );
    let redirect = jump.get("/mount/pic/a.webp?fmt=avif&w=320").await;
    assert_eq!(
        redirect.location(),
        "https://two.example/mount/pic/a.webp?fmt=avif&w=320"
    );
    assert_eq!(redirect.header("cache-control"), Some("no-store"));
    assert_eq!(redirect.header("access-control-allow-origin"), Some("*"));
    assert_eq!(redirect.text, "");
    jump.stop().await;
}

#[tokio::test]
async fn head_is_answered_as_get_is() {
    let jump = Running::start(|_| ()).await;
    jump.report("2", "https://two.example/").await;
    let answer = jump
        .send(Method::HEAD, "/a.webp?w=1", &[], String::new())
        .await;
    assert_eq!(answer.location(), "https://two.example/a.webp?w=1");
    jump.stop().await;
}

#[tokio::test]
async fn a_query_is_passed_on_untouched() {
    let jump = Running::start(|_| ()).await;
    jump.report("2", "https://two.example/").await;
    for query in ["a=%2F..&b=+c%zz", "x=1?y=2", "=&&", "%E5%9B%BE"] {
        let answer = jump.raw(&format!("GET /p?{query} HTTP/1.1")).await;
        let expected = format!("location: https://two.example/p?{query}\r\n");
        assert!(answer.contains(&expected), "{query}: {answer}");
    }
    jump.stop().await;
}

#[tokio::test]
async fn numbers_ascend_then_names_follow_and_leaving_is_at_once() {
    let jump = Running::start(|_| ()).await;
    for id in ["beta", "alpha", "10", "2"] {
        jump.report(id, &format!("https://{id}.example/")).await;
    }
    for id in ["2", "10", "alpha", "beta"] {
        assert_eq!(jump.sent("/x").await, format!("https://{id}.example/x"));
        let leave = json!({ "token": "token-all", "server_id": id }).to_string();
        let answer = jump.send(Method::DELETE, "/_api/update", &[], leave).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "code": 0, "msg": "ok" }))
        );
    }
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    jump.stop().await;
}

#[tokio::test]
async fn a_number_and_its_text_are_one_node_and_the_last_url_counts() {
    let jump = Running::start(|_| ()).await;
    for (id, url) in [
        (json!(2), "https://a.example/"),
        (json!("2"), "https://b.example"),
    ] {
        let answer = jump
            .update(json!({ "token": "token-all", "server_id": id, "url": url }))
            .await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(
        jump.sent("/x").await,
        "https://b.example/x",
        "and the final `/` was added"
    );
    let nodes = jump.admin("/_api/nodes").await.json();
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
    jump.stop().await;
}

#[tokio::test]
async fn what_is_missing_is_answered_as_the_originals_do() {
    let jump = Running::start(|_| ()).await;
    let expected = json!({ "code": 1002, "msg": "Missing required parameters." });
    let url = "https://a.example/";
    let bodies = [
        json!({ "server_id": 2, "url": url }),
        json!({ "token": "", "server_id": 2, "url": url }),
        json!({ "token": "token-all", "url": url }),
        json!({ "token": "token-all", "server_id": 0, "url": url }),
        json!({ "token": "token-all", "server_id": false, "url": url }),
        json!({ "token": "token-all", "server_id": "", "url": url }),
        json!({ "token": "token-all", "server_id": 2 }),
        json!({ "token": "token-all", "server_id": 2, "url": "" }),
    ];
    for body in bodies {
        let answer = jump.update(body.clone()).await;
        assert_eq!(
            (answer.status, answer.json()),
            (400, expected.clone()),
            "{body}"
        );
    }
    for text in ["", "[]", "null", "{", "token=token-all"] {
        let answer = jump
            .send(Method::POST, "/_api/update", &[], text.into())
            .await;
        assert_eq!(answer.status, 400, "{text}");
        assert_eq!(answer.json()["msg"], expected["msg"], "{text}");
    }
    assert_eq!(jump.sent("/x").await, "https://origin.example/x");
    jump.stop().await;
}

#[tokio::test]
async fn a_wrong_token_is_answered_as_the_originals_do() {
    let jump = Running::start(|_| ()).await;
    let expected = json!({ "code": 1002, "msg": "Invalid token." });
    // Node 1 has a token of its own: the others' does not speak for it.
    for (token, id) in [("wrong", "2"), ("token-one", "2"), ("token-all", "1")] {
        let url = "https://a.example/";
        let answer = jump
            .update(json!({ "token": token, "server_id": id, "url": url }))
            .await;
        assert_eq!(
            (answer.status, answer.json()),
            (400, expected.clone()),
            "{token} for {id}"
        );
    }
    let leave = json!({ "token": "wrong", "server_id": "2" }).to_string();
    let answer = jump.send(Method::DELETE, "/_api/update", &[], leave).await;
    assert_eq!((answer.status, answer.json()), (400, expected));
    jump.stop().await;
}

#[tokio::test]
async fn an_id_or_url_that_could_do_harm_is_refused() {
    let jump = Running::start(|_| ()).await;
    let urls = [
        "javascript:alert(1)",
        "ftp://a.example/",
        "//a.example/",
        "https://",
        "a.example",
        "https://me:word@a.example/",
        "https://me@a.example/",
        "https://a.example/#x",
    ];
    for url in urls {
        let body = json!({ "token": "token-all", "server_id": 2, "url": url });
        let answer = jump.update(body).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!(1002)),
            "{url}"
        );
    }
    let long = "x".repeat(65);
    for id in [
        json!("a b"),
        json!("a*"),
        json!("../x"),
        json!("图"),
        json!(1.5),
        json!(long),
    ] {
        let url = "https://a.example/";
        let answer = jump
            .update(json!({ "token": "token-all", "server_id": id, "url": url }))
            .await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!(1002)),
            "{id}"
        );
    }
    assert_eq!(
        jump.admin("/_api/nodes").await.json(),
        json!({ "nodes": [] })
    );
    jump.stop().await;
}

#[tokio::test]
async fn extra_fields_are_ignored() {
    let jump = Running::start(|_| ()).await;
    let body = json!({ "token": "token-all", "server_id": 2, "url": "https://two.example/",
        "future": { "deep": [1, 2] }, "ttl": "soon", "version": 7 });
    assert_eq!(jump.update(body).await.status, 200);
    assert_eq!(jump.sent("/x").await, "https://two.example/x");
    jump.stop().await;
}

#[tokio::test]
async fn a_path_is_decoded_once_and_encoded_again_segment_by_segment() {
    let jump = Running::start(|_| ()).await;
    jump.report("2", "https://two.example/base/").await;
    let cases = [
        ("/%E5%9B%BE/1%20%2b.webp", "%E5%9B%BE/1%20+.webp"),
        ("/a%252e%252e/b", "a%252e%252e/b"),
        ("/a%23b%3Fc%25.png", "a%23b%3Fc%25.png"),
        ("/a&b=c;d,e@f:g", "a&b=c;d,e@f:g"),
        ("/%61bc", "abc"),
    ];
    for (asked, expected) in cases {
        assert_eq!(
            jump.sent(asked).await,
            format!("https://two.example/base/{expected}")
        );
    }
    jump.stop().await;
}

#[tokio::test]
async fn a_path_that_climbs_or_hides_is_refused() {
    let jump = Running::start(|_| ()).await;
    let paths = [
        "/../x",
        "/a/../x",
        "/a/%2e%2e/x",
        "/..%2fmain.py",
        "/%2e",
        "/a//b",
        "/a/",
        "//a",
        "/a%2f%2fb",
        "/a%5cb",
        "/a%00b",
        "/a%0d%0aSet-Cookie:x",
        "/a%ff",
        "/a%zz",
        "/a%7fb",
    ];
    for path in paths {
        let answer = jump.raw(&format!("GET {path} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert!(
            body["code"].as_i64().unwrap() != 0 && body["msg"].is_string(),
            "{path}: {body}"
        );
    }
    jump.stop().await;
}

#[tokio::test]
async fn without_a_node_the_origin_may_be_a_prefix() {
    let prefix = "https://host.example/api/raw/?path=/";
    let jump = Running::start(|settings| settings.origin = prefix.into()).await;
    assert_eq!(
        jump.sent("/mount/pic/%E5%9B%BE%20a&b+c%23d%25e=f.webp?w=1")
            .await,
        format!("{prefix}mount/pic/%E5%9B%BE%20a%26b%2Bc%23d%25e%3Df.webp")
    );
    jump.stop().await;
}

#[tokio::test]
async fn a_node_that_falls_silent_is_gone_when_its_lease_ends() {
    let jump = Running::start(|_| ()).await;
    jump.report("3", "https://three.example/").await;
    let ttl = Duration::from_secs(2);
    let body = json!({ "token": "token-all", "server_id": 2, "url": "https://two.example/",
        "ttl": ttl.as_secs() });
    let before = Instant::now();
    assert_eq!(jump.update(body).await.status, 200);
    let after = Instant::now();
    until_async("the next node takes over", async || {
        let sent = jump.sent("/x").await;
        if sent == "https://two.example/x" {
            assert!(
                after.elapsed() < ttl + Duration::from_secs(1),
                "it was not dropped in time"
            );
            return None;
        }
        assert_eq!(sent, "https://three.example/x");
        Some(())
    })
    .await;
    assert!(before.elapsed() >= ttl, "it was dropped too early");
    jump.stop().await;
}

#[tokio::test]
async fn a_node_cannot_ask_for_a_longer_life_than_jump_gives() {
    let jump = Running::start(|_| ()).await;
    for (id, ttl) in [("2", json!(999_999)), ("3", json!(20)), ("4", json!(null))] {
        let url = "https://a.example/";
        let body = json!({ "token": "token-all", "server_id": id, "url": url, "ttl": ttl });
        assert_eq!(jump.update(body).await.status, 200);
    }
    let nodes = jump.admin("/_api/nodes").await.json();
    let lives: Vec<u64> = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["ttl"].as_u64().unwrap())
        .collect();
    assert!(
        matches!(lives[..], [1190..=1200, 10..=20, 1190..=1200]),
        "{lives:?}"
    );
    jump.stop().await;
}

#[tokio::test]
async fn only_get_and_head_are_pictures_and_unknown_calls_are_none() {
    let jump = Running::start(|_| ()).await;
    let answer = jump.send(Method::POST, "/a.webp", &[], String::new()).await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(jump.get("/_api/update").await.status, 405);
    for path in ["/_api/", "/_api/unknown", "/_api/unknown/deep"] {
        assert_eq!(jump.get(path).await.status, 404, "{path}");
    }
    jump.stop().await;
}

#[tokio::test]
async fn who_may_read_redirects_by_script_is_a_setting() {
    let one = "https://blog.example";
    let jump = Running::start(|settings| settings.allow_origin = one.into()).await;
    assert_eq!(
        jump.get("/x").await.header("access-control-allow-origin"),
        Some(one)
    );
    jump.stop().await;
    let jump = Running::start(|settings| settings.allow_origin.clear()).await;
    assert_eq!(
        jump.get("/x").await.header("access-control-allow-origin"),
        None
    );
    jump.stop().await;
}
