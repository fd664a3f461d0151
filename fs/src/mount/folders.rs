//! Open folders: each shows what it held when it was opened, so that whoever reads it piece by
//! piece sees every name once, whatever others do meanwhile. `rewinddir` looks anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::tree::{Kind, NodeId};
use crate::vfs::{Vfs, VfsError};

/// A name that a folder shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) node: NodeId,
    pub(super) kind: Kind,
    pub(super) name: String,
}

/// All folders that are open.
#[derive(Default)]
pub(super) struct Folders {
    open: Mutex<HashMap<u64, Folder>>,
    next: AtomicU64,
}

struct Folder {
    node: NodeId,
    names: Arc<Vec<Entry>>,
    /// Somebody has begun to read it.
    begun: bool,
}

impl Folders {
    /// Opens a folder.
    pub(super) async fn open(&self, vfs: &Vfs, node: NodeId) -> Result<u64, VfsError> {
        let names = list(vfs, node).await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(
            id,
            Folder {
                node,
                names: Arc::new(names),
                begun: false,
            },
        );
        Ok(id)
    }

    /// What it shows, from the start when `offset` is 0.
    pub(super) async fn read(
        &self,
        vfs: &Vfs,
        id: u64,
        offset: u64,
    ) -> Result<Arc<Vec<Entry>>, VfsError> {
        let again = {
            let mut open = self.open.lock();
            let folder = open.get_mut(&id).ok_or(VfsError::BadHandle)?;
            if offset > 0 || !folder.begun {
                folder.begun = true;
                return Ok(folder.names.clone());
            }
            folder.node
        };
        let names = Arc::new(list(vfs, again).await?);
        if let Some(folder) = self.open.lock().get_mut(&id) {
            folder.names = names.clone();
        }
        Ok(names)
    }

    pub(super) fn close(&self, id: u64) {
        self.open.lock().remove(&id);
    }
}

async fn list(vfs: &Vfs, node: NodeId) -> Result<Vec<Entry>, VfsError> {
    let listed = vfs.list(node).await?;
    let parent = vfs.parent(node).await?;
    let dots = [(node, "."), (parent, "..")];
    let dots = dots.map(|(node, name)| Entry {
        node,
        kind: Kind::Directory,
        name: name.into(),
    });
    let names = listed.into_iter().map(|entry| Entry {
        node: entry.attr.node,
        kind: entry.attr.kind,
        name: entry.name,
    });
    Ok(dots.into_iter().chain(names).collect())
}
