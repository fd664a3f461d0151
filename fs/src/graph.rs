//! Microsoft Graph, as far as a mounted drive needs it.
//!
//! The one place that knows the service's quirks, each owned by one file: what an error means
//! (`classify`), how long to keep silent (`gate`), what may be sent again (`send`), how items
//! are written down (`wire`), how bytes go up (`upload`, `session`) and come down
//! (`download`). Further in, there are only the words of [`Drive`](crate::ports::Drive). Facts
//! are cited from `graph-api.md` by section and trap.

mod address;
mod classify;
mod client;
mod download;
mod find;
mod gate;
mod operations;
mod push;
mod send;
mod session;
mod upload;
mod wire;

pub use client::{Graph, GraphConfig};
pub use find::{DriveKind, FoundDrive};
pub use push::{Push, PushState, PushStatus, PushWish};
