//! A kill and a power cut at every call of the disk, in a scenario that has all that applications do.
//!
//! The scenario runs once. Before each call the disk is looked at, with what was acknowledged until
//! then and what was under way; later each of these moments is started from, in several states of
//! what no barrier covers. What was acknowledged is there to the byte, what was under way is there or
//! not, and the drive never gets anything else.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::fragile_disk::{Call, FragileDisk, Left, Moment};
use super::model::{Model, PLACES, Step, apply, listing, perform};
use super::*;

/// What was known at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) begun: BTreeSet<usize>,
    pub(super) acknowledged: BTreeSet<usize>,
}

/// One call of the disk, and all that was before it.
pub(super) struct Cut {
    pub(super) number: usize,
    pub(super) call: Call,
    pub(super) moment: Moment,
    pub(super) known: Known,
    pub(super) drive: MemoryDrive,
}

fn place(path: &str) -> usize {
    PLACES.iter().position(|place| *place == path).unwrap()
}

fn put(path: &str, bytes: &[u8]) -> Step {
    Step::Put(place(path), bytes.to_vec())
}

/// Several sectors, all of them different.
fn picture(seed: u8) -> Vec<u8> {
    (0..2000_u32)
        .map(|n| u8::try_from(n / 8).unwrap() ^ seed)
        .collect()
}

/// What applications do; steps in one group are under way together.
pub(super) fn scenario() -> Vec<Vec<Step>> {
    let alone = |steps: Vec<Step>| steps.into_iter().map(|step| vec![step]);
    let mut all = Vec::new();
    all.extend(alone(vec![
        Step::Round,
        put("a", &picture(1)),
        put("a", &picture(2)),
        Step::Mkdir(place("d")),
        put("d/a", &picture(3)),
        Step::Rename(place("a"), place("d/b")),
        put("b", b""),
        Step::Append(place("d/b"), picture(4)),
        Step::Drain,
        put("d/a", &picture(5)),
    ]));
    all.push(vec![put("a", &picture(6)), put("e", &picture(7))]);
    all.push(vec![
        Step::Append(place("a"), picture(8)),
        put("d/e", &picture(9)),
        Step::Unlink(place("b")),
        Step::Cut(place("e"), 11),
    ]);
    all.extend(alone(vec![
        Step::Evict,
        Step::Rename(place("a"), place("d/a")),
        Step::Unlink(place("d/e")),
        Step::WriteUnlinked(place("e"), picture(10)),
        Step::Rename(place("d"), place("e")),
        Step::Drain,
        Step::Round,
        put("b", &picture(11)),
        Step::Cut(place("e/a"), 0),
        Step::Rename(place("e/b"), place("a")),
        Step::Exchange(place("a"), place("b")),
        Step::Mkdir(place("d")),
        Step::Rmdir(place("d")),
        Step::Drain,
        Step::Append(place("a"), picture(12)),
    ]));
    all
}

/// The same, of files that somebody reads all the time.
pub(super) fn while_read(groups: Vec<Vec<Step>>) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    for (number, group) in groups.into_iter().enumerate() {
        let touched: Vec<Step> = group
            .iter()
            .filter_map(|step| match step {
                Step::Put(at, _)
                | Step::Append(at, _)
                | Step::Cut(at, _)
                | Step::WriteUnlinked(at, _)
                | Step::Unlink(at)
                | Step::Rename(at, _)
                | Step::Exchange(at, _)
                | Step::Sync(at) => Some(Step::Hold(*at)),
                _ => None,
            })
            .collect();
        all.extend(touched.into_iter().map(|step| vec![step]));
        all.push(group);
        if number % 4 == 3 {
            all.push(vec![Step::LetGo]);
        }
    }
    all
}

pub(super) fn flat(groups: &[Vec<Step>]) -> Vec<Step> {
    groups.iter().flatten().cloned().collect()
}

pub(super) async fn start(
    dir: tempfile::TempDir,
    drive: MemoryDrive,
    durability: Durability,
    boot: &str,
) -> (Rig, Arc<FragileDisk>) {
    let disk = FragileDisk::over(dir.path(), boot);
    let rig = Rig::start_on(disk.clone(), dir, Arc::new(drive), durability).await;
    (rig.unwrap(), disk)
}

