//! G9: the network swallows everything, and later the daemon is killed under load. What is here is read, written and
//! listed as if nothing were; what is not here fails in time; and after a restart nobody hangs.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use graph_emulator::{Profile, Route};
use harness::cloud::Cloud;
use harness::gate;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::wait::until;

/// All that the daemon asks of the network while it runs.
const ALL: [Route; 13] = [
    Route::Children,
    Route::Content,
    Route::CreateFolder,
    Route::CreateSession,
    Route::Delta,
    Route::Download,
    Route::Drive,
    Route::Fragment,
    Route::Item,
    Route::Patch,
    Route::PutContent,
    Route::Quota,
    Route::Token,
];

/// Files that are here, and as many that are not.
const FILES: usize = 40;

/// Operations on what is here, in a round of a long run.
const CALLS: usize = 4_000;

/// The same where many tests have to be done soon.
const FEW: usize = 400;

/// What 99 of 100 of them take at most on a machine of its own (gate G9 of the design).
const PATIENCE: Duration = Duration::from_millis(10);

/// A call may wait for the network as long as the settings say, and a moment more.
const IN_TIME: Duration = Duration::from_secs(8);

/// How soon after a restart nobody may hang any more (gate G9 of the design).
const SOON: Duration = Duration::from_secs(2);

fn round(seed: u64) -> Vec<(&'static str, u64)> {
    let long = std::env::var_os("GAUNTLET_ROUNDS").is_some();
    let cloud = Cloud::start(Profile::Business);
    for n in 0..FILES {
        let path = format!("share/mount/far/{n}.gif");
        cloud.0.put_file(&path, vec![7; 50_000]).expect("a file");
    }
    let mut mount = Mount::prepare(&cloud, &[("mount.timeout", "3s")]);
    mount.login(&cloud);
    mount.run();
    let near = mount.point.join("near");
    fs::create_dir(&near).expect("a folder");
    for n in 0..FILES {
        fs::write(near.join(n.to_string()), vec![1; 50_000]).expect("a file");
    }
    let far = mount.point.join("far");
    assert_eq!(fs::read_dir(&far).expect("a folder").count(), FILES);
    mount.tuyunfs(&["flush", "--wait"]);

    for route in ALL {
        cloud.0.hold(route);
    }
    let calls = if long { CALLS } else { FEW };
    let (slow, refused) = swallowed(&far, &near, calls, seed);
    assert!(
        !long || slow < PATIENCE,
        "1 of 100 calls took {slow:?} and more"
    );
    for route in ALL {
        cloud.0.release(route);
    }
    let back = || (fs::read(far.join("0.gif")).ok()? == vec![7; 50_000]).then_some(());
    until("the drive is read again", back);

    killed_under_load(&mut mount, &near);
    let last = fs::read(near.join("0")).expect("it is here");
    cloud.has("share/mount/near/0", &last);
    vec![("calls", calls as u64), ("reads in vain", refused)]
}

/// Works with what is here while others wait for what is not. How long 99 of 100 calls took at most, and how
/// many reads failed.
fn swallowed(far: &Path, near: &Path, calls: usize, seed: u64) -> (Duration, u64) {
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|n| {
                scope.spawn(move || {
                    let began = Instant::now();
                    let read = fs::read(far.join(format!("{n}.gif")));
                    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
                    u64::from(read.is_err())
                })
            })
            .collect();
        let mut took: Vec<_> = (0..calls).map(|n| call(near, n, seed)).collect();
        took.sort_unstable();
        let refused = waiting
            .into_iter()
            .map(|it| it.join().expect("in time"))
            .sum();
        assert_eq!(refused, 8, "nothing of it was here");
        (took[took.len() * 99 / 100], refused)
    })
}

/// One operation on what is here.
fn call(near: &Path, n: usize, seed: u64) -> Duration {
    let at = |n: usize| near.join((n % FILES).to_string());
    let began = Instant::now();
    match n % 5 {
        0 => drop(fs::read(at(n)).expect("a read")),
        1 => fs::write(near.join(format!("new-{seed}-{n}")), b"new").expect("a write"),
        2 => drop(fs::metadata(at(n)).expect("a stat")),
        3 => drop(fs::read_dir(near).expect("a folder").count()),
        _ => {
            let new = near.join(format!("new-{seed}-{}", n - 3));
            fs::rename(&new, near.join(format!("moved-{seed}-{n}"))).expect("a rename");
        }
    }
    began.elapsed()
}

fn killed_under_load(mount: &mut Mount, near: &Path) {
    let (over, began) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        for n in 0..8 {
            let (over, began) = (&over, &began);
            scope.spawn(move || {
                let (path, bytes) = (near.join(n.to_string()), vec![n; 50_000]);
                while !over.load(Ordering::Acquire) {
                    // Refused, or not there, while nobody serves.
                    let written = fs::File::create(&path).and_then(|mut file| {
                        file.write_all(&bytes)?;
                        file.sync_all()
                    });
                    drop(fs::read(&path));
                    began.fetch_or(written.is_ok(), Ordering::AcqRel);
                }
            });
        }
        until("there is load", || {
            began.load(Ordering::Acquire).then_some(())
        });
        mount.kill();
        mount.run();
        over.store(true, Ordering::Release);
        let nobody = harness::wait::within(SOON, || hanging().is_empty().then_some(()));
        assert!(nobody.is_some(), "hanging: {:?}", hanging());
    });
    let again = fs::write(near.join("0"), b"after");
    again.expect("it is served again");
}

/// Tasks of this process and its children that wait without end: their names.
fn hanging() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let tasks = fs::read_dir("/proc/self/task").expect("a list of tasks");
    for task in tasks.flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
            continue; // it has ended
        };
        let Some((name, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        if rest.trim_start().starts_with('D') {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn g9_no_hang() {
    if needs::met(&[Need::Root, Need::Fuse]) {
        let title = "a network that swallows everything; a kill under load";
        gate::run("G9", title, 1, round);
    }
}
