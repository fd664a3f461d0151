//! `GET /`: the status page, for whoever opens jump's address in a browser.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use http::header;

use super::Shared;

/// Says how many nodes live; who and where they are is for the operator.
pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let nodes = shared.keeper.roster().alive(Instant::now()).count();
    let said = match nodes {
        0 => {
            "No node is alive: visitors go to the origin. 没有存活的节点，访客直接回源。".to_owned()
        }
        1 => "1 node is alive. 1 个节点存活。".to_owned(),
        more => format!("{more} nodes are alive. {more} 个节点存活。"),
    };
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>tuyun-jump</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <h1>tuyun-jump {}</h1><p>{said}</p></html>\n",
        env!("CARGO_PKG_VERSION")
    );
    ([(header::CACHE_CONTROL, "no-store")], Html(page)).into_response()
}
