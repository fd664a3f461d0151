//! The operator's side: a local socket behind `tuyunfs status`, `flush`, `retry` and `unmount`,
//! and the figures behind `/metrics` and `/readyz`.
//!
//! [`report`] says how things stand; [`socket`] serves it, one daemon a socket; [`client`] asks;
//! [`metrics`] gives the same to machines.

pub mod client;
pub mod metrics;
pub mod report;
pub mod socket;

use serde::{Deserialize, Serialize};

pub use self::report::{Facts, Report};
pub use self::socket::{Socket, SocketError};
use crate::tree::Withheld;
use crate::vfs::Decision;

/// What an operator can ask, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum Order {
    /// How things stand.
    Status,
    /// Send what is pending now.
    Flush,
    /// Try again what the drive has refused.
    Retry {
        /// Only what is parked here; all of it without.
        #[serde(default)]
        path: Option<String>,
    },
    /// Give up a parked change: what the drive has counts.
    Discard {
        /// Where it is.
        path: String,
    },
    /// Which removals on the drive wait for a decision.
    Deletions,
    /// Decide about them.
    Decide {
        /// How.
        decision: Decision,
    },
    /// Look for a new sign-in now, and try again what was refused for want of one.
    SignIn,
    /// Unmount, and end the daemon.
    Unmount,
}

/// What the daemon answers, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// How things stand, after the order was carried out.
    Report(Box<Report>),
    /// How many changes are tried again.
    Retried(usize),
    /// What waits for a decision.
    Withheld(Withheld),
    /// The order was not understood.
    Refused(String),
    /// It could not be carried out.
    Failed(String),
}
