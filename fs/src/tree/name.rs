//! `OneDrive`'s naming rules against POSIX's.
//!
//! A name that the drive would refuse is refused at `create`, where the application sees it, not
//! hours later in the outbox. The rules are those of `graph-api.md` section 4.3.

use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

/// Characters that no kind of drive stores.
const FORBIDDEN: &[char] = &['"', '*', ':', '<', '>', '?', '/', '\\', '|'];

/// Names that no kind of drive stores, whatever their case and extension.
const RESERVED: &[&str] = &["con", "prn", "aux", "nul"];

/// Longest segment, in UTF-16 units, as SharePoint counts.
pub(super) const SEGMENT_UNITS: usize = 255;

/// Longest path from the drive's root on, in UTF-16 units, slashes included.
pub(super) const PATH_UNITS: usize = 400;

/// Why the drive would not store a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty, `.` or `..`.
    #[error("this is not a name")]
    NotAName,
    /// More than 255 units.
    #[error("the name is longer than OneDrive's 255 characters")]
    TooLong,
    /// With all that is above it.
    #[error("the path is longer than OneDrive's 400 characters, counted from the drive's root")]
    PathTooLong,
    /// Has a character that cannot be stored.
    #[error("OneDrive cannot store the character {0:?} in a name")]
    Character(char),
    /// Begins or ends with what the drive would trim away.
    #[error("OneDrive cannot store a name with a space at either end, or a period at the end")]
    Trimmed,
    /// A word that the service keeps to itself.
    #[error("OneDrive keeps this name to itself")]
    Reserved,
}

/// Whether no drive has room for a name.
#[must_use]
pub fn is_too_long(name: &str) -> bool {
    units(name) > SEGMENT_UNITS
}

/// Checks a name against the rules that all kinds of drives share.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str) -> Result<(), BadName> {
    if matches!(name, "" | "." | "..") {
        return Err(BadName::NotAName);
    }
    if is_too_long(name) {
        return Err(BadName::TooLong);
    }
    if let Some(odd) = name
        .chars()
        .find(|c| FORBIDDEN.contains(c) || c.is_ascii_control())
    {
        return Err(BadName::Character(odd));
    }
    if name.starts_with(' ') || name.ends_with(' ') || name.ends_with('.') {
        return Err(BadName::Trimmed);
    }
    if is_reserved(&name.to_lowercase()) {
        return Err(BadName::Reserved);
    }
    Ok(())
}

/// Length as the service counts it.
pub(super) fn units(name: &str) -> usize {
    name.encode_utf16().count()
}

fn is_reserved(lower: &str) -> bool {
    let stem = lower.split('.').next().unwrap_or(lower);
    let numbered = |word: &str| {
        stem.strip_prefix(word)
            .is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit())
    };
    RESERVED.contains(&stem)
        || numbered("com")
        || numbered("lpt")
        || lower == ".lock"
        || lower == "desktop.ini"
        || lower.contains("_vti_")
        || lower.starts_with("~$")
}

/// What two names share when the drive takes them for one: case and Unicode form are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fold(Arc<str>);

impl Fold {
    /// Folds a name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if name
            .bytes()
            .all(|b| b.is_ascii() && !b.is_ascii_uppercase())
        {
            return Self(name.into());
        }
        Self(
            name.nfc()
                .flat_map(char::to_lowercase)
                .nfc()
                .collect::<String>()
                .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lsky_makes_are_good() {
        for name in [
            "6b03ba41dfda1.png",
            "2026",
            "11",
            "图片 1.webp",
            "a#b%c.gif",
            ".hidden",
            "~x",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_the_drive_refuses_are_refused_at_once() {
        assert_eq!(check(".."), Err(BadName::NotAName));
        assert_eq!(check("a:b"), Err(BadName::Character(':')));
        assert_eq!(check("a\u{1}"), Err(BadName::Character('\u{1}')));
        assert_eq!(check(" a"), Err(BadName::Trimmed));
        assert_eq!(check("a."), Err(BadName::Trimmed));
        assert_eq!(check("Con.txt"), Err(BadName::Reserved));
        assert_eq!(check("lpt3"), Err(BadName::Reserved));
        assert_eq!(check("a_VTI_b"), Err(BadName::Reserved));
        assert_eq!(check(&"x".repeat(256)), Err(BadName::TooLong));
        assert_eq!(check(&"x".repeat(255)), Ok(()));
    }

    #[test]
    fn case_and_unicode_form_do_not_tell_names_apart() {
        assert_eq!(
            Fold::of("Ångström.JPG"),
            Fold::of("a\u{30a}ngstro\u{308}m.jpg")
        );
        assert_ne!(Fold::of("a.jpg"), Fold::of("b.jpg"));
    }
}
