//! `tuyunfs`: OneDrive as a mounted folder, with a write-back cache that survives power cuts.
//!
//! Arrows point one way. The rim ([`mount`], [`origin`], [`control`], [`graph`], [`auth`]) talks
//! to the outside; [`vfs`] holds the use cases; [`tree`], [`content`] and [`outbox`] decide.
//! [`run`](daemon::run) wires them together.

pub mod content;
pub mod tree;
pub mod outbox;
pub mod ports;
pub mod settings;
pub mod sync;
pub mod vfs;
