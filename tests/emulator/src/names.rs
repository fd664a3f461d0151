//! Which names does a drive take, and which are the same?
//!
//! Names compare without regard to case and to Unicode form, and are kept as they came.

use unicode_normalization::UnicodeNormalization;

/// The longest decoded path from the drive's root on, in characters.
const LONGEST_PATH: usize = 400;
/// The longest single name, in characters.
const LONGEST_NAME: usize = 255;

/// What two names must share to be one.
pub(crate) fn key(name: &str) -> String {
    name.nfc()
        .collect::<String>()
        .to_lowercase()
        .nfc()
        .collect()
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadName {
    #[error("The name is empty.")]
    Empty,
    #[error(
        "The provided name cannot contain the characters \" * : < > ? / \\ | or control characters."
    )]
    Character,
    #[error("The provided name cannot begin or end with a space, nor end with a period.")]
    Edge,
    #[error("The provided name is reserved.")]
    Reserved,
    #[error("The provided name or path is too long.")]
    TooLong,
}

impl BadName {
    pub(crate) fn inner(self) -> &'static str {
        match self {
            Self::TooLong => "pathIsTooLong",
            Self::Empty | Self::Character | Self::Edge | Self::Reserved => "invalidPath",
        }
    }
}

/// Whether a drive takes this name. `folder_path` is the decoded path of the folder, without a
/// slash at either end; it is empty for the root.
pub(crate) fn check(name: &str, folder_path: &str, personal: bool) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name
        .chars()
        .any(|c| "\"*:<>?/\\|".contains(c) || c < ' ' || c == '\u{7f}')
    {
        return Err(BadName::Character);
    }
    if name.starts_with(' ') || name.ends_with([' ', '.']) {
        return Err(BadName::Edge);
    }
    if reserved(name, folder_path.is_empty(), personal) {
        return Err(BadName::Reserved);
    }
    let length = name.chars().count();
    let above = match folder_path.chars().count() {
        0 => 0,
        length => length + 1,
    };
    if length > LONGEST_NAME || above + length > LONGEST_PATH {
        return Err(BadName::TooLong);
    }
    Ok(())
}

fn reserved(name: &str, at_root: bool, personal: bool) -> bool {
    let folded = name.to_lowercase();
    let stem = folded.split('.').next().unwrap_or_default();
    let device = matches!(stem, "con" | "prn" | "aux" | "nul")
        || stem
            .strip_prefix("com")
            .or_else(|| stem.strip_prefix("lpt"))
            .is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']));
    device
        || folded == ".lock"
        || folded == "desktop.ini"
        || folded.contains("_vti_")
        || (!personal && (folded.starts_with("~$") || (at_root && folded == "forms")))
}

/// The name with ` 1`, ` 2`, … before its extension.
pub(crate) fn numbered(name: &str, number: u32) -> String {
    match name.rfind('.') {
        Some(dot) if dot > 0 => format!("{} {number}{}", &name[..dot], &name[dot..]),
        _ => format!("{name} {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_or_unicode_form_are_one() {
        assert_eq!(key("ReadMe.TXT"), key("readme.txt"));
        assert_eq!(key("caf\u{e9}"), key("CAFE\u{301}"));
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn forbidden_characters_edges_and_reserved_names_are_refused() {
        for name in [
            "a:b", "a/b", "a\\b", "a\"b", "a*b", "a<b", "a>b", "a?b", "a|b", "a\u{1}b",
        ] {
            assert_eq!(check(name, "", true), Err(BadName::Character), "{name}");
        }
        for name in [" a", "a ", "a."] {
            assert_eq!(check(name, "", true), Err(BadName::Edge), "{name}");
        }
        for name in [
            "CON",
            "nul.txt",
            "com3",
            "LPT9.log",
            ".lock",
            "Desktop.ini",
            "a_vti_b",
        ] {
            assert_eq!(check(name, "", true), Err(BadName::Reserved), "{name}");
        }
        for name in ["a#b%c", "com10", "console", "~x", "lock", ".hidden"] {
            assert_eq!(check(name, "", false), Ok(()), "{name}");
        }
    }

    #[test]
    fn some_names_are_refused_by_work_drives_alone() {
        assert_eq!(check("~$doc.docx", "a", false), Err(BadName::Reserved));
        assert_eq!(check("~$doc.docx", "a", true), Ok(()));
        assert_eq!(check("Forms", "", false), Err(BadName::Reserved));
        assert_eq!(check("Forms", "a", false), Ok(()));
    }

    #[test]
    fn a_name_has_255_characters_and_a_path_400() {
        assert_eq!(check(&"n".repeat(255), "", true), Ok(()));
        assert_eq!(check(&"n".repeat(256), "", true), Err(BadName::TooLong));
        assert_eq!(check(&"n".repeat(200), &"p".repeat(199), true), Ok(()));
        assert_eq!(
            check(&"n".repeat(200), &"p".repeat(200), true),
            Err(BadName::TooLong)
        );
    }

    #[test]
    fn a_number_goes_before_the_extension() {
        assert_eq!(numbered("a.tar.gz", 1), "a.tar 1.gz");
        assert_eq!(numbered("folder", 2), "folder 2");
        assert_eq!(numbered(".profile", 1), ".profile 1");
    }
}
