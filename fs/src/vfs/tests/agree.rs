//! Random work against a plain map of paths to bytes: stops, kills, power cuts and evictions in between, and
//! another client who works on the same drive. The map and the mounted folder are equal after every
//! step, and at the end the drive has just the same.

use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::fragile_disk::{FragileDisk, Left};
use super::model::{
    Model, PLACES, Step, apply, is_dir, let_go, listing, moved, parent, perform, step,
};
use super::power::{dump, start};
use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// In the mounted folder, or between it and the drive.
    Do(Step),
    /// The daemon stops, and starts again.
    Restart,
    /// The daemon is killed, and starts again.
    Kill,
    /// The machine loses its power, and starts again. `fsync` promises nothing but what is asked for: with
    /// that, it is.
    Cut(Left),
    /// Another client writes a file.
    TheirPut(usize, Vec<u8>),
    /// Another client deletes a file, or a folder with all that is in it.
    TheirDelete(usize),
    /// Another client renames.
    TheirRename(usize, usize),
}

fn event() -> impl Strategy<Value = Event> {
    let place = || 0..PLACES.len();
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    let left = prop_oneof![
        1 => Just(Left::LEAST),
        1 => Just(Left::NAMES),
        1 => Just(Left::BYTES),
        3 => any::<u64>().prop_map(Left::mixed),
    ];
    prop_oneof![
        33 => step().prop_map(Event::Do),
        1 => Just(Event::Restart),
        2 => Just(Event::Kill),
        2 => left.prop_map(Event::Cut),
        3 => (place(), bytes).prop_map(|(at, bytes)| Event::TheirPut(at, bytes)),
        1 => place().prop_map(Event::TheirDelete),
        3 => (place(), place()).prop_map(|(from, to)| Event::TheirRename(from, to)),
    ]
}

/// The mounted folder, what should be in it, and the disk below.
struct Pair {
    rig: Rig,
    disk: Arc<FragileDisk>,
    durability: Durability,
    model: Model,
    boots: u32,
}

