//! G4: power cuts. The state stands on a real ext4 whose power is cut at any moment, while programs write
//! into the mounted folder without ever syncing. What a close, a rename or an unlink has acknowledged is
//! there afterwards, and the drive never gets a byte that nobody wrote.
//!
//! Beside it another such disk takes plain files, closed and not synced: a round in which that one loses
//! none did not cut anything, and does not count. `rclone mount` is put through the same.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::disk::{Disk, close};
use harness::gate;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::wait::{until, within};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tuyunfs::content::QuickXor;

use super::g3::verify;
use super::work::{Deed, Work};

/// Cuts in a round, all of one state. Where many tests have to be done soon, one.
const CUTS: u64 = 3;

/// Programs that write at once, so that closes share their barriers.
const PROGRAMS: u64 = 4;

/// Deeds of all of them before a cut: few enough that a start finds changes of every age.
const DEEDS: std::ops::Range<usize> = 20..200;

/// After those, so long at most: every moment of a deed is shorter.
const MICROSECONDS: u64 = 5000;

/// Size of the disks in MiB: much more than a round writes.
const SIZE: u64 = 256;

/// Within this both sides have the same after a start: for two minutes what a lost request may have made is looked
/// for, and a folder that it may be in is not deleted before that.
const SETTLED: Duration = Duration::from_mins(3);

/// Files that the control and rclone close before a cut.
const FILES: usize = 50;

/// Says which boot this is, where a test can say so.
struct Boot(PathBuf);

impl Boot {
    fn fake(dir: &Path) -> Self {
        let boot = Self(dir.join("boot_id"));
        boot.next(0);
        let at = "/proc/sys/kernel/random/boot_id";
        let bound = Command::new("mount")
            .arg("--bind")
            .args([&boot.0, Path::new(at)])
            .status();
        assert!(bound.expect("mount(8)").success());
        boot
    }

    fn next(&self, number: u64) {
        let id = format!("00000000-0000-4000-8000-{number:012}\n");
        fs::write(&self.0, id).expect("a file");
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-l", "/proc/sys/kernel/random/boot_id"])
            .status();
    }
}

/// Closes plain files, and remembers which were closed.
struct Plain {
    dir: PathBuf,
    closed: Vec<(PathBuf, Vec<u8>)>,
}