/// Runs the scenario; a cut for each call of the disk.
pub(super) async fn record(groups: &[Vec<Step>], durability: Durability) -> Vec<Cut> {
    let dir = tempfile::tempdir().unwrap();
    let (rig, disk) = start(dir, MemoryDrive::default(), durability, "first").await;
    let (known, cuts) = (Arc::new(Mutex::new(Known::default())), Arc::default());
    let all: Arc<Mutex<Vec<Cut>>> = Arc::clone(&cuts);
    let (knows, drive) = (known.clone(), rig.drive.clone());
    disk.watch(move |number, call, moment| {
        let cut = Cut {
            number,
            call,
            moment,
            known: knows.lock().clone(),
            drive: drive.twin(),
        };
        if !matches!(call, Call::Read) {
            all.lock().push(cut); // reading changes nothing
        }
    });
    let mut number = 0;
    for group in groups {
        let together = group.iter().map(|step| {
            let (at, known, rig) = (number, &known, &rig);
            number += 1;
            async move {
                known.lock().begun.insert(at);
                let done = perform(rig, step).await;
                assert!(done.is_ok(), "{step:?}: {done:?}");
                known.lock().acknowledged.insert(at);
            }
        });
        join_all(together).await;
    }
    rig.vfs.quiesce(Duration::from_secs(10)).await;
    rig.vfs.ledger().journal().close();
    disk.unwatch();
    std::mem::take(&mut *cuts.lock())
}

/// What may be there: all that was acknowledged, with any of what was under way. A kill may come when
/// a file has been cut and its bytes are yet to come.
pub(super) fn allowed(steps: &[Step], known: &Known, killed: bool) -> Vec<Model> {
    let mut all = vec![Model::new()];
    for (number, step) in steps.iter().enumerate() {
        if !known.begun.contains(&number) {
            continue;
        }
        let mut after: Vec<Model> = all.clone();
        for model in &mut after {
            apply(model, step);
        }
        if known.acknowledged.contains(&number) {
            all = after;
            continue;
        }
        if let (true, Step::Put(at, _)) = (killed, step) {
            let mut cut = all.clone();
            let empty = Step::Put(*at, Vec::new());
            for model in &mut cut {
                apply(model, &empty);
            }
            all.append(&mut cut);
        }
        all.append(&mut after);
    }
    all
}

pub(super) fn dump(drive: &MemoryDrive) -> Model {
    drive
        .dump()
        .into_iter()
        .map(|(path, bytes)| (path.trim_end_matches('/').to_owned(), bytes))
        .collect()
}

/// Starts from a moment, and looks at everything.
async fn check(cut: &Cut, left: Left, boot: &str, steps: &[Step], durability: Durability) {
    let what = format!(
        "before call {} ({:?}), {left:?} in boot {boot}",
        cut.number, cut.call
    );
    let dir = tempfile::tempdir().unwrap();
    cut.moment.lay(left, dir.path());
    let (rig, _) = start(dir, cut.drive.twin(), durability, boot).await;
    let found = listing(&rig).await;
    let killed = boot == "first";
    if killed || durability == Durability::Close {
        let allowed = allowed(steps, &cut.known, killed);
        assert!(
            allowed.contains(&found),
            "{what}: {found:?}\nbut not one of {allowed:?}\n{:?}",
            rig.report
        );
    } else {
        not_torn(&found, steps, &cut.known, &what);
    }
    // Whatever is on the disk has an owner, or is put aside.
    let ledger = rig.vfs.ledger().clone();
    let written = tokio::task::spawn_blocking(move || ledger.journal().everything().wait()).await;
    written.unwrap().unwrap();
    let owned: BTreeSet<_> = {
        let books = rig.vfs.ledger().books();
        let held = books.tree.nodes().filter_map(|node| node.held.as_ref());
        held.map(|held| held.content).collect()
    };
    let there: BTreeSet<_> = rig
        .vfs
        .store()
        .list()
        .unwrap()
        .iter()
        .map(|f| f.id)
        .collect();
    assert_eq!(there, owned, "{what}");
    let exact = killed || durability == Durability::Close;
    settle(&rig).await;
    if !exact {
        // The drive may have what our own disk has lost: then it is the drive's word that counts.
        for _ in 0..3 {
            rig.sync.round().await.unwrap();
            settle(&rig).await;
        }
    }
    assert!(rig.outbox.is_drained(), "{what}: {:?}", rig.vfs.status());
    let sent = dump(&rig.drive);
    if exact {
        assert_eq!(sent, found, "{what}: what the drive has");
        return;
    }
    assert_eq!(sent, listing(&rig).await, "{what}: what the drive has");
    let ever = ever_written(steps);
    let strange = sent.values().flatten().find(|bytes| !ever.contains(*bytes));
    assert_eq!(strange, None, "{what}: nobody wrote this");
}

pub(super) async fn settle(rig: &Rig) {
    rig.drain().await;
    rig.give_up_seeking();
    rig.outbox.retry(None);
    rig.drain().await;
}

/// Every content that any file ever had.
pub(super) fn ever_written(steps: &[Step]) -> BTreeSet<Vec<u8>> {
    let (mut model, mut ever) = (Model::new(), BTreeSet::from([Vec::new()]));
    for step in steps {
        apply(&mut model, step);
        ever.extend(model.values().flatten().cloned());
    }
    ever
}

