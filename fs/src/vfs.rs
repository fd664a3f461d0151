//! The use cases of a mounted drive: lookup, read, write, rename, flush.
//!
//! No type of the kernel's or of HTTP comes in here; `mount` and `origin` translate.

pub use crate::ports;
