//! Random work in a mounted folder, against a plain map: what was acknowledged is written down, and
//! what was under way when the folder went away may be either way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::disk::close;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A file: its bytes, and how many versions it may have on the drive: one for each close after a
/// change, and one for each rename, which makes one on business drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    pub(crate) versions: usize,
}

/// Paths below the folder; folders have no bytes.
pub(crate) type Tree = BTreeMap<String, Option<Held>>;

/// Work that goes on until the folder goes away.
pub(crate) struct Work {
    root: PathBuf,
    dice: StdRng,
    names: usize,
    /// What was acknowledged.
    pub(crate) tree: Tree,
    /// All that was acknowledged, in order, for whoever has to find out what went wrong.
    history: Vec<String>,
    /// How many things were done, for whoever wants to end them in the middle of one.
    pub(crate) done: Arc<AtomicUsize>,
    /// The end has begun: what is acknowledged from now on reaches nobody.
    pub(crate) ended: Arc<AtomicBool>,
    /// Every content that was ever begun.
    pub(crate) made: Vec<Vec<u8>>,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Write(String, Vec<u8>),
    /// Beside it, then over it, as an editor saves.
    Save(String, Vec<u8>),
    Unlink(String),
    Mkdir(String),
    Rmdir(String),
    Rename(String, String),
}

impl Deed {
    /// What it is, without the bytes.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Write(path, bytes) => format!("write {} bytes to {path}", bytes.len()),
            Self::Save(path, bytes) => format!("save {} bytes as {path}", bytes.len()),
            other => format!("{other:?}"),
        }
    }
}

impl Work {
    /// Work below a folder, all of it following from a seed.
    pub(crate) fn new(root: &Path, seed: u64) -> Self {
        Self {
            root: root.to_owned(),
            dice: StdRng::seed_from_u64(seed),
            names: 0,
            tree: Tree::new(),
            history: Vec::new(),
            done: Arc::default(),
            ended: Arc::default(),
            made: Vec::new(),
        }
    }

