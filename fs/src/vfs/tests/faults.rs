//! A disk that fails or is full, at every call in turn.
//!
//! The same scenario as in [`power`](super::power), once for each call that it makes of the disk, with
//! that call failing: alone, or with all that follow until the application has heard of it. What fails
//! is told, what is acknowledged is true, nothing waits for ever, and once the disk is well everything
//! gets to the drive. A start that cannot read its disk is refused, and the next one finds everything.

use futures_util::{StreamExt as _, stream};

use super::fragile_disk::{Call, Fault, FragileDisk, Left, Trouble};
use super::model::{Model, Step, apply, let_go, listing, perform};
use super::power::{allowed, dump, flat, record, scenario, settle, start, while_read};
use super::*;

/// Nothing takes half of this on a busy machine: what does, hangs.
const HANGS: Duration = Duration::from_secs(30);

/// What a step that failed may have left: an application that writes into a full disk finds some of it
/// there.
fn leavings(step: &Step) -> Vec<Step> {
    let half = |bytes: &Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    match step {
        Step::Put(at, bytes) => vec![
            step.clone(),
            Step::Put(*at, half(bytes)),
            Step::Put(*at, Vec::new()),
        ],
        Step::Append(at, bytes) => vec![step.clone(), Step::Append(*at, half(bytes))],
        other => vec![other.clone()],
    }
}

/// All that may be there.
#[derive(Clone)]
struct Possible(Vec<Model>);

impl Possible {
    fn after(&mut self, step: &Step, done: &Result<(), VfsError>) {
        let with = |step: &Step, all: &[Model]| -> Vec<Model> {
            let mut all = all.to_vec();
            all.retain_mut(|model| apply(model, step));
            all
        };
        if done.is_ok() {
            self.0 = with(step, &self.0);
            return;
        }
        let mut more: Vec<Model> = leavings(step)
            .iter()
            .flat_map(|left| with(left, &self.0))
            .collect();
        self.0.append(&mut more);
    }

    fn is(&mut self, found: &Model, what: &str) {
        let possible = self.0.clone();
        self.0.retain(|model| model == found);
        assert!(
            !self.0.is_empty(),
            "{what}: {found:?}\nbut not one of {possible:?}"
        );
    }
}

/// The disk is well again: whatever is waiting for it gets there.
async fn recovers(rig: &Rig, what: &str) {
    let well = async { while rig.vfs.fsync_dir().await.is_err() {} };
    let in_time = tokio::time::timeout(HANGS, well).await;
    assert!(in_time.is_ok(), "{what}: the journal stays broken");
}

/// What is there after a power cut that takes all it can.
async fn after_a_cut(rig: &Rig, disk: &FragileDisk, durability: Durability) -> Model {
    let dir = tempfile::tempdir().unwrap();
    disk.now().lay(Left::LEAST, dir.path());
    let drive = rig.drive.twin();
    drive.set_offline(true);
    let (after, _) = start(dir, drive, durability, "second").await;
    after.drive.set_offline(false);
    listing(&after).await
}

/// One run of the scenario with one fault. Whether the fault was met, and by what.
async fn run(
    steps: &[Step],
    at: usize,
    lasting: bool,
    trouble: Trouble,
    durability: Durability,
) -> Vec<Call> {
    let what = format!("call {at} ({trouble:?}, lasting: {lasting}, {durability:?})");
    let dir = tempfile::tempdir().unwrap();
    let (rig, disk) = start(dir, MemoryDrive::default(), durability, "first").await;
    let first = disk.calls() + at;
    let fault = if lasting {
        Fault::From(first)
    } else {
        Fault::Once(first)
    };
    disk.fail(fault, trouble);
    let mut possible = Possible(vec![Model::new()]);
    let mut struck = Vec::new();
    for step in steps {
        let done = tokio::time::timeout(HANGS, perform(&rig, step)).await;
        let done = done.unwrap_or_else(|_| panic!("{what}: {step:?} hangs"));
        // After a step that left less than it should, later ones may find nothing to work on.
        let moot = matches!(
            done,
            Err(VfsError::NotFound | VfsError::Exists | VfsError::NotDirectory)
        );
        if !moot {
            possible.after(step, &done);
        }
        if done.is_err() {
            struck.extend(disk.heal());
            recovers(&rig, &what).await;
            let what = format!("{what}: after {step:?}: {done:?}");
            if durability == Durability::Close {
                let left = after_a_cut(&rig, &disk, durability).await;
                possible.clone().is(&left, &format!("{what}, and a cut"));
            }
            possible.is(&listing(&rig).await, &what);
        }
    }
    struck.extend(disk.heal());
    let_go(&rig).await;
    recovers(&rig, &what).await;
    let found = listing(&rig).await;
    possible.is(&found, &what);
    // The drive has nothing of it yet but what the scenario itself has sent.
    assert_eq!(
        after_a_cut(&rig, &disk, durability).await,
        found,
        "{what}: cut, unsent"
    );
    for _ in 0..2 {
        rig.outbox.retry(None);
        settle(&rig).await;
    }
    assert!(rig.outbox.is_drained(), "{what}: {:?}", rig.vfs.status());
    assert_eq!(dump(&rig.drive), found, "{what}: what the drive has");
    assert_eq!(listing(&rig).await, found, "{what}: after all was sent");
    recovers(&rig, &what).await;

    let left = after_a_cut(&rig, &disk, durability).await;
    assert_eq!(left, found, "{what}: cut, with all sent");
    struck
}

