//! What goes wrong before a mount: each says what to do, with the exit code of its kind.

use std::net::TcpListener;

use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::process::run;

fn ends(mount: &Mount, code: i32, words: &[&str]) {
    let config = mount.config.display().to_string();
    let done = run("tuyunfs", &["mount", "--config", &config]);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(code), "{told}");
    for word in words {
        assert!(told.contains(word), "`{word}` is not in: {told}");
    }
    assert!(!mount.is_mounted());
}

#[test]
fn an_unknown_key_names_its_line() {
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::prepare(&cloud, &[]);
    let text = std::fs::read_to_string(&mount.config).expect("just written");
    std::fs::write(&mount.config, format!("oddity = 1\n{text}")).expect("a settings file");
    ends(&mount, 78, &["oddity", "line 1", "tuyunfs.toml"]);
}

#[test]
fn a_missing_token_says_how_to_sign_in() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::prepare(&cloud, &[]);
    ends(&mount, 77, &["tuyunfs login"]);
}

#[test]
fn an_unreachable_drive_at_the_first_start_says_what_to_check() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::prepare(&cloud, &[]);
    mount.login(&cloud);
    drop(cloud);
    ends(&mount, 69, &["cannot", "network"]);
}

#[test]
fn a_mount_point_that_is_absent_or_in_use_is_refused() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let absent = Mount::prepare(&cloud, &[("mount.point", "/nowhere/at/all")]);
    absent.login(&cloud);
    ends(&absent, 78, &["/nowhere/at/all", "does not exist"]);
    let full = Mount::prepare(&cloud, &[]);
    full.login(&cloud);
    std::fs::write(full.point.join("hidden"), b"x").expect("a file");
    ends(&full, 78, &["not empty", "hidden", "nonempty"]);
    let one = Mount::start(&cloud);
    let two = Mount::prepare(&cloud, &[("mount.point", &one.point.display().to_string())]);
    two.login(&cloud);
    let config = two.config.display().to_string();
    let done = run("tuyunfs", &["mount", "--config", &config]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(69), "{told}");
    assert!(told.contains("in use"), "{told}");
}

#[test]
fn a_port_that_is_taken_names_the_setting() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let mount = Mount::prepare(&cloud, &[("origin.listen", &address)]);
    mount.login(&cloud);
    ends(&mount, 69, &[&address, "origin.listen"]);
}
