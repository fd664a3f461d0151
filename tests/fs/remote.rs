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

#[test]
fn a_deletion_of_suspiciously_much_is_held_back_until_a_person_decides() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    for n in 0..8 {
        let path = format!("share/mount/day/{n}.gif");
        cloud.0.put_file(&path, [n]).expect("a file");
    }
    let mut mount = Mount::prepare(&cloud, &[("drive.delete_guard", "5")]);
    mount.login(&cloud);
    mount.run();
    let at = |n: u8| mount.point.join(format!("day/{n}.gif"));
    assert_eq!(
        std::fs::read_dir(mount.point.join("day"))
            .expect("a folder")
            .count(),
        8
    );
    assert_eq!(std::fs::read(at(3)).expect("it is there"), [3]);

    cloud.0.delete("share/mount/day").expect("a deletion");
    until("it is held back", || {
        (mount.status()["withheld"] == 9).then_some(())
    });
    assert_eq!(std::fs::read(at(3)).expect("it is still there"), [3]);
    let said = mount.tuyunfs(&["deletions"]);
    assert!(said.contains("8 files and 1 folders"), "{said}");
    assert!(said.contains("here  day/3.gif"), "{said}");
    assert!(mount.tuyunfs(&["status"]).contains("tuyunfs deletions"));

    mount.tuyunfs(&["deletions", "--restore"]);
    cloud.has("share/mount/day/3.gif", &[3]);
    assert!(!at(4).exists(), "its bytes were not here");
    assert_eq!(mount.status()["withheld"], 0);

    cloud.0.delete("share/mount/day").expect("a deletion");
    until("few go by themselves", || {
        (!mount.point.join("day").exists()).then_some(())
    });
}

#[test]
fn a_mounted_folder_that_is_moved_goes_on_and_one_that_is_deleted_waits_for_a_person() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::PersonalMigrated);
    let mount = Mount::start(&cloud);
    let at = |name: &str| mount.point.join(name);
    std::fs::write(at("a.gif"), b"a").expect("a file");
    cloud.has("share/mount/a.gif", b"a");
    cloud.0.rename("share/mount", "pictures").expect("a rename");
    std::fs::write(at("b.gif"), b"b").expect("a file");
    cloud.has("share/pictures/b.gif", b"b");

    cloud.0.delete("share/pictures").expect("a deletion");
    until("the loss is noticed", || {
        (mount.status()["root_gone"] == true).then_some(())
    });
    assert_eq!(std::fs::read(at("a.gif")).expect("it is here"), b"a");
    std::fs::write(at("c.gif"), b"c").expect("changes go on");
    let waits = mount.status();
    assert!(
        waits["paused"]
            .as_str()
            .is_some_and(|why| why.contains("tuyunfs deletions")),
        "{waits}"
    );
    assert_eq!(cloud.0.file_count(), 0);

    mount.tuyunfs(&["deletions", "--restore"]);
    cloud.has("share/mount/a.gif", b"a");
    cloud.has("share/mount/b.gif", b"b");
    cloud.has("share/mount/c.gif", b"c");
    assert_eq!(cloud.0.file_count(), 3);
}

#[test]
fn two_mounts_and_a_third_client_agree() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let (one, other) = (Mount::start(&cloud), Mount::start(&cloud));
    let read = |mount: &Mount, path: &str| std::fs::read(mount.point.join(path)).ok();
    std::fs::create_dir(one.point.join("d")).expect("a folder");
    std::fs::write(one.point.join("d/one.gif"), b"one").expect("a file");
    cloud.has("share/mount/d/one.gif", b"one");
    cloud
        .0
        .put_file("share/mount/d/third.gif", b"third")
        .expect("a file");
    until("the other mount has both", || {
        read(&other, "d/one.gif").filter(|bytes| bytes == b"one")?;
        read(&other, "d/third.gif").filter(|bytes| bytes == b"third")
    });
    std::fs::rename(other.point.join("d/one.gif"), other.point.join("d/two.gif"))
        .expect("a rename");
    std::fs::write(other.point.join("d/third.gif"), b"third, edited").expect("a file");
    until("the first mount follows", || {
        read(&one, "d/two.gif").filter(|bytes| bytes == b"one")?;
        read(&one, "d/third.gif").filter(|bytes| bytes == b"third, edited")
    });
    assert!(!one.point.join("d/one.gif").exists());
    cloud.0.delete("share/mount/d").expect("a deletion");
    for mount in [&one, &other] {
        until("both lose it", || {
            (!mount.point.join("d").exists()).then_some(())
        });
    }
    assert_eq!(cloud.0.file_count(), 0);
}