impl Plain {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            closed: Vec::new(),
        }
    }

    /// Writes until something fails.
    fn go_on(&mut self, done: &AtomicUsize) {
        loop {
            let path = self.dir.join(format!("{}.gif", self.closed.len()));
            let bytes = format!("{} ", self.closed.len()).repeat(5000).into_bytes();
            let written = fs::File::create(&path).and_then(|mut file| {
                file.write_all(&bytes)?;
                close(file)
            });
            if written.is_err() {
                return;
            }
            self.closed.push((path, bytes));
            done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many of those that were closed are not there, or are other bytes.
    fn lost(&self) -> u64 {
        let is_lost =
            |(path, bytes): &&(PathBuf, Vec<u8>)| fs::read(path).map_or(true, |is| is != *bytes);
        self.closed.iter().filter(is_lost).count() as u64
    }
}

fn round(seed: u64) -> Vec<(&'static str, u64)> {
    let dir = tempfile::tempdir().expect("a folder");
    let boot = Boot::fake(dir.path());
    let cloud = Cloud::start(Profile::Business);
    let disk = Disk::at(&dir.path().join("disk"), SIZE);
    let state = dir.path().join("disk/state").display().to_string();
    let keys = [("state_dir", &*state), ("writeback.settle", "30ms")];
    let mut mount = Mount::prepare(&cloud, &keys);
    mount.login(&cloud);
    mount.run();
    let mut dice = StdRng::seed_from_u64(seed);
    let mut works: Vec<Work> = (0..PROGRAMS)
        .map(|n| {
            let dir = mount.point.join(n.to_string());
            fs::create_dir(&dir).expect("a folder");
            Work::new(&dir, seed.wrapping_mul(PROGRAMS).wrapping_add(n))
        })
        .collect();
    let (mut deeds, mut control, mut aside) = (0, 0, 0);
    let long =
        std::env::vars_os().any(|(key, _)| key == "GAUNTLET_ROUNDS" || key == "GAUNTLET_SEED");
    let cuts = if long { CUTS } else { 1 };
    for cut in 1..=cuts {
        let plain_disk = Disk::at(&dir.path().join(format!("plain {cut}")), SIZE);
        let mut plain = Plain::new(&dir.path().join(format!("plain {cut}")));
        let enough = dice.random_range(DEEDS);
        let moment = Duration::from_micros(dice.random_range(0..MICROSECONDS));
        let (done, ended): (Arc<AtomicUsize>, Arc<AtomicBool>) = Default::default();
        let plain_done = AtomicUsize::new(0);
        let under_way: Vec<Deed> = std::thread::scope(|scope| {
            let workers: Vec<_> = works
                .iter_mut()
                .map(|work| {
                    (work.done, work.ended) = (Arc::clone(&done), Arc::clone(&ended));
                    scope.spawn(|| work.go_on().0)
                })
                .collect();
            let plain_worker = scope.spawn(|| plain.go_on(&plain_done));
            // Whoever is done too soon has failed, and says so below.
            until("there is something to lose", || {
                let enough = done.load(Ordering::Relaxed) >= enough
                    && plain_done.load(Ordering::Relaxed) >= FILES;
                let failed = workers
                    .iter()
                    .any(std::thread::ScopedJoinHandle::is_finished);
                (enough || failed).then_some(())
            });
            std::thread::sleep(moment);
            // While the kernel shuts it down, an fsync that is under way may call durable what is not. Of a
            // real power cut nobody is left to hear that.
            ended.store(true, Ordering::Release);
            disk.cut();
            plain_disk.cut();
            let ended = workers
                .into_iter()
                .map(|worker| worker.join().expect("it ends"));
            let ended = ended.collect();
            plain_worker.join().expect("it ends");
            ended
        });
        deeds += done.load(Ordering::Relaxed) as u64;
        mount.kill();
        mount.forget();
        boot.next(cut);
        disk.restore();
        plain_disk.restore();
        control += plain.lost();
        mount.run();
        for (n, (work, deed)) in works.iter_mut().zip(&under_way).enumerate() {
            both_agree(&cloud, &mount, n);
            work.look(deed);
        }
    }
    assert!(
        control > 0,
        "the cuts took nothing from plain ext4: the round does not count"
    );
    mount.tuyunfs(&["flush", "--wait"]);
    for (n, work) in works.iter().enumerate() {
        let folder = format!("share/mount/{n}/");
        // What a request made whose reply was lost in the cut is looked for, and removed.
        cloud.until("only what was acknowledged is there", |drive| {
            let paths = drive.tree().into_iter().map(|node| node.path);
            let below = |path: String| path.strip_prefix(&folder).map(str::to_owned);
            paths
                .filter_map(below)
                .all(|path| work.tree.contains_key(&path))
        });
        verify(&cloud, work, &folder);
        nothing_else_was_sent(&cloud, work, &folder);
    }
    let report = fs::read_to_string(mount.state_dir().join("quarantine/REPORT"));
    aside += report.unwrap_or_default().lines().count() as u64;
    vec![
        ("cuts", cuts),
        ("acknowledged changes kept", deeds),
        ("unfinished contents put aside", aside),
        ("closed files lost by plain ext4", control),
    ]
}

/// Waits until the drive and the mounted folder have the same: what nobody was told of yet may have got to the
/// drive, and comes back from there.
fn both_agree(cloud: &Cloud, mount: &Mount, n: usize) {
    let folder = format!("share/mount/{n}/");
    let last = RefCell::new(String::new());
    let agree = || {
        let paths = cloud.0.tree().into_iter().map(|node| node.path);
        let below = |path: String| path.strip_prefix(&folder).map(str::to_owned);
        let there: BTreeSet<String> = paths.filter_map(below).collect();
        let here = paths_in(&mount.point.join(n.to_string()))?;
        let (only_here, only_there) = (&here - &there, &there - &here);
        *last.borrow_mut() = format!("here alone: {only_here:?}; there alone: {only_there:?}");
        (here == there).then_some(())
    };
    let agreed = within(SETTLED, agree).is_some();
    assert!(agreed, "{folder}: {}; {}", last.borrow(), mount.status());
}

/// What is below a folder, unless it changes meanwhile.
fn paths_in(root: &Path) -> Option<BTreeSet<String>> {
    let (mut paths, mut open) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).ok()? {
            let entry = entry.ok()?;
            let path = entry.path();
            paths.insert(path.strip_prefix(root).ok()?.to_string_lossy().into_owned());
            if entry.file_type().ok()?.is_dir() {
                open.push(path);
            }
        }
    }
    Some(paths)
}

