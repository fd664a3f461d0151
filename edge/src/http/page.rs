//! `GET /`: this node at a glance, for people. The figures are those of `/_api/status` and
//! `/_api/traffic`, which the page asks for itself; without scripts it still says the most of it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytesize::ByteSize;
use tuyun_chassis::http::page;

use super::Shared;

const PAGE: &str = include_str!("page.html");

pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let total = shared.ledger.total();
    let entries = shared.cache.store().index().entries();
    let sent = ByteSize(total.traffic_out).display().si();
    // An id is letters, digits, `_` and `-`: nothing to escape.
    let id = &shared.id;
    let said = format!(
        "Node {id} holds {entries} pictures and has sent {sent}. 节点 {id}：缓存图片 {entries} 张，已发送 {sent}。"
    );
    page(PAGE, &said)
}
