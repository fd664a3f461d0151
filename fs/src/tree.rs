//! Names and places: what the mounted folder holds, as far as it is known.
//!
//! The namespace is the last remote baseline plus pending changes. A node keeps its number for
//! life; the drive's item id is only one of its attributes, since a new file has none yet.

mod ids;
mod item;

pub use ids::{ContentId, Generation, HandleId, NodeId};
pub use item::{CTag, DriveId, ETag, Item, ItemFacet, ItemId, QuickXorHash};
