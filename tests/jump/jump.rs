//! A jump to ask, started on free ports and stopped at the end.

use std::net::SocketAddr;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tuyun_chassis::settings::Period;
use tuyun_jump::{Jump, RunError, Settings};

/// Node `1` and node `home` have tokens of their own, all others share one.
pub(crate) const TOKENS: &str = "1 token-one\nhome token-home\n* token-all\n";
/// The operator's token.
pub(crate) const ADMIN: &str = "token-admin";

/// A running jump.
pub(crate) struct Running {
    address: SocketAddr,
    control: SocketAddr,
    client: Client,
    stop: CancellationToken,
    served: JoinHandle<Result<(), RunError>>,
    _files: [NamedTempFile; 2],
}

/// An answer: what matters of it here.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, 302, "{self:?}");
        self.header("location").unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

impl Running {
    /// Starts one with leases in memory, no limits and no probes, then changed as a test needs.
    pub(crate) async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        tuyun_chassis::start::install_crypto();
        let files = [file(TOKENS), file(ADMIN)];
        let mut settings = Settings {
            listen: "127.0.0.1:0".into(),
            origin: "https://origin.example/".into(),
            ..Settings::default()
        };
        settings.control.listen = "127.0.0.1:0".into();
        settings.nodes.token_file = files[0].path().to_str().unwrap().into();
        settings.admin.token_file = files[1].path().to_str().unwrap().into();
        settings.nodes.probe = Period::seconds(0);
        settings.nodes.figures = Period::seconds(0);
        settings.snapshot.clear();
        settings.limit.redirect_per_second = 0;
        settings.limit.update_per_second = 0;
        change(&mut settings);
        let jump = Jump::bind(&settings).await.unwrap();
        let stop = CancellationToken::new();
        Self {
            address: jump.local_addr(),
            control: jump.control_addr(),
            client: Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
                .unwrap(),
            served: tokio::spawn(jump.serve(stop.clone())),
            stop,
            _files: files,
        }
    }

    /// Sends a request and takes the whole answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        self.send_to(self.address, method, path, headers, body)
            .await
    }

    async fn send_to(
        &self,
        to: SocketAddr,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let named = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        let request = self.client.request(method, format!("http://{to}{path}"));
        let response = request
            .headers(named.collect())
            .body(body)
            .send()
            .await
            .unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    /// Where a browser finds it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Orders something as the operator.
    pub(crate) async fn order(&self, method: Method, path: &str, body: &Value) -> Answer {
        let token = format!("Bearer {ADMIN}");
        self.send(method, path, &[("authorization", &token)], body.to_string())
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], String::new()).await
    }

    /// What the operator's listener says.
    pub(crate) async fn control(&self, path: &str) -> Answer {
        self.send_to(self.control, Method::GET, path, &[], String::new())
            .await
    }

    /// What the operator is told.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        let token = format!("Bearer {ADMIN}");
        self.send(
            Method::GET,
            path,
            &[("authorization", &token)],
            String::new(),
        )
        .await
    }

    /// Reports, as an original node does.
    pub(crate) async fn update(&self, body: Value) -> Answer {
        let kind = [("content-type", "application/json")];
        self.send(Method::POST, "/_api/update", &kind, body.to_string())
            .await
    }

    /// Reports a node with the shared token, and expects it to be taken.
    pub(crate) async fn report(&self, id: &str, url: &str) {
        let token = if id == "1" { "token-one" } else { "token-all" };
        let answer = self
            .update(json!({ "token": token, "server_id": id, "url": url }))
            .await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "code": 0, "msg": "ok" }))
        );
    }

    /// Where a visitor of this path is sent.
    pub(crate) async fn sent(&self, path: &str) -> String {
        self.get(path).await.location().to_owned()
    }

    /// Sends a request line as it stands: clients tidy paths up before they send them.
    pub(crate) async fn raw(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{line}\r\nHost: jump\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Stops it, and expects a good end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.served.await.unwrap().unwrap();
    }
}

/// A file with this text, for its owner's eyes only.
pub(crate) fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}
