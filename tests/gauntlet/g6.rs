//! G6: a third of all calls fails in every way that is known of the service, while programs work in
//! the mounted folder and another client works on the drive. Then the storm ends.
//!
//! In the end both trees are equal; what was closed here, and what the other client has put, is
//! there; no file has more versions than closes and renames; and nobody was asked anything while he wanted
//! silence.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use graph_emulator::{Host, NodeKind, Profile, storm};
use harness::cloud::Cloud;
use harness::gate;
use harness::mount::Mount;
use harness::needs::{self, Need};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Of a hundred calls, so many fail.
const CALLS: f64 = 0.3;

/// Things that are done in a round.
const STEPS: usize = 90;

/// Files that both sides write.
const SHARED: usize = 4;

/// A reply that asks for silence is on its way for so long on a busy machine: what was sent
/// before it arrived cannot be held back.
const ON_ITS_WAY_MS: u64 = 300;

/// A file of ours: its bytes, and how many versions it may have: one for each close after a
/// change, and one for each rename, which makes one on business drives.
#[derive(Clone)]
struct Ours {
    bytes: Vec<u8>,
    versions: usize,
}

/// What is left of a storm is done within this on a busy machine.
const SETTLED: Duration = Duration::from_mins(1);

/// A session whose address got lost with the reply blocks its name until it ends. The real one
/// lingers for a quarter of an hour.
const LINGER: u64 = 3;

struct Round {
    cloud: Cloud,
    mount: Mount,
    dice: StdRng,
    ours: BTreeMap<String, Ours>,
    theirs: BTreeMap<String, Vec<u8>>,
    /// Of each file that both write: who wrote what, in order.
    shared: Vec<Vec<(bool, Vec<u8>)>>,
    names: usize,
}

fn round(profile: Profile, seed: u64) -> Vec<(&'static str, u64)> {
    let cloud = Cloud::start(profile);
    let mut shared = Vec::new();
    for n in 0..SHARED {
        let bytes = format!("shared base {n}").into_bytes();
        cloud
            .0
            .put_file(&format!("share/mount/shared/{n}.gif"), &bytes)
            .expect("a file");
        shared.push(vec![(false, bytes)]);
    }
    cloud.0.make_folder("share/mount/theirs").expect("a folder");
    let drive = cloud.0.drive_id();
    let mut mount = Mount::prepare(
        &cloud,
        &[
            ("writeback.settle", "50ms"),
            ("drive.poll", "1s"),
            ("drive.drive_id", &drive),
        ],
    );
    mount.login(&cloud);
    mount.run();
    for n in 0..SHARED {
        let path = mount.point.join(format!("shared/{n}.gif"));
        fs::read(path).expect("it is there before the storm");
    }
    assert_eq!(
        fs::read_dir(mount.point.join("theirs"))
            .expect("it is there")
            .count(),
        0
    );
    fs::create_dir(mount.point.join("ours")).expect("a folder");

    let mut round = Round {
        cloud,
        mount,
        dice: StdRng::seed_from_u64(seed),
        ours: BTreeMap::new(),
        theirs: BTreeMap::new(),
        shared,
        names: 0,
    };
    round
        .cloud
        .0
        .adjust(|settings| settings.session_seconds = LINGER);
    for fault in storm(CALLS, seed) {
        round.cloud.0.inject(fault);
    }
    for step in 0..STEPS {
        round.step();
        if step % 6 == 5 {
            // The drive is to see something of it meanwhile.
            let seen = round.cloud.0.total();
            let enough = |drive: &graph_emulator::Running| drive.total() >= seen + 4;
            let _ = round.cloud.0.block_until(Duration::from_secs(2), enough);
        }
    }
    let storm = round.cloud.0.requests();
    round.cloud.0.clear_faults();
    round.settle();
    round.verify();
    let struck = storm.iter().filter(|request| request.fault.is_some());
    vec![
        ("requests in the storm", storm.len() as u64),
        ("of them struck", struck.count() as u64),
        (
            "files in the end",
            round.ours.len() as u64 + round.theirs.len() as u64,
        ),
    ]
}

