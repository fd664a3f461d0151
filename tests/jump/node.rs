//! Stand-ins for nodes: one that answers its health call as it is told, and the signing of reports.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tuyun_protocol::{Nonce, Signature, Token, UPDATE_PATH};

use crate::jump::{Answer, Running};

/// A node as jump's probes see it.
pub(crate) struct Node {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicU32>,
    /// Its status and its days.
    figures: Arc<Mutex<(Value, Value)>>,
    figures_asked: Arc<AtomicU32>,
    serving: JoinHandle<()>,
}

impl Node {
    /// Starts one whose health call answers this status.
    pub(crate) async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(status));
        let asked = Arc::new(AtomicU32::new(0));
        let (says, counts) = (Arc::clone(&status), Arc::clone(&asked));
        let health = get(async move || {
            counts.fetch_add(1, Ordering::SeqCst);
            StatusCode::from_u16(says.load(Ordering::SeqCst)).unwrap()
        });
        let figures = Arc::new(Mutex::new((Value::Null, Value::Null)));
        let figures_asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&figures_asked);
        let (status_says, traffic_says) = (Arc::clone(&figures), Arc::clone(&figures));
        let router = Router::new()
            .route("/_api/health", health)
            .route(
                "/_api/status",
                get(async move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Json(status_says.lock().unwrap().0.clone())
                }),
            )
            .route(
                "/_api/traffic",
                get(async move || Json(traffic_says.lock().unwrap().1.clone())),
            );
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            status,
            asked,
            figures,
            figures_asked,
            serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How often it was asked for its health.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    /// How often it was asked for its status.
    pub(crate) fn figures_asked(&self) -> u32 {
        self.figures_asked.load(Ordering::SeqCst)
    }

    /// What it says of itself from now on.
    pub(crate) fn say(&self, status: Value, days: Value) {
        *self.figures.lock().unwrap() = (status, days);
    }

    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Vanishes without a word.
    pub(crate) fn kill(self) {
        self.serving.abort();
    }
}

/// Now, in unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A signed report: its body and the headers that prove it.
pub(crate) struct Signed {
    pub(crate) method: Method,
    pub(crate) body: String,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Signed {
    pub(crate) fn at(time: u64, method: Method, token: &str, body: &Value) -> Self {
        let body = body.to_string();
        let nonce = Nonce::from_random(rand::random());
        let token = Token::new(token);
        let signature = Signature::sign(
            &token,
            method.as_str(),
            UPDATE_PATH,
            time,
            nonce,
            body.as_bytes(),
        );
        Self {
            method,
            body,
            headers: signature.headers().into(),
        }
    }

    pub(crate) fn new(token: &str, body: &Value) -> Self {
        Self::at(now(), Method::POST, token, body)
    }

    pub(crate) async fn send(&self, jump: &Running) -> Answer {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        jump.send(
            self.method.clone(),
            UPDATE_PATH,
            &headers,
            self.body.clone(),
        )
        .await
    }
}
