//! Sign-in, against an emulated login authority.

mod bench;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use bench::{Bench, CLIENT};
use futures_util::future::join_all;
use graph_emulator::{
    Act, CONFIDENTIAL_CLIENT, CONFIDENTIAL_SECRET, Client, Fault, Profile, Route,
};
use secrecy::ExposeSecret;
use tuyunfs::auth::{
    AuthState, Authenticator, Credential, Prompt, TokenError, import_rclone, renewed,
    sign_in_browser, sign_in_device,
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
    let token = sign_in_device(&bench.config, None, |prompt| {
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
    let refused = sign_in_device(&bench.config, None, |prompt| {
        let Prompt::Device { code, .. } = prompt else {
            panic!("{prompt:?}")
        };
        assert!(bench.service.decide_device(&code, false));
    })
    .await;
    assert!(
        matches!(refused, Err(TokenError::SignIn { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_person_signs_in_by_a_browser_that_comes_back_to_this_machine() {
    let bench = Bench::start(Profile::PersonalMigrated, |_| {}).await;
    let (shown, address) = tokio::sync::oneshot::channel();
    let mut shown = Some(shown);
    let signing = sign_in_browser(&bench.config, None, |prompt| {
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
    for renewed in join_all((0..50).map(|_| auth.renew(&refused, None))).await {
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
        matches!(&error, TokenError::SignIn { why, .. } if why.contains("AADSTS")),
        "{error}"
    );
    assert!(needs_sign_in(&auth.state()));
    let since = auth.standing(SystemTime::now()).since;
    bench.service.reset_log();
    assert!(auth.access().await.is_err());
    assert_eq!(
        bench.service.total(),
        0,
        "a dead token is not asked about again"
    );
    assert_eq!(auth.standing(SystemTime::now()).since, since);
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
            matches!(error, TokenError::Unavailable { .. }),
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
    let error = auth.renew(&again, None).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { .. }), "{error}");
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
    assert!(matches!(auth.state(), AuthState::Misconfigured { .. }));
}

#[tokio::test]
async fn an_application_signs_in_for_itself_and_stores_nothing() {
    let mut bench = Bench::start(Profile::Business, |_| {}).await;
    bench.config.app_only = true;
    bench.config.client_id = CONFIDENTIAL_CLIENT.into();
    bench.config.credential = Credential::Secret(CONFIDENTIAL_SECRET.into());
    bench.config.tenant = "contoso.onmicrosoft.com".into();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    auth.access().await.unwrap();
    auth.access().await.unwrap();
    assert_eq!(bench.service.count(Route::Token), 1);
    assert!(!bench.store().path().exists());
    bench.config.credential = Credential::Secret("wrong".into());
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
    let token = renewed(&bench.config, Some(&found.token), None)
        .await
        .unwrap();
    assert_eq!(token.client_id, CLIENT);
    bench.store().save(&token).unwrap();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    auth.refresh().await.unwrap();
    // The same token, said to belong to another application.
    let other = section.replace(CLIENT, "11111111-aaaa-bbbb-cccc-000000000001");
    let found = import_rclone(&other, &bench.config, SystemTime::now()).unwrap();
    let error = renewed(&bench.config, Some(&found.token), None)
        .await
        .unwrap_err();
    assert!(matches!(error, TokenError::SignIn { .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_is_sent_to_nobody_but_the_authority_that_issued_it() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let mut token = bench.ended_token();
    token.login_url = "https://login.elsewhere.test".into();
    let error = renewed(&bench.config, Some(&token), None)
        .await
        .unwrap_err();
    assert!(matches!(error, TokenError::SignIn { .. }), "{error:?}");
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

/// An application with a certificate, registered with the service.
async fn certified(certificate: &str) -> (Bench, Credential) {
    let mut bench = Bench::start_with(Profile::Business, |options| {
        options.clients.push(Client {
            id: "certified".into(),
            secret: None,
            certificate: Some(certificate.to_owned()),
            redirects: Vec::new(),
        });
    })
    .await;
    bench.config.app_only = true;
    bench.config.client_id = "certified".into();
    bench.config.tenant = "contoso.onmicrosoft.com".into();
    let at = |name: &str, text: &str| {
        let path = bench.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let credential = Credential::Certificate {
        certificate: at("app.pem", include_str!("data/client.pem")),
        key: at("app.key", include_str!("data/client.key")),
    };
    (bench, credential)
}

#[tokio::test]
async fn an_application_proves_itself_by_a_signed_statement_of_its_own_for_each_request() {
    let (mut bench, credential) = certified(include_str!("data/client.pem")).await;
    bench.config.credential = credential;
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    let first = auth.access().await.unwrap();
    // The emulator takes no statement twice.
    auth.renew(&first, None).await.unwrap();
    assert_ne!(
        auth.access().await.unwrap().expose_secret(),
        first.expose_secret()
    );
    assert_eq!(bench.service.count(Route::Token), 2);
    assert_eq!(auth.state(), AuthState::SignedIn);
}

#[tokio::test]
async fn a_certificate_that_the_app_does_not_have_is_a_matter_of_configuration() {
    let other = rcgen::generate_simple_self_signed(["x".into()]).unwrap();
    let (mut bench, credential) = certified(&other.cert.pem()).await;
    bench.config.credential = credential;
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    let error = auth.access().await.unwrap_err();
    assert!(
        matches!(&error, TokenError::Configuration(why)
            if why.contains("AADSTS700027") && why.contains("client_certificate_file")),
        "{error:?}"
    );
    assert!(matches!(auth.state(), AuthState::Misconfigured { .. }));
    bench.service.reset_log();
    assert!(auth.access().await.is_err());
    assert_eq!(
        bench.service.total(),
        0,
        "it is not asked again at each turn"
    );
}

#[tokio::test]
async fn a_new_secret_in_its_file_heals_without_a_restart() {
    let mut bench = Bench::start(Profile::Business, |_| {}).await;
    let secret = bench.dir.path().join("secret");
    std::fs::write(&secret, "expired").unwrap();
    bench.config.app_only = true;
    bench.config.client_id = CONFIDENTIAL_CLIENT.into();
    bench.config.credential = Credential::SecretFile(secret.clone());
    bench.config.tenant = "contoso.onmicrosoft.com".into();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    let mut changes = auth.changes();
    assert!(auth.access().await.is_err());
    changes.mark_unchanged();
    assert!(matches!(auth.state(), AuthState::Misconfigured { .. }));
    auth.look(false).await;
    assert_eq!(bench.service.count(Route::Token), 1, "nothing has changed");
    std::fs::write(&secret, CONFIDENTIAL_SECRET).unwrap();
    auth.look(false).await;
    assert_eq!(auth.state(), AuthState::SignedIn);
    assert!(changes.has_changed().unwrap());
    auth.access().await.unwrap();
    assert_eq!(bench.service.count(Route::Token), 2);
}

#[tokio::test]
async fn whatever_an_application_is_refused_for_nobody_can_sign_in_for_it() {
    let mut bench = Bench::start(Profile::Business, |_| {}).await;
    bench.config.app_only = true;
    bench.config.client_id = CONFIDENTIAL_CLIENT.into();
    bench.config.credential = Credential::Secret(CONFIDENTIAL_SECRET.into());
    bench.config.tenant = "contoso.onmicrosoft.com".into();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    let refusal = oauth(400, "invalid_grant", 53003);
    bench.service.inject(Fault::new(Route::Token, refusal));
    assert!(matches!(
        auth.access().await,
        Err(TokenError::Configuration(_))
    ));
    assert!(matches!(auth.state(), AuthState::Misconfigured { .. }));
}

#[tokio::test]
async fn a_claims_challenge_of_the_token_endpoint_is_kept_for_the_sign_in() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    bench.service.inject(Fault::new(
        Route::Token,
        oauth(400, "interaction_required", 50076),
    ));
    assert!(auth.access().await.is_err());
    let AuthState::SignInNeeded { why, claims } = auth.state() else {
        panic!("{:?}", auth.state())
    };
    assert!(why.contains("AADSTS50076"), "{why}");
    let claims = claims.unwrap();
    assert!(claims.contains("capolids"), "{claims}");
    // And shown to the person who signs in.
    let (shown, address) = tokio::sync::oneshot::channel();
    let mut shown = Some(shown);
    let signing = sign_in_browser(&bench.config, Some(&claims), |prompt| {
        let Prompt::Browser { url } = prompt else {
            panic!("{prompt:?}")
        };
        shown.take().unwrap().send(url).unwrap();
    });
    let browsing = async {
        let url = url::Url::parse(&address.await.unwrap()).unwrap();
        let passed = url.query_pairs().find(|(key, _)| key == "claims");
        assert_eq!(passed.unwrap().1, claims);
        reqwest::get(url).await.unwrap();
    };
    let (token, ()) = tokio::join!(signing, browsing);
    token.unwrap();
}

#[tokio::test]
async fn a_drive_that_wants_more_than_a_renewal_shows_asks_for_a_person() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    let token = auth.access().await.unwrap();
    auth.challenged("401 InvalidAuthenticationToken", Some("{}".into()));
    assert!(matches!(
        auth.state(),
        AuthState::SignInNeeded {
            claims: Some(_),
            ..
        }
    ));
    bench.service.reset_log();
    let error = auth.access().await.unwrap_err();
    assert!(
        matches!(&error, TokenError::SignIn { claims: Some(claims), .. } if claims == "{}"),
        "{error:?}"
    );
    assert!(auth.renew(&token, None).await.is_err());
    assert_eq!(bench.service.total(), 0);
}

#[tokio::test]
async fn a_sign_in_that_may_not_write_is_refused_when_it_is_renewed() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let mut token = bench.ended_token();
    token.scope = "Files.Read offline_access".into();
    let error = renewed(&bench.config, Some(&token), None)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, TokenError::Configuration(why)
            if why.contains("Files.ReadWrite.All") && why.contains("Files.Read")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_login_authority_that_asks_to_be_left_alone_is_left_alone() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    bench
        .service
        .inject(Fault::status(Route::Token, 429).retry_after(600));
    let error = auth.access().await.unwrap_err();
    assert!(
        matches!(error, TokenError::Unavailable { retry_after: Some(wish), .. }
            if wish == Duration::from_mins(10)),
        "{error:?}"
    );
    assert!(auth.access().await.is_err());
    assert_eq!(bench.service.count(Route::Token), 1);
    assert!(matches!(auth.state(), AuthState::Unreachable { .. }));
}

#[tokio::test]
async fn a_damaged_token_is_one_that_nobody_has_and_a_login_heals_it() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    std::fs::write(bench.store().path(), "{\"refresh_token\":\"x").unwrap();
    let auth = Authenticator::new(bench.config.clone(), bench.store()).unwrap();
    let AuthState::SignInNeeded { why, .. } = auth.state() else {
        panic!("{:?}", auth.state())
    };
    assert!(why.contains("damaged"), "{why}");
    bench.store().save(&bench.ended_token()).unwrap();
    auth.look(false).await;
    assert_eq!(auth.state(), AuthState::SignedIn);
    auth.access().await.unwrap();
}

#[tokio::test]
async fn a_sign_in_says_how_long_it_lasts() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    auth.access().await.unwrap();
    let now = SystemTime::now();
    let standing = auth.standing(now);
    let lasts = standing.lasts_until.unwrap();
    assert_eq!(
        lasts,
        standing.refreshed.unwrap() + Duration::from_hours(90 * 24)
    );
    assert_eq!(standing.warning, None);
    let soon = auth.standing(lasts - Duration::from_hours(72)).warning;
    assert!(soon.unwrap().contains("in 3 days"));
}
