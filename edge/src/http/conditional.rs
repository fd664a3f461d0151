//! Which part of a picture does this request want, if any?
//!
//! Conditions first, ranges then (RFC 9110 section 13.2.2), from the request's headers and what is
//! known of the picture alone.

use std::ops::Range;

use headers::{ETag, HeaderMapExt as _, IfModifiedSince, IfNoneMatch, IfRange, LastModified};
use http::header::{HeaderMap, RANGE};
use http_range_header::{RangeUnsatisfiableError, parse_range_header};

use crate::cache::Head;

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: 200.
    Whole,
    /// The visitor has it already: 304.
    Nothing,
    /// Some of it: 206. The range is not empty and lies within the picture.
    Some(Range<u64>),
    /// Several parts of it, in the order they were asked for: 206 as `multipart/byteranges`. Each is
    /// as above.
    Several(Vec<Range<u64>>),
    /// A range that lies behind the end: 416.
    Beyond,
}

/// Ranges in one request that are answered as such. A reader of a document asks for a few; whoever asks
/// for hundreds wants to make us work (RFC 9110 section 14.2 lets us send the whole instead).
const RANGES: usize = 16;

/// Decides. `length` is the picture's, if it is known yet; without it ranges are answered whole.
pub(super) fn part(asked: &HeaderMap, head: &Head, length: Option<u64>, is_get: bool) -> Part {
    let etag = head
        .etag
        .as_ref()
        .and_then(|text| text.parse::<ETag>().ok());
    let date = head
        .last_modified
        .as_deref()
        .and_then(|t| httpdate::parse_http_date(t).ok());
    if let Some(condition) = asked.typed_get::<IfNoneMatch>() {
        let passes = match &etag {
            Some(etag) => condition.precondition_passes(etag),
            // Without a tag of ours only `*` matches: there is a picture.
            None => condition != IfNoneMatch::any(),
        };
        if !passes {
            return Part::Nothing;
        }
    } else if let Some(condition) = asked.typed_get::<IfModifiedSince>()
        && date.is_some_and(|date| !condition.is_modified(date))
    {
        return Part::Nothing;
    }
    let Some(length) = length.filter(|_| is_get) else {
        return Part::Whole;
    };
    let same = asked.typed_get::<IfRange>().is_none_or(|condition| {
        !condition.is_modified(etag.as_ref(), date.map(LastModified::from).as_ref())
    });
    if same {
        range(asked, length)
    } else {
        Part::Whole
    }
}

fn range(asked: &HeaderMap, length: u64) -> Part {
    let text = asked.get(RANGE).and_then(|value| value.to_str().ok());
    let Some(Ok(parsed)) = text.map(parse_range_header) else {
        return Part::Whole;
    };
    if parsed.len() > RANGES {
        return Part::Whole;
    }
    match parsed.validate(length) {
        Ok(ranges) => {
            let ranges: Vec<_> = ranges.iter().map(|r| *r.start()..r.end() + 1).collect();
            several(ranges, length)
        }
        Err(RangeUnsatisfiableError::Unsatisfiable) => Part::Beyond,
        // Malformed: as if it had not been asked.
        Err(_) => Part::Whole,
    }
}

/// More bytes in parts than there are in all, heads of parts included, are better sent as they lie.
fn several(ranges: Vec<Range<u64>>, length: u64) -> Part {
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    match ranges.as_slice() {
        [] => Part::Whole,
        [one] => Part::Some(one.clone()),
        _ if bytes + PART_HEAD * ranges.len() as u64 >= length => Part::Whole,
        _ => Part::Several(ranges),
    }
}

