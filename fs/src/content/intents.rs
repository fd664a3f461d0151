//! Which contents are open for writing.
//!
//! Bytes that an application has written, and nobody has sealed, are known to no record. So before
//! a file is opened for writing, a line goes to `intents.log`, with one `write(2)` and no barrier:
//! that survives the death of the daemon, and a power cut loses the unsealed bytes anyhow. Each
//! line carries its own sum, `xxh3 {json}`, and stands or falls alone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::line;
use crate::tree::{ContentId, Generation, NodeId};

/// From this length on the log is worth rewriting: some six thousand lines, a blink to read.
const LARGE: u64 = 1024 * 1024;

/// The version of a file that the writing of another one was begun from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its number then.
    pub generation: Generation,
    /// Its bytes, where all of them were here.
    pub content: Option<ContentId>,
}

impl Base {
    /// Whether the file has another version by now. One that has taken the place of another file goes on from
    /// that one's number, with the content that it had.
    #[must_use]
    pub fn is_outdated(&self, generation: Generation, held: Option<ContentId>) -> bool {
        generation > self.generation && (self.content.is_none() || held != self.content)
    }
}

/// A content is open for writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The file.
    pub node: NodeId,
    /// Its folder when it was opened.
    pub parent: NodeId,
    /// Its name when it was opened.
    pub name: String,
    /// What is being written to.
    pub content: ContentId,
    /// The boot in which this was: bytes of an earlier one may be incomplete.
    pub boot: String,
    /// The version that this was begun from. Where the file has a newer one by then, two versions keep both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// It was closed, and that was acknowledged: it counts also when nothing was written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
}

/// A line of the log.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begin(Intent),
    End(ContentId),
}

/// The log of contents that are open for writing.
#[derive(Debug)]
pub struct Intents {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    boot: String,
    log: Mutex<Log>,
    /// Held through a rewriting; appending goes on meanwhile.
    compacting: Mutex<()>,
}

#[derive(Debug)]
struct Log {
    file: File,
    length: u64,
    /// The last line may be cut short: the next one begins with a line feed of its own.
    ragged: bool,
    open: BTreeMap<ContentId, Intent>,
    /// Lines that came since a rewriting began, to be added to the new file.
    since: Option<Vec<u8>>,
}

impl Intents {
    /// Opens the log, and tells what the previous run left open. That stays in the log until
    /// [`end`](Self::end) is called for it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn open(state_dir: &Path, disk: Arc<dyn Disk>) -> io::Result<(Self, Vec<Intent>)> {
        let boot = disk.boot()?;
        let path = state_dir.join("intents.log");
        let file = append_to(&*disk, &path)?;
        let text = std::fs::read(&path)?;
        let (open, damaged) = replay(&text);
        if damaged > 0 {
            tracing::warn!(path = %path.display(), damaged, "damaged lines, as a crash leaves them");
        }
        let left: Vec<Intent> = open.values().cloned().collect();
        let log = Log {
            file,
            length: text.len() as u64,
            ragged: text.last().is_some_and(|last| *last != b'\n'),
            open,
            since: None,
        };
        let intents = Self {
            disk,
            path,
            boot,
            log: Mutex::new(log),
            compacting: Mutex::default(),
        };
        if !text.is_empty() {
            // On a full disk the old log still serves.
            if let Err(error) = intents.compact() {
                tracing::warn!(%error, "cannot rewrite the intent log");
            }
        }
        Ok((intents, left))
    }

    /// This boot of the machine.
    #[must_use]
    pub fn this_boot(&self) -> &str {
        &self.boot
    }

    /// Writes down that a content is about to be written to. A second line for one content
    /// replaces the first: the file was renamed meanwhile.
    ///
    /// # Errors
    /// The disk fails or is full: the content must not be opened for writing then.
    pub fn begin(&self, intent: Intent) -> io::Result<()> {
        let content = intent.content;
        let line = Line::Begin(intent);
        let mut log = self.log.lock();
        log.append(&*self.disk, &line)?;
        if let Line::Begin(intent) = line {
            log.open.insert(content, intent);
        }
        Ok(())
    }

    /// Writes down that a content is sealed, or given up.
    ///
    /// # Errors
    /// The disk fails or is full. Nothing is lost by that: the next start examines one content
    /// more than it would have to.
    pub fn end(&self, content: ContentId) -> io::Result<()> {
        let mut log = self.log.lock();
        match log.open.remove(&content) {
            Some(_) => log.append(&*self.disk, &Line::End(content)),
            None => Ok(()),
        }
    }

    /// The contents that are open for writing.
    #[must_use]
    pub fn opened(&self) -> Vec<ContentId> {
        self.log.lock().open.keys().copied().collect()
    }

    /// Rewrites the log when it has grown large; whether it did. Waits for the disk, but nobody
    /// who appends waits for that.
    ///
    /// # Errors
    /// The disk fails or is full: the old log stands.
    pub fn compact_if_large(&self) -> io::Result<bool> {
        let worth_it = {
            let log = self.log.lock();
            let needed: u64 = log
                .open
                .values()
                .map(|intent| 256 + intent.name.len() as u64)
                .sum();
            log.length > LARGE && log.length / 2 > needed
        };
        if worth_it {
            self.compact()?;
        }
        Ok(worth_it)
    }

    /// Rewrites the log with what is open: aside, made durable, put in place.
    ///
    /// # Errors
    /// The disk fails or is full: the old log stands.
    pub fn compact(&self) -> io::Result<()> {
        let _compacting = self.compacting.lock();
        let lines: Vec<u8> = {
            let mut log = self.log.lock();
            log.since = Some(Vec::new());
            log.open
                .values()
                .flat_map(|intent| line::encode(&Line::Begin(intent.clone())))
                .collect()
        };
        let written = self.write_aside(&lines);
        let mut log = self.log.lock();
        let since = log.since.take().unwrap_or_default();
        let aside = written?;
        let file = append_to(&*self.disk, &aside)?;
        append_all(&*self.disk, &file, &since)?;
        self.disk.rename(&aside, &self.path)?;
        log.file = file;
        log.length = (lines.len() + since.len()) as u64;
        log.ragged = false;
        drop(log);
        let dir = self.path.parent();
        dir.map_or(Ok(()), |dir| self.disk.sync_dir(dir))
    }

    fn write_aside(&self, lines: &[u8]) -> io::Result<PathBuf> {
        let aside = self.path.with_extension("log.new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = self.disk.open(&aside, &options)?;
        self.disk.write_at(&file, lines, 0)?;
        self.disk.sync_file(&file)?;
        Ok(aside)
    }
}

