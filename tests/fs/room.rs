//! A small disk under the state, which gets full.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use graph_emulator::{Fault, Profile, Route};
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::wait::until;

const MIB: usize = 1 << 20;

/// How large the disk is, in MiB. Half of what is less than 32 MiB stays with the journal.
const DISK: usize = 64;

/// A small disk at a directory, until the end of a test.
struct Disk(PathBuf);

impl Disk {
    fn at(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).expect("a directory");
        let size = format!("size={DISK}m,mode=700");
        let at = dir.display().to_string();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tuyun-test", &at])
            .status();
        assert!(mounted.expect("mount(8)").success());
        Self(dir)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn picture(n: usize) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(n % 251).expect("it is small"); MIB];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn mounted(cloud: &Cloud, keys: &[(&str, &str)]) -> (Mount, Disk) {
    let mut mount = Mount::prepare(cloud, keys);
    let disk = Disk::at(mount.state_dir());
    mount.login(cloud);
    mount.run();
    (mount, disk)
}

/// Writes as PHP does, which does not listen to what its close says.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    fs::File::create(path)?.write_all(bytes)
}

#[test]
fn more_than_the_disk_holds_goes_through_it_without_waiting_for_quiet() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let (mount, _disk) = mounted(&cloud, &[("writeback.settle", "1h")]);
    let count = DISK * 3 / 2;
    for n in 0..count {
        put(&mount.point.join(format!("{n}.png")), &picture(n)).expect("there is room in time");
    }
    // What is still within its hour of quiet is here.
    for n in 0..count {
        let bytes = fs::read(mount.point.join(format!("{n}.png"))).expect("it was closed");
        assert!(bytes == picture(n), "{n}.png");
    }
    assert!(cloud.0.file_count() >= count - DISK);
}

#[test]
fn a_disk_full_of_what_cannot_be_sent_refuses_writes_and_keeps_all_that_was_closed() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    for route in [Route::PutContent, Route::CreateSession] {
        cloud.0.inject(Fault::status(route, 503).always());
    }
    let (mut mount, _disk) = mounted(&cloud, &[("writeback.grace", "0s")]);
    let path = |mount: &Mount, n: usize| mount.point.join(format!("{n}.png"));
    let mut closed = 0;
    let refused = loop {
        match put(&path(&mount, closed), &picture(closed)) {
            Ok(()) => closed += 1,
            Err(refused) => break refused,
        }
        assert!(closed < DISK, "more than the disk holds");
    };
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert!(closed > DISK / 2, "only {closed} found room");
    assert_eq!(mount.status()["disk_short"], true);
    let said = mount.tuyunfs(&["status"]);
    assert!(said.contains("what does not fit is refused"), "{said}");
    let _ = fs::remove_file(path(&mount, closed)); // as much of it as there is

    // What needs no room goes on, and so does a restart.
    fs::create_dir(mount.point.join("2026")).expect("the journal has room");
    fs::rename(path(&mount, 0), mount.point.join("2026/0.png")).expect("the same");
    mount.stop();
    mount.run_degraded();
    assert_eq!(
        put(&path(&mount, closed), &picture(closed)).map_err(|error| error.kind()),
        Err(io::ErrorKind::StorageFull)
    );
    let _ = fs::remove_file(path(&mount, closed));
    let moved = fs::read(mount.point.join("2026/0.png")).expect("it was closed");
    assert!(moved == picture(0));
    for n in 1..closed {
        let bytes = fs::read(path(&mount, n)).expect("it was closed");
        assert!(bytes == picture(n), "{n}.png");
    }

    cloud.0.clear_faults();
    mount.tuyunfs(&["retry"]);
    mount.tuyunfs(&["flush", "--wait"]);
    until("there is room again", || {
        put(&path(&mount, closed), &picture(closed)).ok()
    });
    mount.tuyunfs(&["flush", "--wait"]);
    cloud.has("share/mount/2026/0.png", &picture(0));
    for n in 1..=closed {
        cloud.has(&format!("share/mount/{n}.png"), &picture(n));
    }
    assert_eq!(cloud.0.file_count(), closed + 1);
}
