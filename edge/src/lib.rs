//! A caching HTTP node close to the reader.
//!
//! Pictures come from an origin once and are served from here often: [`cache`] decides, [`origin`]
//! fetches, [`http`] answers, [`heartbeat`] tells jump that this node is alive.

pub mod cache;
pub mod traffic;
