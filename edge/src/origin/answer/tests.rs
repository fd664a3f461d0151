//! Heads of responses, and what they are worth.

use http::HeaderValue;

use super::*;

const NOW: Moment = Moment(1_700_000_000);

fn path(text: &str) -> ImagePath {
    ImagePath::parse(text).expect("a path")
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn weighed(status: u16, name: &str, lines: &[(&'static str, &'static str)]) -> Worth {
    let headers = headers(lines);
    let length = text(&headers, &header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let response = Response {
        status,
        headers: &headers,
        ends_by_closing: false,
        length,
    };
    weigh(&response, &path(name), None, NOW)
}

fn held() -> Head {
    Head {
        content_type: "image/webp".into(),
        etag: Some("\"1\"".into()),
        last_modified: None,
        cache_control: Some("max-age=5".into()),
        made: Moment(1),
        lifetime: Lifetime {
            fresh_secs: 5,
            ..Lifetime::default()
        },
    }
}

#[test]
fn a_picture_keeps_what_visitors_need() {
    let worth = weighed(
        200,
        "a.webp",
        &[
            ("content-type", "image/webp"),
            ("content-length", "10"),
            ("etag", "\"x\""),
            ("cache-control", "public"),
            ("cache-control", "max-age=60"),
            ("age", "10"),
        ],
    );
    let Worth::Picture {
        head,
        keep: true,
        length: Some(10),
    } = worth
    else {
        panic!("{worth:?}");
    };
    assert_eq!(head.etag.as_deref(), Some("\"x\""));
    assert_eq!(head.cache_control.as_deref(), Some("public, max-age=60"));
    assert_eq!(
        (head.lifetime.fresh_secs, head.made),
        (60, Moment(NOW.0 - 10))
    );
}

#[test]
fn the_name_outdoes_a_type_that_says_nothing() {
    for lines in [&[("content-type", "application/octet-stream")][..], &[]] {
        let Worth::Picture { head, .. } = weighed(200, "a.avif", lines) else {
            panic!()
        };
        assert_eq!(head.content_type, "image/avif");
    }
}

#[test]
fn an_error_page_with_200_is_no_picture() {
    let page = [("content-type", "text/html; charset=utf-8")];
    assert!(matches!(weighed(200, "a.webp", &page), Worth::Unusable(_)));
    assert!(matches!(weighed(200, "a", &page), Worth::Unusable(_)));
    assert!(matches!(
        weighed(200, "a.html", &page),
        Worth::Picture { .. }
    ));
    let json = [("content-type", "application/json")];
    assert!(matches!(weighed(200, "a.png", &json), Worth::Unusable(_)));
}

#[test]
fn a_page_that_claims_to_be_a_picture_is_found_out_by_its_first_bytes() {
    let begins = |name: &str, first: &[u8]| begins_like_an_error(&path(name), "image/webp", first);
    assert!(begins("a.webp", b"\n <!DOCTYPE html>"));
    assert!(begins("a.webp", b"\xef\xbb\xbf{ \"error\":1}"));
    assert!(begins("a", b"<html>"));
    assert!(!begins("a.webp", b"RIFF"));
    // Bytes that only happen to begin so.
    assert!(!begins("a.webp", b"<\x00\x01"));
    assert!(!begins("a.webp", b"{\xff"));
    assert!(!begins("a.svg", b"<svg>"));
}

#[test]
fn empty_compressed_and_partial_answers_are_no_pictures() {
    assert!(matches!(
        weighed(200, "a.png", &[("content-length", "0")]),
        Worth::Unusable(_)
    ));
    assert!(matches!(
        weighed(200, "a.png", &[("content-encoding", "gzip")]),
        Worth::Unusable(_)
    ));
    assert!(matches!(weighed(206, "a.png", &[]), Worth::Unusable(_)));
    assert!(matches!(weighed(304, "a.png", &[]), Worth::Unusable(_)));
}

#[test]
fn a_body_that_only_closing_ends_is_served_and_not_kept() {
    let headers = headers(&[]);
    let response = Response {
        status: 200,
        headers: &headers,
        ends_by_closing: true,
        length: None,
    };
    let worth = weigh(&response, &path("a.png"), None, NOW);
    assert!(matches!(worth, Worth::Picture { keep: false, .. }));
}

#[test]
fn only_404_and_410_mean_absent() {
    assert_eq!(weighed(404, "a.png", &[]), Worth::Absent);
    assert_eq!(weighed(410, "a.png", &[]), Worth::Absent);
    for status in [400, 401, 403, 408, 429, 500, 502, 503] {
        assert_eq!(
            weighed(status, "a.png", &[]),
            Worth::Refused { retry_after: None }
        );
    }
    let patient = Worth::Refused {
        retry_after: Some(Duration::from_secs(7)),
    };
    assert_eq!(weighed(503, "a.png", &[("retry-after", "7")]), patient);
}

#[test]
fn a_304_renews_what_it_says_and_leaves_the_rest() {
    let headers = headers(&[("cache-control", "max-age=9")]);
    let response = Response {
        status: 304,
        headers: &headers,
        ends_by_closing: false,
        length: None,
    };
    let Worth::Unchanged(head) = weigh(&response, &path("a.webp"), Some(&held()), NOW) else {
        panic!();
    };
    assert_eq!(head.etag.as_deref(), Some("\"1\""));
    assert_eq!((head.lifetime.fresh_secs, head.made), (9, NOW));
}

#[test]
fn a_tag_or_date_that_is_none_is_left_out() {
    let lines = [("etag", "unquoted"), ("last-modified", "yesterday")];
    let Worth::Picture { head, .. } = weighed(200, "a.png", &lines) else {
        panic!()
    };
    assert_eq!((head.etag, head.last_modified), (None, None));
}

#[test]
fn what_varies_by_request_headers_does_not_vary_for_us_but_a_star_does() {
    let keeps = |vary| match weighed(200, "a.png", &[("vary", vary)]) {
        Worth::Picture { keep, .. } => keep,
        other => panic!("{other:?}"),
    };
    assert!(keeps("Accept-Encoding, Origin"));
    assert!(!keeps("*"));
}
