//! Empty contents, made ahead.
//!
//! To make a file takes as long as to write a small picture, and a barrier of its directory makes its name last. Both
//! are done beforehand, for many at once, by a thread of its own: whoever begins a new file takes one that is there,
//! and at its close only the bytes are left to be brought to the disk. What is left at the end is empty and named by
//! nobody: the next start removes it.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::Builder;

use parking_lot::Mutex;

use super::shelf::Shelf;
use crate::tree::ContentId;

/// How many are there at most. Each is a descriptor; and a burst of uploads takes some dozens in the time of a barrier.
const FULL: usize = 64;

/// With fewer than this, more are made.
const LOW: usize = 32;

/// Contents that nobody has begun yet; their names are on the disk for good.
#[derive(Debug)]
pub(super) struct Stock {
    ready: Mutex<VecDeque<(ContentId, File)>>,
    wanted: SyncSender<()>,
}

impl Stock {
    /// Nothing yet, and the thread that makes some once it is asked.
    pub(super) fn start(shelf: &Arc<Shelf>) -> io::Result<Self> {
        let (wanted, asked) = sync_channel(1);
        let of = Arc::downgrade(shelf);
        Builder::new()
            .name("stock".into())
            .spawn(move || keep(&of, &asked))?;
        Ok(Self {
            ready: Mutex::default(),
            wanted,
        })
    }

    /// One that is there.
    pub(super) fn take(&self) -> Option<(ContentId, File)> {
        let (one, left) = {
            let mut ready = self.ready.lock();
            (ready.pop_front(), ready.len())
        };
        if left < LOW {
            self.ask();
        }
        one
    }

    /// Has more made.
    pub(super) fn ask(&self) {
        let _ = self.wanted.try_send(()); // else somebody has asked already
    }

    /// How many are there.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ready.lock().len()
    }
}

/// Makes more whenever somebody asks, until the shelf is gone.
fn keep(shelf: &Weak<Shelf>, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        let Some(shelf) = shelf.upgrade() else { return };
        let Some(stock) = shelf.stock.get() else {
            continue;
        };
        let lack = FULL.saturating_sub(stock.ready.lock().len());
        match make(&shelf, lack) {
            Ok(made) => stock.ready.lock().extend(made),
            // Whoever wants one makes it himself, and hears why that cannot be.
            Err(error) => tracing::debug!(%error, "cannot make contents ahead"),
        }
    }
}

fn make(shelf: &Shelf, count: usize) -> io::Result<Vec<(ContentId, File)>> {
    let (mut made, mut synced) = (Vec::new(), HashSet::new());
    for _ in 0..count {
        let id = shelf.next();
        made.push((id, shelf.make(&shelf.path(id))?));
    }
    for (id, _) in &made {
        if synced.insert(shelf.leaf(*id)) {
            shelf.sync_name(*id)?;
        }
    }
    Ok(made)
}
