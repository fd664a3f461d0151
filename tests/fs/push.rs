//! Changes that the drive tells of, where nobody looks for them.

use graph_emulator::{Fault, Profile, Route};
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::wait::until;

/// So seldom that no test lives to see it.
const NEVER: (&str, &str) = ("drive.poll", "24h");

fn mounted(cloud: &Cloud, keys: &[(&str, &str)]) -> Mount {
    let mut mount = Mount::prepare(cloud, &[&[NEVER], keys].concat());
    mount.login(cloud);
    mount.run();
    mount
}

fn until_push(mount: &Mount, state: &str) {
    until(&format!("push is {state}"), || {
        (mount.status()["push"]["state"] == state).then_some(())
    });
}

#[test]
fn a_change_by_another_client_is_seen_without_a_poll() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    for profile in [Profile::PersonalClassic, Profile::Business] {
        let cloud = Cloud::start(profile);
        let mount = mounted(&cloud, &[]);
        until_push(&mount, "connected");
        // The first may be found by the look that follows a connection; the others are told.
        for n in 0..3 {
            let (name, text) = (format!("{n}.gif"), format!("GIF89a {n}"));
            cloud
                .0
                .put_file(&format!("share/mount/{name}"), text.as_bytes())
                .expect("a file");
            until("it is seen", || {
                let bytes = std::fs::read(mount.point.join(&name)).ok()?;
                (bytes == text.as_bytes()).then_some(())
            });
        }
        let notices = mount.status()["push"]["notices"].as_u64();
        assert!(notices.expect("a count") >= 2, "{notices:?}");
        let text = mount.tuyunfs(&["status"]);
        assert!(text.contains("push      connected"), "{text}");
        assert!(!mount.log().contains("snthgk"), "the address is a secret");
    }
}

#[test]
fn an_account_that_tells_of_nothing_is_polled_and_status_says_so() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    cloud.0.inject(Fault::status(Route::SocketIo, 403).always());
    let mount = mounted(&cloud, &[("drive.poll", "1s")]);
    until_push(&mount, "not_offered");
    let status = mount.status();
    assert!(
        status["push"]["why"]
            .as_str()
            .expect("a reason")
            .contains("accessDenied"),
        "{status}"
    );
    assert!(status["degraded"].is_null(), "{status}");
    cloud
        .0
        .put_file("share/mount/a.gif", b"GIF89a")
        .expect("a file");
    until("it is seen", || {
        std::fs::read(mount.point.join("a.gif")).ok()
    });
    assert_eq!(cloud.0.count(Route::SocketIo), 1, "said once");
}

#[test]
fn a_mount_that_is_not_to_listen_does_not() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = mounted(&cloud, &[("drive.push", "off")]);
    until_push(&mount, "off");
    assert_eq!(cloud.0.count(Route::SocketIo), 0);
}