impl Round {
    fn at(&self, path: &str) -> std::path::PathBuf {
        self.mount.point.join(path)
    }

    fn some(&mut self, of: &[String]) -> Option<String> {
        (!of.is_empty()).then(|| of[self.dice.random_range(0..of.len())].clone())
    }

    /// Bytes that no other step makes; now and then enough for an upload session.
    fn bytes(&mut self) -> Vec<u8> {
        self.names += 1;
        let large = self.dice.random_bool(0.05);
        let length = if large {
            4_400_000
        } else {
            self.dice.random_range(1..30_000)
        };
        let mut bytes = vec![self.dice.random::<u8>(); length];
        bytes.extend(format!("bytes {}", self.names).into_bytes());
        bytes
    }

    fn step(&mut self) {
        let known: Vec<String> = self.ours.keys().cloned().collect();
        let theirs: Vec<String> = self.theirs.keys().cloned().collect();
        match self.dice.random_range(0..20) {
            0..5 => {
                self.names += 1;
                let path = format!("ours/{}.gif", self.names);
                self.write(&path);
            }
            5..8 => {
                if let Some(path) = self.some(&known) {
                    self.write(&path);
                }
            }
            8 => {
                if let Some(path) = self.some(&known) {
                    fs::remove_file(self.at(&path)).expect("a deletion");
                    self.ours.remove(&path);
                }
            }
            9 => {
                if let Some(from) = self.some(&known) {
                    self.names += 1;
                    let to = format!("ours/moved {}.gif", self.names);
                    fs::rename(self.at(&from), self.at(&to)).expect("a rename");
                    let mut file = self.ours.remove(&from).expect("it is ours");
                    file.versions += 1;
                    self.ours.insert(to, file);
                }
            }
            10..12 => {
                // As an editor saves: beside it, then over it.
                if let Some(path) = self.some(&known) {
                    let aside = format!("{path}.part");
                    self.write(&aside);
                    fs::rename(self.at(&aside), self.at(&path)).expect("a rename over");
                    let new = self.ours.remove(&aside).expect("just written");
                    let versions = self.ours[&path].versions + new.versions + 1;
                    let bytes = new.bytes;
                    self.ours.insert(path, Ours { bytes, versions });
                }
            }
            12 => {
                self.names += 1;
                let dir = format!("ours/day {}", self.names);
                fs::create_dir(self.at(&dir)).expect("a folder");
                self.write(&format!("{dir}/a.gif"));
                self.write(&format!("{dir}/b.gif"));
                let moved = format!("ours/night {}", self.names);
                fs::rename(self.at(&dir), self.at(&moved)).expect("a rename of a folder");
                for name in ["a.gif", "b.gif"] {
                    let file = self.ours.remove(&format!("{dir}/{name}"));
                    self.ours
                        .insert(format!("{moved}/{name}"), file.expect("it is ours"));
                }
            }
            13 => {
                if let Some(path) = self.some(&known) {
                    let day = UNIX_EPOCH + Duration::from_hours(24 * 365);
                    let file = fs::File::options().write(true).open(self.at(&path));
                    file.and_then(|file| file.set_modified(day))
                        .expect("a time");
                }
            }
            14..16 => {
                self.names += 1;
                let path = format!("theirs/{}.gif", self.names);
                let bytes = self.bytes();
                self.put(&path, &bytes);
                self.theirs.insert(path, bytes);
            }
            16 => {
                if let Some(path) = self.some(&theirs) {
                    self.cloud
                        .0
                        .delete(&format!("share/mount/{path}"))
                        .expect("a deletion");
                    self.theirs.remove(&path);
                }
            }
            17 => {
                // What can be read at all in a storm is right.
                if let Some(path) = self.some(&known) {
                    let bytes = fs::read(self.at(&path)).expect("ours are always readable");
                    assert!(bytes == self.ours[&path].bytes, "{path} reads other bytes");
                }
            }
            _ => {
                let n = self.dice.random_range(0..SHARED);
                let (here, bytes) = (self.dice.random_bool(0.5), self.bytes());
                let path = format!("shared/{n}.gif");
                if here {
                    fs::write(self.at(&path), &bytes).expect("a write");
                } else {
                    self.put(&path, &bytes);
                }
                self.shared[n].push((here, bytes));
            }
        }
    }

