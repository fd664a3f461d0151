//! Sign-in, against an emulated login authority.

mod bench;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use bench::{Bench, CLIENT};
use futures_util::future::join_all;
use graph_emulator::{Act, CONFIDENTIAL_CLIENT, CONFIDENTIAL_SECRET, Fault, Profile, Route};
use secrecy::{ExposeSecret, SecretString};
use tuyunfs::auth::{
    AuthState, Authenticator, Prompt, TokenError, import_rclone, renewed, sign_in_browser,
    sign_in_device,
};

/// The service's own words about the token.
fn oauth(status: u16, error: &str, number: u32) -> Act {
    Act::Oauth {
        status,
        error: error.into(),
        number,
    }
}

fn needs_sign_in(state: &AuthState) -> bool {
    matches!(state, AuthState::SignInNeeded { .. })
}

#[tokio::test]
async fn a_person_signs_in_by_a_code_on_another_device() {
    let bench = Bench::start(Profile::Business, |settings| {
        settings.auto_approve = false;
        settings.device_interval_seconds = 1;
    })
    .await;
    let mut shown = None;
    let token = sign_in_device(&bench.config, |prompt| {
        let Prompt::Device { url, code } = prompt else {
            panic!("{prompt:?}")
        };
        assert!(url.starts_with("http"), "{url}");
        assert!(bench.service.decide_device(&code, true));
        shown = Some(code);
    })
    .await
    .unwrap();
    assert!(shown.is_some());
    assert!(!token.refresh_token.expose_secret().is_empty());
    bench.store().save(&token).unwrap();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    bench.service.reset_log();
    let access = auth.access().await.unwrap();
    assert_eq!(access.expose_secret(), token.access_token.expose_secret());
    assert_eq!(
        bench.service.total(),
        0,
        "a token that is good is used as it is"
    );
}

#[tokio::test]
async fn who_declines_on_the_other_device_is_not_signed_in() {
    let bench = Bench::start(Profile::Business, |settings| {
        settings.auto_approve = false;
        settings.device_interval_seconds = 1;
    })
    .await;
    let refused = sign_in_device(&bench.config, |prompt| {
        let Prompt::Device { code, .. } = prompt else {
            panic!("{prompt:?}")
        };
        assert!(bench.service.decide_device(&code, false));
    })
    .await;
    assert!(matches!(refused, Err(TokenError::SignIn(_))), "{refused:?}");
}

#[tokio::test]
async fn a_person_signs_in_by_a_browser_that_comes_back_to_this_machine() {
    let bench = Bench::start(Profile::PersonalMigrated, |_| {}).await;
    let (shown, address) = tokio::sync::oneshot::channel();
    let mut shown = Some(shown);
    let signing = sign_in_browser(&bench.config, |prompt| {
        let Prompt::Browser { url } = prompt else {
            panic!("{prompt:?}")
        };
        shown.take().unwrap().send(url).unwrap();
    });
    let browsing = async {
        let url = address.await.unwrap();
        for word in [
            "code_challenge_method=S256",
            "response_mode=query",
            "offline_access",
        ] {
            assert!(url.contains(word), "{url}");
        }
        let browser = reqwest::Client::builder().build().unwrap();
        // Follows the redirect back, as a browser does, and asks for an icon first.
        let redirect = url::Url::parse(&url).unwrap();
        let back = redirect
            .query_pairs()
            .find(|(key, _)| key == "redirect_uri")
            .unwrap()
            .1;
        let icon = browser
            .get(format!("{back}/favicon.ico"))
            .send()
            .await
            .unwrap();
        assert_eq!(icon.status(), 404);
        let page = browser.get(&url).send().await.unwrap();
        (page.status(), page.text().await.unwrap())
    };
    let (token, (status, page)) = tokio::join!(signing, browsing);
    assert_eq!(status, 200);
    assert!(page.contains("Signed in"), "{page}");
    bench.store().save(&token.unwrap()).unwrap();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    auth.refresh().await.unwrap();
    assert_eq!(auth.state(), AuthState::SignedIn);
}

#[tokio::test]
async fn fifty_who_need_a_token_at_once_cost_one_request() {
    let bench = Bench::start(Profile::Business, |settings| settings.latency_ms = 50).await;
    let auth = bench.signed_in();
    let tokens = join_all((0..50).map(|_| auth.access())).await;
    let first = tokens[0].as_ref().unwrap().expose_secret().to_owned();
    assert!(
        tokens
            .iter()
            .all(|token| token.as_ref().unwrap().expose_secret() == first)
    );
    assert_eq!(bench.service.count(Route::Token), 1);
}

