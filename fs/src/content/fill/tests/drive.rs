//! A drive that gives out one content, as it is told to.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::ports::{DeltaFrom, DeltaPage, Download, Drive, DriveError, Quota, Update, Upload};
use crate::tree::{ETag, Item, ItemId};

/// What to do with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Act {
    /// Fail it.
    Refuse,
    /// Give so many bytes, then fail.
    Cut(usize),
    /// Give so many bytes, then end as if that were all.
    End(usize),
    /// Give so many bytes, then wait for the gate.
    Stall(usize),
    /// Give one byte more than asked for.
    Overrun,
}

pub(super) struct Scripted {
    pub(super) content: Vec<u8>,
    pub(super) chunk: usize,
    /// What the storage host calls the version.
    pub(super) version: Mutex<Option<String>>,
    requests: Mutex<Vec<(u64, u64)>>,
    acts: Mutex<VecDeque<Act>>,
    gate: Arc<Semaphore>,
}

impl Scripted {
    pub(super) fn new(size: usize, acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Self {
            content: {
                let mut bytes: Vec<u8> = (0..251).collect::<Vec<u8>>().repeat(size / 251 + 1);
                bytes.truncate(size);
                bytes
            },
            chunk: 1000,
            version: Mutex::default(),
            requests: Mutex::default(),
            acts: Mutex::new(acts.into_iter().collect()),
            gate: Arc::new(Semaphore::new(0)),
        })
    }

    pub(super) fn requests(&self) -> Vec<(u64, u64)> {
        self.requests.lock().clone()
    }

    pub(super) fn open_gate(&self) {
        self.gate.close(); // a closed semaphore holds nobody back
    }
}

fn no<T>() -> Result<T, DriveError> {
    Err(DriveError::NotSupported(
        "only reads are scripted".to_owned(),
    ))
}

fn refused() -> DriveError {
    DriveError::Unavailable {
        what: "scripted".to_owned(),
        retry_after: None,
    }
}

#[async_trait]
impl Drive for Scripted {
    async fn item(&self, _: &ItemId) -> Result<Item, DriveError> {
        no()
    }
    async fn child(&self, _: &ItemId, _: &str) -> Result<Item, DriveError> {
        no()
    }
    async fn children(&self, _: &ItemId) -> Result<Vec<Item>, DriveError> {
        no()
    }
    async fn create_folder(&self, _: &ItemId, _: &str) -> Result<Item, DriveError> {
        no()
    }
    async fn folder_at(&self, _: &str) -> Result<Item, DriveError> {
        no()
    }

    async fn upload(&self, _: Upload) -> Result<Item, DriveError> {
        no()
    }
    async fn update(&self, _: &ItemId, _: Update) -> Result<Item, DriveError> {
        no()
    }
    async fn delete(&self, _: &ItemId, _: Option<&ETag>) -> Result<(), DriveError> {
        no()
    }
    async fn delta(&self, _: DeltaFrom) -> Result<DeltaPage, DriveError> {
        no()
    }
    async fn quota(&self) -> Result<Option<Quota>, DriveError> {
        no()
    }

    async fn read(&self, _: &ItemId, range: Range<u64>) -> Result<Download, DriveError> {
        self.requests.lock().push((range.start, range.end));
        let act = self.acts.lock().pop_front();
        if act == Some(Act::Refuse) {
            return Err(refused());
        }
        let total = self.content.len();
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
        let mut body = self.content[start..end.min(total)].to_vec();
        if act == Some(Act::Overrun) {
            body.push(0xff);
        }
        let (chunk, gate) = (self.chunk, Arc::clone(&self.gate));
        let first = match act {
            Some(Act::Cut(first) | Act::End(first) | Act::Stall(first)) => first.min(body.len()),
            _ => body.len(),
        };
        let bytes = async_stream::stream! {
            let (now, later) = body.split_at(first);
            for piece in now.chunks(chunk) {
                yield Ok(Bytes::copy_from_slice(piece));
            }
            match act {
                Some(Act::Cut(_)) => yield Err(refused()),
                Some(Act::Stall(_)) => {
                    let _ = gate.acquire().await;
                    for piece in later.chunks(chunk) {
                        yield Ok(Bytes::copy_from_slice(piece));
                    }
                }
                _ => {}
            }
        };
        Ok(Download {
            total: total as u64,
            version: self.version.lock().clone(),
            bytes: Box::pin(bytes),
        })
    }
}
