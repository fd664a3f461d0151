//! Names as applications spell them, and as the drive stores them.
//!
//! A drive stores no `:` and no space at the end; POSIX knows no name that it could not hold but
//! for `/` and NUL. The two are mapped as rclone maps them (`graph-api.md` 4.4), so that a folder
//! written by either reads the same: a forbidden character is stored as its full-width twin, a
//! byte that is not UTF-8 as a quote and two digits, and what is such a twin already is quoted.
//!
//! The tree and everything behind it know names only as stored; the rim, where applications speak,
//! uses [`stored`] and [`shown`].

use std::borrow::Cow;

/// Stands before a twin that is meant literally, and before the two digits of a byte.
const QUOTE: char = '\u{201b}';

/// Forbidden characters and their twins, wherever they stand. `/` cannot come from an application,
/// so its twin is an ordinary character.
const TWINS: &[(char, char)] = &[
    ('"', '\u{ff02}'),
    ('*', '\u{ff0a}'),
    (':', '\u{ff1a}'),
    ('<', '\u{ff1c}'),
    ('>', '\u{ff1e}'),
    ('?', '\u{ff1f}'),
    ('\\', '\u{ff3c}'),
    ('|', '\u{ff5c}'),
    ('\u{7f}', '\u{2421}'),
];

const SPACE: (char, char) = (' ', '\u{2420}');
const TILDE: (char, char) = ('~', '\u{ff5e}');
const PERIOD: (char, char) = ('.', '\u{ff0e}');

/// Where in a name a character stands.
#[derive(Clone, Copy)]
struct At {
    first: bool,
    last: bool,
}

/// The twin that a character is stored as.
fn twin(c: char, at: At) -> Option<char> {
    if let Some((_, twin)) = TWINS.iter().find(|(own, _)| *own == c) {
        return Some(*twin);
    }
    match c {
        '\u{1}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)),
        ' ' if at.first || at.last => Some(SPACE.1),
        '~' if at.first => Some(TILDE.1),
        '.' if at.last && !at.first => Some(PERIOD.1),
        _ => None,
    }
}

/// The character that a twin stands for.
fn original(c: char, at: At) -> Option<char> {
    if let Some((own, _)) = TWINS.iter().find(|(_, twin)| *twin == c) {
        return Some(*own);
    }
    match c {
        '\u{2401}'..='\u{241f}' => char::from_u32(u32::from(c) - 0x2400),
        '\u{2420}' if at.first || at.last => Some(SPACE.0),
        '\u{ff5e}' if at.first => Some(TILDE.0),
        '\u{ff0e}' if at.last => Some(PERIOD.0),
        _ => None,
    }
}

/// An application's name as the drive stores it. Whether the drive takes it for a name at all is
/// for [`check`](super::check_name) to say.
#[must_use]
pub fn stored(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    let mut at = 0;
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let place = At {
                first: at == 0,
                last: at + c.len_utf8() == name.len(),
            };
            at += c.len_utf8();
            if c == QUOTE || original(c, place).is_some() {
                out.push(QUOTE);
            }
            out.push(twin(c, place).unwrap_or(c));
        }
        for byte in chunk.invalid() {
            at += 1;
            out.push(QUOTE);
            out.extend([byte >> 4, byte & 15].map(digit));
        }
    }
    out
}

/// A stored name as applications see it. One that nothing is stored as, such as one with a stray
/// quote, is shown as it stands.
#[must_use]
pub fn shown(name: &str) -> Cow<'_, [u8]> {
    let read = literal(name);
    let sound = !matches!(&read[..], b"" | b"." | b"..") && stored(&read) == name;
    if sound && read != name.as_bytes() {
        Cow::Owned(read)
    } else {
        Cow::Borrowed(name.as_bytes())
    }
}

/// The same as text, for messages and for URLs; a name that is none is told as it is stored.
#[must_use]
pub fn shown_text(name: &str) -> Cow<'_, str> {
    match shown(name) {
        Cow::Borrowed(_) => Cow::Borrowed(name),
        Cow::Owned(bytes) => String::from_utf8(bytes).map_or(Cow::Borrowed(name), Cow::Owned),
    }
}

/// Whether a stored name is shown as it stands although an application's name of the same letters
/// would be stored otherwise.
#[must_use]
pub fn is_odd(name: &str) -> bool {
    stored(name.as_bytes()) != name && matches!(shown(name), Cow::Borrowed(_))
}