#[tokio::test]
async fn fifty_whose_token_was_refused_renew_it_once() {
    let bench = Bench::start(Profile::Business, |settings| settings.latency_ms = 50).await;
    let auth = bench.signed_in();
    let refused = auth.access().await.unwrap();
    bench.service.reset_log();
    for renewed in join_all((0..50).map(|_| auth.renew(&refused))).await {
        renewed.unwrap();
    }
    assert_eq!(bench.service.count(Route::Token), 1);
    assert_ne!(
        auth.access().await.unwrap().expose_secret(),
        refused.expose_secret()
    );
}

#[tokio::test]
async fn a_rotated_refresh_token_is_stored_and_survives_a_restart() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    let old = bench.store().load().unwrap().unwrap();
    auth.access().await.unwrap();
    let new = bench.store().load().unwrap().unwrap();
    assert_ne!(
        new.refresh_token.expose_secret(),
        old.refresh_token.expose_secret()
    );
    let mode = std::fs::metadata(bench.store().path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    again.refresh().await.unwrap();
}

#[tokio::test]
async fn a_reply_without_a_refresh_token_leaves_the_old_one() {
    let bench = Bench::start(Profile::Business, |settings| {
        settings.rotate_refresh_tokens = false;
    })
    .await;
    let auth = bench.signed_in();
    let old = bench.store().load().unwrap().unwrap();
    auth.access().await.unwrap();
    let new = bench.store().load().unwrap().unwrap();
    assert_eq!(
        new.refresh_token.expose_secret(),
        old.refresh_token.expose_secret()
    );
    assert_ne!(
        new.access_token.expose_secret(),
        old.access_token.expose_secret()
    );
}

#[tokio::test]
async fn a_revoked_token_asks_for_a_person_and_a_login_heals_it_without_a_restart() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    bench.service.revoke_refresh_tokens();
    let error = auth.access().await.unwrap_err();
    assert!(
        matches!(&error, TokenError::SignIn(why) if why.contains("AADSTS")),
        "{error}"
    );
    assert!(needs_sign_in(&auth.state()));
    let since = auth.since();
    bench.service.reset_log();
    assert!(auth.access().await.is_err());
    assert_eq!(
        bench.service.total(),
        0,
        "a dead token is not asked about again"
    );
    assert_eq!(auth.since(), since);
    assert!(
        bench.store().load().unwrap().is_some(),
        "the stored token is never deleted"
    );
    // `tuyunfs login`, in another process.
    bench.store().save(&bench.ended_token()).unwrap();
    auth.access().await.unwrap();
    assert_eq!(auth.state(), AuthState::SignedIn);
}

#[tokio::test]
async fn a_login_while_the_old_token_is_being_renewed_is_not_overwritten() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    bench.service.hold(Route::Token);
    let renewing = tokio::spawn({
        let auth = auth.clone();
        async move { auth.access().await }
    });
    assert!(
        bench
            .service
            .wait_for(Route::Token, 1, Duration::from_secs(10))
            .await
    );
    let mut signed_in = bench.ended_token();
    signed_in.expires_at = SystemTime::now() + Duration::from_hours(1);
    bench.store().save(&signed_in).unwrap();
    bench.service.release(Route::Token);
    let access = renewing.await.unwrap().unwrap();
    assert_eq!(
        access.expose_secret(),
        signed_in.access_token.expose_secret()
    );
    let stored = bench.store().load().unwrap().unwrap();
    assert_eq!(
        stored.refresh_token.expose_secret(),
        signed_in.refresh_token.expose_secret()
    );
}

#[tokio::test]
async fn trouble_of_the_service_is_never_taken_for_a_dead_token() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    for act in [
        oauth(400, "temporarily_unavailable", 90033),
        oauth(400, "invalid_grant", 90033),
        oauth(429, "invalid_grant", 70008),
        Act::LoseRequest,
    ] {
        bench
            .service
            .inject(Fault::new(Route::Token, act.clone()).always());
        let error = auth.refresh().await.unwrap_err();
        assert!(
            matches!(error, TokenError::Unavailable(_)),
            "{act:?}: {error}"
        );
        assert!(
            matches!(auth.state(), AuthState::Unreachable { .. }),
            "{act:?}"
        );
        bench.service.clear_faults();
        auth.refresh().await.unwrap();
        assert_eq!(auth.state(), AuthState::SignedIn);
    }
}

