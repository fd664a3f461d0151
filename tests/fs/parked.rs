//! What the drive refuses for good, and what a person does about it.

use std::process::Output;

use graph_emulator::{Fault, Profile, Route};
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::process::run;
use harness::wait::until;

fn command(mount: &Mount, arguments: &[&str]) -> Output {
    let config = mount.config.display().to_string();
    run("tuyunfs", &[arguments, &["--config", &config]].concat())
}

fn refused(mount: &Mount, arguments: &[&str], words: &str) {
    let done = command(mount, arguments);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

fn parked(mount: &Mount) -> Vec<String> {
    let status = mount.status();
    let parked = status["parked"].as_array().expect("a list");
    let paths = parked.iter().map(|one| one["path"].as_str());
    paths.map(|path| path.expect("a path").to_owned()).collect()
}

#[test]
fn what_the_drive_refuses_is_tried_again_or_given_up_by_name() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let old = "share/mount/old.jpg";
    cloud.0.put_file(old, b"the drive's").expect("a file");
    cloud
        .0
        .inject(Fault::status(Route::PutContent, 403).always());
    let mount = Mount::start(&cloud);
    let at = |name: &str| mount.point.join(name);
    for name in ["new.jpg", "again.jpg", "old.jpg"] {
        std::fs::write(at(name), name).expect("a file");
    }
    until("all are parked", || {
        (parked(&mount).len() == 3).then_some(())
    });

    refused(
        &mount,
        &["retry", "none.jpg"],
        "nothing is parked at none.jpg",
    );
    refused(
        &mount,
        &["discard", "none.jpg"],
        "nothing is parked at none.jpg",
    );
    refused(&mount, &["discard", "new.jpg"], "the drive has no copy");
    refused(
        &mount,
        &["discard", "old.jpg"],
        "what the drive has is shown again",
    );
    assert_eq!(parked(&mount).len(), 3, "nothing without --yes");

    let copy = mount.dir().join("copy.jpg").display().to_string();
    mount.tuyunfs(&["export", "new.jpg", &copy]);
    assert_eq!(std::fs::read(&copy).expect("a copy"), b"new.jpg");
    let again = command(&mount, &["export", "new.jpg", &copy]);
    assert_eq!(again.status.code(), Some(69), "it is there already");

    cloud.0.clear_faults();
    mount.tuyunfs(&["retry", "again.jpg"]);
    cloud.has("share/mount/again.jpg", b"again.jpg");
    mount.tuyunfs(&["discard", "new.jpg", "--yes"]);
    mount.tuyunfs(&["discard", "old.jpg", "--yes"]);
    until("nothing is parked", || {
        parked(&mount).is_empty().then_some(())
    });
    assert!(!at("new.jpg").exists());
    let shown = std::fs::read(at("old.jpg")).expect("the drive has it");
    assert_eq!(shown, b"the drive's");
    mount.tuyunfs(&["flush", "--wait"]);
    assert_eq!(cloud.0.file_count(), 2);
    assert_eq!(cloud.0.read_file(old).as_deref(), Some(&b"the drive's"[..]));
}
