//! Is this a plain request for a picture?
//!
//! Strict, and allowed to say no: a no costs some microseconds, since the router then reads the same
//! bytes. A yes means that the answer depends on nothing but what is told here.

/// Headers in one request; browsers send a dozen, proxies add some.
const HEADERS: usize = 32;

/// Lines of `X-Forwarded-For`; each proxy adds one at the most.
const FORWARDED: usize = 4;

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// More has to come.
    Incomplete,
    /// A plain request.
    Plain(Plain<'a>),
    /// Something else, to be judged by others.
    Other,
}

/// A `GET` or `HEAD` without a body, by HTTP/1.1 and of one host.
#[derive(Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// The path as it was written: `/`, then ASCII that is visible, without `?` and `#`.
    pub path: &'a str,
    /// What follows the `?`, as it was written.
    pub query: Option<&'a str>,
    /// The page it is for.
    pub referer: Option<&'a str>,
    /// `HEAD`.
    pub head_only: bool,
    /// The client wants no further answer on this connection.
    pub close: bool,
    /// `X-Forwarded-For`, by line.
    pub forwarded: Vec<&'a str>,
    /// The bytes of the request; what follows is the next one.
    pub length: usize,
}

impl<'a> Parsed<'a> {
    /// Reads what has come of a request. `decides` names, in any case, the headers that the answer depends on
    /// besides those that say where the request ends, or want another protocol.
    pub fn read(bytes: &'a [u8], decides: impl Fn(&str) -> bool) -> Self {
        if bytes.is_empty() {
            return Self::Incomplete;
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => {
                plain(&request, length, decides).map_or(Self::Other, Self::Plain)
            }
            Ok(httparse::Status::Partial) => Self::Incomplete,
            Err(_) => Self::Other,
        }
    }
}

fn plain<'a>(
    request: &httparse::Request<'_, 'a>,
    length: usize,
    decides: impl Fn(&str) -> bool,
) -> Option<Plain<'a>> {
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
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut close = false;
    let mut hosts = 0;
    let mut referer = None;
    let mut forwarded = Vec::new();
    for header in &*request.headers {
        match Meaning::of(header.name) {
            Meaning::None if decides(header.name) => return None,
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
    (hosts == 1).then_some(Plain {
        path,
        query,
        referer,
        head_only,
        close,
        forwarded,
        length,
    })
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

    fn range(name: &str) -> bool {
        name.eq_ignore_ascii_case("range")
    }

    fn parse(bytes: &[u8]) -> Parsed<'_> {
        Parsed::read(bytes, range)
    }

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
            "Host: edge.example",
            "User-Agent: Mozilla/5.0",
            "Accept: image/avif,image/webp,*/*;q=0.8",
            "Accept-Encoding: gzip, deflate, br",
            "Referer: https://blog.example/a",
            "X-Forwarded-For: 192.0.2.1",
            "Connection: keep-alive",
        ]);
        let expected = Plain {
            path: "/mount/pic/%E5%9B%BE.webp",
            query: Some("x=1&y"),
            referer: Some("https://blog.example/a"),
            head_only: false,
            close: false,
            forwarded: vec!["192.0.2.1"],
            length: text.len(),
        };
        assert_eq!(parse(text.as_bytes()), Parsed::Plain(expected));
    }

    #[test]
    fn what_decides_about_the_answer_is_left_to_the_router() {
        for line in [
            "Range: bytes=0-1",
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
        let ranged = of(&["GET /a HTTP/1.1", "host: x", "Range: bytes=0-1"]);
        let read = Parsed::read(ranged.as_bytes(), |_| false);
        assert!(
            matches!(read, Parsed::Plain(_)),
            "to some it is all the same"
        );
    }

    #[test]
    fn odd_requests_are_left_to_the_router() {
        for line in [
            "GET /a HTTP/1.0",
            "POST /a HTTP/1.1",
            "GET http://x/a HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /图 HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            assert!(!accepted(&of(&[line, "host: x"])), "{line}");
        }
        assert!(!accepted(&of(&["GET /a HTTP/1.1"])), "no host");
        assert!(!accepted(&of(&["GET /a HTTP/1.1", "host: x", "a : b"])));
        assert!(!accepted(&of(&["GET /a HTTP/1.1", "host: x", " folded"])));
        let twice = ["GET /a HTTP/1.1", "host: x", "referer: a", "referer: b"];
        assert!(!accepted(&of(&twice)));
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
            }
        }
    }
}
