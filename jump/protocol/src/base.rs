//! A base address, and the joining of a path to it.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::ImagePath;

/// An http(s) address to which paths are joined: a node, the origin, a backup.
///
/// A base without `?` takes the path, then the query. A base with `?`, such as
/// `https://host/api/raw/?path=/`, takes the path as the end of its query's value, and the
/// visitor's query is dropped: it would be taken for a second parameter of the base.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Base(Url);

/// Why an address is no base.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBase {
    /// It cannot be read as a URL with a host.
    #[error("it is not a URL with a host")]
    NotAUrl,
    /// Neither http nor https.
    #[error("it is neither http:// nor https://")]
    Scheme,
    /// User info would be shown to every visitor.
    #[error("it contains a user name or password")]
    UserInfo,
    /// Whatever is joined would disappear behind the `#`.
    #[error("it contains a `#`")]
    Fragment,
}

impl Base {
    /// Reads a base; a missing final `/` is added where paths follow it.
    ///
    /// # Errors
    /// When it is no http(s) URL with a host, or has user info or a fragment.
    pub fn parse(text: &str) -> Result<Self, BadBase> {
        let mut url = Url::parse(text).map_err(|_| BadBase::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadBase::Scheme);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(BadBase::NotAUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadBase::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(BadBase::Fragment);
        }
        if url.query().is_none() && !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }

    /// Where this path is, below this base.
    #[must_use]
    pub fn join(&self, path: &ImagePath, query: Option<&str>) -> String {
        let base = self.as_str();
        if self.0.query().is_some() {
            return format!("{base}{}", path.encoded_as_query_value());
        }
        match query {
            Some(query) if !query.is_empty() => format!("{base}{}?{query}", path.encoded()),
            _ => format!("{base}{}", path.encoded()),
        }
    }

    /// The base as a URL, for its parts.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The base as text: ASCII, without white space, with its final `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// An endpoint of the node itself, such as `_api/health`, below the base's directory.
    #[must_use]
    pub fn endpoint(&self, path: &str) -> Option<Url> {
        let mut url = self.0.clone();
        url.set_query(None);
        url.join(path.trim_start_matches('/')).ok()
    }
}

impl FromStr for Base {
    type Err = BadBase;

    fn from_str(text: &str) -> Result<Self, BadBase> {
        Self::parse(text)
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn join(base: &str, path: &str, query: Option<&str>) -> String {
        Base::parse(base)
            .unwrap()
            .join(&ImagePath::parse(path).unwrap(), query)
    }

    #[test]
    fn a_plain_base_takes_path_then_query() {
        assert_eq!(
            join(
                "https://a.example/",
                "pic/图 1.webp",
                Some("fmt=avif&w=320")
            ),
            "https://a.example/pic/%E5%9B%BE%201.webp?fmt=avif&w=320"
        );
        assert_eq!(
            join("http://a.example:8080/x", "y", None),
            "http://a.example:8080/x/y"
        );
    }

    #[test]
    fn a_base_with_a_query_takes_the_path_as_its_value() {
        assert_eq!(
            join(
                "https://a.example/api/raw/?path=/",
                "mount/a&b+c#d%e=f.webp",
                Some("w=1")
            ),
            "https://a.example/api/raw/?path=/mount/a%26b%2Bc%23d%25e%3Df.webp"
        );
    }

    #[test]
    fn what_cannot_be_joined_is_refused() {
        let cases = [
            ("javascript:alert(1)", BadBase::Scheme),
            ("ftp://a.example/", BadBase::Scheme),
            ("//a.example/", BadBase::NotAUrl),
            ("https://", BadBase::NotAUrl),
            ("a.example", BadBase::NotAUrl),
            ("https://me@a.example/", BadBase::UserInfo),
            ("https://:secret@a.example/", BadBase::UserInfo),
            ("https://a.example/#top", BadBase::Fragment),
        ];
        for (text, expected) in cases {
            assert_eq!(Base::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn an_endpoint_stands_below_the_base() {
        let base = Base::parse("https://a.example/node").unwrap();
        assert_eq!(
            base.endpoint("_api/health").unwrap().as_str(),
            "https://a.example/node/_api/health"
        );
    }

    proptest! {
        #[test]
        fn a_joined_path_is_found_again_and_nothing_else_changes(text in "\\PC{1,30}") {
            if let Ok(path) = ImagePath::parse(&text) {
                let joined = Url::parse(&join("https://a.example/b/", &text, Some("q=1"))).unwrap();
                let below = joined.path().strip_prefix("/b/").unwrap();
                prop_assert_eq!(&ImagePath::from_request(below), &Ok(path.clone()));
                prop_assert_eq!(joined.query(), Some("q=1"));

                let joined = Url::parse(&join("https://a.example/?path=/", &text, None)).unwrap();
                let pairs: Vec<_> = joined.query_pairs().collect();
                prop_assert_eq!(pairs.len(), 1);
                let value = format!("/{}", path.as_str());
                prop_assert_eq!(pairs[0].1.as_ref(), value.as_str());
                prop_assert_eq!(joined.fragment(), None);
            }
        }
    }
}
