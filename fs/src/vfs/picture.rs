//! A picture for the origin: the newest sealed bytes under a path.
//!
//! Those not yet uploaded are served like any other (design 3.1); what is being written is not
//! served before its seal, so nobody ever caches half a picture.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use tuyun_protocol::ImagePath;

use super::{Attr, Kind, SMALL, Vfs, VfsError};
use crate::content::fill::Fill;
use crate::content::readahead::ReadAhead;
use crate::content::store::Blob;
use crate::outbox::ledger::{etag, etag_of};
use crate::tree::Generation;

/// Bytes that stay the same for as long as they are held.
pub struct Picture {
    /// What is known of the file.
    pub attr: Attr,
    /// Strong validator, without quotes; `None` for a large file whose hash nobody knows.
    pub etag: Option<String>,
    /// How many bytes.
    pub size: u64,
    source: Source,
    vfs: Arc<Vfs>,
}

enum Source {
    Whole(Arc<Blob>),
    Partial {
        generation: Generation,
        fill: Arc<Fill>,
        ahead: Mutex<ReadAhead>,
    },
}

impl Vfs {
    /// The newest sealed content at a path.
    ///
    /// # Errors
    /// Known to be absent, a folder, or not to be had at present.
    pub async fn picture(self: &Arc<Self>, path: &ImagePath) -> Result<Picture, VfsError> {
        loop {
            if let Some(picture) = self.picture_of_one_version(path).await? {
                return Ok(picture);
            }
        }
    }

    /// `None`: the file got another version meanwhile, whose bytes must not go under this one's tag.
    async fn picture_of_one_version(
        self: &Arc<Self>,
        path: &ImagePath,
    ) -> Result<Option<Picture>, VfsError> {
        let mut attr = self.resolve(path).await?;
        if attr.kind != Kind::File {
            return Err(VfsError::IsDirectory);
        }
        self.keep_promise(attr.node).await?;
        let (held, baseline, mut tag) = {
            let books = self.ledger.books();
            let node = books.node(attr.node).ok_or(VfsError::NotFound)?;
            (node.held.clone(), node.baseline.clone(), etag(node))
        };
        let asked = held.as_ref().map(|held| held.content);
        let whole = match held {
            Some(held) => self.whole(attr.node, held).await?,
            None => None,
        };
        if whole.as_ref().map(|blob| blob.id()) != asked {
            return Ok(None);
        }
        let source = match (whole, baseline) {
            (Some(blob), _) => {
                if tag.is_none() {
                    tag = Some(self.remember_hash(&attr, &blob).await?);
                }
                Source::Whole(blob)
            }
            // Created, and never sealed: for a reader it is not there yet.
            (None, None) => return Err(VfsError::NotFound),
            (None, Some(_)) if attr.size <= SMALL => {
                let blob = self.complete(attr.node).await?;
                let books = self.ledger.books();
                tag = books.node(attr.node).and_then(etag).or(tag);
                Source::Whole(blob)
            }
            (None, Some(_)) => {
                let (generation, fill) = self.fill(attr.node)?;
                Source::Partial {
                    generation,
                    fill,
                    ahead: Mutex::default(),
                }
            }
        };
        let size = match &source {
            Source::Whole(blob) => blob.len()?,
            Source::Partial { fill, .. } => fill.size(),
        };
        attr.size = size;
        Ok(Some(Picture {
            attr,
            etag: tag,
            size,
            source,
            vfs: self.clone(),
        }))
    }

    /// Hashes a large content that nobody has hashed yet, once.
    async fn remember_hash(&self, attr: &Attr, blob: &Arc<Blob>) -> Result<String, VfsError> {
        let hashing = blob.clone();
        let (size, hash) = tokio::task::spawn_blocking(move || hashing.quick_xor())
            .await
            .map_err(std::io::Error::other)??;
        let (id, content) = (attr.node, blob.id());
        let ((), _ticket) = self.ledger.change(|books| {
            let same = books.tree.node(id).is_some_and(|node| {
                node.held
                    .as_ref()
                    .is_some_and(|held| held.content == content)
            });
            if same {
                books.tree.edit(id, SystemTime::now(), |node| {
                    if let Some(held) = &mut node.held {
                        held.hash = Some(hash);
                    }
                });
            }
        });
        Ok(etag_of(hash, size))
    }
}

impl Picture {
    /// Whether all of it is on our disk.
    #[must_use]
    pub fn held(&self) -> bool {
        matches!(self.source, Source::Whole(_))
    }

    /// Reads; fewer bytes than asked for only at the end.
    ///
    /// # Errors
    /// The bytes cannot be fetched in time, or the disk fails.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, VfsError> {
        match &self.source {
            Source::Whole(blob) => Ok(blob.read_at(offset, len)?),
            Source::Partial {
                generation,
                fill,
                ahead,
            } => {
                let part = (*generation, fill);
                let reading = self.vfs.read_part(self.attr.node, part, ahead, offset, len);
                let (bytes, _) = reading.await?;
                Ok(bytes)
            }
        }
    }
}