/// What a part costs beside its bytes, roughly: a boundary and two headers.
const PART_HEAD: u64 = 128;

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::cache::Moment;
    use crate::cache::freshness::Lifetime;

    const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const LATER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

    fn head(etag: Option<&str>) -> Head {
        Head {
            content_type: "image/png".into(),
            etag: etag.map(str::to_owned),
            last_modified: Some(DATE.into()),
            cache_control: None,
            made: Moment(0),
            lifetime: Lifetime::default(),
        }
    }

    fn ask(lines: &[(&'static str, &'static str)]) -> Part {
        asked_of(lines, &head(Some("\"a\"")))
    }

    fn asked_of(lines: &[(&'static str, &'static str)], head: &Head) -> Part {
        let headers = lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        part(&headers, head, Some(100), true)
    }

    #[test]
    fn a_visitor_who_has_this_version_gets_nothing() {
        assert_eq!(ask(&[("if-none-match", "\"x\", W/\"a\"")]), Part::Nothing);
        assert_eq!(ask(&[("if-none-match", "*")]), Part::Nothing);
        assert_eq!(ask(&[("if-none-match", "\"x\"")]), Part::Whole);
        assert_eq!(ask(&[("if-modified-since", DATE)]), Part::Nothing);
    }

    #[test]
    fn the_tag_outweighs_the_date() {
        assert_eq!(
            ask(&[("if-none-match", "\"x\""), ("if-modified-since", LATER)]),
            Part::Whole
        );
    }

    #[test]
    fn a_picture_without_a_tag_matches_only_the_star() {
        let head = head(None);
        assert_eq!(asked_of(&[("if-none-match", "*")], &head), Part::Nothing);
        assert_eq!(asked_of(&[("if-none-match", "\"a\"")], &head), Part::Whole);
    }

    #[test]
    fn ranges_are_cut_to_the_picture() {
        assert_eq!(ask(&[("range", "bytes=0-9")]), Part::Some(0..10));
        assert_eq!(ask(&[("range", "bytes=90-")]), Part::Some(90..100));
        assert_eq!(ask(&[("range", "bytes=90-1000")]), Part::Some(90..100));
        assert_eq!(ask(&[("range", "bytes=-10")]), Part::Some(90..100));
        assert_eq!(ask(&[("range", "bytes=-1000")]), Part::Some(0..100));
    }

    #[test]
    fn a_range_behind_the_end_is_416() {
        assert_eq!(ask(&[("range", "bytes=100-")]), Part::Beyond);
        assert_eq!(ask(&[("range", "bytes=-0")]), Part::Beyond);
    }

    #[test]
    fn malformed_ranges_are_answered_whole() {
        for odd in ["bytes=9-0", "bytes=a-b", "lines=0-9", "bytes="] {
            let lines = [("range", odd)];
            assert_eq!(ask(&lines), Part::Whole, "{odd}");
        }
    }

    #[test]
    fn several_ranges_are_answered_in_parts_where_that_is_less() {
        let of = |text: &'static str, length| {
            let headers: HeaderMap = [(RANGE, HeaderValue::from_static(text))]
                .into_iter()
                .collect();
            part(&headers, &head(None), Some(length), true)
        };
        let two = Part::Several(vec![0..2, 9_999..10_000]);
        assert_eq!(of("bytes=0-1,-1", 10_000), two);
        // All of them, twice; and parts whose heads alone are longer.
        assert_eq!(of("bytes=0-,0-", 10_000), Part::Whole);
        assert_eq!(of("bytes=0-1,5-6", 100), Part::Whole);
        let many: &'static str = "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16,18-18,20-20,22-22,24-24,26-26,28-28,30-30,32-32";
        assert_eq!(of(many, 1_000_000), Part::Whole);
    }

    #[test]
    fn a_range_of_another_version_is_answered_whole() {
        let range = ("range", "bytes=0-9");
        assert_eq!(ask(&[range, ("if-range", "\"a\"")]), Part::Some(0..10));
        assert_eq!(ask(&[range, ("if-range", "\"b\"")]), Part::Whole);
        assert_eq!(ask(&[range, ("if-range", "W/\"a\"")]), Part::Whole);
        assert_eq!(ask(&[range, ("if-range", DATE)]), Part::Some(0..10));
    }

    #[test]
    fn a_head_request_and_an_unknown_length_know_no_ranges() {
        let headers: HeaderMap = [(RANGE, HeaderValue::from_static("bytes=0-9"))]
            .into_iter()
            .collect();
        let head = head(None);
        assert_eq!(part(&headers, &head, Some(100), false), Part::Whole);
        assert_eq!(part(&headers, &head, None, true), Part::Whole);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_a_part_lies_within_the_picture(
            text in "(bytes=)?[-0-9, a-z]{0,40}",
            length in 1..1_000_u64,
        ) {
            let value = HeaderValue::from_str(&text).expect("plain text");
            let headers: HeaderMap = [(RANGE, value)].into_iter().collect();
            match part(&headers, &head(None), Some(length), true) {
                Part::Some(range) => prop_assert!(range.start < range.end && range.end <= length),
                Part::Several(ranges) => {
                    prop_assert!(ranges.iter().all(|r| r.start < r.end && r.end <= length));
                }
                Part::Whole | Part::Beyond => {}
                Part::Nothing => prop_assert!(false, "nothing was compared"),
            }
        }
    }
}
