//! The tree as rows of a database: what one change touched, ready to be made durable.
//!
//! Rows are JSON: a row of an older program reads into a newer one, fields that are missing get
//! their defaults, and a person with a hex viewer can save what a program cannot.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{ContentId, Grave, Held, ItemId, Node, NodeId, QuickXorHash};

/// Rows to write in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Nodes, written or removed.
    pub nodes: Vec<(NodeId, Option<Vec<u8>>)>,
    /// Pending deletions, written or removed.
    pub graves: Vec<(ItemId, Option<Vec<u8>>)>,
    /// Content files that nothing refers to once this is durable.
    pub garbage: Vec<ContentId>,
    /// Content files to be removed at the next start, unless this run removes them itself.
    pub doomed: Vec<ContentId>,
    /// Contents that get to the disk together with these rows.
    pub seals: Vec<Seal>,
    /// Contents of earlier seals that a start has looked at, and has dealt with.
    pub proven: Vec<ContentId>,
    /// Small facts of which there is one each.
    pub facts: Vec<(Cow<'static, str>, Option<Vec<u8>>)>,
}

/// A content that gets to the disk together with the record that names it (design 5.1,
/// invariant 1). What the node held before is kept until both are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Whose content it is.
    pub node: NodeId,
    /// The content file.
    pub content: ContentId,
    /// How many bytes.
    pub size: u64,
    /// Their hash.
    pub hash: QuickXorHash,
    /// What the node held before.
    pub before: Option<Held>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.graves.is_empty()
            && self.garbage.is_empty()
            && self.doomed.is_empty()
            && self.seals.is_empty()
            && self.proven.is_empty()
            && self.facts.is_empty()
    }

    /// Takes another batch behind this one.
    pub fn append(&mut self, mut other: Self) {
        self.nodes.append(&mut other.nodes);
        self.graves.append(&mut other.graves);
        self.garbage.append(&mut other.garbage);
        self.doomed.append(&mut other.doomed);
        self.seals.append(&mut other.seals);
        self.proven.append(&mut other.proven);
        self.facts.append(&mut other.facts);
    }

    /// Adds a fact, or removes it.
    pub fn fact<T: Serialize>(&mut self, name: &'static str, value: Option<&T>) {
        self.facts.push((Cow::Borrowed(name), value.map(encode)));
    }
}

/// A value as a row.
///
/// # Panics
/// Never: the types that become rows have string keys and finite numbers only.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("rows are plain structs, which JSON can always hold")
}

/// A row as a value.
///
/// # Errors
/// The row is damaged, or of a program that is newer than this one.
pub fn decode<'a, T: Deserialize<'a>>(row: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(row)
}

/// Everything that was read back at a start.
#[derive(Debug, Default)]
pub struct Stored {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All pending deletions.
    pub graves: Vec<Grave>,
}
