//! Is this a plain request for a picture?
//!
//! Strict, and allowed to say no: a no costs some microseconds, since the router then reads the same
//! bytes. A yes means that the answer depends on nothing but the path, the query, who asks and the
//! page that it is for.

use tuyun_protocol::ImagePath;

/// Headers in one request; browsers send a dozen, proxies add some.
const HEADERS: usize = 32;

/// Lines of `X-Forwarded-For`; each proxy adds one at the most.
const FORWARDED: usize = 4;

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// More has to come.
    Incomplete,
    /// A plain request for a picture.
    Plain(Plain<'a>),
    /// Something else, to be judged by others.
    Other,
}

/// A plain request for a picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain<'a> {
    /// Which picture.
    pub(super) path: ImagePath,
    /// As it was written, for the log.
    pub(super) raw_path: &'a str,
    /// What follows the `?`, as it was written.
    pub(super) query: Option<&'a str>,
    /// The page it is for.
    pub(super) referer: Option<&'a str>,
    /// `HEAD`, which is answered the same.
    pub(super) head_only: bool,
    /// The client wants no further answer on this connection.
    pub(super) close: bool,
    /// `X-Forwarded-For`, by line.
    pub(super) forwarded: Vec<&'a str>,
    /// The bytes of the request; what follows is the next one.
    pub(super) length: usize,
}

/// Reads what has come of a request.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    if bytes.is_empty() {
        return Parsed::Incomplete;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => plain(&request, length).unwrap_or(Parsed::Other),
        Ok(httparse::Status::Partial) => Parsed::Incomplete,
        Err(_) => Parsed::Other,
    }
}

fn plain<'a>(request: &httparse::Request<'_, 'a>, length: usize) -> Option<Parsed<'a>> {
    let head_only = match request.method? {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let target = request.path?;
    if request.version? != 1
        || !target.starts_with('/')
        || !target.bytes().all(|byte| byte.is_ascii_graphic())
        || target.contains('#')
    {
        return None;
    }
    let (raw_path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    // Ours, by whatever spelling.
    if raw_path == "/" || raw_path.starts_with("/_") || raw_path.starts_with("/%") {
        return None;
    }
    let mut close = false;
    let mut hosts = 0;
    let mut referer = None;
    let mut forwarded = Vec::new();
    for header in &*request.headers {
        match Meaning::of(header.name) {
            Meaning::None => {}
            Meaning::Host => hosts += 1,
            Meaning::Connection => {
                if header.value.eq_ignore_ascii_case(b"close") {
                    close = true;
                } else if !header.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            }
            Meaning::Referer if referer.is_none() => {
                referer = Some(std::str::from_utf8(header.value).ok()?);
            }
            Meaning::Forwarded if forwarded.len() < FORWARDED => {
                forwarded.push(std::str::from_utf8(header.value).ok()?);
            }
            Meaning::Referer | Meaning::Forwarded | Meaning::Decides => return None,
        }
    }
    if hosts != 1 {
        return None;
    }
    Some(Parsed::Plain(Plain {
        path: ImagePath::from_request(raw_path).ok()?,
        raw_path,
        query,
        referer,
        head_only,
        close,
        forwarded,
        length,
    }))
}

/// What a header means for the answer.
enum Meaning {
    /// Nothing.
    None,
    Host,
    Connection,
    Referer,
    Forwarded,
    /// Where the request ends, or what it wants, depends on it.
    Decides,
}

impl Meaning {
    fn of(name: &str) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // By its length first: most headers are let pass after one comparison of numbers.
        match name.len() {
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Decides,
            7 if is("referer") => Self::Referer,
            7 if is("upgrade") || is("trailer") => Self::Decides,
            10 if is("connection") => Self::Connection,
            14 if is("content-length") => Self::Decides,
            15 if is("x-forwarded-for") => Self::Forwarded,
            17 if is("transfer-encoding") => Self::Decides,
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> String {
        format!("{}\r\n\r\n", lines.join("\r\n"))
    }

    fn accepted(text: &str) -> bool {
        matches!(parse(text.as_bytes()), Parsed::Plain(_))
    }

    #[test]
    fn a_browser_s_request_is_plain() {
        let text = of(&[
            "GET /mount/pic/%E5%9B%BE.webp?x=1&y HTTP/1.1",
            "Host: jump.example",
            "User-Agent: Mozilla/5.0",
            "Referer: https://blog.example/a",
            "X-Forwarded-For: 192.0.2.1",
            "Connection: keep-alive",
        ]);
        let Parsed::Plain(plain) = parse(text.as_bytes()) else {
            panic!("not plain");
        };
        assert_eq!(plain.path.as_str(), "mount/pic/图.webp");
        assert_eq!(plain.query, Some("x=1&y"));
        assert_eq!(plain.referer, Some("https://blog.example/a"));
        assert_eq!(plain.forwarded, ["192.0.2.1"]);
        assert_eq!(plain.length, text.len());
        assert!(!plain.close && !plain.head_only);
    }

    #[test]
    fn what_is_odd_or_ours_is_left_to_the_router() {
        for line in [
            "GET / HTTP/1.1",
            "GET /?wrong HTTP/1.1",
            "GET /_api/health HTTP/1.1",
            "GET /%5fapi/health HTTP/1.1",
            "GET /a HTTP/1.0",
            "POST /a HTTP/1.1",
            "GET http://x/a HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /../a HTTP/1.1",
            "GET /a%zz HTTP/1.1",
            "GET /a//b HTTP/1.1",
            "GET /图 HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            assert!(!accepted(&of(&[line, "host: x"])), "{line}");
        }
        for line in [
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Connection: upgrade",
            "Host: another.example",
        ] {
            assert!(
                !accepted(&of(&["GET /a HTTP/1.1", "host: x", line])),
                "{line}"
            );
        }
        assert!(!accepted(&of(&["GET /a HTTP/1.1"])), "no host");
        let twice = ["GET /a HTTP/1.1", "host: x", "referer: a", "referer: b"];
        assert!(!accepted(&of(&twice)));
        assert!(!accepted(&of(&["GET /a HTTP/1.1", "host: x", " folded"])));
    }

    #[test]
    fn a_request_ends_where_the_next_begins() {
        let text = "HEAD /a HTTP/1.1\r\nhost: x\r\nConnection: Close\r\n\r\nGET /b HTTP/1.1\r\n";
        let Parsed::Plain(plain) = parse(text.as_bytes()) else {
            panic!("not plain");
        };
        assert!(plain.head_only && plain.close);
        assert_eq!(&text[plain.length..], "GET /b HTTP/1.1\r\n");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Parsed::Plain(plain) = parse(&bytes) {
                prop_assert!(plain.length <= bytes.len());
            }
        }

        #[test]
        fn a_head_that_is_cut_short_is_never_answered(
            path in "/[a-z]{1,8}",
            lines in prop::collection::vec("[A-Za-z-]{1,12}: [ -~]{0,20}", 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{}\r\n\r\n", lines.join("\r\n"));
            let text = text.replace("\r\n\r\n\r\n", "\r\n\r\n");
            let end = cut.index(text.len());
            prop_assert!(!matches!(parse(&text.as_bytes()[..end]), Parsed::Plain(_)));
        }
    }
}
