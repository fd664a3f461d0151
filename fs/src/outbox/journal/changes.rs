//! The log of changes: what `durability = "fsync"` acknowledges before it is in the database.
//!
//! One line a change, written by one `write(2)` in the order of the tree's lock, without a barrier:
//! it survives the death of the daemon, and a power cut takes at most what the promise allows. The
//! lines are numbered, and the database remembers the last one that is in it; a start takes what
//! follows without a gap. Once everything is in the database, the log is cut to nothing.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::content::{Disk, line};
use crate::threads::Mutex;
use crate::tree::{Batch, ContentId, ItemId, NodeId, Seal};

/// From this length on the log is cut when it may be: some hundred changes. Cutting costs a change
/// of the file's size, which the next barrier has to carry.
const WORTH_CUTTING: u64 = 64 * 1024;

/// The log of changes.
#[derive(Debug)]
pub(super) struct Changes {
    disk: Arc<dyn Disk>,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    length: u64,
    /// The last line may be cut short: the next one begins with a line feed of its own.
    ragged: bool,
    /// The highest number given, in this file or before it.
    last: u64,
}

impl Log {
    fn cut(&mut self, disk: &dyn Disk) {
        match disk.set_len(&self.file, 0) {
            Ok(()) => (self.length, self.ragged) = (0, false),
            Err(error) => tracing::warn!(%error, "cannot shorten the log of changes"),
        }
    }
}

/// A line: a batch, with rows as the text that they are.
#[derive(Serialize, Deserialize)]
struct Entry {
    change: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<(NodeId, Option<String>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    graves: Vec<(ItemId, Option<String>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    garbage: Vec<ContentId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    doomed: Vec<ContentId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seals: Vec<Seal>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    facts: Vec<(String, Option<String>)>,
}

impl Changes {
    /// Opens the log, and tells which changes the database lacks. `known` is the last one that it
    /// has. Once it has these, [`cut`](Self::cut) the log.
    pub(super) fn open(
        path: &Path,
        known: u64,
        disk: Arc<dyn Disk>,
    ) -> io::Result<(Self, Vec<Batch>)> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let (found, last) = replay(&text, known);
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let file = disk.open(path, &options)?;
        let log = Log {
            file,
            length: text.len() as u64,
            ragged: text.last().is_some_and(|last| *last != b'\n'),
            last,
        };
        let changes = Self {
            disk,
            log: Mutex::new(log),
        };
        Ok((changes, found))
    }

    /// Notes a change; its number. To be called under the lock that ordered the change.
    ///
    /// # Errors
    /// The disk fails or is full: the change is not noted, and has to be waited for.
    pub(super) fn note(&self, batch: &Batch) -> io::Result<u64> {
        let mut log = self.log.lock();
        let change = log.last + 1;
        let bytes = line::encode(&Entry::of(change, batch));
        let log = &mut *log;
        line::append(
            &*self.disk,
            &log.file,
            &bytes,
            &mut log.length,
            &mut log.ragged,
        )?;
        log.last = change;
        Ok(change)
    }

    /// The highest number given.
    pub(super) fn last(&self) -> u64 {
        self.log.lock().last
    }

    /// Says that everything up to a change is in the database: nothing of the log is needed if
    /// that was the last.
    pub(super) fn known(&self, change: u64) {
        let mut log = self.log.lock();
        if log.last == change && log.length >= WORTH_CUTTING {
            log.cut(&*self.disk);
        }
    }

    /// Forgets all lines, which are in the database.
    pub(super) fn cut(&self) {
        self.log.lock().cut(&*self.disk);
    }
}

/// All changes that can be read.
pub(super) fn each_batch(text: &[u8]) -> impl Iterator<Item = Batch> {
    let entries = line::each(text).flatten();
    entries.map(|entry: Entry| entry.into_batch())
}

/// The changes that follow a known one without a gap, and the highest number of all. What comes
/// behind a damaged line was never safe, and what it builds on may be missing.
fn replay(text: &[u8], known: u64) -> (Vec<Batch>, u64) {
    let (mut found, mut next, mut last) = (Vec::new(), known + 1, known);
    for entry in line::each(text) {
        let Some(entry): Option<Entry> = entry else {
            continue;
        };
        last = last.max(entry.change);
        if entry.change == next {
            next += 1;
            found.push(entry.into_batch());
        }
    }
    (found, last)
}

impl Entry {
    fn of(change: u64, batch: &Batch) -> Self {
        let text = |row: &Option<Vec<u8>>| {
            row.as_deref()
                .map(|row| String::from_utf8_lossy(row).into_owned())
        };
        Self {
            change,
            nodes: batch
                .nodes
                .iter()
                .map(|(id, row)| (*id, text(row)))
                .collect(),
            graves: batch
                .graves
                .iter()
                .map(|(item, row)| (item.clone(), text(row)))
                .collect(),
            garbage: batch.garbage.clone(),
            doomed: batch.doomed.clone(),
            seals: batch.seals.clone(),
            facts: batch
                .facts
                .iter()
                .map(|(name, row)| (name.to_string(), text(row)))
                .collect(),
        }
    }

