//! An edge in this process, and how tests talk to it.

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Response};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tuyun_edge::{Edge, EdgeError, Settings};

use crate::origin::Origin;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The admin token of nodes that have one.
pub(crate) const ADMIN: &str = "the-admin-token";

/// A running node.
pub(crate) struct Node {
    address: SocketAddr,
    control: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<Result<(), EdgeError>>,
    home: Arc<TempDir>,
    settings: Settings,
    client: Client,
}

/// Settings for a node before this origin, in a directory of its own.
pub(crate) fn settings(origin: &str, home: &Path) -> Settings {
    let mut settings = Settings {
        listen: "127.0.0.1:0".into(),
        ..Settings::default()
    };
    settings.control.listen = "127.0.0.1:0".into();
    settings.origin.primary = origin.into();
    settings.cache.dir = home.join("cache").to_str().expect("UTF-8").into();
    settings.limit.per_second = 0;
    settings
}

/// A file with a secret, inside a directory that outlives the node.
pub(crate) fn secret(home: &Path, name: &str, secret: &str) -> String {
    let path = home.join(name);
    let mut file = std::fs::File::create(&path).expect("a file");
    writeln!(file, "{secret}").expect("written");
    path.to_str().expect("UTF-8").into()
}

impl Node {
    pub(crate) async fn before(origin: &Origin) -> Self {
        Self::with(origin, |_, _| {}).await
    }

    /// With other settings than usual; the closure also gets the node's home.
    pub(crate) async fn with(origin: &Origin, adapt: impl FnOnce(&mut Settings, &Path)) -> Self {
        let home = Arc::new(tempfile::tempdir().expect("a directory"));
        let mut settings = settings(&origin.base(), home.path());
        settings.admin.token_file = secret(home.path(), "admin", ADMIN);
        adapt(&mut settings, home.path());
        Self::start(settings, home).await
    }

    async fn start(settings: Settings, home: Arc<TempDir>) -> Self {
        let client = client();
        let edge = Edge::bind(settings.clone()).await.expect("bound");
        let address = edge.local_addr();
        let control = edge.control_addr().expect("a control listener");
        let stop = CancellationToken::new();
        let served = tokio::spawn(edge.serve(stop.clone()));
        Self {
            address,
            control,
            stop,
            served,
            home,
            settings,
            client,
        }
    }

    /// Stops in order, and starts again on the same directory.
    pub(crate) async fn restarted(self) -> Self {
        let (settings, home) = (self.settings.clone(), Arc::clone(&self.home));
        self.stop().await;
        Self::start(settings, home).await
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let served = tokio::time::timeout(PATIENCE, &mut self.served).await;
        served.expect("in time").expect("no panic").expect("served");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.settings.cache.dir.clone().into()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method.parse().expect("a method"), self.url(path))
            .timeout(PATIENCE)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.expect("an answer")
    }

    pub(crate) async fn control(&self, path: &str) -> Response {
        let url = format!("http://{}{path}", self.control);
        self.client
            .get(url)
            .timeout(PATIENCE)
            .send()
            .await
            .expect("an answer")
    }

    /// Sends a target as it is, which no proper client would, and gives the status.
    pub(crate) async fn raw(&self, target: &str) -> u16 {
        let mut socket = TcpStream::connect(self.address).await.expect("connected");
        let request = format!("GET {target} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer);
        text.split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status")
    }

    /// Number of pictures held, as the node itself says.
    pub(crate) async fn entries(&self) -> u64 {
        let status: serde_json::Value = self.get("/_api/status").await.json().await.expect("JSON");
        status["cache_entries"].as_u64().expect("a number")
    }

    /// Waits until so many pictures are held.
    pub(crate) async fn holds(&self, entries: u64) {
        eventually("the node holds as many", async || {
            self.entries().await == entries
        })
        .await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A client that follows nothing and trusts nobody.
pub(crate) fn client() -> Client {
    tuyun_chassis::start::install_crypto();
    let builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    builder.build().expect("a client")
}

/// The value of a header, empty if there is none.
pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Status, `X-Cache` and body.
pub(crate) async fn told(response: Response) -> (u16, String, Vec<u8>) {
    let (status, cache) = (
        response.status().as_u16(),
        header(&response, "x-cache").to_owned(),
    );
    (
        status,
        cache,
        response.bytes().await.expect("a whole body").to_vec(),
    )
}

/// Polls until it is so.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
