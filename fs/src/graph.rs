//! Microsoft Graph, as far as a mounted drive needs it.
//!
//! The one place that knows the service's quirks, each owned by one file: what an error means
//! (`classify`), who goes first (`lanes`), how long to keep silent (`gate`), how fast bytes travel
//! (`bandwidth`), what may be sent again (`send`), how items
//! are written down (`wire`), how bytes go up (`upload`, `session`) and come down
//! (`download`). Further in, there are only the words of [`Drive`](crate::ports::Drive). Facts
//! are cited from `graph-api.md` by section and trap.

mod address;
mod bandwidth;
mod change;
mod classify;
mod client;
mod download;
mod find;
mod fragments;
mod gate;
mod lanes;
mod meter;
mod notes;
mod operations;
mod pieces;
mod push;
mod range;
mod send;
mod session;
mod tries;
mod upload;
mod urls;
mod wire;
mod young;

pub use bandwidth::Timetable;
pub use client::{Graph, GraphConfig};
pub use find::{DriveKind, FoundDrive};
pub use meter::Traffic;
pub use push::{Push, PushState, PushStatus, PushWish};
