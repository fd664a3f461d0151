//! Several parts of one picture in one body: `multipart/byteranges` (RFC 9110 section 14.6).
//!
//! Which bytes to send, and what stands between them, is laid out first; so the length of the whole is
//! known before its first byte leaves.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;

/// The parts, each with what precedes it, and what ends them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// For the header `Content-Type`.
    pub(super) content_type: String,
    /// What precedes a part, and the part.
    pub(super) parts: Vec<(Bytes, Range<u64>)>,
    /// What follows the last one.
    pub(super) end: Bytes,
    /// The length of all of it.
    pub(super) length: u64,
}

/// Lays out parts of a picture of so many bytes. The boundary must not occur in the picture, which is
/// as good as sure for sixteen random bytes.
pub(super) fn lay_out(ranges: Vec<Range<u64>>, kind: &str, total: u64, boundary: u128) -> Layout {
    let boundary = format!("{boundary:032x}");
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let mut length = end.len() as u64;
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut head = format!("\r\n--{boundary}\r\ncontent-type: {kind}\r\n");
        let (first, last) = (range.start, range.end - 1);
        // A String takes everything.
        let _ = write!(head, "content-range: bytes {first}-{last}/{total}\r\n\r\n");
        length += head.len() as u64 + (range.end - range.start);
        parts.push((Bytes::from(head), range));
    }
    Layout {
        content_type: format!("multipart/byteranges; boundary={boundary}"),
        parts,
        end,
        length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_what_is_sent() {
        let layout = lay_out(vec![10..20, 90..100], "image/png", 100, 7);
        let mut body = Vec::new();
        for (head, range) in &layout.parts {
            body.extend_from_slice(head);
            body.extend(range.clone().map(|_| b'x'));
        }
        body.extend_from_slice(&layout.end);
        assert_eq!(body.len() as u64, layout.length);
        let boundary = "00000000000000000000000000000007";
        let first = format!(
            "\r\n--{boundary}\r\ncontent-type: image/png\r\ncontent-range: bytes 10-19/100\r\n\r\n"
        );
        assert!(body.starts_with(first.as_bytes()));
        assert!(body.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes()));
        assert!(layout.content_type.ends_with(boundary));
    }
}
