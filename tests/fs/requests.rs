//! What a picture costs the drive.

use graph_emulator::{Profile, Route};
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};

#[test]
fn a_new_small_picture_costs_one_request_on_every_kind_of_drive() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    for profile in [
        Profile::PersonalClassic,
        Profile::PersonalMigrated,
        Profile::Business,
    ] {
        let cloud = Cloud::start(profile);
        let mut mount = Mount::prepare(&cloud, &[("drive.poll", "1h")]);
        mount.login(&cloud);
        mount.run();
        std::fs::create_dir(mount.point.join("day")).expect("a folder");
        std::fs::write(mount.point.join("day/first.gif"), b"GIF89a first").expect("a file");
        cloud.has("share/mount/day/first.gif", b"GIF89a first");
        cloud.until("nothing is under way", |drive| {
            drive.requests().iter().all(|entry| entry.done)
        });
        cloud.0.reset_log();
        for n in 0..20 {
            let name = format!("day/{n}.gif");
            let bytes = vec![u8::try_from(n).expect("small"); 100_000];
            std::fs::write(mount.point.join(&name), &bytes).expect("a file");
            cloud.has(&format!("share/mount/{name}"), &bytes);
        }
        let routes: Vec<Route> = cloud
            .0
            .requests()
            .iter()
            .map(|entry| entry.route)
            .filter(|route| !matches!(route, Route::Delta | Route::Quota))
            .collect();
        assert_eq!(routes, [Route::PutContent; 20], "{profile:?}");
    }
}

#[test]
fn a_large_file_goes_up_in_a_session_and_a_cold_read_costs_one_request() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    cloud
        .0
        .put_file("share/mount/cold.jpg", vec![7; 200_000])
        .expect("a file");
    let mut mount = Mount::prepare(&cloud, &[("drive.poll", "1h")]);
    mount.login(&cloud);
    mount.run();
    let bytes: Vec<u8> = (0..12_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(mount.point.join("large.bin"), &bytes).expect("a file");
    cloud.has("share/mount/large.bin", &bytes);
    assert_eq!(cloud.0.count(Route::CreateSession), 1);
    assert_eq!(
        cloud
            .0
            .node("share/mount/large.bin")
            .expect("just seen")
            .versions,
        1
    );
    cloud.until("nothing is under way", |drive| {
        drive.requests().iter().all(|entry| entry.done)
    });
    cloud.0.reset_log();
    assert_eq!(
        std::fs::read(mount.point.join("cold.jpg")).expect("it is there"),
        vec![7; 200_000]
    );
    let routes: Vec<Route> = cloud.0.requests().iter().map(|entry| entry.route).collect();
    assert_eq!(routes, [Route::Download]);
}
