//! The contract between jump and edges, and with the programs of others: types only, no I/O.
//!
//! What has one of these types has been checked: a path may be joined to a directory or a base, a
//! node's id may stand in a key, a node's address in a `Location` header.
//!
//! - [`ImagePath`]: what a visitor may ask for; [`Base`]: what it is joined to.
//! - [`NodeId`], [`Heartbeat`], [`Farewell`]: a node that reports, and one that leaves.
//! - [`Report`], [`Labels`]: what a node may say of itself besides.
//! - [`Token`], [`TokenBook`], [`Signature`]: how a node proves that it is one of ours.
//! - [`is_global`]: whether an address belongs to the public Internet.

mod address;
mod base;
mod heartbeat;
mod node_id;
mod path;
mod report;
mod signature;
mod token;

pub use self::address::is_global;
pub use self::base::{BadBase, Base};
pub use self::heartbeat::{BadHeartbeat, Claim, Farewell, Heartbeat, Scheme, Whereabouts};
pub use self::node_id::{BadNodeId, NodeId};
pub use self::path::{BadPath, ImagePath};
pub use self::report::{Labels, Report};
pub use self::signature::{BadSignature, Nonce, Signature};
pub use self::token::{BadTokenBook, Standing, Token, TokenBook};

/// Where nodes report, on every jump.
pub const UPDATE_PATH: &str = "/_api/update";
