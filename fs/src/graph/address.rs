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

/// Digits of a personal drive's id (section 1.2).
const PERSONAL: usize = 16;

/// A name as one segment of a URL.
pub(super) fn segment(name: &str) -> String {
    utf8_percent_encode(name, UNSAFE).to_string()
}

/// The ids of classic personal drives carry a `!`, which stays as it is.
fn id(text: &str) -> String {
    segment(text).replace("%21", "!")
}

/// How a child is named by its folder and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `…/items/{id}:/{name}:`
    Colon,
    /// `…/items/{id}/children('@a1')`: in China, where the colon form answers with the folder
    /// itself for whatever name (section 1.1).
    OData,
}

/// `/drives/{d}`
pub(super) fn drive(drive: &DriveId) -> String {
    format!("/drives/{}", id(drive.as_str()))
}

/// `/drives/{d}/items/{i}`, of the drive that the item is in.
pub(super) fn item(of: &DriveId, item: &ItemId) -> String {
    match item.elsewhere() {
        Some((other, item)) => format!("/drives/{}/items/{}", id(other), id(item)),
        None => format!("{}/items/{}", drive(of), id(item.as_str())),
    }
}

/// An action on a child of a folder; with no action, the child itself.
pub(super) fn child(form: Form, of: &DriveId, parent: &ItemId, name: &str, action: &str) -> String {
    let folder = item(of, parent);
    match form {
        Form::Colon if action.is_empty() => format!("{folder}:/{}", segment(name)),
        Form::Colon => format!("{folder}:/{}:{action}", segment(name)),
        Form::OData => {
            let quoted = format!("'{}'", name.replace('\'', "''"));
            format!("{folder}/children('@a1'){action}?@a1={}", segment(&quoted))
        }
    }
}

/// A URL with one more option.
pub(super) fn and(url: String, option: &str) -> String {
    let by = if url.contains('?') { '&' } else { '?' };
    url + &format!("{by}{option}")
}

/// A drive's id as it is compared: those of personal drives come in changing case, and with their
/// leading zero dropped (trap T12).
pub(super) fn normal(drive: &str) -> DriveId {
    let personal = !drive.is_empty()
        && drive.len() <= PERSONAL
        && drive.bytes().all(|byte| byte.is_ascii_hexdigit());
    if personal {
        DriveId::new(format!("{:0>PERSONAL$}", drive.to_ascii_lowercase()))
    } else {
        DriveId::new(drive)
    }
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
        let folder = ItemId::new("9F!s12");
        assert_eq!(
            child(Form::Colon, &drive, &folder, "a b", "/content"),
            "/drives/b!Zm-9_/items/9F!s12:/a%20b:/content"
        );
        assert_eq!(
            child(Form::Colon, &drive, &folder, "a b", ""),
            "/drives/b!Zm-9_/items/9F!s12:/a%20b"
        );
    }

    #[test]
    fn in_china_a_child_is_named_by_an_alias_with_its_quotes_doubled() {
        let (drive, folder) = (DriveId::new("b!1"), ItemId::new("01P"));
        assert_eq!(
            child(Form::OData, &drive, &folder, "it's +1", "/content"),
            "/drives/b!1/items/01P/children('@a1')/content?@a1=%27it%27%27s%20%2B1%27"
        );
        assert_eq!(and("/a?b=c".into(), "d=e"), "/a?b=c&d=e");
        assert_eq!(and("/a".into(), "d=e"), "/a?d=e");
    }

    #[test]
    fn an_item_of_another_drive_is_asked_for_there() {
        let own = DriveId::new("b!own");
        let there = ItemId::in_drive(&DriveId::new("b!other"), "01X");
        assert_eq!(item(&own, &there), "/drives/b!other/items/01X");
    }

    #[test]
    fn ids_of_personal_drives_are_compared_in_one_form() {
        assert_eq!(normal("ABCDEF012345678").as_str(), "0abcdef012345678");
        assert_eq!(normal("0abcdef012345678").as_str(), "0abcdef012345678");
        assert_eq!(normal("b!AbC").as_str(), "b!AbC");
    }

    #[test]
    fn tags_of_personal_drives_get_quotes_and_those_of_business_keep_theirs() {
        assert_eq!(quoted("aQ0I5RTQ"), "\"aQ0I5RTQ\"");
        assert_eq!(quoted("\"{1234},3\""), "\"{1234},3\"");
    }
}
