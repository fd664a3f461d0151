//! Which picture a request means: a path below the prefix, in the URL or in its query.

use std::borrow::Cow;

use tuyun_protocol::{BadPath, ImagePath};

/// Why no picture is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unclear {
    /// The path is malformed.
    Bad(BadPath),
    /// The path is none of a picture: outside of the prefix, or the prefix itself.
    Elsewhere,
    /// The query names no path.
    NoPath,
}

/// The picture of a URL's path, as it came.
pub(super) fn by_path(raw: &str, prefix: &str) -> Result<ImagePath, Unclear> {
    match ImagePath::from_request(raw) {
        Ok(path) => below(&path, prefix),
        Err(BadPath::Empty) => Err(Unclear::Elsewhere),
        Err(bad) => Err(Unclear::Bad(bad)),
    }
}

/// The picture of `path=` in a query, as it came; `+` is a space there.
pub(super) fn by_query(query: &str, prefix: &str) -> Result<ImagePath, Unclear> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("path="));
    let value: Cow<str> = match value.ok_or(Unclear::NoPath)? {
        plain if !plain.contains('+') => plain.into(),
        spaced => spaced.replace('+', "%20").into(),
    };
    // The slash at the front may be encoded like all the others.
    let value = match value.get(..3) {
        Some(slash) if slash.eq_ignore_ascii_case("%2f") => format!("/{}", &value[3..]).into(),
        _ => value,
    };
    by_path(&value, prefix)
}

/// The path below the mount's root.
fn below(path: &ImagePath, prefix: &str) -> Result<ImagePath, Unclear> {
    let mut rest = path.as_str();
    for part in prefix.split('/').filter(|part| !part.is_empty()) {
        rest = rest
            .strip_prefix(part)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(Unclear::Elsewhere)?;
    }
    ImagePath::parse(rest).map_err(Unclear::Bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str) -> Result<String, Unclear> {
        by_path(raw, "/mount").map(|path| path.as_str().to_owned())
    }

    #[test]
    fn the_prefix_stands_for_the_root() {
        assert_eq!(path("/mount/pic/a.gif"), Ok("pic/a.gif".into()));
        assert_eq!(path("/mo%75nt/%E5%9B%BE.png"), Ok("图.png".into()));
        for elsewhere in ["/mounted/a.gif", "/mount", "/pic/a.gif", "/"] {
            assert_eq!(path(elsewhere), Err(Unclear::Elsewhere), "{elsewhere}");
        }
        assert_eq!(by_path("/a.gif", "").unwrap().as_str(), "a.gif");
        assert_eq!(
            by_path("/i/am/here/a.gif", "/i/am").unwrap().as_str(),
            "here/a.gif"
        );
    }

    #[test]
    fn odd_paths_are_refused() {
        for bad in [
            "/mount/../a",
            "/mount/%2e%2e/a",
            "/mount//a",
            "/mount/a%5cb",
            "/mount/%ff",
            "/mount/%0a",
            "/mount/a%2",
        ] {
            assert!(matches!(path(bad), Err(Unclear::Bad(_))), "{bad}");
        }
    }

    #[test]
    fn a_query_names_the_path_with_its_prefix() {
        let ask = |query| by_query(query, "/mount").map(|path| path.as_str().to_owned());
        assert_eq!(ask("path=/mount/pic/a.gif"), Ok("pic/a.gif".into()));
        assert_eq!(
            ask("x=1&path=%2Fmount%2Fa%26b.gif&raw=1"),
            Ok("a&b.gif".into())
        );
        assert_eq!(ask("path=/mount/a+b%2B.gif"), Ok("a b+.gif".into()));
        assert_eq!(ask("raw=1"), Err(Unclear::NoPath));
        assert_eq!(ask(""), Err(Unclear::NoPath));
        assert!(ask("path=/mount/%252e%252e/a").is_ok(), "decoded once");
    }
}
