//! Hits, by the shortest way.
//!
//! What most visitors ask is a plain `GET` of a picture that is at hand. Such a request is read here
//! from the bytes of the connection, and answered with what has been written down before: no router,
//! no layers, no second copy of the picture. Everything else, a conditional or partial request, a
//! miss, a control path, HTTP/2, anything odd, is handed over with its connection, unanswered and
//! unread, to the router, which decides it as if this file were not here.
//!
//! So this way is an optimisation only: it may refuse whatever it likes, and a connection
//! that was handed over stays there.

mod preface;

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::Level;
use tuyun_chassis::http::{Client, Opened, Parsed, Plain, Rewound, Shortcut, TrustedProxies, Wire};
use tuyun_protocol::ImagePath;

use self::preface::Today;
use crate::cache::{Content, Held, Moment};
use crate::http::Shared;

/// Room for a request at first: what a browser sends without cookies. Ten thousand idle connections
/// are twenty megabytes.
const FIRST: usize = 2 * 1024;

/// The longest head that is read here; longer ones are the router's.
const MOST: usize = 8 * 1024;

/// How much of a file is sent in one call. Should it not be in the page cache any more, an SD card
/// keeps this thread for some ten milliseconds, and others get their turn in between.
const PIECE: u64 = 512 * 1024;

/// The short way to what is at hand.
pub(crate) struct Hits {
    shared: Arc<Shared>,
    proxies: TrustedProxies,
}

impl Hits {
    /// A way past the router, for the same visitors.
    pub(crate) fn new(shared: Arc<Shared>, proxies: TrustedProxies) -> Self {
        Self { shared, proxies }
    }

    /// What this request is answered with, if it is answered here. It counts then.
    fn find(&self, asked: &Plain<'_>, peer: SocketAddr, sends_files: bool) -> Option<Hit> {
        if self.shared.meter.is_shut() {
            return None; // the router says why
        }
        let began = Instant::now();
        let now = Moment::now();
        // `?fmt=`, `w=` and the like ask for variants, none of which are made.
        let path = ImagePath::from_request(asked.path).ok()?;
        let held = self.shared.cache.at_hand(&path, now)?;
        if matches!(held.content, Content::File(_)) && !sends_files {
            return None;
        }
        let client = self
            .proxies
            .client_of(peer.ip(), asked.forwarded.iter().copied());
        // One too many is counted again by the router, and refused there.
        self.shared.limiter.check(client).ok()?;
        self.shared.counters.asked();
        self.shared.counters.hit();
        self.shared.answers.hit();
        self.shared.cache.store().note(path.as_str(), &held, now);
        log(asked, client, began);
        Some(Hit {
            held,
            now,
            head_only: asked.head_only,
            close: asked.close,
        })
    }

    async fn send<S: Wire>(
        &self,
        stream: &mut S,
        head: &[u8],
        hit: &Hit,
        patience: Duration,
    ) -> io::Result<()> {
        if hit.head_only {
            stream.write_all(head).await?;
            return stream.flush().await;
        }
        match &hit.held.content {
            Content::Memory(bytes) => {
                write_both(stream, head, bytes).await?;
                stream.flush().await?;
            }
            Content::File(file) => {
                stream.write_all(head).await?;
                let socket = stream.plain().ok_or(io::ErrorKind::Unsupported)?;
                send_file(socket, file, hit.held.record.size, patience).await?;
            }
        }
        self.shared.counters.went_out(hit.held.record.size);
        Ok(())
    }
}

/// The headers that make another answer of a picture.
fn decides(name: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    // By its length first: most headers are let pass after one comparison of numbers.
    match name.len() {
        5 => is("range"),
        8 => is("if-match") || is("if-range"),
        13 => is("if-none-match"),
        17 => is("if-modified-since"),
        19 => is("if-unmodified-since"),
        _ => false,
    }
}

/// An answer, decided.
struct Hit {
    held: Arc<Held>,
    now: Moment,
    head_only: bool,
    close: bool,
}

impl Shortcut for Hits {
    async fn answer<S: Wire>(&self, connection: Opened<S>) -> Option<Rewound<S>> {
        let Opened {
            mut stream,
            peer,
            head: head_time,
            patience,
            stop,
        } = connection;
        let mut asked = Vec::with_capacity(FIRST);
        let (mut head, mut today) = (Vec::new(), Today::default());
        // Looked at only while there is nothing to read, and set anew only once it has run out.
        let mut idle = pin!(sleep(head_time));
        let mut stopped = pin!(stop.cancelled());
        let mut since = Instant::now();
        loop {
            let (hit, length) = match Parsed::read(&asked, decides) {
                Parsed::Incomplete if asked.len() < MOST => {
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
                            idle.as_mut().reset((since + head_time).into());
                        }
                    }
                    continue;
                }
                Parsed::Plain(plain) => {
                    let hit = self.find(&plain, peer, stream.plain().is_some());
                    (hit, plain.length)
                }
                Parsed::Incomplete | Parsed::Other => (None, 0),
            };
            let Some(hit) = hit else {
                return Some(Rewound::new(asked, stream));
            };
            preface::write(&mut head, &mut today, &hit.held, hit.now, hit.close);
            // Whoever went away or stopped reading needs no answer.
            self.send(&mut stream, &head, &hit, patience).await.ok()?;
            if hit.close {
                let _ = stream.shutdown().await;
                return None;
            }
            asked.drain(..length);
            since = Instant::now();
        }
    }
}

/// The line that the access log has of every request; most do not want it.
fn log(asked: &Plain<'_>, client: Client, began: Instant) {
    if tracing::enabled!(target: "access", Level::INFO) {
        tracing::info!(
            target: "access",
            client = %client.0,
            method = if asked.head_only { "HEAD" } else { "GET" },
            path = asked.path,
            status = 200,
            micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "served"
        );
    }
}

/// Both, in as few calls as the other side takes them in.
async fn write_both<S: Wire>(stream: &mut S, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < head.len() {
        let both = [IoSlice::new(&head[sent..]), IoSlice::new(body)];
        match stream.write_vectored(&both).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            took => sent += took,
        }
    }
    stream.write_all(&body[sent - head.len()..]).await
}

/// The kernel sends the file, and no byte of it comes up here.
async fn send_file(
    socket: &TcpStream,
    file: &File,
    size: u64,
    patience: Duration,
) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let piece = usize::try_from(PIECE.min(size - at)).unwrap_or(usize::MAX);
        let sending = socket.async_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(socket, file, Some(&mut at), piece)?)
        });
        let sent = timeout(patience, sending)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_ranges_are_left_to_the_router() {
        for line in [
            "Range: bytes=0-1",
            "If-None-Match: \"a\"",
            "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
            "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
            "If-Range: \"a\"",
            "if-match: *",
        ] {
            let text = format!("GET /a HTTP/1.1\r\nhost: x\r\n{line}\r\n\r\n");
            let read = Parsed::read(text.as_bytes(), decides);
            assert_eq!(read, Parsed::Other, "{line}");
        }
        let text = b"GET /a HTTP/1.1\r\nhost: x\r\nAccept: image/webp\r\n\r\n";
        assert!(matches!(Parsed::read(text, decides), Parsed::Plain(_)));
    }
}
