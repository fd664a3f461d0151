//! What other clients do to the drive.

use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::wait::until;

#[test]
fn changes_by_another_client_appear_in_the_mounted_folder() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    cloud
        .0
        .put_file("share/mount/d/a.txt", b"one")
        .expect("a file");
    let mount = Mount::start(&cloud);
    let at = |path: &str| mount.point.join(path);
    assert_eq!(std::fs::read(at("d/a.txt")).expect("it is there"), b"one");
    assert!(!at("d/b.txt").exists());

    cloud
        .0
        .put_file("share/mount/d/b.txt", b"two")
        .expect("a file");
    until("a new file is seen", || {
        std::fs::read(at("d/b.txt")).ok().filter(|b| b == b"two")
    });

    cloud
        .0
        .put_file("share/mount/d/a.txt", b"one, longer")
        .expect("a file");
    until("new content is seen", || {
        std::fs::read(at("d/a.txt"))
            .ok()
            .filter(|bytes| bytes == b"one, longer")
    });

    cloud
        .0
        .rename("share/mount/d/a.txt", "c.txt")
        .expect("a rename");
    until("a rename is seen", || std::fs::read(at("d/c.txt")).ok());
    assert!(!at("d/a.txt").exists());

    cloud.0.delete("share/mount/d").expect("a deletion");
    until("a deletion is seen", || (!at("d").exists()).then_some(()));
}

#[test]
fn an_edit_of_the_same_file_on_both_sides_leaves_both_contents() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    cloud
        .0
        .put_file("share/mount/a.txt", b"base")
        .expect("a file");
    let mut mount = Mount::prepare(&cloud, &[("writeback.settle", "3s")]);
    mount.login(&cloud);
    mount.run();
    std::fs::write(mount.point.join("a.txt"), b"ours").expect("a file");
    cloud
        .0
        .put_file("share/mount/a.txt", b"theirs")
        .expect("a file");
    cloud.until("both are on the drive", |drive| drive.file_count() == 2);
    assert_eq!(
        cloud.0.read_file("share/mount/a.txt").as_deref(),
        Some(b"theirs".as_slice())
    );
    let copy = cloud
        .0
        .tree()
        .into_iter()
        .find(|node| node.path.contains("a (conflict "))
        .expect("a conflict copy");
    assert_eq!(
        cloud.0.read_file(&copy.path).as_deref(),
        Some(b"ours".as_slice())
    );
    assert_eq!(
        std::fs::read(mount.point.join("a.txt")).expect("it is there"),
        b"theirs"
    );
}
