//! A drive's items: what is there, under which name, since which change.
//!
//! Pure state: no network, no clock of its own. `tree` keeps the items together, `write` changes
//! them by the service's rules, `tags` compares versions, `feed` answers what changed since when.

mod feed;
mod item;
mod tags;
mod tree;
mod write;

pub use item::Mark;
pub(crate) use item::{FileBody, Folder, Item, Kind, Stamps};
pub(crate) use tags::Precondition;
pub(crate) use tree::{Drive, Place};
pub(crate) use write::{Conflict, MoveQuirks, Relocation};
