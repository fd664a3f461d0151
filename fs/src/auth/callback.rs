//! The port on this machine that a browser comes back to after a sign-in.
//!
//! It answers the one request that carries our own `state`; whatever else asks (an icon, another
//! program, a connection opened ahead of need) is sent away and holds up nobody.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::errors::{Refusal, TokenError, judge};

/// The head of a request that a browser sends; theirs are two kilobytes at most.
const HEAD_LIMIT: usize = 16 << 10;

/// How long a connection may take to ask something.
const SLOW: Duration = Duration::from_secs(10);

/// Connections at a time: a browser opens two or three.
const AT_ONCE: usize = 16;

/// Listens for the browser.
pub(super) struct Callback {
    four: TcpListener,
    /// Where `localhost` is this first. Browsers try the other one when nobody listens.
    six: Option<TcpListener>,
    port: u16,
}

impl Callback {
    /// Listens on a port that is free.
    pub(super) async fn listen() -> io::Result<Self> {
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = four.local_addr()?.port();
        let six = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port)))
            .await
            .ok();
        Ok(Self { four, six, port })
    }

    /// For `localhost` the port does not count when it is compared with the registered one.
    pub(super) fn address(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Waits until the browser comes back with our own `state`, and gives its code.
    pub(super) async fn code(&self, state: &str) -> Result<String, TokenError> {
        let mut talks: JoinSet<Option<Result<String, TokenError>>> = JoinSet::new();
        loop {
            let free = talks.len() < AT_ONCE;
            tokio::select! {
                Some(said) = talks.join_next() => {
                    if let Ok(Some(outcome)) = said {
                        return outcome;
                    }
                }
                stream = self.accept(), if free => {
                    talks.spawn(talk(stream.map_err(TokenError::Store)?, state.to_owned()));
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let accepted = match &self.six {
            Some(six) => tokio::select! {
                accepted = self.four.accept() => accepted,
                accepted = six.accept() => accepted,
            },
            None => self.four.accept().await,
        };
        accepted.map(|(stream, _)| stream)
    }
}

/// One request; its outcome, if it is the one that was waited for.
async fn talk(mut stream: TcpStream, state: String) -> Option<Result<String, TokenError>> {
    let query = tokio::time::timeout(SLOW, query_of(&mut stream))
        .await
        .ok()??;
    let (page, outcome) = judged(&query, &state);
    let told = tokio::time::timeout(SLOW, stream.write_all(page.as_bytes()));
    // The page is a courtesy: the sign-in counts whether or not the browser takes it.
    let _ = told.await;
    let _ = stream.shutdown().await;
    outcome
}

fn judged(query: &str, state: &str) -> (String, Option<Result<String, TokenError>>) {
    let value = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let (_, value) = pairs.find(|(key, _)| key == name)?;
        Some(value.into_owned())
    };
    if value("state").as_deref() != Some(state) {
        return (page("404 Not Found", "Not here."), None);
    }
    if let Some(error) = value("error") {
        let refusal = Refusal {
            error,
            description: value("error_description").unwrap_or_default(),
            claims: value("claims"),
        };
        let said = "Sign-in was refused. You may close this page. 登录未完成，可关闭本页。";
        return (page("200 OK", said), Some(Err(judge(&refusal))));
    }
    match value("code") {
        Some(code) => {
            let said = "Signed in. You may close this page. 登录成功，可关闭本页。";
            (page("200 OK", said), Some(Ok(code)))
        }
        None => (page("404 Not Found", "Not here."), None),
    }
}

/// The query of a GET request's target.
async fn query_of(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream
            .read(&mut piece)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        head.extend_from_slice(&piece[..count]);
        if head.len() > HEAD_LIMIT {
            return None;
        }
    }
    let text = std::str::from_utf8(&head).ok()?;
    let target = text
        .lines()
        .next()?
        .strip_prefix("GET ")?
        .split(' ')
        .next()?;
    Some(
        target
            .split_once('?')
            .map_or("", |(_, query)| query)
            .to_owned(),
    )
}

fn page(status: &str, text: &str) -> String {
    let body = format!(
        "<!doctype html><meta charset=utf-8><title>Tuyun</title>\
         <p style=\"font:18px sans-serif\">{text}\n"
    );
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\n\
         content-length: {}\r\ncache-control: no-store\r\nreferrer-policy: no-referrer\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_with_our_own_state_counts() {
        let outcome = |query: &str| judged(query, "mine").1;
        assert!(outcome("").is_none());
        assert!(outcome("code=stolen&state=theirs").is_none());
        assert!(outcome("state=mine").is_none());
        assert_eq!(outcome("code=a%2Bb&state=mine").unwrap().unwrap(), "a+b");
        let refused = outcome("error=access_denied&error_description=no&state=mine");
        assert!(matches!(refused, Some(Err(TokenError::SignIn { .. }))));
    }

    #[test]
    fn the_page_is_as_long_as_it_says() {
        let page = page("200 OK", "登录");
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
    }

    #[tokio::test]
    async fn a_browser_may_come_back_by_either_address_of_this_machine() {
        let callback = Callback::listen().await.unwrap();
        for host in ["127.0.0.1", "[::1]"] {
            if host == "[::1]" && callback.six.is_none() {
                continue; // a machine without IPv6
            }
            let address = format!("{host}:{}", callback.port);
            let browser = async {
                let mut stream = TcpStream::connect(&address).await.unwrap();
                let asked = b"GET /favicon.ico HTTP/1.1\r\n\r\n";
                stream.write_all(asked).await.unwrap();
                let mut said = String::new();
                stream.read_to_string(&mut said).await.unwrap();
                assert!(said.starts_with("HTTP/1.1 404"), "{said}");
                let mut stream = TcpStream::connect(&address).await.unwrap();
                let asked = format!("GET /?code={host}&state=s HTTP/1.1\r\n\r\n");
                stream.write_all(asked.as_bytes()).await.unwrap();
                said.clear();
                stream.read_to_string(&mut said).await.unwrap();
            };
            let (code, ()) = tokio::join!(callback.code("s"), browser);
            assert_eq!(code.unwrap(), host);
        }
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_holds_up_nobody() {
        let callback = Callback::listen().await.unwrap();
        let address = (Ipv4Addr::LOCALHOST, callback.port);
        let _silent = TcpStream::connect(address).await.unwrap();
        let browser = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream
                .write_all(b"GET /?code=c&state=s HTTP/1.1\r\n\r\n")
                .await
                .unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        };
        let (code, said) = tokio::join!(callback.code("s"), browser);
        assert_eq!(code.unwrap(), "c");
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    }
}
