//! Asks our nodes whether they live, as a visitor would reach them.
//!
//! A node names its own address, so a probe is a request to wherever a stranger with a token
//! wishes. It follows no redirect, uses no proxy, reads at most 4 KiB, gives up after 2 s, and goes
//! to global addresses only: the name is resolved here, and what is not global is left out, so that
//! a name cannot point inside at the second look.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use rand::RngExt as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tuyun_protocol::{Base, NodeId, is_global};
use url::Host;

use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::roster::{Health, Kind};

/// How long a node may take to answer. A visitor would have turned away.
const DEADLINE: Duration = Duration::from_secs(2);

/// How much of an answer is read; ours are below 1 KiB.
const MOST_BYTES: usize = 4096;

/// Probes at once: a large fleet is asked within its period, a small machine has descriptors left.
const AT_ONCE: usize = 32;

/// Probes nodes.
pub struct Prober {
    client: reqwest::Client,
    allow_private: bool,
    period: Duration,
    /// Rung when a node came that gets visitors only after a probe.
    bell: Arc<Notify>,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Reached,
    Missed,
    /// The address is not one to ask: that says nothing about the node.
    Private,
}

impl Prober {
    /// Prepares probing each `period`.
    ///
    /// # Errors
    /// When there is no HTTP client to be had, for want of certificates for example.
    pub fn new(period: Duration, allow_private: bool) -> Result<Self, reqwest::Error> {
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
            period,
            bell: Arc::default(),
        })
    }

    /// Rings when a node came that needs a probe at once.
    #[must_use]
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Probes our nodes each period until `stop`; with a period of zero only those that need it.
    pub async fn run(&self, keeper: &Keeper, metrics: &Metrics, stop: CancellationToken) {
        let work = async {
            // The bell must not put off the next full round: a fleet may ring it all the time.
            let mut next = self.next();
            loop {
                let all = tokio::select! {
                    biased;
                    () = due(next) => true,
                    () = self.bell.notified() => false,
                };
                if all {
                    next = self.next();
                }
                self.round(keeper, metrics, all).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// When the next full round is due: in a period, give or take a tenth, since several jumps must
    /// not fall into step; never with a period of zero.
    fn next(&self) -> Option<tokio::time::Instant> {
        let stretch = rand::rng().random_range(0.9..1.1);
        let period = Some(self.period).filter(|period| !period.is_zero());
        period.map(|period| tokio::time::Instant::now() + period.mul_f64(stretch))
    }

    async fn round(&self, keeper: &Keeper, metrics: &Metrics, all: bool) {
        let now = Instant::now();
        let nodes: Vec<(NodeId, Base, Health)> = keeper
            .roster()
            .nodes()
            .iter()
            .filter(|node| node.lease.kind == Kind::Tuyun && now < node.until)
            .filter(|node| all || node.health == Health::Unproven)
            .map(|node| (node.lease.id.clone(), node.lease.url.clone(), node.health))
            .collect();
        stream::iter(nodes)
            .for_each_concurrent(AT_ONCE, async |(id, url, health)| {
                let finding = self.ask(&url).await;
                let reached = match finding {
                    Finding::Reached => true,
                    Finding::Missed => false,
                    Finding::Private => return,
                };
                if reached {
                    metrics.reached.inc()
                } else {
                    metrics.missed.inc()
                };
                if reached && health == Health::Down {
                    tracing::info!(node = %id, "the node answers again");
                } else if !reached && health == Health::Up {
                    tracing::warn!(node = %id, %url, "the node does not answer its probe");
                }
                keeper.probed(&id, &url, reached).await;
            })
            .await;
    }

    async fn ask(&self, base: &Base) -> Finding {
        if !self.allow_private && literal(base).is_some_and(|address| !is_global(address)) {
            return Finding::Private;
        }
        let Some(health) = base.endpoint("_api/health") else {
            return Finding::Missed;
        };
        match tokio::time::timeout(DEADLINE, self.fetch(health)).await {
            Ok(Ok(true)) => Finding::Reached,
            Ok(Err(error)) if is_private(&error) => Finding::Private,
            Ok(Ok(false) | Err(_)) | Err(_) => Finding::Missed,
        }
    }

    /// Whether the node says that it is well, in a short answer that arrives whole.
    async fn fetch(&self, health: url::Url) -> Result<bool, reqwest::Error> {
        let mut response = self.client.get(health).send().await?;
        if !response.status().is_success() {
            return Ok(false);
        }
        let mut read = 0;
        while let Some(chunk) = response.chunk().await? {
            read += chunk.len();
            if read > MOST_BYTES {
                return Ok(false);
            }
        }
        Ok(true)
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

async fn due(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn prober(allow_private: bool) -> Prober {
        tuyun_chassis::start::install_crypto();
        Prober::new(Duration::ZERO, allow_private).unwrap()
    }

    /// What a probe finds at a node that gives this answer.
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
        let finding = prober(allow_private)
            .ask(&Base::parse(&base).unwrap())
            .await;
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
        assert_eq!(find(answer, true).await, Finding::Reached);
    }

    #[tokio::test]
    async fn a_node_that_is_unwell_redirects_or_talks_too_much_is_missed() {
        let unwell = "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(find(unwell, true).await, Finding::Missed);
        let redirect = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(find(redirect, true).await, Finding::Missed);
        let long: String = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{}",
            "x".repeat(5000)
        );
        assert_eq!(find(long.leak(), true).await, Finding::Missed);
    }

    #[tokio::test]
    async fn a_private_address_is_not_asked_by_number_or_name() {
        assert_eq!(find("", false).await, Finding::Private);
        let named = Base::parse("http://localhost:9/").unwrap();
        assert_eq!(prober(false).ask(&named).await, Finding::Private);
    }
}
