//! Names and places: what the mounted folder holds, as far as it is known.
//!
//! The namespace is the last remote baseline plus pending changes. A node keeps its number for
//! life; the drive's item id is only one of its attributes, since a new file has none yet.
//! All of it is plain values: no file, no network, and the time comes in as an argument.

mod conflict;
mod describe;
mod graves;
mod ids;
mod item;
mod late;
mod local;
mod name;
mod namespace;
mod node;
mod own;
mod remote;
mod reply;
mod rows;
mod spelling;
mod trace;

pub use conflict::{conflict_name, recovered_name};
pub use ids::{ContentId, Generation, HandleId, NodeId};
pub use item::{CTag, DriveId, ETag, Item, ItemFacet, ItemId, QuickXorHash};
pub use late::News;
pub use local::NameError;
pub use name::{BadName, Fold, check as check_name, is_too_long};
pub use namespace::Tree;
pub use node::{Baseline, Grave, Held, Kind, Node, Parked, Place, Trace};
pub use own::YOUNG;
pub use remote::{Effects, Scope, Terms, Withheld, Writing};
pub use reply::Sent;
pub use rows::{Batch, Seal, Stored, decode, encode};
pub use spelling::{is_odd, shown, shown_text, stored};
