//! `GET /`: this node at a glance, for people. The figures are those of `/_api/status` and
//! `/_api/traffic`; nothing is loaded from elsewhere.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use bytesize::ByteSize;
use http::{HeaderValue, header};

use super::Shared;
use crate::traffic::Day;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}\
td,th{padding:.25rem .5rem;text-align:right;border-bottom:1px solid #8884}\
td:first-child,th:first-child{text-align:left}";

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    // Without the book the page shows the rest.
    let days = shared.ledger.days().await.unwrap_or_default();
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
        ),
    ];
    (headers, Html(page(&shared, &days))).into_response()
}

fn page(shared: &Shared, days: &[Day]) -> String {
    let total = shared.ledger.total();
    let store = shared.cache.store();
    let minutes = shared.began.elapsed().as_secs() / 60;
    let facts = [
        (
            "Up 已运行",
            format!("{} h {} min", minutes / 60, minutes % 60),
        ),
        ("Requests 请求", total.get.to_string()),
        ("From cache 命中", share(total.hits, total.get)),
        ("Sent 发送", size(total.traffic_out)),
        ("Fetched 回源", size(total.traffic_in)),
        (
            "Pictures held 缓存图片",
            store.index().entries().to_string(),
        ),
        (
            "Space 空间",
            format!(
                "{} / {}",
                size(store.index().bytes()),
                size(store.budget().max_bytes)
            ),
        ),
        (
            "Origin 源站",
            if shared.cache.origin_ails() {
                "failing 异常"
            } else {
                "ok"
            }
            .to_owned(),
        ),
        (
            "Storing 写入",
            if store.keeps() {
                "ok"
            } else {
                "failing 异常"
            }
            .to_owned(),
        ),
    ];
    let used_up = shared.meter.used_up().borrow().map(|span| {
        let name = span.name();
        ("Traffic 流量", format!("used up for this {name} 已用完"))
    });
    // An id is letters, digits, `_` and `-`; everything else here is ours: nothing to escape.
    let id = &shared.id;
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>tuyun-edge {id}</title><style>{STYLE}</style><h1>tuyun-edge {id}</h1><table>"
    );
    // Writing to a String cannot fail.
    for (name, value) in facts.into_iter().chain(used_up) {
        let _ = write!(html, "<tr><td>{name}<td>{value}");
    }
    html.push_str("</table><h2>Days 每日</h2><table><tr><th>Date 日期<th>Requests 请求<th>Sent 发送<th>Fetched 回源");
    for Day { date, amounts } in days {
        let (sent, fetched) = (size(amounts.traffic_out), size(amounts.traffic_in));
        let _ = write!(
            html,
            "<tr><td>{date}<td>{}<td>{sent}<td>{fetched}",
            amounts.get
        );
    }
    html.push_str("</table></html>\n");
    html
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        whole => format!("{} %", u128::from(part) * 100 / u128::from(whole)),
    }
}
