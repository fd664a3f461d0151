//! The requests that the planner asks for, and what each of them works on.

use std::time::SystemTime;

use crate::tree::{ETag, Fold, Grave, Held, ItemId, Kind, NodeId, Sent};

/// One request to the drive, with all that it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create a folder.
    CreateFolder {
        /// For this node.
        node: NodeId,
        /// In this folder.
        parent: ItemId,
        /// Under this name.
        name: String,
    },
    /// Create a file with its content.
    Create {
        /// For this node.
        node: NodeId,
        /// In this folder.
        parent: ItemId,
        /// Under this name.
        name: String,
        /// These bytes.
        held: Held,
        /// With this time.
        modified: Option<SystemTime>,
    },
    /// Send new content for an item.
    Replace {
        /// For this node.
        node: NodeId,
        /// This item.
        item: ItemId,
        /// Which must still be at this version.
        etag: Option<ETag>,
        /// These bytes.
        held: Held,
        /// With this time.
        modified: Option<SystemTime>,
    },
    /// Rename or move an item.
    Move {
        /// For this node.
        node: NodeId,
        /// This item.
        item: ItemId,
        /// To this folder.
        parent: ItemId,
        /// Under this name.
        name: String,
        /// Sent along, since a move may reset it.
        modified: SystemTime,
        /// A deleted file still holds the name on the drive: put it aside in the same request.
        over: Option<ItemId>,
    },
    /// Set an item's time.
    SetTime {
        /// For this node.
        node: NodeId,
        /// This item.
        item: ItemId,
        /// To this.
        modified: SystemTime,
    },
    /// Look for an item that a request without a reply may have made, to delete it.
    Seek {
        /// What is sought.
        grave: Grave,
    },
    /// Delete an item.
    Delete {
        /// This item.
        item: ItemId,
        /// Which must still be at this version.
        etag: Option<ETag>,
        /// File or folder.
        kind: Kind,
    },
}

/// What a step works on; no two steps work on the same at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A node.
    Node(NodeId),
    /// An item.
    Item(ItemId),
    /// A name in a folder, however it is spelt.
    Name(ItemId, Fold),
}

impl Step {
    /// The subject that failures are counted for.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::CreateFolder { node, .. }
            | Self::Create { node, .. }
            | Self::Replace { node, .. }
            | Self::Move { node, .. }
            | Self::SetTime { node, .. } => Subject::Node(*node),
            Self::Delete { item, .. }
            | Self::Seek {
                grave: Grave { item, .. },
            } => Subject::Item(item.clone()),
        }
    }

    /// Whether the drive needs room for it.
    #[must_use]
    pub fn takes_space(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Replace { .. })
    }

    /// All that this step works on.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        let mut all = vec![self.subject()];
        match self {
            Self::Replace { item, .. } | Self::SetTime { item, .. } => {
                all.push(Subject::Item(item.clone()));
            }
            Self::Move {
                item,
                parent,
                name,
                over,
                ..
            } => {
                all.push(Subject::Item(item.clone()));
                all.push(Subject::Name(parent.clone(), Fold::of(name)));
                all.extend(over.clone().map(Subject::Item));
            }
            Self::CreateFolder { parent, name, .. } | Self::Create { parent, name, .. } => {
                all.push(Subject::Name(parent.clone(), Fold::of(name)));
            }
            Self::Seek { .. } | Self::Delete { .. } => {}
        }
        all
    }
}

/// The name under which an item steps aside: no other item has it.
#[must_use]
pub fn aside(item: &ItemId) -> String {
    let plain = |char: char| {
        if char.is_ascii_alphanumeric() {
            char
        } else {
            '-'
        }
    };
    let id: String = item.as_str().chars().map(plain).collect();
    format!(".tuyun-aside-{id}")
}

/// What a step changes of its node's item.
#[must_use]
pub fn sent(step: &Step) -> Sent {
    match step {
        Step::Create { held, .. } | Step::Replace { held, .. } => Sent::Content(held.generation),
        Step::CreateFolder { .. } | Step::Move { .. } => Sent::Place,
        Step::SetTime { .. } | Step::Seek { .. } | Step::Delete { .. } => Sent::Nothing,
    }
}