/// With `durability = "fsync"`, after a power cut: what an fsync covers is there or newer, and
/// nothing is there that never was.
fn not_torn(found: &Model, steps: &[Step], known: &Known, what: &str) {
    let ever = ever_written(steps);
    for (number, path) in PLACES.iter().enumerate() {
        let (history, moved) = history(number, steps, known);
        let now = found.get(*path);
        let once = now.is_none_or(|now| now.as_ref().is_none_or(|bytes| ever.contains(bytes)));
        let mut history = history.iter().map(|model| model.get(*path));
        assert!(
            history.any(|then| then == now) || (moved && once),
            "{what}: {path} is {now:?}, and never was, out of {known:?}"
        );
    }
}

/// What was at a place since an fsync of what is there, and whether that may have been moved since:
/// then what is there may be older, as the file was that is there now.
fn history(place: usize, steps: &[Step], known: &Known) -> (Vec<Model>, bool) {
    let (mut model, mut seen, mut moved) = (Model::new(), vec![Model::new()], false);
    let below =
        |at: &usize| format!("{}/", PLACES[place]).starts_with(&format!("{}/", PLACES[*at]));
    for (number, step) in steps.iter().enumerate() {
        if !known.begun.contains(&number) {
            continue;
        }
        apply(&mut model, step);
        match step {
            Step::Sync(at) if *at == place && known.acknowledged.contains(&number) => {
                seen.clear();
                moved = false;
            }
            // Cut to nothing first, which is a content like any other.
            Step::Put(at, _) if *at == place => {
                seen.push(Model::from([(PLACES[*at].to_owned(), Some(Vec::new()))]));
            }
            Step::Rename(from, to) | Step::Exchange(from, to) => {
                moved |= below(from) || below(to);
            }
            _ => {}
        }
        seen.push(model.clone());
    }
    (seen, moved)
}

/// Starts from all moments; how many moments and starts these were.
async fn walk(
    groups: Vec<Vec<Step>>,
    durability: Durability,
    mixes: u64,
    seed: u64,
) -> Vec<(&'static str, u64)> {
    let cuts = record(&groups, durability).await;
    let steps = &flat(&groups);
    let mut starts = Vec::new();
    let mut before: Option<&Cut> = None;
    for cut in &cuts {
        let new = |left| {
            before.is_none_or(|it| it.known != cut.known || !cut.moment.same(&it.moment, left))
        };
        if new(Left::MOST) {
            starts.push((cut, Left::MOST, "first"));
        }
        let extremes = [Left::LEAST, Left::NAMES, Left::BYTES, Left::MOST];
        // The last two are much like a mix: for a long run.
        let extremes = &extremes[..if mixes > 1 { 4 } else { 2 }];
        let differing = extremes.iter().filter(|left| new(**left));
        starts.extend(differing.map(|left| (cut, *left, "second")));
        for mix in 0..mixes {
            let seed = seed.wrapping_mul(1 << 32) + ((cut.number as u64) << 8) + mix;
            starts.push((cut, Left::mixed(seed), "second"));
        }
        before = Some(cut);
    }
    let count = starts.len() as u64;
    stream::iter(starts)
        .for_each_concurrent(4, |(cut, left, boot)| async move {
            check(cut, left, boot, steps, durability).await;
        })
        .await;
    vec![("moments", cuts.len() as u64), ("starts", count)]
}

/// Runs a walk as a gate of the gauntlet.
fn gate(name: &str, title: &str, groups: &[Vec<Step>], durability: Durability) {
    let mixes = if std::env::var_os("GAUNTLET_ROUNDS").is_some() {
        6
    } else {
        1
    };
    gate::run(name, title, 1, |seed| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(walk(groups.to_vec(), durability, mixes, seed))
    });
}

#[test]
fn g7_what_was_acknowledged_survives_a_cut_before_every_call_of_the_disk() {
    let title = "a cut before every call of the disk, `close`";
    gate("G7-close", title, &scenario(), Durability::Close);
}

#[test]
fn g7_what_was_acknowledged_survives_a_cut_while_the_kernel_reads_and_writes_by_itself() {
    let title = "the same of files that are passed through";
    gate(
        "G7-through",
        title,
        &while_read(scenario()),
        Durability::Close,
    );
}

#[test]
fn g7_with_fsync_what_an_fsync_covers_survives_a_cut_before_every_call_of_the_disk() {
    let mut groups = scenario();
    // What is synced is what was written just before, whatever it is called by then.
    groups.insert(3, vec![Step::Sync(place("a"))]);
    groups.insert(8, vec![Step::Sync(place("d/b"))]);
    groups.insert(13, vec![Step::Sync(place("d/a"))]);
    groups.push(vec![Step::Sync(place("a"))]);
    let title = "a cut before every call of the disk, `fsync`";
    gate("G7-fsync", title, &groups, Durability::Fsync);
}