impl Log {
    fn append(&mut self, disk: &dyn Disk, line: &Line) -> io::Result<()> {
        let bytes = line::encode(line);
        line::append(disk, &self.file, &bytes, &mut self.length, &mut self.ragged)?;
        if let Some(since) = &mut self.since {
            since.extend_from_slice(&bytes);
        }
        Ok(())
    }
}

fn append_to(disk: &dyn Disk, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    disk.open(path, &options)
}

fn append_all(disk: &dyn Disk, file: &File, bytes: &[u8]) -> io::Result<()> {
    match disk.append(file, bytes)? {
        written if written < bytes.len() => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    }
}

/// What is open at the end of a log, and how many lines are damaged.
fn replay(text: &[u8]) -> (BTreeMap<ContentId, Intent>, usize) {
    let (mut open, mut damaged) = (BTreeMap::new(), 0);
    for line in line::each(text) {
        match line {
            Some(Line::Begin(intent)) => {
                open.insert(intent.content, intent);
            }
            Some(Line::End(content)) => {
                open.remove(&content);
            }
            None => damaged += 1,
        }
    }
    (open, damaged)
}

#[cfg(test)]
mod tests {
    use super::super::disk::Host;
    use super::*;
    use proptest::prelude::*;

    fn intent(content: u64) -> Intent {
        Intent {
            node: NodeId(content + 100),
            parent: NodeId::ROOT,
            name: format!("line\nfeed {content}.jpg"),
            content: ContentId(content),
            base: content.is_multiple_of(2).then_some(Base {
                generation: Generation(content),
                content: Some(ContentId(content)),
            }),
            boot: "boot 1".to_owned(),
            closed: false,
        }
    }

    fn reopen(dir: &Path) -> (Intents, Vec<Intent>) {
        Intents::open(dir, Arc::new(Host)).unwrap()
    }

    fn damage(dir: &Path, with: impl FnOnce(&mut Vec<u8>)) {
        let path = dir.join("intents.log");
        let mut text = std::fs::read(&path).unwrap();
        with(&mut text);
        std::fs::write(&path, text).unwrap();
    }

    #[test]
    fn what_was_begun_and_not_ended_is_left_open_with_the_boot_it_was_begun_in() {
        let dir = tempfile::tempdir().unwrap();
        let (intents, left) = reopen(dir.path());
        assert_eq!(left, []);
        for content in 1..=3 {
            intents.begin(intent(content)).unwrap();
        }
        intents.end(ContentId(2)).unwrap();
        intents.end(ContentId(9)).unwrap(); // never begun: nothing to say
        assert_eq!(intents.opened(), [ContentId(1), ContentId(3)]);

        let (intents, left) = reopen(dir.path());
        assert_eq!(left, [intent(1), intent(3)]);
        assert_eq!(intents.this_boot(), Host.boot().unwrap());
        intents.end(ContentId(1)).unwrap();
        // Not yet ended: still there after a second crash.
        assert_eq!(reopen(dir.path()).1, [intent(3)]);
    }

