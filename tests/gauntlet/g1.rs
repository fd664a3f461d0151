//! G1: fsx, the file system exerciser: reads, writes, mappings, cuts, holes and copies at random on one file,
//! which is closed and opened again now and then, and each read is what was written last. In the end the drive
//! has the same bytes. With a reader who has the file open all the time, the kernel reads and writes it by itself.

use std::fs;
use std::process::Command;

use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::gate;
use harness::mount::Mount;
use harness::needs::{self, Need};

/// Calls in a round of a long run (gate G1 of the design).
const CALLS: u64 = 100_000;

/// The same where many tests have to be done soon.
const FEW: u64 = 5_000;

/// What fsx does, and how often. Closing and opening again is what brings in another content here.
const WEIGHTS: &str = "
flen = 262144
[weights]
close_open = 5
read = 10
write = 10
truncate = 10
invalidate = 1
fsync = 1
fdatasync = 1
posix_fallocate = 2
punch_hole = 2
sendfile = 2
posix_fadvise = 1
copy_file_range = 2
";

fn round(seed: u64, mapped: bool, read: bool) -> Vec<(&'static str, u64)> {
    let long = std::env::vars_os().any(|(key, _)| key == "GAUNTLET_ROUNDS");
    let calls = if long { CALLS } else { FEW };
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    let mappings = if mapped { 10 } else { 0 };
    let weights = format!("{WEIGHTS}mapread = {mappings}\nmapwrite = {mappings}\n");
    let settings = mount.dir().join("fsx.toml");
    fs::write(&settings, weights).expect("a file");
    let file = mount.point.join("file");
    let _reader = read.then(|| {
        fs::write(&file, b"sealed").expect("a file");
        let reader = fs::File::open(&file).expect("an open");
        assert_eq!(mount.status()["mount"]["mode"], "passthrough");
        reader
    });
    let done = Command::new("fsx")
        .args(["-q", "-N", &calls.to_string(), "-S", &seed.to_string()])
        .arg("-f")
        .arg(&settings)
        .arg("-P")
        .arg(mount.dir())
        .arg(&file)
        .output()
        .expect("it was just found");
    let said = String::from_utf8_lossy(&done.stdout);
    let warned = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{warned}");
    mount.tuyunfs(&["flush", "--wait"]);
    let here = fs::read(&file).expect("a file");
    cloud.has("share/mount/file", &here);
    vec![("calls", calls)]
}

fn run(gate: &str, title: &str, mapped: bool, read: bool) {
    let mut needs = vec![Need::Root, Need::Fuse, Need::Program("fsx")];
    needs.extend(read.then_some(Need::Passthrough));
    if needs::met(&needs) {
        gate::run(gate, title, 1, |seed| round(seed, mapped, read));
    }
}

#[test]
fn g1_fsx() {
    run("G1", "fsx", false, false);
}

#[test]
fn g1_fsx_with_mappings() {
    run("G1-mmap", "fsx with mappings", true, false);
}

#[test]
fn g1_fsx_passed_through() {
    run("G1-through", "fsx, passed through", false, true);
}

#[test]
fn g1_fsx_with_mappings_passed_through() {
    run(
        "G1-through-mmap",
        "fsx with mappings, passed through",
        true,
        true,
    );
}