    fn write(&mut self, path: &str) {
        let bytes = self.bytes();
        fs::write(self.at(path), &bytes).expect("a write never waits for the drive");
        let versions = 1 + self.ours.get(path).map_or(0, |file| file.versions);
        self.ours.insert(path.to_owned(), Ours { bytes, versions });
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        self.cloud
            .0
            .put_file(&format!("share/mount/{path}"), bytes)
            .expect("a file");
    }

    /// Waits until everything has been sent and told, and both trees are equal.
    fn settle(&self) {
        let end = Instant::now() + SETTLED;
        loop {
            let status = self.mount.status();
            let (here, there) = (walk(&self.mount.point), self.drive());
            if status["pending"] == 0 && here == there {
                return;
            }
            if Instant::now() < end {
                // A person who is impatient: long waits end, and what was parked goes on.
                self.mount.tuyunfs(&["retry"]);
                continue;
            }
            let only = |a: &Tree, b: &Tree| -> Vec<String> {
                let odd = a.iter().filter(|(path, bytes)| b.get(*path) != Some(bytes));
                odd.map(|(path, _)| path.clone()).collect()
            };
            let odd = only(&there, &here);
            let histories: Vec<_> = odd
                .iter()
                .map(|path| {
                    let seen = fs::metadata(self.at(path));
                    let there = format!("share/mount/{path}");
                    format!("{path}: {seen:?}\n{}", self.history(&there))
                })
                .collect();
            panic!(
                "after {SETTLED:?} of calm: {status}\nhere alone {:?}, there alone {odd:?}\n{}\n{}",
                only(&here, &there),
                self.told(),
                histories.join("\n")
            );
        }
    }

