//! What a restart keeps: everything that was closed.

use std::process::ExitStatus;

use graph_emulator::{Profile, Route};
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};

fn picture(n: usize) -> Vec<u8> {
    let mut bytes = format!("GIF89a picture {n} ").into_bytes();
    bytes.resize(20_000 + n, u8::try_from(n % 256).expect("a byte"));
    bytes
}

#[test]
fn two_hundred_pending_pictures_survive_a_kill_and_arrive_once_each() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mut mount = Mount::start(&cloud);
    cloud.0.hold(Route::PutContent);
    std::fs::create_dir_all(mount.point.join("2026/11")).expect("folders");
    for n in 0..200 {
        let path = mount.point.join(format!("2026/11/{n}.gif"));
        std::fs::write(path, picture(n)).expect("a file");
    }
    mount.kill();
    // Requests that were under way may still take effect on the drive: that is the hard case.
    cloud.0.release(Route::PutContent);
    mount.run();
    for n in 0..200 {
        let path = mount.point.join(format!("2026/11/{n}.gif"));
        assert_eq!(
            std::fs::read(path).expect("it is there"),
            picture(n),
            "picture {n}"
        );
    }
    for n in 0..200 {
        let path = format!("share/mount/2026/11/{n}.gif");
        cloud.has(&path, &picture(n));
        assert_eq!(
            cloud.0.node(&path).expect("just seen").versions,
            1,
            "picture {n}"
        );
    }
    let files = cloud
        .0
        .tree()
        .into_iter()
        .filter(|n| n.kind == graph_emulator::NodeKind::File)
        .count();
    assert_eq!(files, 200);
}

#[test]
fn a_stop_unmounts_cleanly_and_keeps_what_could_not_be_sent() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::PersonalMigrated);
    let mut mount = Mount::prepare(&cloud, &[("writeback.grace", "1s")]);
    mount.login(&cloud);
    mount.run();
    cloud.0.hold(Route::PutContent);
    std::fs::write(mount.point.join("a.gif"), picture(1)).expect("a file");
    let status: ExitStatus = mount.stop();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert!(!mount.is_mounted());
    assert_eq!(
        std::fs::read_dir(&mount.point)
            .expect("the bare folder")
            .count(),
        0
    );
    cloud.0.release(Route::PutContent);
    mount.run();
    assert_eq!(
        std::fs::read(mount.point.join("a.gif")).expect("it is there"),
        picture(1)
    );
    cloud.has("share/mount/a.gif", &picture(1));
    assert_eq!(
        cloud
            .0
            .node("share/mount/a.gif")
            .expect("just seen")
            .versions,
        1
    );
}

#[test]
fn a_stop_sends_what_it_can() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mut mount = Mount::start(&cloud);
    for n in 0..20 {
        std::fs::write(mount.point.join(format!("{n}.gif")), picture(n)).expect("a file");
    }
    assert!(mount.stop().success());
    for n in 0..20 {
        let there = cloud.0.read_file(&format!("share/mount/{n}.gif"));
        assert_eq!(there, Some(picture(n)), "picture {n}");
    }
}

#[test]
fn a_start_without_the_drive_serves_what_is_here() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mut mount = Mount::prepare(&cloud, &[("writeback.grace", "1s")]);
    mount.login(&cloud);
    mount.run();
    cloud
        .0
        .put_file("share/mount/unseen/x.gif", picture(4))
        .expect("a file");
    cloud
        .0
        .put_file("share/mount/seen.gif", picture(3))
        .expect("a file");
    // Made last: a round that tells of it tells of the folder, too.
    harness::wait::until("the file of another client is seen", || {
        std::fs::read(mount.point.join("seen.gif")).ok()
    });
    // A close is durable, and with it all that was known before.
    std::fs::write(mount.point.join("own.gif"), picture(2)).expect("a file");
    mount.kill();
    drop(cloud);
    mount.run();
    assert_eq!(
        std::fs::read(mount.point.join("own.gif")).expect("it is here"),
        picture(2)
    );
    assert_eq!(
        std::fs::read(mount.point.join("seen.gif")).expect("it is here"),
        picture(3)
    );
    // Unknown is not absent.
    let unknown = std::fs::metadata(mount.point.join("unseen/x.gif")).expect_err("not here");
    assert_eq!(unknown.raw_os_error(), Some(libc::EIO));
    let absent = std::fs::metadata(mount.point.join("never.gif")).expect_err("known to be absent");
    assert_eq!(absent.raw_os_error(), Some(libc::ENOENT));
    std::fs::write(mount.point.join("new.gif"), picture(5)).expect("writing needs no drive");
    assert_eq!(
        std::fs::read(mount.point.join("new.gif")).expect("it is here"),
        picture(5)
    );
}

#[test]
fn a_second_daemon_on_one_state_directory_is_refused() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    let other = Mount::prepare(
        &cloud,
        &[("state_dir", &mount.state_dir().display().to_string())],
    );
    let config = other.config.display().to_string();
    let done = harness::process::run("tuyunfs", &["mount", "--config", &config]);
    assert_eq!(done.status.code(), Some(69));
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(told.contains("in use by another tuyunfs"), "{told}");
}

#[test]
fn with_fsync_what_was_closed_survives_a_kill_all_the_same() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mut mount = Mount::prepare(&cloud, &[("writeback.durability", "fsync")]);
    mount.login(&cloud);
    mount.run();
    cloud.0.hold(Route::PutContent);
    for n in 0..50 {
        std::fs::write(mount.point.join(format!("{n}.part")), picture(n)).expect("a file");
        let (from, to) = (format!("{n}.part"), format!("{n}.gif"));
        std::fs::rename(mount.point.join(from), mount.point.join(to)).expect("a rename");
    }
    std::fs::write(mount.point.join("empty"), b"").expect("a file");
    mount.kill();
    cloud.0.release(Route::PutContent);
    mount.run();
    let names = std::fs::read_dir(&mount.point).expect("a folder").count();
    assert_eq!(names, 51);
    for n in 0..50 {
        let path = mount.point.join(format!("{n}.gif"));
        assert_eq!(
            std::fs::read(path).expect("it is there"),
            picture(n),
            "picture {n}"
        );
        cloud.has(&format!("share/mount/{n}.gif"), &picture(n));
    }
}
