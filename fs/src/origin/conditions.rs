//! What of a picture to send, decided from the request's conditions and what we hold.
//!
//! RFC 9110, sections 13 and 14: an eTag outweighs a date; a range counts only for what the
//! reader already has; several ranges are answered by the whole, which is allowed and simple.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, header};

/// What we hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    /// Strong eTag without its quotes.
    pub(super) etag: Option<&'a str>,
    pub(super) modified: SystemTime,
    pub(super) size: u64,
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The reader has it already.
    NotModified,
    /// All of it.
    Whole,
    /// These bytes; at least one.
    Part(Range<u64>),
    /// The range lies behind the end.
    Unsatisfiable,
}

pub(super) fn judge(headers: &HeaderMap, ranges_apply: bool, held: Held<'_>) -> Verdict {
    if reader_has_it(headers, held) {
        return Verdict::NotModified;
    }
    let range =
        text(headers, &header::RANGE).filter(|_| ranges_apply && range_is_meant(headers, held));
    // Several are answered by the whole; what cannot be understood is ignored, other units too.
    let range = range.filter(|range| !range.contains(','));
    let Some(Ok(parsed)) = range.map(http_range_header::parse_range_header) else {
        return Verdict::Whole;
    };
    match parsed
        .validate(held.size)
        .ok()
        .and_then(|ranges| ranges.into_iter().next())
    {
        Some(range) => Verdict::Part(*range.start()..range.end() + 1),
        None => Verdict::Unsatisfiable,
    }
}

fn reader_has_it(headers: &HeaderMap, held: Held<'_>) -> bool {
    if headers.contains_key(header::IF_NONE_MATCH) {
        let mut lists = headers.get_all(header::IF_NONE_MATCH).iter();
        return lists.any(|list| list.to_str().is_ok_and(|list| names(list, held.etag)));
    }
    let since = text(headers, &header::IF_MODIFIED_SINCE).and_then(date);
    since.is_some_and(|since| seconds(held.modified) <= since)
}

/// Whether a list of eTags names ours, weakly compared.
fn names(list: &str, etag: Option<&str>) -> bool {
    if list.trim() == "*" {
        return true;
    }
    // None of our eTags has a comma in it.
    let mut entries = list
        .split(',')
        .map(|entry| entry.trim().trim_start_matches("W/"));
    etag.is_some_and(|etag| entries.any(|entry| quoted(entry) == Some(etag)))
}

/// `If-Range`: the range is meant only for the very content that the reader has a part of.
fn range_is_meant(headers: &HeaderMap, held: Held<'_>) -> bool {
    let Some(validator) = headers.get(header::IF_RANGE) else {
        return true;
    };
    let Ok(validator) = validator.to_str() else {
        return false;
    };
    match quoted(validator) {
        Some(etag) => held.etag == Some(etag),
        // A weak eTag is no date either, and never good enough here.
        None => date(validator) == Some(seconds(held.modified)),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

fn date(text: &str) -> Option<Duration> {
    httpdate::parse_http_date(text).ok().map(seconds)
}

/// Dates in headers have whole seconds.
fn seconds(at: SystemTime) -> Duration {
    Duration::from_secs(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUNDAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SECOND_BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn verdict(etag: Option<&str>, size: u64, asked: &[(&str, &str)]) -> Verdict {
        let headers = asked
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let modified = UNIX_EPOCH + Duration::from_millis(784_111_777_500);
        judge(
            &headers,
            true,
            Held {
                etag,
                modified,
                size,
            },
        )
    }

    #[test]
    fn ranges_are_cut_to_the_picture() {
        for (range, expected) in [
            ("bytes=0-0", Verdict::Part(0..1)),
            ("bytes=2-", Verdict::Part(2..10)),
            ("bytes=-3", Verdict::Part(7..10)),
            ("bytes=-30", Verdict::Part(0..10)),
            ("bytes=5-99", Verdict::Part(5..10)),
            ("bytes=10-", Verdict::Unsatisfiable),
            ("bytes=99-100", Verdict::Unsatisfiable),
            ("bytes=-0", Verdict::Unsatisfiable),
            ("bytes=0-1,4-5", Verdict::Whole),
            ("bytes=4-2", Verdict::Whole),
            ("bytes=x-", Verdict::Whole),
            ("lines=0-1", Verdict::Whole),
            ("bytes", Verdict::Whole),
            ("bytes=99999999999999999999999-", Verdict::Unsatisfiable),
        ] {
            assert_eq!(verdict(None, 10, &[("range", range)]), expected, "{range}");
        }
        assert_eq!(
            verdict(None, 0, &[("range", "bytes=0-")]),
            Verdict::Unsatisfiable
        );
        let headers = HeaderMap::from_iter([(header::RANGE, "bytes=0-0".parse().unwrap())]);
        let held = Held {
            etag: None,
            modified: UNIX_EPOCH,
            size: 10,
        };
        assert_eq!(
            judge(&headers, false, held),
            Verdict::Whole,
            "HEAD has no ranges"
        );
    }

    #[test]
    fn a_reader_that_has_it_is_told_so() {
        for (list, expected) in [
            ("\"a\"", Verdict::NotModified),
            ("W/\"a\"", Verdict::NotModified),
            ("\"b\", \"a\"", Verdict::NotModified),
            ("*", Verdict::NotModified),
            ("\"b\"", Verdict::Whole),
            ("a", Verdict::Whole),
        ] {
            assert_eq!(
                verdict(Some("a"), 1, &[("if-none-match", list)]),
                expected,
                "{list}"
            );
        }
        assert_eq!(
            verdict(None, 1, &[("if-none-match", "\"a\"")]),
            Verdict::Whole
        );
        let since = |date| verdict(Some("a"), 1, &[("if-modified-since", date)]);
        assert_eq!(since(SUNDAY), Verdict::NotModified);
        assert_eq!(since(SECOND_BEFORE), Verdict::Whole);
        assert_eq!(since("yesterday"), Verdict::Whole);
        let both = [("if-none-match", "\"b\""), ("if-modified-since", SUNDAY)];
        assert_eq!(
            verdict(Some("a"), 1, &both),
            Verdict::Whole,
            "the eTag outweighs the date"
        );
    }

    #[test]
    fn a_range_is_for_the_content_that_the_reader_knows() {
        let part = |validator| {
            verdict(
                Some("a"),
                10,
                &[("range", "bytes=1-2"), ("if-range", validator)],
            )
        };
        assert_eq!(part("\"a\""), Verdict::Part(1..3));
        assert_eq!(part(SUNDAY), Verdict::Part(1..3));
        for other in ["\"b\"", "W/\"a\"", SECOND_BEFORE, "a"] {
            assert_eq!(part(other), Verdict::Whole, "{other}");
        }
    }
}
