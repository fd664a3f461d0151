//! Under which name is a response kept, and which names does a purge mean?
//!
//! A key is the picture's path, decoded, nothing else: other query keys never reach the origin, so
//! they cannot be part of it. A path holds no control characters, which leaves the zero byte free
//! to set a picture's variants apart from the picture itself: `path`, then `path\0w=640`. Sorted,
//! a picture and its variants stand together, and so does everything below one folder.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use tuyun_protocol::ImagePath;

/// Sets a variant apart from its picture; no path can hold it.
const VARIANT: char = '\0';

/// The name of one stored response.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// The picture as the origin has it.
    #[must_use]
    pub fn original(path: &ImagePath) -> Self {
        Self(Arc::from(path.as_str()))
    }

    /// A key as it was written to the index.
    #[must_use]
    pub fn from_index(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// As it is written to the index.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text compares and hashes as the key does, so a table of keys is asked with a text.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", &*self.0)
    }
}

/// What one purge means: a picture with its variants, a folder, or everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One picture and its variants.
    Picture(ImagePath),
    /// All that lies below a folder, and a picture of the folder's very name.
    Below(ImagePath),
    /// Everything.
    All,
}

impl Scope {
    /// Whether the purge means this entry.
    #[must_use]
    pub fn covers(&self, key: &str) -> bool {
        let rest = |path: &ImagePath| key.strip_prefix(path.as_str());
        match self {
            Self::Picture(path) => {
                rest(path).is_some_and(|r| r.is_empty() || r.starts_with(VARIANT))
            }
            Self::Below(path) => {
                rest(path).is_some_and(|r| r.is_empty() || r.starts_with([VARIANT, '/']))
            }
            Self::All => true,
        }
    }

    /// Where in the sorted keys the search begins. All keys meant begin with this text, though not
    /// all that begin with it are meant: `a/b-2` stands between `a/b` and `a/b/c`.
    #[must_use]
    pub fn start(&self) -> &str {
        match self {
            Self::Picture(path) | Self::Below(path) => path.as_str(),
            Self::All => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ImagePath {
        ImagePath::parse(text).expect("a plain path")
    }

    #[test]
    fn a_picture_stands_for_its_variants_and_for_no_neighbour() {
        let scope = Scope::Picture(path("a/b.webp"));
        assert!(scope.covers("a/b.webp"));
        assert!(scope.covers("a/b.webp\0w=640"));
        assert!(!scope.covers("a/b.webp2"));
        assert!(!scope.covers("a/b.webp/c"));
        assert!(!scope.covers("a/b"));
    }

    #[test]
    fn a_folder_ends_at_a_slash() {
        let scope = Scope::Below(path("mount/pic"));
        assert!(scope.covers("mount/pic/2024/1.webp"));
        assert!(scope.covers("mount/pic"));
        assert!(!scope.covers("mount/pictures/1.webp"));
        assert!(!scope.covers("mount"));
    }

    #[test]
    fn everything_is_everything() {
        assert!(Scope::All.covers("a"));
        assert_eq!(Scope::All.start(), "");
    }
}