impl Pair {
    async fn new(durability: Durability) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (rig, disk) = start(dir, MemoryDrive::default(), durability, "boot 0").await;
        // From here on the drive tells of every change.
        rig.sync.round().await.unwrap();
        Self {
            rig,
            disk,
            durability,
            model: Model::new(),
            boots: 0,
        }
    }

    /// With `fsync`, what was closed is sealed and brought to the disk for whoever asks.
    async fn sync(&self) {
        if self.durability == Durability::Close {
            return;
        }
        for (number, path) in PLACES.iter().enumerate() {
            if matches!(self.model.get(*path), Some(Some(_))) {
                perform(&self.rig, &Step::Sync(number)).await.unwrap();
            }
        }
        self.rig.vfs.fsync_dir().await.unwrap();
    }

    /// Ends this run, and starts from what is left.
    async fn again(&mut self, left: Left) {
        let dir = tempfile::tempdir().unwrap();
        self.disk.now().lay(left, dir.path());
        self.disk = FragileDisk::over(dir.path(), &format!("boot {}", self.boots));
        let drive = self.rig.drive.clone();
        let started = Rig::start_on(self.disk.clone(), dir, drive, self.durability);
        self.rig = started.await.unwrap();
    }

    async fn take(&mut self, event: &Event) {
        if matches!(
            event,
            Event::TheirPut(..) | Event::TheirDelete(_) | Event::TheirRename(..)
        ) {
            let_go(&self.rig).await; // whoever reads sees what he has opened
        }
        match event {
            Event::Do(step) => {
                let allowed = apply(&mut self.model, step);
                let done = perform(&self.rig, step).await;
                assert_eq!(done.is_ok(), allowed, "{step:?}: {done:?}");
            }
            Event::Restart => {
                self.rig.vfs.quiesce(Duration::from_secs(10)).await;
                self.rig.vfs.ledger().journal().close();
                self.again(Left::MOST).await;
                assert_eq!(self.rig.report, [""; 0]);
            }
            Event::Kill => self.again(Left::MOST).await,
            Event::Cut(left) => {
                self.sync().await;
                self.boots += 1;
                self.again(*left).await;
            }
            Event::TheirPut(..) | Event::TheirDelete(_) | Event::TheirRename(..) => {
                if self.theirs(event) {
                    self.rig.sync.round().await.unwrap();
                }
            }
        }
    }

    /// Another client does something, where all that concerns it is the same here and there: what
    /// comes of two who change the same at once is for [`shared`](super::shared). Whether it did.
    fn theirs(&mut self, event: &Event) -> bool {
        match event {
            Event::TheirPut(at, bytes) => {
                let path = PLACES[*at];
                let Some(folder) = self
                    .free_or_same(path)
                    .filter(|_| !is_dir(&self.model, path))
                else {
                    return false;
                };
                let name = path.rsplit('/').next().expect("a name");
                self.rig.drive.put(folder.as_str(), name, bytes);
                self.model.insert(path.to_owned(), Some(bytes.clone()));
            }
            Event::TheirDelete(at) => {
                let path = PLACES[*at];
                let Some(item) = self.same_there(path).filter(|_| self.all_same_below(path)) else {
                    return false;
                };
                self.rig.drive.remove_all(&item);
                let below = format!("{path}/");
                self.model
                    .retain(|it, _| it != path && !it.starts_with(&below));
            }
            Event::TheirRename(from, to) => {
                let (from, to) = (PLACES[*from], PLACES[*to]);
                let inside = format!("{to}/").starts_with(&format!("{from}/"));
                let free = !self.model.contains_key(to) && !inside;
                let (Some(item), Some(folder), true) =
                    (self.same_there(from), self.free_or_same(to), free)
                else {
                    return false;
                };
                let name = to.rsplit('/').next().expect("a name");
                self.rig.drive.shift(&item, folder.as_str(), name);
                moved(&mut self.model, from, to);
            }
            _ => return false,
        }
        true
    }

    /// The item at a path, if the mounted folder and the drive are of one mind about it.
    fn same_there(&self, path: &str) -> Option<ItemId> {
        let books = self.rig.vfs.ledger().books();
        let mut node = books.tree.node(NodeId::ROOT)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            node = books.tree.child(node.id, name)?;
            if books.tree.is_pending(node) || books.writing.contains(&node.id) {
                return None;
            }
        }
        let item = node.baseline.as_ref()?.item.clone();
        let there = path.is_empty() || self.rig.drive.at(path).as_ref() == Some(&item);
        there.then_some(item)
    }

    fn all_same_below(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let ours: Vec<&String> = self
            .model
            .keys()
            .filter(|it| it.starts_with(&below))
            .collect();
        let theirs = dump(&self.rig.drive);
        let theirs: Vec<&String> = theirs.keys().filter(|it| it.starts_with(&below)).collect();
        ours == theirs && ours.iter().all(|path| self.same_there(path).is_some())
    }

    /// The folder of a path which nobody uses, here or there, or which is the same in both places.
    fn free_or_same(&self, path: &str) -> Option<ItemId> {
        let folder = self.same_there(parent(path))?;
        if !is_dir(&self.model, parent(path)) {
            return None;
        }
        let free = !self.model.contains_key(path) && self.rig.drive.at(path).is_none();
        (free || self.same_there(path).is_some()).then_some(folder)
    }

    async fn end(mut self) {
        self.sync().await;
        self.rig.sync.round().await.unwrap();
        for _ in 0..2 {
            self.rig.outbox.retry(None);
            self.rig.drain().await;
            // What was sought in vain is given up after two minutes.
            self.rig.give_up_seeking();
        }
        self.rig.outbox.retry(None);
        self.rig.drain().await;
        assert!(self.rig.outbox.is_drained(), "{:?}", self.rig.vfs.status());
        assert_eq!(dump(&self.rig.drive), self.model, "what the drive has");
        self.rig.sync.round().await.unwrap();
        let told = listing(&self.rig).await;
        assert_eq!(told, self.model, "after the drive told of our own changes");
        self.boots += 1;
        self.sync().await;
        self.again(Left::LEAST).await;
        let found = listing(&self.rig).await;
        assert_eq!(found, self.model, "after a power cut at the end");
    }
}

async fn agree(events: &[Event], durability: Durability) {
    let mut pair = Pair::new(durability).await;
    for event in events {
        let before = pair.model.clone();
        pair.take(event).await;
        let found = listing(&pair.rig).await;
        assert_eq!(found, pair.model, "after {event:?} on {before:?}");
    }
    pair.end().await;
}

/// Cases of one round of the gate, and the length of each.
fn round(seed: u64, cases: u32, longest: usize) -> Vec<(&'static str, u64)> {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let dice = TestRng::from_seed(RngAlgorithm::ChaCha, &key);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let durability = prop_oneof![Just(Durability::Close), Just(Durability::Fsync)];
    let strategy = (prop::collection::vec(event(), 1..longest), durability);
    let steps = std::cell::Cell::new(0);
    let outcome = TestRunner::new_with_rng(config, dice).run(&strategy, |(events, durability)| {
        steps.set(steps.get() + events.len() as u64);
        runtime.block_on(agree(&events, durability));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    vec![("cases", u64::from(cases)), ("steps", steps.get())]
}

#[test]
fn g7_the_mount_agrees_with_a_map_and_in_the_end_so_does_the_drive() {
    let long = std::env::var_os("GAUNTLET_ROUNDS").is_some();
    let title = "random work, kills, power cuts, evictions and another client, against a map";
    gate::run("G7-model", title, 1, |seed| {
        if long {
            round(seed, 200, 120)
        } else {
            round(seed, 64, 50)
        }
    });
}
