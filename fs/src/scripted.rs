//! A filesystem over a drive that does as it is told, for the tests of the adapters.
//!
//! The drive holds some files in its root and reads them as the script says: at once, cut short,
//! or not at all. It takes no changes; whoever writes sees them pending.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::content::hash::QuickXor;
use crate::outbox::drain::{Outbox, OutboxConfig};
use crate::outbox::journal::Durability;
use crate::ports::{DeltaFrom, DeltaPage, Download, Drive, DriveError, Quota, Update, Upload};
use crate::tree::{Baseline, ETag, Generation, Item, ItemFacet, ItemId, NodeId};
use crate::vfs::{Budget, Vfs, VfsConfig, recover};

/// A drive that does as it is told.
#[derive(Default)]
pub(crate) struct Scripted {
    files: Vec<(&'static str, Bytes)>,
    /// Nothing can be reached.
    pub(crate) offline: AtomicBool,
    /// A read breaks off before this offset of the file; 0: never.
    pub(crate) breaks_at: AtomicU64,
}

/// A filesystem, with all that it needs.
pub(crate) struct Rig {
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) drive: Arc<Scripted>,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// A filesystem over a drive with these files in its root.
    pub(crate) async fn over(files: Vec<(&'static str, Bytes)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let recovery = tokio::task::spawn_blocking(move || {
            recover(
                &path,
                Arc::new(crate::content::Host),
                "host",
                "/mount",
                Durability::Close,
                SystemTime::now(),
            )
            .unwrap()
        })
        .await
        .unwrap();
        let drive = Arc::new(Scripted {
            files,
            ..Scripted::default()
        });
        let ((), _ticket) = recovery.ledger.change(|books| {
            books.tree.edit(NodeId::ROOT, SystemTime::now(), |root| {
                root.baseline = Some(Baseline {
                    item: ItemId::new("root"),
                    parent: ItemId::new("above"),
                    name: "mount".into(),
                    etag: None,
                    ctag: None,
                    size: 0,
                    hash: None,
                    generation: Generation(0),
                });
            });
        });
        let outbox = Arc::new(Outbox::new(
            recovery.ledger.clone(),
            recovery.store.clone(),
            drive.clone(),
            OutboxConfig {
                settle: Duration::ZERO,
                uploads: 1,
                grace: Duration::ZERO,
                drive_has_versions: false,
            },
        ));
        let config = VfsConfig {
            timeout: Duration::from_secs(2),
            read_only: false,
            drive_has_versions: false,
            guard: None,
            budget: Budget {
                max_size: 1 << 30,
                max_age: Duration::from_hours(1),
                min_free: 0,
            },
            patience: Duration::ZERO,
        };
        let vfs = Vfs::new(
            recovery.ledger,
            recovery.store,
            recovery.intents,
            drive.clone(),
            outbox,
            config,
        );
        Self {
            vfs,
            drive,
            _dir: dir,
        }
    }

    /// Writes a file into the root and closes it.
    pub(crate) async fn put(&self, name: &str, bytes: &[u8]) -> NodeId {
        let open = crate::vfs::OpenMode {
            read: true,
            write: true,
            truncate: true,
        };
        let (attr, handle) = self
            .vfs
            .create(NodeId::ROOT, name, 0o644, open, false)
            .await
            .unwrap();
        self.vfs
            .write(handle, 0, Bytes::copy_from_slice(bytes))
            .await
            .unwrap();
        self.vfs.flush(handle).await.unwrap();
        self.vfs.release(handle).await;
        attr.node
    }
}

fn away() -> DriveError {
    DriveError::Unavailable {
        what: "scripted".into(),
        retry_after: None,
    }
}

impl Scripted {
    fn reachable(&self) -> Result<(), DriveError> {
        if self.offline.load(Ordering::Relaxed) {
            Err(away())
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Drive for Scripted {
    async fn item(&self, _id: &ItemId) -> Result<Item, DriveError> {
        Err(DriveError::NotFound)
    }

    async fn child(&self, _folder: &ItemId, _name: &str) -> Result<Item, DriveError> {
        Err(DriveError::NotFound)
    }

    async fn children(&self, folder: &ItemId) -> Result<Vec<Item>, DriveError> {
        self.reachable()?;
        let item = |(name, bytes): &(&str, Bytes)| {
            let mut hash = QuickXor::new();
            hash.update(bytes);
            Item {
                id: ItemId::new(*name),
                parent: Some(folder.clone()),
                name: Some((*name).into()),
                facet: ItemFacet::File {
                    hash: Some(hash.finish()),
                    malware: false,
                },
                size: bytes.len() as u64,
                etag: Some(ETag::new("1")),
                ctag: None,
                modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
                created: None,
            }
        };
        Ok(self.files.iter().map(item).collect())
    }

    async fn create_folder(&self, _parent: &ItemId, _name: &str) -> Result<Item, DriveError> {
        Err(away())
    }

    async fn folder_at(&self, _: &str) -> Result<Item, DriveError> {
        Err(away())
    }

    async fn upload(&self, _upload: Upload) -> Result<Item, DriveError> {
        Err(away())
    }

    async fn update(&self, _id: &ItemId, _update: Update) -> Result<Item, DriveError> {
        Err(away())
    }

    async fn delete(&self, _id: &ItemId, _held: Option<&ETag>) -> Result<(), DriveError> {
        Err(away())
    }

    async fn read(&self, id: &ItemId, range: Range<u64>) -> Result<Download, DriveError> {
        self.reachable()?;
        let (_, whole) = self
            .files
            .iter()
            .find(|(name, _)| ItemId::new(*name) == *id)
            .ok_or(DriveError::NotFound)?;
        let total = whole.len() as u64;
        let breaks_at = self.breaks_at.load(Ordering::Relaxed);
        let end = range.end.min(total);
        let stop = if breaks_at > 0 {
            end.min(breaks_at).max(range.start)
        } else {
            end
        };
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let mut pieces = vec![Ok(whole.slice(at(range.start)..at(stop)))];
        if stop < end {
            pieces.push(Err(away()));
        }
        Ok(Download {
            total,
            version: None,
            bytes: Box::pin(futures_util::stream::iter(pieces)),
        })
    }

    async fn delta(&self, _from: DeltaFrom) -> Result<DeltaPage, DriveError> {
        Err(away())
    }

    async fn quota(&self) -> Result<Option<Quota>, DriveError> {
        Ok(None)
    }
}