/// Walks one kind of trouble over the calls of the scenario, each `stride`th from `from` on.
async fn walk(
    steps: &[Step],
    from: usize,
    stride: usize,
    lasting: bool,
    trouble: Trouble,
    durability: Durability,
) -> u64 {
    let calls = {
        let dir = tempfile::tempdir().unwrap();
        let (rig, disk) = start(dir, MemoryDrive::default(), durability, "first").await;
        let before = disk.calls();
        for step in steps {
            perform(&rig, step).await.unwrap();
        }
        disk.calls() - before
    };
    stream::iter((from..calls).step_by(stride))
        .map(|at| run(steps, at, lasting, trouble, durability))
        .buffer_unordered(8)
        .fold(0, async |met, struck| met + u64::from(!struck.is_empty()))
        .await
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn g5_a_disk_that_fails_or_is_full_at_any_call_loses_nothing_that_was_acknowledged() {
    // In short, every thirty-second call meets each kind of trouble.
    let stride = if std::env::var_os("GAUNTLET_ROUNDS").is_some() {
        1
    } else {
        32
    };
    let title = "EIO, ENOSPC and EMFILE at every call of the disk";
    gate_of_disk("G5-disk", title, stride, &flat(&scenario()));
}

#[test]
fn g5_a_disk_that_fails_or_is_full_loses_nothing_of_what_the_kernel_writes_by_itself() {
    let stride = if std::env::var_os("GAUNTLET_ROUNDS").is_some() {
        1
    } else {
        96
    };
    let title = "the same of files that are passed through";
    let steps = flat(&while_read(scenario()));
    gate_of_disk("G5-through", title, stride, &steps);
}

fn gate_of_disk(name: &str, title: &str, stride: usize, steps: &[Step]) {
    gate::run(name, title, 1, |seed| {
        runtime().block_on(async {
            let (mut from, mut met) = (usize::try_from(seed).unwrap(), 0);
            for durability in [Durability::Close, Durability::Fsync] {
                for lasting in [false, true] {
                    for trouble in [Trouble::Broken, Trouble::Full, Trouble::Exhausted] {
                        met +=
                            walk(steps, from % stride, stride, lasting, trouble, durability).await;
                        from += 3; // another part of the calls
                    }
                }
            }
            vec![("faults", met)]
        })
    });
}

#[test]
fn g5_a_start_on_a_disk_that_fails_is_refused_or_true_and_the_next_one_is_whole() {
    let title = "EIO, ENOSPC and EMFILE at every call of a start";
    gate::run("G5-start", title, 1, |_| {
        runtime().block_on(async {
            let groups = scenario();
            let steps = flat(&groups);
            let cuts = record(&groups, Durability::Close).await;
            let mut met = 0;
            for cut in cuts.iter().step_by(cuts.len() / 4 + 1).skip(1) {
                for trouble in [Trouble::Broken, Trouble::Full, Trouble::Exhausted] {
                    let mut at = 0;
                    loop {
                        let what = format!("start at {}, call {at} ({trouble:?})", cut.number);
                        let dir = tempfile::tempdir().unwrap();
                        cut.moment.lay(Left::MOST, dir.path());
                        let path = dir.path().to_owned();
                        let disk = FragileDisk::over(&path, "first");
                        disk.fail(Fault::Once(at), trouble);
                        let drive = Arc::new(cut.drive.twin());
                        let durability = Durability::Close;
                        let begun = Rig::start_on(disk.clone(), dir, drive.clone(), durability);
                        let begun = tokio::time::timeout(HANGS, begun).await;
                        let begun = begun.unwrap_or_else(|_| panic!("{what} hangs"));
                        let over = at >= disk.calls();
                        met += u64::from(!disk.heal().is_empty());
                        let allowed = allowed(&steps, &cut.known, true);
                        if let Ok(rig) = &begun {
                            recovers(rig, &what).await;
                            let found = listing(rig).await;
                            assert!(allowed.contains(&found), "{what}: {found:?}");
                        }
                        // And once more, with whatever that one has left.
                        let again = tempfile::tempdir().unwrap();
                        disk.now().lay(Left::MOST, again.path());
                        let (rig, _) = start(again, drive.twin(), durability, "first").await;
                        let found = listing(&rig).await;
                        assert!(allowed.contains(&found), "{what}, again: {found:?}");
                        if over {
                            break;
                        }
                        at += 1;
                    }
                }
            }
            vec![("faults", met)]
        })
    });
}
