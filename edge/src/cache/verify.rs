//! Are these the bytes that the origin meant?
//!
//! The length always has to agree. An origin of ours also tells the content's quickXorHash in its
//! `ETag` (`"<40 hex digits>-<size in hex>"`), so a byte that was changed on the way is noticed.

use std::fmt::Write as _;

use quickxorhash::QuickXorHash;

/// What is known of a body before it comes.
pub(super) struct Verifier {
    length: Option<u64>,
    seen: u64,
    hash: Option<(String, QuickXorHash)>,
}

/// Why a body is not what was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    /// Nothing came.
    #[error("the body is empty")]
    Empty,
    /// Another length than was told.
    #[error("the body has another length than was announced")]
    Length,
    /// Other bytes than the `ETag` names.
    #[error("the body is not the one that its ETag names")]
    Content,
}

impl Verifier {
    /// From what the head says.
    #[must_use]
    pub(super) fn new(etag: Option<&str>, length: Option<u64>) -> Self {
        let hash = etag
            .and_then(|etag| named_hash(etag, length))
            .map(|hex| (hex, QuickXorHash::new()));
        Self {
            length,
            seen: 0,
            hash,
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// More has come than was announced.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), Mismatch> {
        self.seen += piece.len() as u64;
        if let Some((_, hash)) = &mut self.hash {
            hash.update(piece);
        }
        if self.length.is_some_and(|length| self.seen > length) {
            Err(Mismatch::Length)
        } else {
            Ok(())
        }
    }

    /// Bytes so far.
    #[must_use]
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// How much of it may be shown already. With a known length the last byte waits for the
    /// verdict; without one the end itself is what readers wait for.
    #[must_use]
    pub(super) fn showable(&self) -> u64 {
        self.length
            .map_or(self.seen, |length| self.seen.min(length.saturating_sub(1)))
    }

    /// The verdict, at the end. Gives the body's length.
    ///
    /// # Errors
    /// What came is not what was announced.
    pub(super) fn finish(self) -> Result<u64, Mismatch> {
        if self.length.is_some_and(|length| self.seen != length) {
            return Err(Mismatch::Length);
        }
        if self.seen == 0 {
            return Err(Mismatch::Empty);
        }
        let agrees = self
            .hash
            .is_none_or(|(named, mut hash)| hex(&hash.finalize()) == named);
        if agrees {
            Ok(self.seen)
        } else {
            Err(Mismatch::Content)
        }
    }
}

/// The hash that an `ETag` names, if it is of our form and its size agrees. The size is asked for
/// because it all but rules out that another server's tag only looks like it.
fn named_hash(etag: &str, length: Option<u64>) -> Option<String> {
    let (hash, size) = etag.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let size = u64::from_str_radix(size, 16)
        .ok()
        .filter(|_| is_hex(size))?;
    (hash.len() == 40 && is_hex(hash) && Some(size) == length).then(|| hash.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // a String takes everything
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"hello world";
    // The value of Microsoft's own example for these bytes.
    const TAG: &str = "\"6828031bd8f00610dce10d726b03190000000000-b\"";

    fn verdict(etag: &str, length: Option<u64>, body: &[u8]) -> Result<u64, Mismatch> {
        let mut verifier = Verifier::new(Some(etag), length);
        verifier.take(body)?;
        verifier.finish()
    }

    #[test]
    fn the_right_bytes_pass_and_one_wrong_bit_does_not() {
        assert_eq!(verdict(TAG, Some(11), HELLO), Ok(11));
        assert_eq!(
            verdict(TAG, Some(11), b"hello wormd"),
            Err(Mismatch::Content)
        );
    }

    #[test]
    fn a_tag_of_another_form_says_nothing_about_the_bytes() {
        assert_eq!(verdict("\"abc\"", Some(11), b"hello wormd"), Ok(11));
        assert_eq!(
            verdict(&format!("W/{TAG}"), Some(11), b"hello wormd"),
            Ok(11)
        );
        let other_size = TAG.replace("-b", "-c");
        assert_eq!(verdict(&other_size, Some(11), b"hello wormd"), Ok(11));
    }

    #[test]
    fn too_little_too_much_and_nothing_are_told_apart_from_right() {
        assert_eq!(verdict("", Some(12), HELLO), Err(Mismatch::Length));
        assert_eq!(verdict("", Some(10), HELLO), Err(Mismatch::Length));
        assert_eq!(verdict("", None, b""), Err(Mismatch::Empty));
        assert_eq!(verdict("", None, HELLO), Ok(11));
    }

    #[test]
    fn the_last_byte_waits_when_the_length_is_known() {
        let mut verifier = Verifier::new(None, Some(11));
        verifier.take(HELLO).expect("not too much");
        assert_eq!(verifier.showable(), 10);
        let mut endless = Verifier::new(None, None);
        endless.take(HELLO).expect("not too much");
        assert_eq!(endless.showable(), 11);
    }
}
