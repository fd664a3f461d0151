//! A visitor: one request, no redirect followed, everything of the reply kept.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::Runtime;

/// Tests block; the client does not have to.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tuyun_chassis::start::install_crypto();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
});

static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client")
});

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Asks for a URL. `None`: nobody answered, or the answer broke off.
#[must_use]
pub fn try_get(url: &str, headers: &[(&str, &str)]) -> Option<Reply> {
    send(reqwest::Method::GET, url, headers, None)
}

/// Asks for a URL.
///
/// # Panics
/// Nobody answered.
#[must_use]
pub fn get(url: &str, headers: &[(&str, &str)]) -> Reply {
    try_get(url, headers).unwrap_or_else(|| panic!("no answer from {url}"))
}

/// Sends JSON.
///
/// # Panics
/// Nobody answered.
#[must_use]
pub fn post(url: &str, body: &serde_json::Value) -> Reply {
    send(reqwest::Method::POST, url, &[], Some(body))
        .unwrap_or_else(|| panic!("no answer from {url}"))
}

fn send(
    method: reqwest::Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&serde_json::Value>,
) -> Option<Reply> {
    RUNTIME.block_on(async {
        let mut request = CLIENT.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let body = response.bytes().await.ok()?.to_vec();
        Some(Reply {
            status,
            headers,
            body,
        })
    })
}