    /// What was asked about a file, and what became of it.
    fn history(&self, path: &str) -> String {
        let id = self
            .cloud
            .0
            .node(path)
            .map(|node| node.id)
            .unwrap_or_default();
        let lines = self.cloud.0.requests().into_iter().filter_map(|request| {
            let known = request.path.contains(&id) || request.path.contains(".gif");
            known.then(|| {
                format!(
                    "{} {} {} {:?} {:?}",
                    request.arrived_ms, request.method, request.path, request.status, request.fault
                )
            })
        });
        format!("{id}\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    /// What the daemon said, without what its libraries did.
    fn told(&self) -> String {
        let log = self.mount.log();
        let own = log.lines().filter(|line| line.contains(" tuyunfs"));
        own.collect::<Vec<_>>().join("\n")
    }

    fn drive(&self) -> Tree {
        let nodes = self.cloud.0.tree();
        let below = |path: &str| path.strip_prefix("share/mount/").map(str::to_owned);
        nodes
            .into_iter()
            .filter_map(|node| {
                let bytes = (node.kind == NodeKind::File)
                    .then(|| self.cloud.0.read_file(&node.path).unwrap_or_default());
                Some((below(&node.path)?, bytes))
            })
            .collect()
    }

    fn verify(&self) {
        let tree = self.drive();
        let part = |root: &str| -> BTreeMap<&String, &Vec<u8>> {
            let files = tree.iter().filter(|(path, _)| path.starts_with(root));
            files
                .filter_map(|(path, bytes)| Some((path, bytes.as_ref()?)))
                .collect()
        };
        let ours: BTreeMap<&String, &Vec<u8>> = self
            .ours
            .iter()
            .map(|(path, file)| (path, &file.bytes))
            .collect();
        let differs = same("ours", &part("ours/"), &ours)
            .or_else(|| same("theirs", &part("theirs/"), &self.theirs.iter().collect()));
        if let Some((path, differs)) = differs {
            let there = format!("share/mount/{path}");
            panic!("{differs}\n{}\n{}", self.history(&there), self.told());
        }
        for (path, file) in &self.ours {
            let there = format!("share/mount/{path}");
            let versions = self.cloud.0.versions(&there).len();
            assert!(
                versions <= file.versions,
                "{path}: {versions} versions, of which {} are due\n{}",
                file.versions,
                self.history(&there)
            );
        }
        self.nothing_shared_is_lost(&part("shared/"));
        self.silence_was_kept();
    }

    /// The last bytes of either side are there: under the name, or in a copy beside it. Unless the
    /// last writer wrote over them knowingly, which only a writer behind them can have done.
    fn nothing_shared_is_lost(&self, there: &BTreeMap<&String, &Vec<u8>>) {
        for (n, writes) in self.shared.iter().enumerate() {
            let Some((here, last)) = writes.last() else {
                continue;
            };
            let held = there.values().any(|bytes| *bytes == last);
            let path = format!("share/mount/shared/{n}.gif");
            assert!(
                held,
                "the last write to {path}, of {} bytes by {}, is lost\n{}",
                last.len(),
                if *here { "us" } else { "them" },
                self.history(&path)
            );
        }
    }

    fn silence_was_kept(&self) {
        let requests = self.cloud.0.requests();
        for asked in &requests {
            let (Some(seconds), Some(took)) = (asked.retry_after, asked.took_ms) else {
                continue;
            };
            let from = asked.arrived_ms + took;
            let broken = requests.iter().find(|other| {
                other.host == asked.host
                    && other.host != Host::Login
                    && other.arrived_ms > from + ON_ITS_WAY_MS
                    && other.arrived_ms + 20 < from + seconds * 1000
            });
            assert!(
                broken.is_none(),
                "{broken:?} came within the silence that {asked:?} asked for"
            );
        }
    }
}

/// Paths with their bytes; folders have none.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

fn walk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(name) = path.strip_prefix(root) else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            if path.is_dir() {
                tree.insert(name, None);
                open.push(path);
            } else {
                tree.insert(name, fs::read(&path).ok());
            }
        }
    }
    tree
}

/// What is not as expected, and one path of it.
fn same(
    what: &str,
    there: &BTreeMap<&String, &Vec<u8>>,
    expected: &BTreeMap<&String, &Vec<u8>>,
) -> Option<(String, String)> {
    let odd = |a: &BTreeMap<&String, &Vec<u8>>, b: &BTreeMap<&String, &Vec<u8>>| -> Vec<String> {
        let differs = a.iter().filter(|(path, bytes)| b.get(*path) != Some(bytes));
        differs.map(|(path, _)| (*path).clone()).collect()
    };
    let (more, fewer) = (odd(there, expected), odd(expected, there));
    let one = more.iter().chain(&fewer).next_back()?.clone();
    Some((
        one,
        format!(
            "{what}: on the drive and not as expected {more:?}, expected and not there {fewer:?}"
        ),
    ))
}

fn gate_on(profile: Profile, name: &str) {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    gate::run(name, "faults of the service", 1, |seed| {
        round(profile, seed)
    });
}

#[test]
fn g6_on_a_personal_drive() {
    gate_on(Profile::PersonalClassic, "G6-personal-classic");
}

#[test]
fn g6_on_a_migrated_personal_drive() {
    gate_on(Profile::PersonalMigrated, "G6-personal-migrated");
}

#[test]
fn g6_on_a_business_drive() {
    gate_on(Profile::Business, "G6-business");
}

#[test]
fn g6_on_a_library() {
    gate_on(Profile::Library, "G6-library");
}

#[test]
fn g6_on_a_drive_in_china() {
    gate_on(Profile::China, "G6-china");
}
