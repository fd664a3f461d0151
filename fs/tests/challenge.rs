//! A drive that refuses a token: what is done about it before a person is asked.

mod bench;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use bench::Bench;
use graph_emulator::{Profile, Route};
use http::{HeaderMap, Response};
use tuyunfs::auth::AuthState;
use tuyunfs::graph::{Graph, GraphConfig};
use tuyunfs::ports::DriveError;

/// A drive that gives the answers it was given, and remembers which tokens it saw.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Response<Body>>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(answers: Vec<Response<Body>>) -> (Self, GraphConfig) {
        let drive = Self::default();
        drive.answers.lock().unwrap().extend(answers);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = GraphConfig {
            graph_url: format!("http://{}", listener.local_addr().unwrap()),
            ca_pem: None,
            ..GraphConfig::default()
        };
        let answering = drive.clone();
        let answer = move |headers: HeaderMap| async move {
            let token = headers["authorization"].to_str().unwrap().to_owned();
            answering.tokens.lock().unwrap().push(token);
            answering.answers.lock().unwrap().pop_front().unwrap()
        };
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        (drive, config)
    }
}

fn found() -> Response<Body> {
    Response::new(Body::from(r#"{"id":"b!1","driveType":"business"}"#))
}

fn refused(challenge: &str, message: &str) -> Response<Body> {
    let body =
        format!(r#"{{"error":{{"code":"InvalidAuthenticationToken","message":"{message}"}}}}"#);
    Response::builder()
        .status(401)
        .header("www-authenticate", challenge)
        .body(Body::from(body))
        .unwrap()
}

fn claims_challenge() -> Response<Body> {
    refused(
        r#"Bearer realm="", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ==""#,
        "Continuous access evaluation",
    )
}

#[tokio::test]
async fn a_claims_challenge_is_answered_by_a_renewal_where_that_is_enough() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    let (drive, config) = Scripted::start(vec![claims_challenge(), found()]).await;
    Graph::find(&config, auth.clone(), "", "").await.unwrap();
    assert_eq!(auth.state(), AuthState::SignedIn);
    assert_eq!(bench.service.count(Route::Token), 2);
    let tokens = drive.tokens.lock().unwrap();
    assert_ne!(tokens[0], tokens[1], "the second try shows another token");
}

#[tokio::test]
async fn a_claims_challenge_that_no_renewal_answers_asks_for_a_person_and_keeps_the_claims() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    let answers = vec![claims_challenge(), claims_challenge()];
    let (_drive, config) = Scripted::start(answers).await;
    let error = Graph::find(&config, auth.clone(), "", "")
        .await
        .unwrap_err();
    assert!(matches!(error, DriveError::SignIn(_)), "{error:?}");
    let AuthState::SignInNeeded { claims, .. } = auth.state() else {
        panic!("{:?}", auth.state())
    };
    assert_eq!(claims.as_deref(), Some(r#"{"access_token":{}}"#));
    // Until somebody has signed in, the drive is not asked again.
    let error = Graph::find(&config, auth.clone(), "", "")
        .await
        .unwrap_err();
    assert!(matches!(error, DriveError::SignIn(_)), "{error:?}");
    bench.store().save(&bench.ended_token()).unwrap();
    auth.look(false).await;
    assert_eq!(auth.state(), AuthState::SignedIn);
}

#[tokio::test]
async fn a_back_end_that_lost_its_own_sign_in_costs_neither_a_renewal_nor_a_person() {
    let bench = Bench::start(Profile::PersonalClassic, |_| {}).await;
    let auth = bench.signed_in();
    auth.access().await.unwrap();
    bench.service.reset_log();
    let lost = refused("Bearer", "Unable to initialize RPS");
    let (drive, config) = Scripted::start(vec![lost, found()]).await;
    Graph::find(&config, auth.clone(), "", "").await.unwrap();
    assert_eq!(bench.service.count(Route::Token), 0);
    assert_eq!(drive.tokens.lock().unwrap().len(), 2);
    assert_eq!(auth.state(), AuthState::SignedIn);
}

#[tokio::test]
async fn a_token_that_is_refused_again_after_a_renewal_is_not_renewed_for_ever() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let auth = bench.signed_in();
    auth.access().await.unwrap();
    bench.service.reset_log();
    let answers = (0..10).map(|_| refused("Bearer", "no")).collect();
    let (_drive, config) = Scripted::start(answers).await;
    let error = Graph::find(&config, auth.clone(), "", "")
        .await
        .unwrap_err();
    assert!(matches!(error, DriveError::Unavailable { .. }), "{error:?}");
    assert_eq!(bench.service.count(Route::Token), 1);
    assert_eq!(auth.state(), AuthState::SignedIn);
}