    fn into_batch(self) -> Batch {
        let bytes = |row: Option<String>| row.map(String::into_bytes);
        Batch {
            nodes: self
                .nodes
                .into_iter()
                .map(|(id, row)| (id, bytes(row)))
                .collect(),
            graves: self
                .graves
                .into_iter()
                .map(|(item, row)| (item, bytes(row)))
                .collect(),
            garbage: self.garbage,
            doomed: self.doomed,
            seals: self.seals,
            proven: Vec::new(), // a start that does not find this in the database looks again
            facts: self
                .facts
                .into_iter()
                .map(|(name, row)| (Cow::Owned(name), bytes(row)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Host;

    fn batch(id: u64) -> Batch {
        Batch {
            nodes: vec![
                (NodeId(id), Some(format!("{{\"id\":{id}}}").into_bytes())),
                (NodeId(99), None),
            ],
            garbage: vec![ContentId(id)],
            ..Batch::default()
        }
    }

    fn open(path: &Path, known: u64) -> io::Result<(Changes, Vec<Batch>)> {
        Changes::open(path, known, Arc::new(Host))
    }

    fn with(text: &[u8], known: u64) -> (Changes, Vec<Batch>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changes.log");
        std::fs::write(&path, text).unwrap();
        open(&path, known).unwrap()
    }

    #[test]
    fn what_the_database_lacks_is_told_in_order_and_what_it_has_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changes.log");
        let (changes, found) = open(&path, 7).unwrap();
        assert_eq!(found, []);
        for id in 8..11 {
            assert_eq!(changes.note(&batch(id)).unwrap(), id);
        }
        let (_, found) = open(&path, 8).unwrap();
        assert_eq!(found, [batch(9), batch(10)]);
        let (changes, found) = open(&path, 10).unwrap();
        assert_eq!(found, []);
        assert_eq!(changes.note(&batch(11)).unwrap(), 11);
    }

    #[test]
    fn nothing_behind_a_damaged_line_is_believed_and_the_log_goes_on_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changes.log");
        let (changes, _) = open(&path, 0).unwrap();
        for id in 1..4 {
            changes.note(&batch(id)).unwrap();
        }
        let mut text = std::fs::read(&path).unwrap();
        let second = text.iter().position(|byte| *byte == b'\n').unwrap() + 30;
        text[second] ^= 1;
        let (changes, found) = with(&text, 0);
        assert_eq!(found, [batch(1)]);
        // The numbers of what is not believed are not given again.
        assert_eq!(changes.last(), 3);
        // Cut short in the last line, as a full disk leaves it.
        text[second] ^= 1;
        text.truncate(text.len() - 5);
        std::fs::write(&path, &text).unwrap();
        let (changes, found) = open(&path, 0).unwrap();
        assert_eq!(found, [batch(1), batch(2)]);
        changes.note(&batch(3)).unwrap();
        assert_eq!(open(&path, 0).unwrap().1, [batch(1), batch(2), batch(3)]);
    }

    #[test]
    fn the_log_is_cut_when_all_of_it_is_known_and_its_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changes.log");
        let (changes, _) = open(&path, 0).unwrap();
        let mut last = 0;
        while std::fs::metadata(&path).unwrap().len() < WORTH_CUTTING {
            last = changes.note(&batch(5)).unwrap();
        }
        changes.known(last - 1);
        assert!(std::fs::metadata(&path).unwrap().len() >= WORTH_CUTTING);
        changes.known(last);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(changes.note(&batch(6)).unwrap(), last + 1);
        assert_eq!(open(&path, last).unwrap().1, [batch(6)]);
    }
}
