//! A person who takes time, a browser that is lied to, and a login authority that is down.

mod bench;

use std::time::{Duration, SystemTime};

use bench::Bench;
use graph_emulator::{Act, Fault, Profile, ReplyBody, Route};
use secrecy::ExposeSecret;
use tuyunfs::auth::{
    AuthState, Prompt, TokenError, TokenStore, renewed, sign_in_browser, sign_in_device,
};

/// Longer than anything that is waited for here takes, by far.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for the code of a device sign-in, and for the first poll of it.
async fn polled(bench: &Bench, code: tokio::sync::oneshot::Receiver<String>) -> String {
    let code = tokio::time::timeout(DEADLINE, code).await.unwrap().unwrap();
    assert!(bench.service.wait_for(Route::Token, 1, DEADLINE).await);
    code
}

#[tokio::test]
async fn a_person_who_takes_time_is_waited_for_until_the_code_ends() {
    for approves in [true, false] {
        let bench = Bench::start(Profile::PersonalMigrated, |settings| {
            settings.auto_approve = false;
            settings.device_interval_seconds = 1;
        })
        .await;
        let (shown, code) = tokio::sync::oneshot::channel();
        let mut shown = Some(shown);
        let signing = sign_in_device(&bench.config, None, |prompt| {
            let Prompt::Device { code, .. } = prompt else {
                panic!("{prompt:?}")
            };
            shown.take().unwrap().send(code).unwrap();
        });
        let deciding = async {
            let code = polled(&bench, code).await;
            assert_eq!(bench.service.waiting_devices(), std::slice::from_ref(&code));
            if approves {
                assert!(bench.service.decide_device(&code, true));
            } else {
                bench.service.advance(Duration::from_mins(16));
            }
        };
        let (token, ()) = tokio::join!(signing, deciding);
        if approves {
            assert!(!token.unwrap().refresh_token.expose_secret().is_empty());
        } else {
            assert!(matches!(token, Err(TokenError::SignIn { .. })), "{token:?}");
        }
        assert_eq!(bench.service.count(Route::Token), 2, "{approves}");
    }
}

#[tokio::test]
async fn a_code_that_comes_with_another_state_is_not_exchanged() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let (shown, address) = tokio::sync::oneshot::channel();
    let mut shown = Some(shown);
    let signing = sign_in_browser(&bench.config, None, |prompt| {
        let Prompt::Browser { url } = prompt else {
            panic!("{prompt:?}")
        };
        shown.take().unwrap().send(url).unwrap();
    });
    let browsing = async {
        let url = url::Url::parse(&address.await.unwrap()).unwrap();
        let value = |name| {
            let mut pairs = url.query_pairs();
            pairs.find(|(key, _)| key == name).unwrap().1.into_owned()
        };
        let browser = reqwest::Client::new();
        let back = value("redirect_uri");
        let forged = format!("{back}/?code=stolen&state=guessed");
        assert_eq!(browser.get(forged).send().await.unwrap().status(), 404);
        assert_eq!(bench.service.count(Route::Token), 0);
        let refused = format!(
            "{back}/?error=access_denied&error_description=AADSTS65004%3A+no&state={}",
            value("state")
        );
        assert_eq!(browser.get(refused).send().await.unwrap().status(), 200);
    };
    let (token, ()) = tokio::join!(signing, browsing);
    let Err(TokenError::SignIn { why, .. }) = token else {
        panic!("{token:?}")
    };
    assert!(why.contains("AADSTS65004"), "{why}");
    assert_eq!(bench.service.count(Route::Token), 0);
}

#[tokio::test]
async fn an_outage_of_the_login_authority_leaves_the_token_as_it_was() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    let before = std::fs::read(bench.store().path()).unwrap();
    let outage = Fault::status(Route::Token, 500).body(ReplyBody::Html);
    bench.service.inject(outage.always());
    let error = auth.access().await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { .. }), "{error:?}");
    assert!(matches!(auth.state(), AuthState::Unreachable { .. }));
    assert_eq!(std::fs::read(bench.store().path()).unwrap(), before);
    bench.service.clear_faults();
    auth.refresh().await.unwrap();
    assert_eq!(auth.state(), AuthState::SignedIn);
}

#[tokio::test]
async fn a_new_token_is_on_disk_before_anybody_has_it() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    let tokens = (0..20).map(|_| {
        let (auth, store) = (auth.clone(), bench.store());
        async move { (auth.access().await.unwrap(), on_disk(&store)) }
    });
    for (used, stored) in futures_util::future::join_all(tokens).await {
        assert_eq!(used.expose_secret(), stored);
    }
}

