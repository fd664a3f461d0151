//! One careful question to a node.
//!
//! A node names its own address, so a question is a request to wherever a stranger with a token
//! wishes. It follows no redirect, uses no proxy, reads at most 4 KiB, gives up after 2 s, and goes
//! to global addresses only: the name is resolved here, and what is not global is left out, so that
//! a name cannot point inside at the second look.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tuyun_protocol::{Base, is_global};
use url::Host;

/// How long a node may take to answer. A visitor would have turned away.
const DEADLINE: Duration = Duration::from_secs(2);

/// How much of an answer is read; ours are below 3 KiB.
const MOST_BYTES: usize = 4096;

/// Asks nodes.
#[derive(Clone, Debug)]
pub struct Asker {
    client: reqwest::Client,
    allow_private: bool,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An answer that arrived whole, and is short.
    Answer(StatusCode, Vec<u8>),
    /// None, or none that can be used.
    Missed,
    /// The address is not one to ask: that says nothing about the node.
    Private,
}

impl Asker {
    /// Prepares asking.
    ///
    /// # Errors
    /// When there is no HTTP client to be had, for want of certificates for example.
    pub fn new(allow_private: bool) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(DEADLINE)
            .dns_resolver(Arc::new(Global { allow_private }))
            // A kept connection would show that the process lives, not that visitors get through.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("tuyun-jump/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            allow_private,
        })
    }

    /// Asks a node for one of its endpoints.
    pub async fn ask(&self, base: &Base, endpoint: &str) -> Finding {
        if !self.allow_private && literal(base).is_some_and(|address| !is_global(address)) {
            return Finding::Private;
        }
        let Some(url) = base.endpoint(endpoint) else {
            return Finding::Missed;
        };
        match tokio::time::timeout(DEADLINE, self.fetch(url)).await {
            Ok(Ok(Some((status, body)))) => Finding::Answer(status, body),
            Ok(Err(error)) if is_private(&error) => Finding::Private,
            Ok(Ok(None) | Err(_)) | Err(_) => Finding::Missed,
        }
    }

    /// A short answer that arrives whole.
    async fn fetch(&self, url: url::Url) -> Result<Option<(StatusCode, Vec<u8>)>, reqwest::Error> {
        let mut response = self.client.get(url).send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some((response.status(), body)))
    }
}

impl Finding {
    /// Whether it says that all is well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self, Self::Answer(status, _) if status.is_success())
    }
}

/// The address that a base names outright: no name, nothing to resolve.
fn literal(base: &Base) -> Option<IpAddr> {
    match base.url().host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Resolves names to addresses that may be asked.
#[derive(Debug)]
struct Global {
    allow_private: bool,
}

/// A name has addresses, and none of them is global.
#[derive(Debug, thiserror::Error)]
#[error("the name has no global address")]
struct NotGlobal;

impl Resolve for Global {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found
                .filter(|address| allow_private || is_global(address.ip()))
                .collect();
            if addresses.is_empty() {
                return Err(NotGlobal.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn is_private(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<NotGlobal>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn asker(allow_private: bool) -> Asker {
        tuyun_chassis::start::install_crypto();
        Asker::new(allow_private).unwrap()
    }

    /// What is found at a node that gives this answer.
    async fn find(answer: &'static str, allow_private: bool) -> Finding {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/node/", listener.local_addr().unwrap());
        let node = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            let asked = String::from_utf8_lossy(&head[..read]).into_owned();
            assert!(
                asked.starts_with("GET /node/_api/health HTTP/1.1\r\n"),
                "{asked}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let base = Base::parse(&base).unwrap();
        let finding = asker(allow_private).ask(&base, "_api/health").await;
        if allow_private {
            node.await.unwrap();
        } else {
            node.abort();
        }
        finding
    }

    #[tokio::test]
    async fn a_node_that_is_well_is_reached() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let found = find(answer, true).await;
        assert_eq!(found, Finding::Answer(StatusCode::OK, b"{}".into()));
        assert!(found.is_well());
    }

    #[tokio::test]
    async fn a_node_that_is_unwell_redirects_or_talks_too_much_is_not_well() {
        let unwell = "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}";
        assert!(!find(unwell, true).await.is_well());
        let redirect = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
        assert!(!find(redirect, true).await.is_well());
        let long: String = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{}",
            "x".repeat(5000)
        );
        assert_eq!(find(long.leak(), true).await, Finding::Missed);
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}";
        assert_eq!(find(cut, true).await, Finding::Missed);
    }

    #[tokio::test]
    async fn a_private_address_is_not_asked_by_number_or_name() {
        assert_eq!(find("", false).await, Finding::Private);
        let named = Base::parse("http://localhost:9/").unwrap();
        assert_eq!(asker(false).ask(&named, "x").await, Finding::Private);
    }
}
