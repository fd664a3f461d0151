//! Where a miss goes: the primary, then each backup.
//!
//! [`answer`] decides what a response is worth, [`breaker`] whom to leave alone for a while, [`client`]
//! asks, [`guard`] keeps a redirect from
//! leading into the operator's own network.

mod answer;
mod breaker;
mod client;
mod guard;

pub use self::client::{Origin, StartError};