fn on_disk(store: &TokenStore) -> String {
    let token = store.load().unwrap().unwrap();
    token.access_token.expose_secret().to_owned()
}

#[tokio::test]
async fn scopes_name_the_host_where_the_cloud_is_a_nations() {
    let bench = Bench::start(Profile::China, |_| {}).await;
    let mut config = bench.config.clone();
    let mut scopes = |host: &str, app_only| {
        config.resource = host.into();
        config.app_only = app_only;
        config.scopes().join(" ")
    };
    assert_eq!(
        scopes("https://graph.microsoft.com", false),
        "Files.ReadWrite.All offline_access"
    );
    let china = "https://microsoftgraph.chinacloudapi.cn";
    assert_eq!(
        scopes(china, false),
        format!("{china}/Files.ReadWrite.All offline_access")
    );
    assert_eq!(
        scopes("https://graph.microsoft.us/", true),
        "https://graph.microsoft.us/.default"
    );
    let auth = bench.signed_in();
    let token = auth.access().await.unwrap();
    let shown = format!("{token:?} {:?}", bench.store().load().unwrap());
    assert!(!shown.contains(token.expose_secret()), "{shown}");
    assert!(auth.standing(SystemTime::now()).access_until.unwrap() > SystemTime::now());
}

fn answer(error: &str, number: u32) -> Fault {
    let act = Act::Oauth {
        status: 400,
        error: error.into(),
        number,
    };
    Fault::new(Route::Token, act)
}

#[tokio::test]
async fn a_code_is_asked_about_more_slowly_when_told_so_and_through_an_outage() {
    let bench = Bench::start(Profile::Business, |settings| {
        settings.device_interval_seconds = 1;
        settings.device_approved_at_poll = 1;
        settings.auto_approve = false;
    })
    .await;
    bench.service.inject(answer("authorization_pending", 70016));
    bench.service.inject(Fault::status(Route::Token, 503));
    bench.service.inject(answer("slow_down", 70016));
    sign_in_device(&bench.config, None, |_| {}).await.unwrap();
    let polls: Vec<u64> = bench
        .service
        .requests()
        .iter()
        .filter(|entry| entry.route == Route::Token)
        .map(|entry| entry.arrived_ms)
        .collect();
    assert_eq!(polls.len(), 4, "{polls:?}");
    assert!(polls[1] - polls[0] < 2000, "{polls:?}");
    assert!(polls[3] - polls[2] >= 5900, "five seconds more: {polls:?}");
}

#[tokio::test]
async fn a_code_that_is_refused_is_not_asked_about_again() {
    for (error, number) in [
        ("authorization_declined", 70017),
        ("expired_token", 70020),
        ("bad_verification_code", 70018),
    ] {
        let bench = Bench::start(Profile::Business, |settings| {
            settings.device_interval_seconds = 1;
        })
        .await;
        bench.service.inject(answer(error, number));
        let told = sign_in_device(&bench.config, None, |_| {}).await;
        assert!(
            matches!(&told, Err(TokenError::SignIn { why, .. }) if why.contains("AADSTS")),
            "{error}: {told:?}"
        );
        assert_eq!(bench.service.count(Route::Token), 1, "{error}");
    }
}

#[tokio::test]
async fn a_sign_in_of_each_cloud_asks_for_the_scopes_of_its_graph() {
    for (resource, scope) in [
        ("https://graph.microsoft.com", "Files.ReadWrite.All"),
        (
            "https://graph.microsoft.us",
            "https://graph.microsoft.us/Files.ReadWrite.All",
        ),
        (
            "https://dod-graph.microsoft.us",
            "https://dod-graph.microsoft.us/Files.ReadWrite.All",
        ),
        (
            "https://microsoftgraph.chinacloudapi.cn",
            "https://microsoftgraph.chinacloudapi.cn/Files.ReadWrite.All",
        ),
    ] {
        let mut bench = Bench::start(Profile::China, |settings| {
            settings.device_interval_seconds = 1;
            settings.device_approved_at_poll = 1;
        })
        .await;
        bench.config.resource = resource.into();
        let token = sign_in_device(&bench.config, None, |_| {}).await.unwrap();
        assert_eq!(token.scope, format!("{scope} offline_access"));
        assert!(!token.refresh_token.expose_secret().is_empty());
        // And again when it is renewed.
        let again = renewed(&bench.config, Some(&token), None).await.unwrap();
        assert_eq!(again.scope, token.scope);
    }
}
