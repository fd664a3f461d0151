//! What an answer begins with.
//!
//! Nearly all of it is the same each time and written down once an entry. What passes with time (its
//! age, what is left of its life, the date) is added for each answer.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderValue};

use crate::cache::freshness::ttl;
use crate::cache::{Held, Moment, Record};
use crate::http::lasting;

/// Today's date as HTTP writes it, made once a second.
#[derive(Debug, Default)]
pub(super) struct Today {
    at: Moment,
    text: String,
}

impl Today {
    fn at(&mut self, now: Moment) -> &str {
        if self.at != now || self.text.is_empty() {
            self.at = now;
            self.text =
                httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(now.0));
        }
        &self.text
    }
}

/// Writes the head of an answer, in place of what was in `out`.
pub(super) fn write(out: &mut Vec<u8>, today: &mut Today, held: &Held, now: Moment, close: bool) {
    let head = &held.record.head;
    let same = held.preface.get_or_init(|| same(&held.record));
    let mut number = itoa::Buffer::new();
    out.clear();
    out.extend_from_slice(same);
    out.extend_from_slice(b"age: ");
    out.extend_from_slice(number.format(head.age(now).as_secs()).as_bytes());
    out.extend_from_slice(b"\r\ncache-status: tuyun-edge; hit; ttl=");
    out.extend_from_slice(number.format(ttl(head, now)).as_bytes());
    out.extend_from_slice(b"\r\ndate: ");
    out.extend_from_slice(today.at(now).as_bytes());
    out.extend_from_slice(if close {
        b"\r\nconnection: close\r\n\r\n"
    } else {
        b"\r\n\r\n"
    });
}

fn same(record: &Record) -> Box<[u8]> {
    let mut headers = HeaderMap::new();
    lasting(&mut headers, &record.head);
    if let Ok(kind) = HeaderValue::from_str(&record.head.content_type) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(record.size));
    let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in &headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"x-cache: HIT\r\n");
    text.into()
}