fn literal(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let chars: Vec<char> = name.chars().collect();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let place = |at: usize| At {
            first: out.is_empty(),
            last: at + 1 == chars.len(),
        };
        let (next, after) = (chars.get(at + 1), chars.get(at + 2));
        let push = |out: &mut Vec<u8>, c: char| {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        };
        if c != QUOTE {
            let c = original(c, place(at)).unwrap_or(c);
            push(&mut out, c);
            at += 1;
        } else if let Some(&next) =
            next.filter(|next| **next == QUOTE || original(**next, place(at + 1)).is_some())
        {
            push(&mut out, next);
            at += 2;
        } else if let (Some(high), Some(low)) = (
            next.copied().and_then(value),
            after.copied().and_then(value),
        ) {
            out.push(high << 4 | low);
            at += 3;
        } else {
            push(&mut out, c);
            at += 1;
        }
    }
    out
}

fn digit(half: u8) -> char {
    char::from_digit(u32::from(half), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}

fn value(c: char) -> Option<u8> {
    let upper = c.is_ascii_digit() || c.is_ascii_uppercase();
    let value = c.to_digit(16).filter(|_| upper)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::check_name;
    use super::*;

    #[test]
    fn names_are_stored_as_rclone_stores_them() {
        let table = [
            ("a:b", "a：b"),
            ("trail. ", "trail.␠"),
            ("a<b>c", "a＜b＞c"),
            ("dots...", "dots..．"),
            ("~x", "～x"),
            ("  two", "␠ two"),
            ("x~", "x~"),
            (" ", "␠"),
            ("~$doc", "～$doc"),
            ("...", "..．"),
            ("~x.", "～x．"),
            (" ~x", "␠~x"),
            ("a\u{1}b", "a␁b"),
            ("a＊b", "a‛＊b"),
            ("a#b%c", "a#b%c"),
            ("␠x", "‛␠x"),
            ("a.b．c", "a.b．c"),
            ("x．", "x‛．"),
            ("a‛b", "a‛‛b"),
            ("a\u{7f}", "a␡"),
        ];
        for (ours, theirs) in table {
            assert_eq!(stored(ours.as_bytes()), theirs);
            assert_eq!(shown(theirs), ours.as_bytes(), "{theirs}");
        }
        assert_eq!(stored(b"a\xfe"), "a‛FE");
        assert_eq!(&*shown("a‛FE"), b"a\xfe");
        assert_eq!(shown_text("a‛FE"), "a‛FE", "no text: told as stored");
    }

    #[test]
    fn what_nothing_is_stored_as_is_shown_as_it_stands() {
        for odd in ["a‛b", "．", "a ", "‛fe", "a／‛"] {
            assert_eq!(shown_text(odd), odd);
            assert!(is_odd(odd), "{odd}");
        }
        for plain in ["6b03ba41dfda1.png", "图片 1.webp", "a／b", "a：b"] {
            assert!(!is_odd(plain), "{plain}");
        }
        assert_eq!(shown_text("a／b"), "a／b", "a slash cannot be shown");
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_only_words_and_lengths_are_refused(
            name in proptest::collection::vec(
                prop_oneof![
                    any::<u8>(),
                    proptest::sample::select(&b" .~:*\x7f\xe2\x80\x9b\xef\xbc\x8e"[..]),
                ],
                1..12,
            )
        ) {
            prop_assume!(!name.iter().any(|b| matches!(b, 0 | b'/')));
            prop_assume!(!matches!(&name[..], b"." | b".."));
            let there = stored(&name);
            prop_assert_eq!(&*shown(&there), &name[..]);
            let taken = check_name(&there);
            prop_assert!(
                matches!(taken, Ok(()) | Err(super::super::BadName::Reserved)),
                "{:?}", taken
            );
        }

        #[test]
        fn what_the_drive_holds_is_always_shown_as_some_name(name in "[a.~ ‛␠～．：／F0]{1,8}") {
            let seen = shown(&name).into_owned();
            prop_assert!(!seen.contains(&b'/') && !seen.contains(&0));
            let found = stored(&seen) == name || (is_odd(&name) && seen == name.as_bytes());
            prop_assert!(found);
        }
    }
}
