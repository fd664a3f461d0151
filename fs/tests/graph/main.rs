//! The drive's client, against an emulated service of every kind.

#[path = "../bench/mod.rs"]
mod bench;
mod changes;
mod china;
mod client;
mod downloads;
mod finding;
mod items;
mod politeness;
mod requests;
mod resume;
mod scripted;
mod secrets;
mod sessions;
mod sign_in;
mod traps;
mod uploads;
