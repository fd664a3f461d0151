//! The three hosts: from a request to its reply.
//!
//! `attend` does what every request gets (log, latency, holds, faults); `address` reads Graph's
//! URLs; `graph`, `storage` and `signin` decide who answers; the other files are the answers.

mod address;
mod attend;
mod batch;
mod body;
mod children;
mod copy;
mod delta;
mod download;
mod drives;
mod fragment;
mod graph;
mod item;
mod later;
mod push;
mod query;
mod storage;
mod upload;

pub(crate) use attend::Wire;

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::Request;

use crate::{log::Host, signin, world::World};

/// Answers a request that came to a host.
pub(crate) async fn serve(world: Arc<World>, host: Host, request: Request<Body>) -> Response {
    match host {
        Host::Graph => graph::serve(world, request, false).await,
        Host::Storage => storage::serve(world, request).await,
        Host::Login => {
            let route = signin::route(request.uri().path());
            let visit = attend::Visit {
                host,
                route,
                batched: false,
            };
            attend::attend(world, visit, request, move |world, request| {
                signin::answer(world, route, request)
            })
            .await
        }
    }
}