#[tokio::test]
async fn a_hiccup_of_the_service_is_outlasted() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    bench.service.inject(Fault::status(Route::Token, 503));
    auth.access().await.unwrap();
    assert_eq!(bench.service.count(Route::Token), 2);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_used_while_no_other_can_be_had() {
    // It lives for less than the time that it is renewed ahead of its end.
    let bench = Bench::start(Profile::Business, |settings| {
        settings.access_token_seconds = 120;
    })
    .await;
    let auth = bench.signed_in();
    let first = auth.access().await.unwrap();
    bench
        .service
        .inject(Fault::new(Route::Token, Act::LoseRequest).always());
    let again = auth.access().await.unwrap();
    assert_eq!(first.expose_secret(), again.expose_secret());
    bench.service.reset_log();
    auth.access().await.unwrap();
    assert_eq!(
        bench.service.total(),
        0,
        "a login authority that is down is not asked at each turn"
    );
    // But one that the drive has refused is not handed out again.
    let error = auth.renew(&again).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn those_who_need_a_token_during_a_renewal_ahead_of_its_end_do_not_wait() {
    let bench = Bench::start(Profile::Business, |settings| {
        settings.access_token_seconds = 120;
    })
    .await;
    let auth = bench.signed_in();
    let first = auth.access().await.unwrap();
    bench.service.reset_log();
    bench.service.hold(Route::Token);
    let renewing = tokio::spawn({
        let auth = auth.clone();
        async move { auth.access().await }
    });
    assert!(
        bench
            .service
            .wait_for(Route::Token, 1, Duration::from_secs(10))
            .await
    );
    let meanwhile = auth.access().await.unwrap();
    assert_eq!(meanwhile.expose_secret(), first.expose_secret());
    bench.service.release(Route::Token);
    assert_ne!(
        renewing.await.unwrap().unwrap().expose_secret(),
        first.expose_secret()
    );
}

#[tokio::test]
async fn a_wrong_registration_says_what_to_put_right() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    bench.service.inject(Fault::new(
        Route::Token,
        oauth(401, "invalid_client", 7_000_222),
    ));
    let error = auth.access().await.unwrap_err();
    let TokenError::Configuration(why) = &error else {
        panic!("{error:?}")
    };
    assert!(
        why.contains("AADSTS7000222") && why.contains("client_secret_file"),
        "{why}"
    );
    assert!(needs_sign_in(&auth.state()));
}

#[tokio::test]
async fn an_application_signs_in_for_itself_and_stores_nothing() {
    let mut bench = Bench::start(Profile::Business, |_| {}).await;
    bench.config.app_only = true;
    bench.config.client_id = CONFIDENTIAL_CLIENT.into();
    bench.config.client_secret = Some(SecretString::from(CONFIDENTIAL_SECRET));
    bench.config.tenant = "contoso.onmicrosoft.com".into();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    auth.access().await.unwrap();
    auth.access().await.unwrap();
    assert_eq!(bench.service.count(Route::Token), 1);
    assert!(!bench.store().path().exists());
    bench.config.client_secret = Some(SecretString::from("wrong"));
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    let error = auth.access().await.unwrap_err();
    assert!(matches!(error, TokenError::Configuration(_)), "{error:?}");
}

#[tokio::test]
async fn a_token_from_rclone_is_renewed_by_the_application_of_its_section() {
    let mut bench = Bench::start(Profile::PersonalClassic, |_| {}).await;
    bench.config.client_id = String::new();
    let pair = bench.service.issue_token(CLIENT);
    let section = format!(
        "[pics]\ntype = onedrive\nclient_id = {CLIENT}\ntoken = {{\"refresh_token\":\"{}\"}}\n",
        pair.refresh_token
    );
    let found = import_rclone(&section, &bench.config, SystemTime::now()).unwrap();
    let token = renewed(&bench.config, Some(&found.token)).await.unwrap();
    assert_eq!(token.client_id, CLIENT);
    bench.store().save(&token).unwrap();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    auth.refresh().await.unwrap();
    // The same token, said to belong to another application.
    let other = section.replace(CLIENT, "11111111-aaaa-bbbb-cccc-000000000001");
    let found = import_rclone(&other, &bench.config, SystemTime::now()).unwrap();
    let error = renewed(&bench.config, Some(&found.token))
        .await
        .unwrap_err();
    assert!(matches!(error, TokenError::SignIn(_)), "{error:?}");
}

#[tokio::test]
async fn a_token_is_sent_to_nobody_but_the_authority_that_issued_it() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let mut token = bench.ended_token();
    token.login_url = "https://login.elsewhere.test".into();
    let error = renewed(&bench.config, Some(&token)).await.unwrap_err();
    assert!(matches!(error, TokenError::SignIn(_)), "{error:?}");
    assert_eq!(bench.service.total(), 0);
}

#[tokio::test]
async fn an_idle_token_is_due_after_a_day() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    let now = SystemTime::now();
    assert!(!auth.keep_alive_due(now + Duration::from_hours(23)));
    assert!(auth.keep_alive_due(now + Duration::from_hours(25)));
}
