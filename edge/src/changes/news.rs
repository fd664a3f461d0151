//! What does an event mean for what is held?
//!
//! The origin names pictures as it has them, from its own root; a visitor's path is joined to a base
//! that may lie deeper. What lies outside of that base nobody can ask for here.

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tuyun_protocol::{Base, ImagePath};

use crate::cache::Scope;

/// Something to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A picture is new, or another than before.
    New {
        path: ImagePath,
        etag: Option<String>,
        size: u64,
    },
    /// What this means is no more.
    Gone(Scope),
    /// The origin does not know what was missed.
    Reset,
}

/// Where the origin's pictures lie, seen from its own root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place(String);

#[derive(Deserialize)]
struct Data {
    path: Option<String>,
    prefix: Option<String>,
    etag: Option<String>,
    #[serde(default)]
    size: u64,
}

impl Place {
    /// Where paths are joined to a base: behind its path, or behind its query's value.
    pub(super) fn of(base: &Base) -> Self {
        let url = base.url();
        let before = match url.query() {
            Some(query) => query.rsplit_once('=').map_or("", |(_, value)| value),
            None => url.path(),
        };
        let decoded = percent_decode_str(before).decode_utf8_lossy();
        Self(decoded.trim_start_matches('/').to_owned())
    }

    /// What an event tells, if it tells something of pictures that can be asked for here.
    pub(super) fn read(&self, name: &str, data: &str) -> Option<News> {
        if name == "reset" {
            return Some(News::Reset);
        }
        let data: Data = serde_json::from_str(data).ok()?;
        match (name, data.path, data.prefix) {
            ("put", Some(path), _) => Some(News::New {
                path: self.ours(&path)?,
                etag: data.etag.map(|etag| quoted(&etag)),
                size: data.size,
            }),
            ("delete", Some(path), _) => Some(News::Gone(Scope::Picture(self.ours(&path)?))),
            ("delete", None, Some(folder)) => self.folder(&folder).map(News::Gone),
            // Of a later version: what it means is not known.
            _ => None,
        }
    }

    fn ours(&self, path: &str) -> Option<ImagePath> {
        let path = path.strip_prefix('/').unwrap_or(path);
        ImagePath::parse(path.strip_prefix(self.0.as_str())?).ok()
    }

    fn folder(&self, folder: &str) -> Option<Scope> {
        let folder = folder.trim_matches('/');
        // A folder that we lie in is all that we have.
        if folder.is_empty() || format!("/{}", self.0).starts_with(&format!("/{folder}/")) {
            return Some(Scope::All);
        }
        self.ours(folder).map(Scope::Below)
    }
}

/// The feed has a tag as it is, a response has it in quotes.
fn quoted(etag: &str) -> String {
    format!("\"{}\"", etag.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(base: &str) -> Place {
        Place::of(&Base::parse(base).expect("a base"))
    }

    fn path(text: &str) -> ImagePath {
        ImagePath::parse(text).expect("a path")
    }

    #[test]
    fn a_path_is_that_of_a_visitor() {
        let data = r#"{"path":"/mount/pic/图 1.webp","etag":"x","size":7}"#;
        for (base, expected) in [
            ("https://a.example/", Some("mount/pic/图 1.webp")),
            ("https://a.example/mount/", Some("pic/图 1.webp")),
            (
                "https://a.example/api/raw/?path=/",
                Some("mount/pic/图 1.webp"),
            ),
            (
                "https://a.example/api/raw?path=/mount/",
                Some("pic/图 1.webp"),
            ),
            ("https://a.example/other/", None),
        ] {
            let expected = expected.map(|text| News::New {
                path: path(text),
                etag: Some("\"x\"".into()),
                size: 7,
            });
            assert_eq!(place(base).read("put", data), expected, "{base}");
        }
    }

    #[test]
    fn what_is_deleted_is_gone_with_all_below_it() {
        let place = place("https://a.example/mount/");
        let picture = place.read("delete", r#"{"path":"/mount/a/b.webp"}"#);
        assert_eq!(picture, Some(News::Gone(Scope::Picture(path("a/b.webp")))));
        let below = place.read("delete", r#"{"prefix":"/mount/a"}"#);
        assert_eq!(below, Some(News::Gone(Scope::Below(path("a")))));
        for folder in ["/mount", "/mount/", "/"] {
            let data = format!(r#"{{"prefix":"{folder}"}}"#);
            assert_eq!(place.read("delete", &data), Some(News::Gone(Scope::All)));
        }
        assert_eq!(place.read("delete", r#"{"prefix":"/moun"}"#), None);
    }

    #[test]
    fn what_cannot_be_read_means_nothing() {
        let place = place("https://a.example/");
        assert_eq!(place.read("reset", "{}"), Some(News::Reset));
        for (name, data) in [
            ("put", "{}"),
            ("put", r#"{"path":"/a/../b"}"#),
            ("delete", "no json"),
            ("moved", r#"{"path":"/a"}"#),
            ("", ""),
        ] {
            assert_eq!(place.read(name, data), None, "{name} {data}");
        }
    }
}
