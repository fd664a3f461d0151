//! A path a visitor may ask for.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A checked path, decoded and without its leading `/`. [`parse`](Self::parse) and
/// [`from_request`](Self::from_request) are the only ways to get one, so whoever holds it may join
/// it to a directory without looking twice.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImagePath(Box<str>);

/// Why a path is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It names nothing.
    #[error("the path is empty")]
    Empty,
    /// `%` without two hexadecimal digits behind it.
    #[error("the path has a `%` that encodes nothing")]
    Escape,
    /// The bytes are no text.
    #[error("the path is not UTF-8")]
    Encoding,
    /// A segment is empty, `.` or `..`, or has a backslash or a control character.
    #[error("the path has a segment that is not allowed: {0:?}")]
    Segment(String),
}

/// What RFC 3986 lets stand in a segment: unreserved, sub-delimiters, `:` and `@`.
const SEGMENT: &AsciiSet = &UNRESERVED
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// In a query value everything may mean something to somebody, except these and `/`.
const QUERY_VALUE: &AsciiSet = &UNRESERVED.remove(b'/');

const UNRESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl ImagePath {
    /// Takes the path percent-decoded, once: decoding twice is how `%252e` climbs.
    ///
    /// # Errors
    /// When the path is empty or a segment is not allowed.
    pub fn parse(decoded: &str) -> Result<Self, BadPath> {
        let path = decoded.strip_prefix('/').unwrap_or(decoded);
        if path.is_empty() {
            return Err(BadPath::Empty);
        }
        match path.split('/').find(|segment| !is_plain(segment)) {
            Some(odd) => Err(BadPath::Segment(odd.to_owned())),
            None => Ok(Self(path.into())),
        }
    }

    /// Takes the path of a request as it came, still percent-encoded, without its query.
    ///
    /// # Errors
    /// When an escape is broken, the bytes are not UTF-8, or a segment is not allowed.
    pub fn from_request(raw: &str) -> Result<Self, BadPath> {
        if !escapes_are_whole(raw.as_bytes()) {
            return Err(BadPath::Escape);
        }
        let decoded = percent_decode_str(raw)
            .decode_utf8()
            .map_err(|_| BadPath::Encoding)?;
        Self::parse(&decoded)
    }

    /// The path, decoded, without a leading `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, decoded; at least one, each a plain name.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Percent-encoded segment by segment, without a leading `/`.
    #[must_use]
    pub fn encoded(&self) -> String {
        // Most names of pictures are letters and digits, and a redirect has little else to do.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        if self.0.bytes().all(plain) {
            return self.0.clone().into();
        }
        let mut text = String::with_capacity(self.0.len());
        for (index, segment) in self.segments().enumerate() {
            if index > 0 {
                text.push('/');
            }
            text.extend(utf8_percent_encode(segment, SEGMENT));
        }
        text
    }

    /// Percent-encoded as a part of a query's value: `&`, `+`, `#`, `%` and `=` too.
    #[must_use]
    pub fn encoded_as_query_value(&self) -> Cow<'_, str> {
        utf8_percent_encode(&self.0, QUERY_VALUE).into()
    }
}

fn is_plain(segment: &str) -> bool {
    if matches!(segment, "" | "." | "..") {
        return false;
    }
    if segment.is_ascii() {
        return !segment
            .bytes()
            .any(|byte| byte == b'\\' || byte.is_ascii_control());
    }
    !segment
        .chars()
        .any(|letter| letter == '\\' || letter.is_control())
}

fn escapes_are_whole(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match &rest[at + 1..] {
            [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
            }
            _ => return false,
        }
    }
    true
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_picture_s_path_is_decoded_once() {
        let path = ImagePath::from_request("/mount/pic/%E5%9B%BE%20%2B1.webp").unwrap();
        assert_eq!(path.as_str(), "mount/pic/图 +1.webp");
        let path = ImagePath::from_request("/a/%252e%252e/b").unwrap();
        assert_eq!(path.as_str(), "a/%2e%2e/b");
        assert_eq!(path.encoded(), "a/%252e%252e/b");
    }

    #[test]
    fn a_path_that_climbs_hides_or_controls_is_refused() {
        let refused = [
            "/..",
            "/a/../b",
            "/a/%2e%2e/b",
            "/%2E",
            "/a//b",
            "/a/",
            "//a",
            "/a%2f%2fb",
            "/a%5cb",
            "/a\\b",
            "/a%00b",
            "/a%0d%0ab",
            "/a%7f",
            "/a%c2%85",
            "/..%2fmain.py",
        ];
        for raw in refused {
            assert!(
                matches!(ImagePath::from_request(raw), Err(BadPath::Segment(_))),
                "{raw}"
            );
        }
        assert_eq!(ImagePath::from_request("/"), Err(BadPath::Empty));
        assert_eq!(ImagePath::from_request("/a%ff"), Err(BadPath::Encoding));
        for raw in ["/a%", "/a%2", "/a%zz", "/100%.png"] {
            assert_eq!(ImagePath::from_request(raw), Err(BadPath::Escape), "{raw}");
        }
    }

    #[test]
    fn a_name_with_dots_is_no_climbing() {
        for raw in ["/...", "/a..b/.c", "/.hidden"] {
            assert!(ImagePath::from_request(raw).is_ok(), "{raw}");
        }
    }

    #[test]
    fn as_a_query_value_nothing_ends_the_value() {
        let path = ImagePath::parse("a&b/c+d=e#f%g h/图.webp").unwrap();
        assert_eq!(
            path.encoded_as_query_value(),
            "a%26b/c%2Bd%3De%23f%25g%20h/%E5%9B%BE.webp"
        );
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_the_same(text in "\\PC{1,40}") {
            if let Ok(path) = ImagePath::parse(&text) {
                prop_assert_eq!(ImagePath::from_request(&path.encoded()), Ok(path.clone()));
                let value = path.encoded_as_query_value().into_owned();
                prop_assert_eq!(ImagePath::from_request(&value), Ok(path));
            }
        }

        #[test]
        fn an_accepted_path_stays_below_its_root(raw in "(/|\\.|%2[eEfF]|%5[cC]|%25|[a-z]|\\\\|\u{7f}|图){0,24}") {
            if let Ok(path) = ImagePath::from_request(&raw) {
                let below = std::path::Path::new("/root").join(path.as_str());
                let plain = below.components().skip(1)
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(plain && below.starts_with("/root"));
                prop_assert_eq!(path.segments().count() + 2, below.components().count());
            }
        }

        #[test]
        fn encoded_paths_fit_into_a_header(text in "\\PC{1,40}") {
            if let Ok(path) = ImagePath::parse(&text) {
                prop_assert!(path.encoded().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
