//! A plain client for the tests: it knows URLs and headers, and follows nothing by itself.

use graph_emulator::{Emulator, Options, Profile, Running, Settings};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// An emulator, and someone signed in to it.
pub(crate) struct Signed {
    pub(crate) emulator: Running,
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
}

pub(crate) fn http() -> reqwest::Client {
    // One provider for the process; a second installation is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

pub(crate) async fn on(profile: Profile) -> Signed {
    with(profile, |_| {}).await
}

pub(crate) async fn with(profile: Profile, change: impl FnOnce(&mut Settings)) -> Signed {
    let emulator = Emulator::start(Options::new(profile).adjusted(change))
        .await
        .unwrap();
    let token = emulator.issue_token("a-client").access_token;
    Signed {
        emulator,
        http: http(),
        token,
    }
}

impl Signed {
    /// A request to Graph below the drive: `root/children`, `items/…`.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let drive = self.emulator.drive_id();
        self.graph(method, &format!("drives/{drive}/{path}"))
    }

    /// A request to Graph.
    pub(crate) fn graph(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/v1.0/{path}", self.emulator.graph_url());
        self.http.request(method, url).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.ask(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "GET {path}");
        response.json().await.unwrap()
    }

    /// An absolute link that the service gave.
    pub(crate) async fn follow(&self, link: &Value) -> Response {
        let link = link.as_str().expect("a link");
        self.http
            .get(link)
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn put(&self, path: &str, bytes: &[u8]) -> Response {
        let path = format!("root:/{path}:/content");
        self.ask(Method::PUT, &path)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn patch(&self, id: &str, body: Value) -> Response {
        self.ask(Method::PATCH, &format!("items/{id}"))
            .json(&body)
            .send()
            .await
            .unwrap()
    }

    /// Opens an upload session and gives its URL.
    pub(crate) async fn session(&self, path: &str, item: Value) -> String {
        let response = self
            .ask(Method::POST, &format!("root:/{path}:/createUploadSession"))
            .json(&serde_json::json!({ "item": item }))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        let body: Value = response.json().await.unwrap();
        body["uploadUrl"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn fragment(
        &self,
        url: &str,
        first: usize,
        bytes: &[u8],
        total: usize,
    ) -> Response {
        let last = first + bytes.len() - 1;
        self.http
            .put(url)
            .header("content-range", format!("bytes {first}-{last}/{total}"))
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap()
    }
}

pub(crate) fn id(item: &Value) -> String {
    item["id"].as_str().expect("an id").to_owned()
}

pub(crate) async fn json(response: Response) -> Value {
    response.json().await.unwrap()
}

/// Status and error code of a refusal.
pub(crate) async fn refused(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let code = body["error"]["innerError"]["code"]
        .as_str()
        .or(body["error"]["code"].as_str());
    (status, code.unwrap_or("").to_owned())
}