/// Every version of every file is one that somebody wrote.
fn nothing_else_was_sent(cloud: &Cloud, work: &Work, folder: &str) {
    let made: BTreeSet<String> = work
        .made
        .iter()
        .map(|bytes| {
            let mut hash = QuickXor::new();
            hash.update(bytes);
            BASE64_STANDARD.encode(hash.finish().0)
        })
        .collect();
    for node in cloud.0.tree() {
        if !node.path.starts_with(folder) {
            continue;
        }
        for version in cloud.0.versions(&node.path) {
            let known = made.contains(&version.quick_xor_hash);
            assert!(known, "{}: nobody wrote version {version:?}", node.path);
        }
    }
}

/// The same for `rclone mount` with the flags that people use, over a remote that is a local folder, which
/// takes uploads faster than any drive.
fn rclone_round(seed: u64) -> Vec<(&'static str, u64)> {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let disk = Disk::at(&at("disk"), SIZE);
    for name in ["remote", "mnt"] {
        fs::create_dir(at(name)).expect("a folder");
    }
    let mut dice = StdRng::seed_from_u64(seed);
    let mut plain = Plain::new(&at("mnt"));
    let mut client = rclone(dir.path());
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| plain.go_on(&done));
        until("there is something to lose", || {
            (done.load(Ordering::Relaxed) >= FILES).then_some(())
        });
        std::thread::sleep(Duration::from_micros(dice.random_range(0..MICROSECONDS)));
        disk.cut();
        client.kill().expect("it is our child");
        client.wait().expect("it is our child");
        worker.join().expect("it ends");
    });
    let point = at("mnt");
    let leave = || Command::new("umount").arg("-l").arg(&point).status();
    leave().expect("umount(8)");
    disk.restore();
    let mut client = rclone(dir.path());
    let lost = plain.lost();
    client.kill().expect("it is our child");
    client.wait().expect("it is our child");
    leave().expect("umount(8)");
    vec![
        ("cuts", 1),
        ("closed files", plain.closed.len() as u64),
        ("of them lost", lost),
    ]
}

fn rclone(dir: &Path) -> Child {
    let at = |name: &str| dir.join(name).display().to_string();
    let child = Command::new("rclone")
        .args(["mount", &at("remote"), &at("mnt")])
        .args(["--cache-dir", &at("disk/cache"), "--config", &at("none")])
        .args(["--vfs-cache-mode", "full", "--vfs-cache-max-age", "240h"])
        .args(["--vfs-cache-max-size", "1G", "--buffer-size", "100M"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("rclone");
    until("rclone mounts", || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let at = format!(" {} ", at("mnt"));
        let mounted = mounts.lines().any(|line| line.contains(&at));
        mounted.then_some(())
    });
    child
}

/// Whether this is where mounts and a boot id of one's own disturb nobody. Else the test runs there.
fn in_own_world(test: &str) -> bool {
    const INSIDE: &str = "GAUNTLET_OWN_WORLD";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let this = std::env::current_exe().expect("a test knows its own path");
    let done = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(this)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(done.expect("unshare(1)").success(), "{test} failed");
    false
}

#[test]
fn g4_power_cuts() {
    if needs::met(&[Need::Root, Need::Fuse, Need::Loop]) && in_own_world("g4::g4_power_cuts") {
        gate::run("G4", "power cuts of a real ext4, nobody syncs", 1, round);
    }
}

#[test]
fn g4_power_cuts_of_rclone() {
    let needs = [Need::Root, Need::Fuse, Need::Loop, Need::Program("rclone")];
    if needs::met(&needs) && in_own_world("g4::g4_power_cuts_of_rclone") {
        gate::run("G4-rclone", "the same for `rclone mount`", 0, rclone_round);
    }
}
