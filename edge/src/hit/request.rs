//! Is this a plain request for a picture?
//!
//! Strict, and allowed to say no: a no costs some microseconds, since the router then reads the same
//! bytes. A yes means that the answer depends on nothing but the path.

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
    /// `HEAD`: without the body.
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
    let mut close = false;
    let mut hosts = 0;
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
            Meaning::Forwarded if forwarded.len() < FORWARDED => {
                forwarded.push(std::str::from_utf8(header.value).ok()?);
            }
            Meaning::Forwarded | Meaning::Decides => return None,
        }
    }
    if hosts != 1 {
        return None;
    }
    // `?fmt=`, `w=` and the like ask for variants, none of which are made.
    let raw_path = target.split_once('?').map_or(target, |(path, _)| path);
    Some(Parsed::Plain(Plain {
        path: ImagePath::from_request(raw_path).ok()?,
        raw_path,
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
    Forwarded,
    /// The answer, or where the request ends, depends on it.
    Decides,
}

impl Meaning {
    fn of(name: &str) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // By its length first: most headers are let pass after one comparison of numbers.
        match name.len() {
            4 if is("host") => Self::Host,
            10 if is("connection") => Self::Connection,
            15 if is("x-forwarded-for") => Self::Forwarded,
            5 if is("range") => Self::Decides,
            6 if is("expect") => Self::Decides,
            7 if is("upgrade") || is("trailer") => Self::Decides,
            8 if is("if-match") || is("if-range") => Self::Decides,
            13 if is("if-none-match") => Self::Decides,
            14 if is("content-length") => Self::Decides,
            17 if is("if-modified-since") || is("transfer-encoding") => Self::Decides,
            19 if is("if-unmodified-since") => Self::Decides,
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
            "GET /mount/pic/%E5%9B%BE.webp?x=1 HTTP/1.1",
            "Host: edge.example",
            "User-Agent: Mozilla/5.0",
            "Accept: image/avif,image/webp,*/*;q=0.8",
            "Accept-Encoding: gzip, deflate, br",
            "X-Forwarded-For: 192.0.2.1",
            "Connection: keep-alive",
        ]);
        let parsed = parse(text.as_bytes());
        let Parsed::Plain(plain) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(plain.path.as_str(), "mount/pic/图.webp");
        assert_eq!(plain.raw_path, "/mount/pic/%E5%9B%BE.webp");
        assert_eq!(plain.forwarded, ["192.0.2.1"]);
        assert_eq!(plain.length, text.len());
        assert!(!plain.close && !plain.head_only);
    }

    #[test]
    fn what_decides_about_the_answer_is_left_to_the_router() {
        for line in [
            "Range: bytes=0-1",
            "If-None-Match: \"a\"",
            "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
            "If-Range: \"a\"",
            "If-Match: *",
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Connection: upgrade",
            "Connection: close, te",
            "Host: another.example",
        ] {
            let text = of(&["GET /a HTTP/1.1", "host: x", line]);
            assert!(!accepted(&text), "{line}");
        }
    }

    #[test]
    fn odd_requests_are_left_to_the_router() {
        for line in [
            "GET /a HTTP/1.0",
            "POST /a HTTP/1.1",
            "GET http://x/a HTTP/1.1",
            "GET * HTTP/1.1",
            "GET / HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /../a HTTP/1.1",
            "GET /%2e%2e/a HTTP/1.1",
            "GET /a%zz HTTP/1.1",
            "GET /a//b HTTP/1.1",
            "GET /图 HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            assert!(!accepted(&of(&[line, "host: x"])), "{line}");
        }
        assert!(!accepted(&of(&["GET /a HTTP/1.1"])), "no host");
        assert!(!accepted(&of(&["GET /a HTTP/1.1", "host: x", "a : b"])));
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
        fn a_head_that_is_cut_short_is_never_answered(
            path in "/[a-z]{1,8}",
            lines in prop::collection::vec("[A-Za-z-]{1,12}: [ -~]{0,20}", 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{}\r\n\r\n", lines.join("\r\n"));
            let part = &text.as_bytes()[..cut.index(text.len())];
            if let Parsed::Plain(plain) = parse(part) {
                // A line of its own may be empty: then the head ended there.
                prop_assert!(part[..plain.length].ends_with(b"\r\n\r\n"));
            }
        }

        #[test]
        fn whatever_comes_a_yes_is_a_whole_request_without_a_body(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            tail in "(GET|HEAD|PUT) /[ -~]{0,20} HTTP/1.[01]\r\n(host|range|content-length|x): [ -~]{0,9}\r\n\r\n",
            front in any::<bool>(),
        ) {
            if front {
                bytes.clear();
            }
            bytes.extend_from_slice(tail.as_bytes());
            if let Parsed::Plain(plain) = parse(&bytes) {
                let head = String::from_utf8_lossy(&bytes[..plain.length]).to_lowercase();
                prop_assert!(plain.length <= bytes.len());
                prop_assert!(head.ends_with("\n\r\n") || head.ends_with("\n\n"));
                prop_assert!(!head.contains("\ncontent-length") && !head.contains("\nrange"));
                prop_assert!(!plain.path.as_str().split('/').any(|part| part == ".."));
            }
        }
    }
}
