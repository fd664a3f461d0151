//! What a disk, or somebody with a mouse, does to the files of the state while the daemon is down.
//!
//! The scenario of [`power`](super::power) up to some moment, then one file of the state is removed, cut, flipped
//! by a bit or emptied by a sector. The start goes on. Of a content, everything but the file that it
//! belonged to is as it was, and that one is fetched again, or a person is told. Of the journal, the intents or the
//! changes, no byte that the drive does not have is lost: it is in the folder, or in the quarantine.
//! And whatever is read or sent is something that somebody wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::fragile_disk::Left;
use super::model::{Model, apply};
use super::power::{Cut, dump, ever_written, flat, record, scenario, settle, start};
use super::*;

/// Damages at as many moments, in a round.
const TIMES: usize = 60;

#[derive(Clone, Copy, Debug)]
enum Harm {
    Removed,
    Cut,
    Flipped,
    Emptied,
}

impl Harm {
    fn apply(self, file: &Path, dice: &mut StdRng) {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Self::Removed => return fs::remove_file(file).unwrap(),
            Self::Cut => bytes.truncate(dice.random_range(0..bytes.len())),
            Self::Flipped => {
                let at = dice.random_range(0..bytes.len());
                bytes[at] ^= 1 << dice.random_range(0..8);
            }
            Self::Emptied => {
                let at = dice.random_range(0..bytes.len()) / 512 * 512;
                let end = bytes.len().min(at + 512);
                bytes[at..end].fill(0);
            }
        }
        fs::write(file, bytes).unwrap();
    }
}

/// All files below a folder that are not empty, as paths below it.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.len() > 0 {
                found.push(entry.path().strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The folder as an application sees it; a file that is refused as damaged has the reason.
async fn seen(rig: &Rig) -> BTreeMap<String, Option<Result<Vec<u8>, String>>> {
    let mut seen = BTreeMap::new();
    let mut dirs = vec![(String::new(), NodeId::ROOT)];
    while let Some((path, dir)) = dirs.pop() {
        for entry in rig.vfs.list(dir).await.unwrap() {
            let path = format!("{path}{}", entry.name);
            if entry.attr.kind == Kind::Directory {
                dirs.push((format!("{path}/"), entry.attr.node));
                seen.insert(path, None);
                continue;
            }
            let bytes = match rig.get(dir, &entry.name).await {
                Ok(bytes) => Ok(bytes),
                Err(VfsError::Damaged(why)) => Err(why),
                Err(error) => panic!("{path}: {error:?}"),
            };
            seen.insert(path, Some(bytes));
        }
    }
    seen
}

/// All bytes that were put aside.
fn put_aside(rig: &Rig) -> BTreeSet<Vec<u8>> {
    let dir = rig.dir.path().join("quarantine");
    let files = files(&dir).into_iter();
    files
        .map(|file| fs::read(dir.join(file)).unwrap())
        .collect()
}

/// One damage; whether the start had something to say about it.
async fn damaged(cut: &Cut, harm: Harm, dice: &mut StdRng) -> bool {
    let steps = flat(&scenario());
    let mut model = Model::new();
    for (_, step) in steps
        .iter()
        .enumerate()
        .filter(|(number, _)| cut.known.begun.contains(number))
    {
        apply(&mut model, step);
    }
    let dir = tempfile::tempdir().unwrap();
    cut.moment.lay(Left::MOST, dir.path());
    let Some(file) = files(dir.path()).choose(dice).cloned() else {
        return false;
    };
    harm.apply(&dir.path().join(&file), dice);
    let what = format!("{harm:?} {} before call {}", file.display(), cut.number);

    let on_drive = dump(&cut.drive);
    let (rig, _) = start(dir, cut.drive.twin(), Durability::Close, "first").await;
    rig.sync.round().await.unwrap();
    let seen = seen(&rig).await;
    let parked = rig.vfs.status().parked;
    let told = |path: &str| {
        let named = |line: &String| line.contains(path);
        parked.iter().any(|it| it.path == path) || rig.report.iter().any(named)
    };
    let ever = ever_written(&steps);
    for (path, bytes) in &seen {
        if let Some(Ok(bytes)) = bytes {
            assert!(ever.contains(bytes), "{what}: nobody wrote {path}");
        }
    }
    let is_content = file.starts_with("content");
    for (path, bytes) in &model {
        let found = seen.get(path);
        let same = match (bytes, found) {
            (Some(bytes), Some(Some(Ok(found)))) => bytes == found,
            (None, Some(None)) => true,
            _ => false,
        };
        if is_content {
            assert!(
                same || told(path),
                "{what}: {path} is {found:?}: {:?}",
                rig.report
            );
        } else if let Some(bytes) = bytes.as_ref().filter(|_| !same) {
            let here = seen
                .values()
                .flatten()
                .any(|found| found.as_ref() == Ok(bytes));
            let there = on_drive.values().any(|sent| sent.as_ref() == Some(bytes));
            let kept = here || there || bytes.is_empty() || put_aside(&rig).contains(bytes);
            assert!(kept, "{what}: {path} is lost: {:?}", rig.report);
        }
    }
    settle(&rig).await;
    let sent = dump(&rig.drive);
    let strange = sent.values().flatten().find(|bytes| !ever.contains(*bytes));
    assert_eq!(strange, None, "{what}: nobody wrote this");
    !rig.report.is_empty() || !parked.is_empty()
}

#[test]
fn g5_a_damaged_file_of_the_state_is_found_and_told_and_nothing_else_is_lost() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    gate::run("G5-decay", "a damaged file of the state", 4, |seed| {
        let mut dice = StdRng::seed_from_u64(seed);
        runtime.block_on(async {
            let mut cuts = record(&scenario(), Durability::Close).await;
            cuts.retain(|cut| cut.known.begun == cut.known.acknowledged);
            let mut told = 0;
            for _ in 0..TIMES {
                let cut = cuts.choose(&mut dice).unwrap();
                let all = [Harm::Removed, Harm::Cut, Harm::Flipped, Harm::Emptied];
                let harm = *all.choose(&mut dice).unwrap();
                told += u64::from(damaged(cut, harm, &mut dice).await);
            }
            vec![
                ("files damaged", TIMES as u64),
                ("told of at the start", told),
            ]
        })
    });
}
