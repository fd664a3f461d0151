//! A journal that cannot be read any more: what its bytes still tell of contents that were not sent.
//!
//! Its rows are text, so most of them outlive the pages around them. Nothing of that is believed by itself:
//! a content comes back only if it is on the disk and is, to the hash, what a row says was sealed. It
//! comes back in a folder of its own, since the row may be older than the last rename.

use std::collections::HashMap;
use std::time::SystemTime;

use super::Start;
use crate::outbox::damage::proven;
use crate::tree::{Generation, Held, Kind, NameError, Node, NodeId, Tree};

/// How every row of a node begins.
const BEGIN: &[u8] = b"{\"id\":";

/// Deeper than any path on the drive can be: a circle of old rows ends there.
const DEPTH: usize = 200;

/// What the rows of a damaged journal say.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    /// The newest row of each node.
    nodes: HashMap<NodeId, Node>,
}

impl Salvage {
    /// Looks through a file for rows.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut nodes: HashMap<NodeId, Node> = HashMap::new();
        let begins = bytes.windows(BEGIN.len()).enumerate();
        for (at, _) in begins.filter(|(_, window)| *window == BEGIN) {
            let mut rows = serde_json::Deserializer::from_slice(&bytes[at..]).into_iter::<Node>();
            let Some(Ok(node)) = rows.next() else {
                continue;
            };
            // A confirmation does not touch the time, and what was noted last comes last.
            let age = |it: &Node| {
                let confirmed = it.baseline.as_ref().map(|base| base.generation);
                (it.ctime, it.generation, confirmed)
            };
            let newer = nodes.get(&node.id).is_none_or(|it| age(it) <= age(&node));
            if newer {
                nodes.insert(node.id, node);
            }
        }
        Self { nodes }
    }

    /// Contents that the drive did not have, with the path that their files had.
    fn unsent(&self) -> Vec<(Vec<&str>, &Node, &Held)> {
        let holds = |node| Some((self.path(node), node, node.held.as_ref()?));
        let unsent = self.nodes.values().filter(|it| it.evictable().is_none());
        let mut unsent: Vec<_> = unsent.filter_map(holds).collect();
        unsent.sort_by_key(|(_, node, _)| node.id);
        unsent
    }

    /// As far up as rows tell.
    fn path<'a>(&'a self, node: &'a Node) -> Vec<&'a str> {
        let (mut path, mut at) = (Vec::new(), Some(node));
        while let Some(place) = at.and_then(|node| node.place.as_ref())
            && path.len() < DEPTH
        {
            path.push(place.name.as_str());
            at = self.nodes.get(&place.parent);
        }
        path.reverse();
        path
    }
}

impl Start<'_> {
    /// Brings back what was not sent.
    pub(super) fn bring_back(&mut self, salvage: &Salvage) {
        let (now, Some(folder)) = (self.now, self.folder.clone()) else {
            return;
        };
        for (path, row, held) in salvage.unsent() {
            let Some(hash) = held.hash else { continue };
            // Whatever else is on the disk goes to the quarantine with all that no record names.
            let found = proven(self.store, held.content, held.size, Some(hash));
            let Some(blob) = found.ok().filter(|blob| blob.sync().is_ok()) else {
                continue;
            };
            let (made, _ticket) = self.ledger.change(|books| {
                let made = place(&mut books.tree, &folder, &path, now)?;
                books.tree.edit(made, now, |node| {
                    let held = Held {
                        content: blob.id(),
                        generation: Generation(1),
                        ..held.clone()
                    };
                    (node.generation, node.size, node.mtime) =
                        (held.generation, held.size, row.mtime);
                    node.seal(held);
                });
                Ok::<_, NameError>(made)
            });
            let path = path.join("/");
            self.report.push(match made {
                Ok(_) => format!("{path} was not on the drive yet; it is in the folder `{folder}`"),
                Err(error) => format!("{path} cannot be brought back: {error}"),
            });
        }
    }
}

/// Makes a file below a folder in the root, and what folders are missing above it.
fn place(
    tree: &mut Tree,
    folder: &str,
    path: &[&str],
    now: SystemTime,
) -> Result<NodeId, NameError> {
    let (name, above) = path.split_last().ok_or(NameError::NotFound)?;
    let mut parent = NodeId::ROOT;
    for dir in [folder].iter().chain(above) {
        parent = folder_in(tree, parent, dir, now)?;
    }
    tree.create(parent, name, Kind::File, now)
}

/// The folder of that name, made where it is missing.
pub(super) fn folder_in(
    tree: &mut Tree,
    parent: NodeId,
    name: &str,
    now: SystemTime,
) -> Result<NodeId, NameError> {
    match tree.variant(parent, name) {
        Some(there) if there.kind == Kind::Directory => Ok(there.id),
        _ => tree.create(parent, name, Kind::Directory, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{ContentId, Place, QuickXorHash, encode};

    fn node(id: u64, parent: u64, name: &str, age: u64) -> Node {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age);
        let place = Place {
            parent: NodeId(parent),
            name: name.to_owned(),
        };
        let mut node = Node::new(NodeId(id), place, Kind::File, at);
        node.held = Some(Held {
            content: ContentId(id),
            generation: Generation(1),
            size: 4,
            hash: Some(QuickXorHash([0; 20])),
        });
        node
    }

    #[test]
    fn rows_are_found_among_garbage_and_the_newest_of_each_node_counts() {
        let mut folder = node(2, 1, "2026", 9);
        (folder.kind, folder.held) = (Kind::Directory, None);
        let mut bytes = vec![0xff; 100];
        for row in [
            node(3, 2, "old name.gif", 5),
            node(3, 2, "a.gif", 1),
            node(3, 2, "older name.gif", 7),
            folder,
            node(4, 9, "above is lost.gif", 1),
        ] {
            bytes.extend_from_slice(&encode(&row));
            bytes.extend_from_slice(b"\0\x01{\"id\":7,\"pla");
        }
        let torn = encode(&node(5, 1, "torn.gif", 1));
        bytes.extend_from_slice(&torn[..torn.len() / 2]);
        let salvage = Salvage::of(&bytes);
        let paths: Vec<String> = salvage
            .unsent()
            .iter()
            .map(|(path, ..)| path.join("/"))
            .collect();
        assert_eq!(paths, ["2026/a.gif", "above is lost.gif"]);
    }

    #[test]
    fn rows_that_lead_in_a_circle_end_somewhere() {
        let mut bytes = encode(&node(2, 3, "a", 0));
        bytes.extend_from_slice(&encode(&node(3, 2, "b", 0)));
        assert_eq!(Salvage::of(&bytes).unsent()[0].0.len(), DEPTH);
    }
}
