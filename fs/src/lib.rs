//! `tuyunfs`: OneDrive as a mounted folder, with a write-back cache that survives power cuts.
//!
//! Arrows point one way. The rim ([`mount`], [`origin`], [`control`], [`graph`], [`auth`]) talks
//! to the outside; [`vfs`] holds the use cases; [`tree`], [`content`] and [`outbox`] decide.
//! [`serve::run`] wires them together, around the [`Core`](daemon::Core).

pub mod auth;
pub mod cli;
pub mod content;
pub mod control;
pub mod daemon;
pub mod graph;
pub mod mount;
pub mod origin;
pub mod outbox;
pub mod ports;
#[cfg(test)]
mod scripted;
pub mod serve;
pub mod settings;
pub mod sync;
mod threads;
pub mod tree;
pub mod vfs;
