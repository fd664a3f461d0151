//! How items are addressed: `graph-api.md` section 4.
//!
//! Each segment is percent-encoded by itself, leaving only what section 4.2 calls safe; a plus is
//! always encoded, since it has been read as a space (trap T44).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::tree::{DriveId, ItemId};

/// All but letters, digits and `-._~`.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A name as one segment of a URL.
pub(super) fn segment(name: &str) -> String {
    utf8_percent_encode(name, UNSAFE).to_string()
}

/// The ids of classic personal drives carry a `!`, which stays as it is.
fn id(text: &str) -> String {
    segment(text).replace("%21", "!")
}

/// `/drives/{d}`
pub(super) fn drive(drive: &DriveId) -> String {
    format!("/drives/{}", id(drive.as_str()))
}

/// `/drives/{d}/items/{i}`
pub(super) fn item(of: &DriveId, item: &ItemId) -> String {
    format!("{}/items/{}", drive(of), id(item.as_str()))
}

/// `/drives/{d}/items/{i}:/{name}:`, to be followed by an action, or by nothing.
pub(super) fn child(of: &DriveId, parent: &ItemId, name: &str) -> String {
    format!("{}:/{}:", item(of, parent), segment(name))
}

/// An eTag as a header wants it: quoted. Business values carry their quotes (section 3.2).
pub(super) fn quoted(etag: &str) -> String {
    if etag.starts_with('"') || etag.starts_with("W/") || etag == "*" {
        etag.to_owned()
    } else {
        format!("\"{etag}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_by_segment_and_a_plus_is_never_left() {
        assert_eq!(segment("a+b c#d%e?.jpg"), "a%2Bb%20c%23d%25e%3F.jpg");
        assert_eq!(segment("图"), "%E5%9B%BE");
        let drive = DriveId::new("b!Zm-9_");
        assert_eq!(
            child(&drive, &ItemId::new("9F!s12"), "a b"),
            "/drives/b!Zm-9_/items/9F!s12:/a%20b:"
        );
    }

    #[test]
    fn tags_of_personal_drives_get_quotes_and_those_of_business_keep_theirs() {
        assert_eq!(quoted("aQ0I5RTQ"), "\"aQ0I5RTQ\"");
        assert_eq!(quoted("\"{1234},3\""), "\"{1234},3\"");
    }
}
