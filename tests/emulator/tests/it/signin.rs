//! The login host.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use graph_emulator::{
    Act, CONFIDENTIAL_CLIENT, CONFIDENTIAL_SECRET, Fault, Profile, Route, Running,
};
use reqwest::{Method, Response};
use serde_json::Value;
use sha2::Digest as _;

use crate::client::{Signed, http, json, on, with};

const SCOPE: &str = "Files.ReadWrite.All offline_access";
const VERIFIER: &str = "abcdefghijklmnopqrstuvwxyz0123456789-._~ABC";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn post(emulator: &Running, page: &str, form: &[(&str, &str)]) -> Response {
    let url = format!("{}/common/oauth2/v2.0/{page}", emulator.login_url());
    http().post(url).form(form).send().await.unwrap()
}

async fn token(emulator: &Running, form: &[(&str, &str)]) -> Response {
    post(emulator, "token", form).await
}

async fn error(response: Response) -> (u16, String, u64) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let number = body["error_codes"][0].as_u64().unwrap();
    assert!(
        body["error_description"]
            .as_str()
            .unwrap()
            .starts_with(&format!("AADSTS{number}:"))
    );
    (status, body["error"].as_str().unwrap().to_owned(), number)
}

async fn authorize(emulator: &Running, redirect: &str, more: &[(&str, &str)]) -> Response {
    let challenge = URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(VERIFIER));
    let mut query = vec![
        ("client_id", "a-client"),
        ("response_type", "code"),
        ("redirect_uri", redirect),
        ("scope", SCOPE),
        ("state", "s t"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    query.extend(more);
    let url = format!("{}/common/oauth2/v2.0/authorize", emulator.login_url());
    http().get(url).query(&query).send().await.unwrap()
}

fn callback(response: &Response) -> (String, HashMap<String, String>) {
    assert_eq!(response.status(), 302);
    let url = url::Url::parse(response.headers()["location"].to_str().unwrap()).unwrap();
    let pairs = url.query_pairs().into_owned().collect();
    (
        format!("{}:{}{}", url.scheme(), url.port().unwrap_or(0), url.path()),
        pairs,
    )
}

async fn works(drive: &Signed, token: &str) -> bool {
    let url = format!("{}/v1.0/me/drive", drive.emulator.graph_url());
    drive
        .http
        .get(url)
        .bearer_auth(token)
        .send()
        .await
        .unwrap()
        .status()
        == 200
}

#[tokio::test]
async fn a_code_is_exchanged_once_with_the_verifier_that_made_it() {
    let drive = on(Profile::Business).await;
    let redirect = "http://localhost:12345";
    let (back, fields) = callback(&authorize(&drive.emulator, redirect, &[]).await);
    assert_eq!(back, "http:12345/", "a URI without path gets a slash");
    assert_eq!(fields["state"], "s t");
    let form = |verifier| {
        [
            ("client_id", "a-client"),
            ("grant_type", "authorization_code"),
            ("code", fields["code"].as_str()),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ]
    };
    let wrong = "x".repeat(43);
    let bad = error(token(&drive.emulator, &form(&wrong)).await).await;
    assert_eq!(bad, (400, "invalid_grant".to_owned(), 501_481));
    let good = json(token(&drive.emulator, &form(VERIFIER)).await).await;
    assert!(works(&drive, good["access_token"].as_str().unwrap()).await);
    assert!(good["refresh_token"].is_string());
    assert_eq!(good["expires_in"], 3599);
    let again = error(token(&drive.emulator, &form(VERIFIER)).await).await;
    assert_eq!(again, (400, "invalid_grant".to_owned(), 54005));
}

#[tokio::test]
async fn only_the_registered_loopback_redirect_is_taken_on_any_port() {
    let drive = on(Profile::Business).await;
    for redirect in ["http://localhost:1", "http://localhost:65000/"] {
        assert_eq!(
            authorize(&drive.emulator, redirect, &[]).await.status(),
            302,
            "{redirect}"
        );
    }
    for redirect in [
        "http://localhost:1/path",
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "https://evil.example/",
        "http://localhost.evil.example/",
    ] {
        let page = authorize(&drive.emulator, redirect, &[]).await;
        assert_eq!(page.status(), 400, "{redirect}");
        assert!(page.text().await.unwrap().contains("AADSTS50011"));
    }
}

#[tokio::test]
async fn a_person_can_be_asked_and_can_say_no() {
    let drive = with(Profile::Business, |settings| settings.auto_approve = false).await;
    let none = authorize(&drive.emulator, "http://localhost:1", &[("prompt", "none")]).await;
    assert_eq!(callback(&none).1["error"], "interaction_required");
    for (decision, field) in [("approve", "code"), ("decline", "error")] {
        let page = authorize(&drive.emulator, "http://localhost:1", &[]).await;
        assert_eq!(page.status(), 200);
        let html = page.text().await.unwrap();
        let request = html.split("name=request value=\"").nth(1).unwrap();
        let request = request.split('"').next().unwrap();
        let form = [("request", request), ("decision", decision)];
        let response = post(&drive.emulator, "authorize", &form).await;
        assert!(callback(&response).1.contains_key(field), "{decision}");
    }
}

#[tokio::test]
async fn a_refresh_rotates_and_the_old_token_stays_good() {
    let drive = on(Profile::Business).await;
    let first = drive.emulator.issue_token("a-client").refresh_token;
    let refresh = |refresh: String, client: &'static str| {
        let emulator = &drive.emulator;
        async move {
            token(
                emulator,
                &[
                    ("client_id", client),
                    ("grant_type", "refresh_token"),
                    ("refresh_token", &refresh),
                    ("scope", SCOPE),
                ],
            )
            .await
        }
    };
    let second = json(refresh(first.clone(), "a-client").await).await;
    let rotated = second["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(rotated, first);
    assert_eq!(refresh(first.clone(), "a-client").await.status(), 200);
    assert_eq!(refresh(rotated, "a-client").await.status(), 200);
    let stolen = error(refresh(first.clone(), "another-client").await).await;
    assert_eq!(stolen, (400, "invalid_grant".to_owned(), 70000));
    drive.emulator.revoke_refresh_tokens();
    let revoked = error(refresh(first, "a-client").await).await;
    assert_eq!(revoked, (400, "invalid_grant".to_owned(), 50173));
}

#[tokio::test]
async fn a_refresh_token_dies_of_disuse_and_lives_by_use() {
    let drive = on(Profile::Business).await;
    let days = |n: u64| std::time::Duration::from_secs(n * 24 * 3600);
    let held = drive.emulator.issue_token("a-client").refresh_token;
    let form = [
        ("client_id", "a-client"),
        ("grant_type", "refresh_token"),
        ("refresh_token", held.as_str()),
    ];
    drive.emulator.advance(days(89));
    assert_eq!(token(&drive.emulator, &form).await.status(), 200);
    drive.emulator.advance(days(89));
    assert_eq!(token(&drive.emulator, &form).await.status(), 200);
    drive.emulator.advance(days(91));
    assert_eq!(error(token(&drive.emulator, &form).await).await.2, 700_082);
}

#[tokio::test]
async fn an_access_token_expires() {
    let drive = on(Profile::Business).await;
    assert!(works(&drive, &drive.token).await);
    drive.emulator.advance(std::time::Duration::from_hours(1));
    let response = drive.graph(Method::GET, "me/drive").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("www-authenticate"));
    assert_eq!(
        json(response).await["error"]["code"],
        "InvalidAuthenticationToken"
    );
    let none = drive
        .http
        .get(format!("{}/v1.0/me/drive", drive.emulator.graph_url()));
    assert_eq!(none.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_device_code_waits_for_a_person() {
    let drive = on(Profile::PersonalClassic).await;
    let form = [("client_id", "a-client"), ("scope", SCOPE)];
    let begun = json(post(&drive.emulator, "devicecode", &form).await).await;
    assert_eq!(begun["interval"], 5);
    assert_eq!(begun["verification_uri_complete"], Value::Null);
    let code = begun["device_code"].as_str().unwrap();
    let form = [
        ("client_id", "a-client"),
        ("grant_type", DEVICE_GRANT),
        ("device_code", code),
    ];
    let pending = error(token(&drive.emulator, &form).await).await;
    assert_eq!(pending, (400, "authorization_pending".to_owned(), 70016));
    let typed = begun["user_code"].as_str().unwrap().to_lowercase();
    assert!(drive.emulator.decide_device(&typed, true));
    let good = json(token(&drive.emulator, &form).await).await;
    assert!(works(&drive, good["access_token"].as_str().unwrap()).await);
    let again = error(token(&drive.emulator, &form).await).await;
    assert_eq!(again.1, "bad_verification_code");
}

#[tokio::test]
async fn a_device_code_can_be_declined_or_expire_or_approve_itself() {
    let drive = on(Profile::Business).await;
    let begin = || async {
        let form = [("client_id", "a-client"), ("scope", SCOPE)];
        json(post(&drive.emulator, "devicecode", &form).await).await
    };
    let emulator = &drive.emulator;
    let poll = |begun: Value| async move {
        let code = begun["device_code"].as_str().unwrap();
        let form = [
            ("client_id", "a-client"),
            ("grant_type", DEVICE_GRANT),
            ("device_code", code),
        ];
        token(emulator, &form).await
    };
    let declined = begin().await;
    assert!(
        drive
            .emulator
            .decide_device(declined["user_code"].as_str().unwrap(), false)
    );
    assert_eq!(
        error(poll(declined).await).await.1,
        "authorization_declined"
    );
    let late = begin().await;
    drive.emulator.advance(std::time::Duration::from_secs(901));
    assert_eq!(error(poll(late).await).await.1, "expired_token");
    drive
        .emulator
        .adjust(|settings| settings.device_approved_at_poll = 2);
    let own = begin().await;
    assert_eq!(
        error(poll(own.clone()).await).await.1,
        "authorization_pending"
    );
    assert_eq!(poll(own).await.status(), 200);
    drive.emulator.adjust(|settings| {
        settings.device_slow_down = true;
        settings.device_approved_at_poll = 0;
    });
    let hasty = begin().await;
    assert_eq!(
        error(poll(hasty.clone()).await).await.1,
        "authorization_pending"
    );
    assert_eq!(error(poll(hasty).await).await.1, "slow_down");
}

#[tokio::test]
async fn an_app_alone_has_no_me() {
    let drive = on(Profile::Business).await;
    let form = [
        ("client_id", CONFIDENTIAL_CLIENT),
        ("client_secret", CONFIDENTIAL_SECRET),
        ("grant_type", "client_credentials"),
        ("scope", "https://graph.microsoft.com/.default"),
    ];
    let common = error(token(&drive.emulator, &form).await).await;
    assert_eq!(common, (400, "invalid_scope".to_owned(), 9_001_023));
    let url = format!(
        "{}/contoso.onmicrosoft.com/oauth2/v2.0/token",
        drive.emulator.login_url()
    );
    let reply = json(drive.http.post(&url).form(&form).send().await.unwrap()).await;
    assert_eq!(reply["refresh_token"], Value::Null);
    let token = reply["access_token"].as_str().unwrap();
    let get = |path: &str| {
        let url = format!("{}/v1.0/{path}", drive.emulator.graph_url());
        drive.http.get(url).bearer_auth(token).send()
    };
    assert_eq!(get("me/drive").await.unwrap().status(), 400);
    assert_eq!(
        get("users/ada@contoso.com/drive").await.unwrap().status(),
        200
    );
}

#[tokio::test]
async fn secrets_are_for_confidential_clients() {
    let drive = on(Profile::Business).await;
    let held = drive.emulator.issue_token("a-client").refresh_token;
    let public = [
        ("client_id", "a-client"),
        ("client_secret", "x"),
        ("grant_type", "refresh_token"),
        ("refresh_token", &held),
    ];
    let refused = error(token(&drive.emulator, &public).await).await;
    assert_eq!(refused, (401, "invalid_client".to_owned(), 700_025));
    let held = drive
        .emulator
        .issue_token(CONFIDENTIAL_CLIENT)
        .refresh_token;
    let with = |secret| {
        [
            ("client_id", CONFIDENTIAL_CLIENT),
            ("client_secret", secret),
            ("grant_type", "refresh_token"),
            ("refresh_token", held.as_str()),
        ]
    };
    assert_eq!(
        error(token(&drive.emulator, &with("")).await).await.2,
        7_000_218
    );
    assert_eq!(
        error(token(&drive.emulator, &with("wrong")).await).await.2,
        7_000_215
    );
    assert_eq!(
        token(&drive.emulator, &with(CONFIDENTIAL_SECRET))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn a_secret_may_come_as_a_header() {
    let drive = on(Profile::Business).await;
    let held = drive
        .emulator
        .issue_token(CONFIDENTIAL_CLIENT)
        .refresh_token;
    let url = format!("{}/common/oauth2/v2.0/token", drive.emulator.login_url());
    let ask = |secret: &'static str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", held.as_str()),
        ];
        drive
            .http
            .post(&url)
            .basic_auth(CONFIDENTIAL_CLIENT, Some(secret))
            .form(&form)
            .send()
    };
    assert_eq!(ask(CONFIDENTIAL_SECRET).await.unwrap().status(), 200);
    assert_eq!(ask("wrong").await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_token_for_reading_cannot_write() {
    let drive = on(Profile::Business).await;
    let held = drive.emulator.issue_token("a-client").refresh_token;
    let form = [
        ("client_id", "a-client"),
        ("grant_type", "refresh_token"),
        ("refresh_token", &held),
        ("scope", "Files.Read.All"),
    ];
    let reply = json(token(&drive.emulator, &form).await).await;
    assert_eq!(reply["scope"], "Files.Read.All");
    let reader = reply["access_token"].as_str().unwrap();
    assert!(works(&drive, reader).await);
    let url = format!(
        "{}/v1.0/me/drive/root:/a.txt:/content",
        drive.emulator.graph_url()
    );
    let put = drive
        .http
        .put(url)
        .bearer_auth(reader)
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 403);
}

#[tokio::test]
async fn errors_of_the_token_endpoint_can_be_injected() {
    let drive = on(Profile::Business).await;
    let held = drive.emulator.issue_token("a-client").refresh_token;
    let form = [
        ("client_id", "a-client"),
        ("grant_type", "refresh_token"),
        ("refresh_token", held.as_str()),
    ];
    let act = Act::Oauth {
        status: 400,
        error: "interaction_required".into(),
        number: 50076,
    };
    drive.emulator.inject(Fault::new(Route::Token, act));
    drive.emulator.inject(Fault::status(Route::Token, 503));
    let first = token(&drive.emulator, &form).await;
    assert_eq!(
        error(first).await,
        (400, "interaction_required".to_owned(), 50076)
    );
    assert_eq!(token(&drive.emulator, &form).await.status(), 503);
    assert_eq!(token(&drive.emulator, &form).await.status(), 200);
}
