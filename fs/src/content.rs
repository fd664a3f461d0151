//! The bytes of files.
//!
//! Every content is one plain file in the [`Store`], named by a [`ContentId`](crate::tree::ContentId)
//! that is never used twice. Content comes in two ways: an application writes it, with an entry in
//! the [`Intents`] log while it does, or a [`Fill`] fetches it from the drive. Whether it may be
//! deleted is not written on the file: that is for the records to know, and for [`eviction`] to
//! decide among those that the drive has confirmed.

pub mod blob;
mod crew;
pub mod disk;
pub mod eviction;
pub mod fill;
pub mod hash;
pub mod intents;
mod lease;
pub mod line;
pub mod readahead;
mod refused;
pub mod room;
mod shelf;
pub mod span;
mod stock;
pub mod store;

pub use blob::{Blob, Stamp};
pub use disk::{Disk, Host};
pub use fill::{Fill, FillError};
pub use hash::QuickXor;
pub use intents::{Intent, Intents};
pub use readahead::ReadAhead;
pub use refused::Refused;
pub use span::{Span, Spans};
pub use store::{Found, Store};
