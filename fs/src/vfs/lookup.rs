//! Names to nodes: lookup, attributes, listings.
//!
//! A folder's children are fetched when somebody first looks into it, and are known from then on:
//! delta keeps them fresh. So an absence is answered from memory, and a name that the drive was
//! never asked for is never called absent (invariant 7).

use tuyun_protocol::ImagePath;

use super::{Attr, Kind, Listed, NodeId, Space, Vfs, VfsError};
use crate::tree;

/// What is reported as the size of a drive that does not tell: large enough that nobody refuses
/// to write, and a power of two that stands out. The drive's own 507 speaks when it is full.
const UNKNOWN_SPACE: u64 = 1 << 50;

/// What memory says of a name.
enum Known {
    /// It names this.
    As(Attr),
    /// It names nothing.
    Absent,
    /// The folder has to be listed first.
    Not,
}

impl Vfs {
    /// The node of a name. `NotFound` only when it is known to be absent.
    ///
    /// # Errors
    /// It is absent, or cannot be known at present.
    pub async fn lookup(&self, parent: NodeId, name: &str) -> Result<Attr, VfsError> {
        match self.lookup_known(parent, name)? {
            Known::As(attr) => return Ok(attr),
            Known::Absent => return Err(VfsError::NotFound),
            Known::Not => self.list_from_drive(parent).await?,
        }
        match self.lookup_known(parent, name)? {
            Known::As(attr) => Ok(attr),
            Known::Absent | Known::Not => Err(VfsError::NotFound),
        }
    }

    /// How the drive stores an application's name for something in a folder. Where a stored name
    /// is shown as it stands and nothing else has that name, it is that one.
    #[must_use]
    pub fn spelling(&self, parent: NodeId, name: &[u8]) -> String {
        let stored = tree::stored(name);
        let Ok(raw) = std::str::from_utf8(name) else {
            return stored;
        };
        if raw != stored && tree::is_odd(raw) {
            let books = self.ledger.books();
            let has = |name| books.tree.child(parent, name).is_some();
            if has(raw) && !has(&stored) {
                return raw.to_owned();
            }
        }
        stored
    }

    /// The same as [`lookup`](Self::lookup), of a name as applications spell it.
    ///
    /// # Errors
    /// It is absent, or cannot be known at present, or no name can be so long.
    pub async fn lookup_shown(&self, parent: NodeId, name: &[u8]) -> Result<Attr, VfsError> {
        let stored = self.spelling(parent, name);
        match self.lookup(parent, &stored).await {
            // Only now is the folder known, and with it what is spelt oddly there.
            Err(VfsError::NotFound) if self.spelling(parent, name) != stored => {
                let odd = self.spelling(parent, name);
                self.lookup(parent, &odd).await
            }
            Err(VfsError::NotFound) if tree::is_too_long(&stored) => Err(VfsError::NameTooLong),
            other => other,
        }
    }

    /// What memory says.
    fn lookup_known(&self, parent: NodeId, name: &str) -> Result<Known, VfsError> {
        self.look_at_all();
        let books = self.ledger.books();
        let dir = books.tree.node(parent).ok_or(VfsError::NotFound)?;
        if dir.kind != Kind::Directory {
            return Err(VfsError::NotDirectory);
        }
        if let Some(node) = books.tree.child(parent, name) {
            let shown = node.kind != Kind::Hidden;
            return Ok(if shown {
                Known::As(Attr::from(node))
            } else {
                Known::Absent
            });
        }
        Ok(if dir.listed {
            Known::Absent
        } else {
            Known::Not
        })
    }

    /// A node's attributes.
    ///
    /// # Errors
    /// The node is gone.
    #[expect(
        clippy::unused_async,
        reason = "every operation is a future, so that waiting can come in"
    )]
    pub async fn attr(&self, node: NodeId) -> Result<Attr, VfsError> {
        self.attr_now(node)
    }

    pub(super) fn attr_now(&self, node: NodeId) -> Result<Attr, VfsError> {
        let open = self.table.lock().files.get(&node).cloned();
        let pinned = open.and_then(|file| {
            self.look_or_say(&file);
            file.size()
        });
        let books = self.ledger.books();
        let mut attr = books.node(node).map(Attr::from).ok_or(VfsError::NotFound)?;
        if let Some(size) = pinned {
            // Remote content takes effect at the last close.
            attr.size = size;
        }
        Ok(attr)
    }

    /// The folder that a node is in; the root is in itself.
    ///
    /// # Errors
    /// The node is gone.
    #[expect(
        clippy::unused_async,
        reason = "every operation is a future, so that waiting can come in"
    )]
    pub async fn parent(&self, node: NodeId) -> Result<NodeId, VfsError> {
        let books = self.ledger.books();
        let node = books.node(node).ok_or(VfsError::NotFound)?;
        Ok(node
            .place
            .as_ref()
            .map_or(NodeId::ROOT, |place| place.parent))
    }

    /// A folder's children, as they are now.
    ///
    /// # Errors
    /// It is no folder, or cannot be listed at present.
    pub async fn list(&self, dir: NodeId) -> Result<Vec<Listed>, VfsError> {
        self.know_children(dir).await?;
        self.look_at_all();
        let books = self.ledger.books();
        Ok(books
            .tree
            .children(dir)
            .filter(|node| node.kind != Kind::Hidden)
            .filter_map(|node| {
                let name = node.place.as_ref()?.name.clone();
                Some(Listed {
                    name,
                    attr: Attr::from(node),
                })
            })
            .collect())
    }

    /// Lists a folder unless all of its children are known.
    pub(super) async fn know_children(&self, dir: NodeId) -> Result<(), VfsError> {
        let listed = {
            let books = self.ledger.books();
            let node = books.tree.node(dir).ok_or(VfsError::NotFound)?;
            if node.kind != Kind::Directory {
                return Err(VfsError::NotDirectory);
            }
            node.listed
        };
        if listed {
            Ok(())
        } else {
            self.list_from_drive(dir).await
        }
    }

    /// The node at a path below the root.
    ///
    /// # Errors
    /// As for [`lookup`](Self::lookup).
    pub async fn resolve(&self, path: &ImagePath) -> Result<Attr, VfsError> {
        let mut at = self.attr_now(NodeId::ROOT)?;
        for name in path.as_str().split('/').filter(|name| !name.is_empty()) {
            at = match self.lookup_shown(at.node, name.as_bytes()).await {
                // A file where a folder should be: there is nothing below it.
                Err(VfsError::NotDirectory) => return Err(VfsError::NotFound),
                other => other?,
            };
        }
        Ok(at)
    }

    /// Space on the drive, as it was last told: never asks.
    #[must_use]
    pub fn space(&self) -> Space {
        let files = self.ledger.books().tree.len() as u64;
        match *self.quota.lock() {
            Some(quota) => Space {
                total: quota.total,
                free: quota.remaining,
                files,
            },
            None => Space {
                total: UNKNOWN_SPACE,
                free: UNKNOWN_SPACE,
                files,
            },
        }
    }

    /// The path of a node below the root, for messages.
    #[must_use]
    pub fn path(&self, node: NodeId) -> Option<String> {
        self.ledger.books().tree.path(node)
    }
}
