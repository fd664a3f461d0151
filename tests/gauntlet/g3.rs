//! G3: SIGKILL of the daemon in the middle of random work, again and again. Nothing that was
//! acknowledged is lost or undone, here or on the drive, and the drive gets nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use graph_emulator::{NodeKind, Profile};
use harness::cloud::Cloud;
use harness::gate;
use harness::mount::Mount;
use harness::needs::{self, Need};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::work::{Deed, Work};

/// Kills in a round, all on one state directory.
const KILLS: u64 = 5;

/// Deeds before a kill: few enough that a start finds changes of every age.
const DEEDS: std::ops::Range<usize> = 1..60;

/// After those, so long at most: every moment of a deed is shorter.
const MICROSECONDS: u64 = 3000;

fn round(seed: u64) -> Vec<(&'static str, u64)> {
    let cloud = Cloud::start(Profile::Business);
    // A settle time within which some uploads are under way at the kill and some are not.
    let mut mount = Mount::prepare(&cloud, &[("writeback.settle", "30ms")]);
    mount.login(&cloud);
    mount.run();
    let mut dice = StdRng::seed_from_u64(seed);
    let mut work = Work::new(&mount.point, seed);
    let mut deeds = 0;
    for _ in 0..KILLS {
        let enough = dice.random_range(DEEDS);
        let moment = Duration::from_micros(dice.random_range(0..MICROSECONDS));
        work.done = Arc::default();
        let done = Arc::clone(&work.done);
        let under_way = std::thread::scope(|scope| {
            let worker = scope.spawn(|| work.go_on());
            while done.load(Ordering::Relaxed) < enough && !worker.is_finished() {
                std::hint::spin_loop();
            }
            let from = Instant::now();
            while from.elapsed() < moment {
                std::hint::spin_loop();
            }
            mount.kill();
            worker.join().expect("work ends with an error")
        });
        let (deed, error) = under_way;
        deeds += done.load(Ordering::Relaxed) as u64;
        assert!(
            matches!(
                error.raw_os_error(),
                Some(libc::ENOTCONN | libc::ECONNABORTED | libc::EIO)
            ),
            "{deed:?}: {error}"
        );
        mount.run();
        work.look(&deed);
        nothing_is_aside(&mount, &deed);
    }
    mount.tuyunfs(&["flush", "--wait"]);
    verify(&cloud, &work, "share/mount/");
    vec![("kills", KILLS), ("acknowledged changes", deeds)]
}

/// Nothing has to be put aside after a kill: what was written is in the page cache.
fn nothing_is_aside(mount: &Mount, deed: &Deed) {
    let report = mount.state_dir().join("quarantine/REPORT");
    let report = std::fs::read_to_string(report).unwrap_or_default();
    assert_eq!(report, "", "after {:?}", deed.brief());
}

/// What work has left is there, here and below a folder of the drive, and nothing else.
pub(crate) fn verify(cloud: &Cloud, work: &Work, folder: &str) {
    let here = work.here();
    let wanted: Vec<&String> = work.tree.keys().collect();
    assert_eq!(here.keys().collect::<Vec<_>>(), wanted);
    let mut there: Vec<String> = Vec::new();
    for node in cloud.0.tree() {
        let Some(path) = node.path.strip_prefix(folder) else {
            continue;
        };
        let Some(held) = work.tree.get(path) else {
            panic!("{path} is on the drive and not here: {node:?}");
        };
        match held {
            None => assert_eq!(node.kind, NodeKind::Folder, "{path}"),
            Some(held) => {
                let bytes = cloud.0.read_file(&node.path).expect("a file");
                assert!(bytes == held.bytes, "{path} has other bytes on the drive");
                let versions = cloud.0.versions(&node.path).len();
                assert!(
                    versions <= held.versions,
                    "{path} has {versions} versions, of which {} are due",
                    held.versions
                );
            }
        }
        there.push(path.to_owned());
    }
    there.sort();
    assert_eq!(there.iter().collect::<Vec<_>>(), wanted, "on the drive");
}

#[test]
fn g3_kills() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    gate::run("G3", "SIGKILL at any moment", 2, round);
}
