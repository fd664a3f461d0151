//! What the cache needs from the place where the pictures come from.
//!
//! The adapter that asks the origin decides what its answer is worth; the cache only ever sees a
//! picture that begins well, a clear "unchanged" or "absent", or a failure.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tuyun_protocol::ImagePath;

use super::record::Head;

/// Where a miss goes.
pub trait Source: Send + Sync + 'static {
    /// Asks for a picture, or, when a version is held, whether that one still stands.
    fn fetch(
        &self,
        path: &ImagePath,
        held: Option<&Head>,
    ) -> impl Future<Output = Result<Fetched, FetchError>> + Send;
}

/// What the origin answered.
pub enum Fetched {
    /// A picture, its first bytes seen.
    Picture(Incoming),
    /// The held version still stands; the head as it is now.
    Unchanged(Head),
    /// There is no such picture, and the origin is sure of it.
    Absent,
}

/// The bytes of a picture, as they come.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, BrokeOff>> + Send>>;

/// A picture on its way.
pub struct Incoming {
    /// What the origin said.
    pub head: Head,
    /// May it be kept for other visitors?
    pub keep: bool,
    /// Its length, if it was told.
    pub length: Option<u64>,
    /// The body. It ends only where the origin ended it; whatever else happens is an error.
    pub pieces: Pieces,
}

/// The body of a picture broke off.
#[derive(Debug, thiserror::Error)]
#[error("the origin's answer broke off")]
pub struct BrokeOff(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why there is no answer. It says nothing about whether the picture exists.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or none in time.
    #[error("the origin {origin} cannot be reached")]
    Unreachable {
        /// Its host.
        origin: String,
        /// What the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered with an error.
    #[error("the origin {origin} answered {status}")]
    Refused {
        /// Its host.
        origin: String,
        /// Its status.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It answered with something that is no picture.
    #[error("the origin {origin} answered with {what}")]
    Unusable {
        /// Its host.
        origin: String,
        /// What it was.
        what: &'static str,
    },
    /// It has failed several times in a row and is not asked for a while.
    #[error("the origin {origin} has failed and is left alone for {} s more", .wait.as_secs() + 1)]
    Resting {
        /// Its host.
        origin: String,
        /// Until it is asked again.
        wait: Duration,
    },
    /// Too many fetches run already.
    #[error("too many fetches run already")]
    Busy,
    /// The task that fetched it ended early: a defect of ours, or the end of the program.
    #[error("the fetch was given up")]
    GivenUp,
}
