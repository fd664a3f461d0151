//! The numbers that things go by inside the daemon.
//!
//! Each is a type of its own: an inode is not a handle, and neither is a content file.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A file or folder of the mount, for life; the kernel's inode number.
    NodeId
}
number! {
    /// One file of bytes in the content store. Never used twice.
    ContentId
}
number! {
    /// One open file.
    HandleId
}
number! {
    /// The how-manieth content of a node: a newer one supersedes an older one.
    Generation
}

impl NodeId {
    /// The mount's root, as the kernel numbers it.
    pub const ROOT: Self = Self(1);
}

impl Generation {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
