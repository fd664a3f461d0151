//! Which bytes of a storage host's reply are those that were asked for.
//!
//! A whole file in place of a range is cut to it; anything else than the range is no answer (traps
//! T8 and T9).

use std::ops::Range;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};

use super::send::text;

/// Which part of a body is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Bytes before it.
    pub(super) skip: u64,
    /// Bytes of it.
    pub(super) take: u64,
    /// Length of the whole content.
    pub(super) total: u64,
}

/// Which part of a reply's body is the range that was asked for; otherwise what is odd about it.
pub(super) fn part(
    status: StatusCode,
    headers: &HeaderMap,
    range: &Range<u64>,
) -> Result<Part, String> {
    let odd = |what: &str| format!("the storage host answered with {what}");
    match status {
        StatusCode::PARTIAL_CONTENT => {
            let told = text(headers, &CONTENT_RANGE).and_then(content_range);
            let (start, end, total) = told.ok_or_else(|| odd("a range that it does not name"))?;
            if start != range.start || end != range.end.min(total) {
                return Err(odd("another range"));
            }
            Ok(Part {
                skip: 0,
                take: end - start,
                total,
            })
        }
        // The whole content in place of a range.
        StatusCode::OK => {
            let length = text(headers, &CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok());
            let total = length.ok_or_else(|| odd("a body of unknown length"))?;
            let start = range.start.min(total);
            Ok(Part {
                skip: start,
                take: range.end.min(total) - start,
                total,
            })
        }
        _ => Err(odd(status.as_str())),
    }
}

/// `bytes */total`
pub(super) fn unsatisfied(value: &str) -> Option<u64> {
    value.strip_prefix("bytes */")?.parse().ok()
}

/// `bytes a-b/total`, as start, end (the byte after the last one) and total.
fn content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (span, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, last + 1, total))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_partial_reply_counts_only_for_just_the_range_that_was_asked_for() {
        let judge = |value: &str| {
            part(
                StatusCode::PARTIAL_CONTENT,
                &headers(&[(CONTENT_RANGE, value)]),
                &(10..20),
            )
            .ok()
        };
        assert_eq!(
            judge("bytes 10-19/100"),
            Some(Part {
                skip: 0,
                take: 10,
                total: 100
            })
        );
        assert_eq!(
            judge("bytes 10-14/15"),
            Some(Part {
                skip: 0,
                take: 5,
                total: 15
            })
        );
        assert_eq!(judge("bytes 10-14/100"), None);
        assert_eq!(judge("bytes 0-19/100"), None);
        assert_eq!(judge("bytes */100"), None);
    }

    #[test]
    fn a_refused_range_tells_how_long_the_content_is() {
        assert_eq!(unsatisfied("bytes */100"), Some(100));
        assert_eq!(unsatisfied("bytes 0-1/100"), None);
    }

    #[test]
    fn a_whole_content_is_cut_to_the_range() {
        let judge = |length: &str| {
            part(
                StatusCode::OK,
                &headers(&[(CONTENT_LENGTH, length)]),
                &(10..20),
            )
            .ok()
        };
        assert_eq!(
            judge("100"),
            Some(Part {
                skip: 10,
                take: 10,
                total: 100
            })
        );
        assert_eq!(
            judge("12"),
            Some(Part {
                skip: 10,
                take: 2,
                total: 12
            })
        );
        assert_eq!(
            judge("9"),
            Some(Part {
                skip: 9,
                take: 0,
                total: 9
            })
        );
        assert!(part(StatusCode::OK, &HeaderMap::new(), &(0..5)).is_err());
        assert!(part(StatusCode::NO_CONTENT, &HeaderMap::new(), &(0..5)).is_err());
    }
}
