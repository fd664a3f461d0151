//! Redirects, by the shortest way.
//!
//! What most visitors ask is a plain `GET` of a picture. It is read here from the bytes of the
//! connection and answered at once: no router, no layers, and several that came together are answered
//! together. Everything else, a control path, a refusal, HTTP/2, anything odd, is handed over with its
//! connection, unanswered and unread, to the router, which decides it as if this file were not here.
//!
//! So this way is an optimisation only: it may refuse whatever it likes, and a connection
//! that was handed over stays there.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;
use tracing::Level;
use tuyun_chassis::http::{Client, Opened, Parsed, Plain, Rewound, Shortcut, TrustedProxies};
use tuyun_protocol::ImagePath;

use super::Shared;
use super::redirect::Visit;

/// Room for a request at first: what a browser sends without cookies. Ten thousand idle connections
/// are twenty megabytes.
const FIRST: usize = 2 * 1024;

/// The longest head that is read here; longer ones are the router's.
const MOST: usize = 8 * 1024;

/// Answers are sent once this much has gathered, even if more requests are at hand.
const GATHERED: usize = 32 * 1024;

/// How long a date is good.
const FRESH: Duration = Duration::from_millis(250);

/// The short way.
pub(crate) struct Quick {
    shared: Arc<Shared>,
    proxies: TrustedProxies,
}

/// The date, as the header has it: written four times a second, since asking for the time costs more
/// than a redirect has to spare.
#[derive(Default)]
struct Today {
    written: Option<Instant>,
    text: String,
}

impl Quick {
    /// A way past the router, for the same visitors.
    pub(crate) fn new(shared: Arc<Shared>, proxies: TrustedProxies) -> Self {
        Self { shared, proxies }
    }

    /// Writes the answer to this request, if it is answered here.
    fn answer(
        &self,
        asked: &Plain<'_>,
        peer: std::net::IpAddr,
        today: &mut Today,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let began = Instant::now();
        if is_ours(asked.path) {
            return None;
        }
        let path = ImagePath::from_request(asked.path).ok()?;
        let client = self
            .proxies
            .client_of(peer, asked.forwarded.iter().copied());
        let visit = Visit {
            client,
            path: &path,
            query: asked.query,
            referer: asked.referer,
        };
        self.shared.pass(&visit).ok()?;
        // One too many is counted again by the router, and refused there.
        self.shared.limit(client).ok()?;
        let location = self.shared.send(&visit, began);
        out.extend_from_slice(b"HTTP/1.1 302 Found\r\nlocation: ");
        out.extend_from_slice(location.as_bytes());
        // The next request may have another node; a cached redirect would point to a dead one.
        out.extend_from_slice(b"\r\ncache-control: no-store\r\n");
        if let Some(allowed) = &self.shared.allow_origin {
            out.extend_from_slice(b"access-control-allow-origin: ");
            out.extend_from_slice(allowed.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if asked.close {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"content-length: 0\r\ndate: ");
        out.extend_from_slice(today.at(began).as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        log(asked, client, began);
        Some(())
    }
}

/// The page and the control paths, by whatever spelling.
fn is_ours(path: &str) -> bool {
    path == "/" || path.starts_with("/_") || path.starts_with("/%")
}

impl Today {
    fn at(&mut self, now: Instant) -> &str {
        let fresh = |written: Instant| now.saturating_duration_since(written) < FRESH;
        if !self.written.is_some_and(fresh) {
            self.written = Some(now);
            self.text = httpdate::fmt_http_date(SystemTime::now());
        }
        &self.text
    }
}

impl Shortcut for Quick {
    async fn answer<S: tuyun_chassis::http::Wire>(
        &self,
        connection: Opened<S>,
    ) -> Option<Rewound<S>> {
        let Opened {
            mut stream,
            peer,
            head: head_time,
            stop,
            ..
        } = connection;
        let mut asked = Vec::with_capacity(FIRST);
        let (mut out, mut today) = (Vec::new(), Today::default());
        // Looked at only while there is nothing to read, and set anew only once it has run out.
        let mut idle = pin!(sleep(head_time));
        let mut stopped = pin!(stop.cancelled());
        let mut since = Instant::now();
        let mut seen = 0;
        loop {
            let (answered, close, length) = match Parsed::read(&asked[seen..], |_| false) {
                Parsed::Incomplete if asked.len() - seen < MOST => {
                    asked.drain(..seen);
                    seen = 0;
                    // Whoever went away or stopped reading needs no answer.
                    flush(&mut stream, &mut out).await?;
                    tokio::select! {
                        biased;
                        read = stream.read_buf(&mut asked) => match read {
                            Ok(0) | Err(_) => return None,
                            Ok(_) => {}
                        },
                        () = &mut stopped => return None,
                        () = &mut idle => {
                            if since.elapsed() >= head_time {
                                return None;
                            }
                            let end: Duration = head_time.saturating_sub(since.elapsed());
                            idle.as_mut().reset(tokio::time::Instant::now() + end);
                        }
                    }
                    continue;
                }
                Parsed::Plain(plain) => {
                    let answered = self.answer(&plain, peer.ip(), &mut today, &mut out);
                    (answered.is_some(), plain.close, plain.length)
                }
                Parsed::Incomplete | Parsed::Other => (false, false, 0),
            };
            if !answered {
                flush(&mut stream, &mut out).await?;
                asked.drain(..seen);
                return Some(Rewound::new(asked, stream));
            }
            seen += length;
            since = Instant::now();
            if close {
                flush(&mut stream, &mut out).await?;
                let _ = stream.shutdown().await;
                return None;
            }
            if out.len() >= GATHERED {
                flush(&mut stream, &mut out).await?;
            }
        }
    }
}

/// Sends what has gathered. `None`: nobody takes it.
async fn flush<S: tuyun_chassis::http::Wire>(stream: &mut S, out: &mut Vec<u8>) -> Option<()> {
    if !out.is_empty() {
        stream.write_all(out).await.ok()?;
        stream.flush().await.ok()?;
        out.clear();
    }
    Some(())
}

/// The line that the access log has of every request; most do not want it.
fn log(asked: &Plain<'_>, client: Client, began: Instant) {
    if tracing::enabled!(target: "access", Level::INFO) {
        tracing::info!(
            target: "access",
            client = %client.0,
            method = if asked.head_only { "HEAD" } else { "GET" },
            path = asked.path,
            status = 302,
            micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "served"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_control_paths_are_left_to_the_router_however_they_are_spelt() {
        for path in ["/", "/_api/health", "/%5fapi/health", "/%5Fapi/update"] {
            assert!(is_ours(path), "{path}");
        }
        assert!(!is_ours("/mount/a_b.webp") && !is_ours("/favicon.ico"));
    }
}