    /// All that is in the folder.
    ///
    /// # Panics
    /// Something of it cannot be read.
    pub(crate) fn here(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        read(&self.root)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn some(&mut self, wanted: impl Fn(&Option<Held>) -> bool) -> Option<String> {
        let all: Vec<&String> = self
            .tree
            .iter()
            .filter(|(_, held)| wanted(held))
            .map(|(path, _)| path)
            .collect();
        (!all.is_empty()).then(|| all[self.dice.random_range(0..all.len())].clone())
    }

    /// A name that nobody has had, in the folder itself or in one of it.
    fn fresh(&mut self, ending: &str) -> String {
        self.names += 1;
        let name = format!("{}{ending}", self.names);
        match self.some(Option::is_none) {
            Some(dir) if self.dice.random_bool(0.6) => format!("{dir}/{name}"),
            _ => name,
        }
    }

    /// Bytes that nothing else makes.
    fn bytes(&mut self) -> Vec<u8> {
        self.names += 1;
        let mut bytes = format!("bytes {} ", self.names).into_bytes();
        let length = self.dice.random_range(1..60_000);
        bytes.resize(bytes.len() + length, self.dice.random());
        self.made.push(bytes.clone());
        bytes
    }

    /// What to do next.
    pub(crate) fn next(&mut self) -> Deed {
        let file = |held: &Option<Held>| held.is_some();
        loop {
            return match self.dice.random_range(0..16) {
                0..5 => Deed::Write(self.fresh(".gif"), self.bytes()),
                5..7 => match self.some(file) {
                    Some(path) => Deed::Write(path, self.bytes()),
                    None => continue,
                },
                7..9 => match self.some(file) {
                    Some(path) => Deed::Save(path, self.bytes()),
                    None => continue,
                },
                9..11 => match self.some(file) {
                    Some(path) => Deed::Unlink(path),
                    None => continue,
                },
                11 => Deed::Mkdir(self.fresh("")),
                12 => match self.some(Option::is_none) {
                    Some(dir) if !self.tree.keys().any(|path| within(path, &dir)) => {
                        Deed::Rmdir(dir)
                    }
                    _ => continue,
                },
                13..15 => match self.some(file) {
                    Some(from) => Deed::Rename(from, self.fresh(".gif")),
                    None => continue,
                },
                _ => match self.some(Option::is_none) {
                    Some(from) => {
                        let to = self.fresh("");
                        if within(&to, &from) {
                            continue;
                        }
                        Deed::Rename(from, to)
                    }
                    None => continue,
                },
            };
        }
    }

    /// Works until something fails, which the folder's end is meant to be: what was under way.
    pub(crate) fn go_on(&mut self) -> (Deed, io::Error) {
        loop {
            let deed = self.next();
            if let Err(error) = self.perform(&deed) {
                return (deed, error);
            }
            if self.ended.load(Ordering::Acquire) {
                return (deed, io::ErrorKind::Interrupted.into());
            }
            self.note(&deed);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does something.
    pub(crate) fn perform(&self, deed: &Deed) -> io::Result<()> {
        match deed {
            Deed::Write(path, bytes) => write(&self.at(path), bytes),
            Deed::Save(path, bytes) => {
                let aside = self.at(&aside(path));
                write(&aside, bytes)?;
                fs::rename(aside, self.at(path))
            }
            Deed::Unlink(path) => fs::remove_file(self.at(path)),
            Deed::Mkdir(path) => fs::create_dir(self.at(path)),
            Deed::Rmdir(path) => fs::remove_dir(self.at(path)),
            Deed::Rename(from, to) => fs::rename(self.at(from), self.at(to)),
        }
    }

    /// Writes down that it was acknowledged.
    pub(crate) fn note(&mut self, deed: &Deed) {
        apply(&mut self.tree, deed);
        self.history.push(deed.brief());
    }

    /// What was done to a place, or around it.
    fn history_of(&self, path: &str) -> String {
        let of_it = |line: &&String| {
            line.split(['"', ' ']).any(|word| {
                word == path || (!word.is_empty() && (within(path, word) || within(word, path)))
            })
        };
        let lines: Vec<&str> = self
            .history
            .iter()
            .filter(of_it)
            .map(String::as_str)
            .collect();
        lines.join("; ")
    }

    /// Looks what the folder holds now, after it went away in the middle of `deed`; whatever is there
    /// counts from now on.
    ///
    /// # Panics
    /// Something that was acknowledged is lost or undone, or is there though it was never made.
    pub(crate) fn look(&mut self, deed: &Deed) {
        self.history.push(format!("killed in {}", deed.brief()));
        let before = self.tree.clone();
        let mut after = before.clone();
        apply(&mut after, deed);
        let doubtful = touched(deed);
        let seen = read(&self.root);
        let mut now = Tree::new();
        for path in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            let (was, will) = (before.get(path), after.get(path));
            let is = seen.get(path);
            if doubtful.iter().any(|it| path == it || within(path, it)) {
                continue;
            }
            assert!(
                matches(is, was) && was == will,
                "{path} was acknowledged as {} and is {}, after {}; before that: {}",
                brief(was),
                brief_bytes(is),
                deed.brief(),
                self.history_of(path)
            );
        }
        for (path, is) in &seen {
            let known = before.get(path).or_else(|| after.get(path));
            let either = matches(Some(is), before.get(path)) || matches(Some(is), after.get(path));
            let allowed = either || is_part_of(path, is.as_deref(), deed);
            assert!(
                allowed,
                "{path} is {}, after {}; before that: {}",
                brief_bytes(Some(is)),
                deed.brief(),
                self.history_of(path)
            );
            let versions = known.map_or(0, |held| held.as_ref().map_or(0, |held| held.versions));
            let held = is.as_ref().map(|bytes| Held {
                bytes: bytes.clone(),
                // The one under way, and one that the start may have saved.
                versions: versions + 2,
            });
            let untouched = before.get(path) == after.get(path) && known.is_some();
            let kept = before.get(path).cloned().filter(|_| untouched);
            now.insert(path.clone(), kept.unwrap_or(held));
        }
        // A rename shows one of its two ends, and a replaced or removed file one of its states.
        match deed {
            Deed::Rename(from, to) => {
                let ends = [from, to].map(|end| seen.contains_key(end));
                assert!(ends[0] != ends[1], "{deed:?} left {ends:?}");
                let end = if ends[0] { &before } else { &after };
                for path in end.keys() {
                    assert!(
                        !(within(path, from) || within(path, to)) || seen.contains_key(path),
                        "{path} is lost, after {}",
                        deed.brief()
                    );
                }
            }
            Deed::Save(path, _) => assert!(seen.contains_key(path), "{path} is lost in a save"),
            Deed::Write(path, _) if before.contains_key(path) => {
                assert!(seen.contains_key(path), "{path} is lost in an overwrite");
            }
            _ => {}
        }
        self.tree = now;
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = fs::File::create(path)?;
    // In pieces, so that it can be ended in between.
    for piece in bytes.chunks(16 * 1024) {
        file.write_all(piece)?;
    }
    close(file)
}

fn aside(path: &str) -> String {
    format!("{path}.part")
}

fn within(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn apply(tree: &mut Tree, deed: &Deed) {
    match deed {
        Deed::Write(path, bytes) => {
            let versions = tree
                .get(path)
                .and_then(Option::as_ref)
                .map_or(0, |held| held.versions);
            let held = Held {
                bytes: bytes.clone(),
                versions: versions + 1,
            };
            tree.insert(path.clone(), Some(held));
        }
        Deed::Save(path, bytes) => {
            let versions = tree
                .get(path)
                .and_then(Option::as_ref)
                .map_or(0, |held| held.versions);
            let held = Held {
                bytes: bytes.clone(),
                versions: versions + 2,
            };
            tree.remove(&aside(path)); // of an earlier save that was ended in the middle
            tree.insert(path.clone(), Some(held));
        }
        Deed::Unlink(path) | Deed::Rmdir(path) => drop(tree.remove(path)),
        Deed::Mkdir(path) => drop(tree.insert(path.clone(), None)),
        Deed::Rename(from, to) => {
            let moved: Vec<String> = tree
                .keys()
                .filter(|path| *path == from || within(path, from))
                .cloned()
                .collect();
            for path in moved {
                let held = tree.remove(&path).flatten().map(|held| Held {
                    versions: held.versions + 1,
                    ..held
                });
                tree.insert(format!("{to}{}", &path[from.len()..]), held);
            }
        }
    }
}

/// What may be either way when this was under way.
fn touched(deed: &Deed) -> Vec<String> {
    match deed {
        Deed::Write(path, _) | Deed::Unlink(path) | Deed::Mkdir(path) | Deed::Rmdir(path) => {
            vec![path.clone()]
        }
        Deed::Save(path, _) => vec![path.clone(), aside(path)],
        Deed::Rename(from, to) => vec![from.clone(), to.clone()],
    }
}

/// Whether this is what was being written, as far as it got.
fn is_part_of(path: &str, is: Option<&[u8]>, deed: &Deed) -> bool {
    match (deed, is) {
        (Deed::Write(at, bytes), Some(is)) => path == at && bytes.starts_with(is),
        (Deed::Save(at, bytes), Some(is)) => path == aside(at) && bytes.starts_with(is),
        _ => false,
    }
}

fn matches(is: Option<&Option<Vec<u8>>>, held: Option<&Option<Held>>) -> bool {
    match (is, held) {
        (None, None) => true,
        (Some(is), Some(held)) => is.as_ref() == held.as_ref().map(|held| &held.bytes),
        _ => false,
    }
}

fn brief(held: Option<&Option<Held>>) -> String {
    let bytes = held.map(|held| held.as_ref().map(|held| held.bytes.clone()));
    brief_bytes(bytes.as_ref())
}

fn brief_bytes(bytes: Option<&Option<Vec<u8>>>) -> String {
    match bytes {
        None => "absent".into(),
        Some(None) => "a folder".into(),
        Some(Some(bytes)) => {
            let start = &bytes[..bytes.len().min(16)];
            format!(
                "{:?}… of {} bytes",
                String::from_utf8_lossy(start),
                bytes.len()
            )
        }
    }
}

fn read(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut tree = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            let name = path.strip_prefix(root).expect("it is below");
            let name = name.to_string_lossy().into_owned();
            if path.is_dir() {
                tree.insert(name, None);
                open.push(path);
            } else {
                let bytes = fs::read(&path);
                tree.insert(
                    name,
                    Some(bytes.unwrap_or_else(|error| panic!("{}: {error}", path.display()))),
                );
            }
        }
    }
    tree
}