    #[test]
    fn the_name_of_the_last_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (intents, _) = reopen(dir.path());
        intents.begin(intent(1)).unwrap();
        let renamed = Intent {
            name: "renamed.jpg".to_owned(),
            ..intent(1)
        };
        intents.begin(renamed.clone()).unwrap();
        assert_eq!(reopen(dir.path()).1, [renamed]);
    }

    #[test]
    fn a_torn_tail_is_passed_over_and_spoils_nothing_that_follows() {
        let dir = tempfile::tempdir().unwrap();
        let (intents, _) = reopen(dir.path());
        intents.begin(intent(1)).unwrap();
        intents.begin(intent(2)).unwrap();
        damage(dir.path(), |text| text.truncate(text.len() - 5));
        let (intents, left) = reopen(dir.path());
        assert_eq!(left, [intent(1)]);
        intents.begin(intent(3)).unwrap();
        assert_eq!(reopen(dir.path()).1, [intent(1), intent(3)]);
    }

    #[test]
    fn a_ragged_log_that_could_not_be_rewritten_takes_lines_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        reopen(dir.path()).0.begin(intent(1)).unwrap();
        damage(dir.path(), |text| text.extend_from_slice(b"0123"));
        std::fs::create_dir(dir.path().join("intents.log.new")).unwrap();
        let (intents, left) = reopen(dir.path());
        assert_eq!(left, [intent(1)]);
        intents.begin(intent(2)).unwrap();
        assert_eq!(reopen(dir.path()).1, [intent(1), intent(2)]);
    }

    #[test]
    fn a_flipped_bit_costs_its_own_line_only() {
        let dir = tempfile::tempdir().unwrap();
        let (intents, _) = reopen(dir.path());
        (1..=3).for_each(|content| intents.begin(intent(content)).unwrap());
        damage(dir.path(), |text| {
            let at = text.iter().position(|byte| *byte == b'\n').unwrap() + 40;
            text[at] ^= 1;
        });
        assert_eq!(reopen(dir.path()).1, [intent(1), intent(3)]);
    }

    #[test]
    fn a_large_log_shrinks_to_what_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let (intents, _) = reopen(dir.path());
        intents.begin(intent(1)).unwrap();
        assert!(!intents.compact_if_large().unwrap());
        let mut content = 2;
        while intents.log.lock().length <= LARGE {
            intents.begin(intent(content)).unwrap();
            intents.end(ContentId(content)).unwrap();
            content += 1;
        }
        assert!(intents.compact_if_large().unwrap());
        assert_eq!(
            std::fs::metadata(dir.path().join("intents.log"))
                .unwrap()
                .len(),
            line::encode(&Line::Begin(intent(1))).len() as u64
        );
        intents.begin(intent(7)).unwrap();
        assert_eq!(reopen(dir.path()).1, [intent(1), intent(7)]);
    }

    #[test]
    fn lines_that_come_during_a_rewriting_are_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (intents, _) = reopen(dir.path());
        std::thread::scope(|scope| {
            let rewriting = scope.spawn(|| (0..20).for_each(|_| intents.compact().unwrap()));
            let mut content = 0;
            while !rewriting.is_finished() || content < 50 {
                content += 1;
                intents.begin(intent(content)).unwrap();
                if content % 3 != 0 {
                    intents.end(ContentId(content)).unwrap();
                }
            }
        });
        let open = intents.opened();
        assert!(open.iter().all(|id| id.0 % 3 == 0) && open.len() > 15);
        let left: Vec<ContentId> = reopen(dir.path())
            .1
            .iter()
            .map(|intent| intent.content)
            .collect();
        assert_eq!(left, open);
    }

    proptest! {
        #[test]
        fn no_log_however_damaged_stops_a_start(
            text in proptest::collection::vec(any::<u8>(), 0..300),
            cut in 0usize..400,
        ) {
            let mut log: Vec<u8> = (1..=3).flat_map(|n| line::encode(&Line::Begin(intent(n)))).collect();
            log.truncate(cut);
            log.extend(text);
            let (open, _) = replay(&log);
            prop_assert!(open.values().all(|found| *found == intent(found.content.0)));
        }
    }
}
