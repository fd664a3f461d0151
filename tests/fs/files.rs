//! What applications do to files, on a real mount; then what the drive has.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};

fn on_a_mount(test: impl Fn(&Cloud, &Mount)) {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    test(&cloud, &mount);
}

#[test]
fn files_are_written_in_place_appended_and_cut() {
    on_a_mount(|cloud, mount| {
        let path = mount.point.join("a.bin");
        fs::write(&path, b"0123456789").expect("a file");
        let file = OpenOptions::new().write(true).open(&path).expect("open");
        file.write_at(b"AB", 3).expect("a write");
        drop(file);
        let mut file = OpenOptions::new().append(true).open(&path).expect("open");
        file.write_all(b"end").expect("an append");
        drop(file);
        assert_eq!(fs::read(&path).expect("it is there"), b"012AB56789end");
        OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("open")
            .set_len(5)
            .expect("a cut");
        assert_eq!(fs::read(&path).expect("it is there"), b"012AB");
        truncate(&path, 8);
        assert_eq!(fs::read(&path).expect("it is there"), b"012AB\0\0\0");
        cloud.has("share/mount/a.bin", b"012AB\0\0\0");
    });
}

/// By coreutils, which opens the file and calls ftruncate(2).
fn truncate(path: &std::path::Path, size: u64) {
    let done = std::process::Command::new("truncate")
        .args(["-s", &size.to_string()])
        .arg(path)
        .status()
        .expect("coreutils");
    assert!(done.success());
}

#[test]
fn renames_replace_and_folders_move_with_what_is_in_them() {
    on_a_mount(|cloud, mount| {
        let at = |path: &str| mount.point.join(path);
        fs::create_dir_all(at("d/e")).expect("folders");
        fs::write(at("d/e/f"), b"f").expect("a file");
        fs::write(at("target"), b"old").expect("a file");
        cloud.has("share/mount/target", b"old");
        let id = cloud.0.node("share/mount/target").expect("just seen").id;
        fs::write(at("target.tmp"), b"new").expect("a file");
        fs::rename(at("target.tmp"), at("target")).expect("a rename");
        fs::rename(at("d"), at("moved")).expect("a rename");
        assert_eq!(fs::read(at("target")).expect("it is there"), b"new");
        assert_eq!(fs::read(at("moved/e/f")).expect("it is there"), b"f");
        assert!(!at("d").exists());
        cloud.has("share/mount/target", b"new");
        assert_eq!(
            cloud.0.node("share/mount/target").expect("just seen").id,
            id
        );
        cloud.has("share/mount/moved/e/f", b"f");
        cloud.until("nothing else is left", |drive| drive.file_count() == 2);
    });
}

#[test]
fn folders_are_removed_when_empty_and_names_that_exist_are_refused() {
    on_a_mount(|cloud, mount| {
        let at = |path: &str| mount.point.join(path);
        fs::create_dir(at("d")).expect("a folder");
        let again = fs::create_dir(at("d")).expect_err("it exists");
        assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
        let variant = fs::create_dir(at("D")).expect_err("the drive takes it for the same");
        assert_eq!(variant.raw_os_error(), Some(libc::EEXIST));
        fs::write(at("d/f"), b"f").expect("a file");
        let full = fs::remove_dir(at("d")).expect_err("not empty");
        assert_eq!(full.raw_os_error(), Some(libc::ENOTEMPTY));
        fs::remove_file(at("d/f")).expect("a deletion");
        fs::remove_dir(at("d")).expect("a deletion");
        assert!(!at("d").exists());
        cloud.until("the folder is gone", |drive| {
            drive.node("share/mount/d").is_none()
        });
    });
}

#[test]
fn an_unlinked_file_stays_readable_until_it_is_closed() {
    on_a_mount(|_, mount| {
        let path = mount.point.join("a");
        fs::write(&path, b"bytes").expect("a file");
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .expect("open");
        fs::remove_file(&path).expect("a deletion");
        assert!(!path.exists());
        let mut text = String::new();
        file.read_to_string(&mut text).expect("a read");
        assert_eq!(text, "bytes");
        file.write_all(b"!").expect("a write");
        file.seek(SeekFrom::Start(0)).expect("a seek");
        text.clear();
        file.read_to_string(&mut text).expect("a read");
        assert_eq!(text, "bytes!");
        assert_eq!(file.metadata().expect("a stat").len(), 6);
    });
}

#[test]
fn owner_modes_times_and_space_are_told_and_locks_are_the_kernels() {
    on_a_mount(|_, mount| {
        let path = mount.point.join("a");
        fs::write(&path, b"x").expect("a file");
        let root = fs::metadata(&mount.point).expect("a stat");
        assert_eq!((root.uid(), root.mode() & 0o777), (0, 0o755));
        assert_eq!(fs::metadata(&path).expect("a stat").mode() & 0o777, 0o644);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod succeeds");
        assert_eq!(
            fs::metadata(&path).expect("a stat").mode() & 0o777,
            0o644,
            "and is not shown"
        );
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        File::options()
            .write(true)
            .open(&path)
            .expect("open")
            .set_modified(then)
            .expect("a time");
        assert_eq!(
            fs::metadata(&path)
                .expect("a stat")
                .modified()
                .expect("a time"),
            then
        );
        let space = std::process::Command::new("stat")
            .args(["-f", "-c", "%b %S"])
            .arg(&mount.point)
            .output()
            .expect("coreutils");
        let text = String::from_utf8_lossy(&space.stdout).into_owned();
        let numbers: Vec<u64> = text
            .split_whitespace()
            .map(|n| n.parse().expect("a number"))
            .collect();
        assert!(numbers[0] * numbers[1] > 1 << 30, "{text}");
        let (one, other) = (
            File::open(&path).expect("open"),
            File::open(&path).expect("open"),
        );
        one.lock().expect("a lock");
        assert!(other.try_lock().is_err(), "locked by the first");
        one.unlock().expect("an unlock");
        other.try_lock().expect("free again");
    });
}

#[test]
fn a_folder_of_many_files_lists_each_of_them_once() {
    on_a_mount(|_, mount| {
        for n in 0..500 {
            fs::write(mount.point.join(format!("{n:03}")), b"x").expect("a file");
        }
        let mut names: Vec<String> = fs::read_dir(&mount.point)
            .expect("a listing")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        let expected: Vec<String> = (0..500).map(|n| format!("{n:03}")).collect();
        assert_eq!(names, expected);
    });
}

#[test]
fn a_range_is_emptied_and_its_room_given_back_and_a_time_of_reading_is_kept() {
    on_a_mount(|cloud, mount| {
        let path = mount.point.join("a.bin");
        fs::write(&path, vec![7; 20_000]).expect("a file");
        // By util-linux, which opens the file and calls fallocate(2).
        for (what, length) in [("--punch-hole", "5000"), ("--zero-range", "25000")] {
            let done = std::process::Command::new("fallocate")
                .args([what, "--offset", "10000", "--length", length])
                .arg(&path)
                .status()
                .expect("fallocate(1)");
            assert!(done.success(), "{what}");
        }
        let mut bytes = vec![7; 10_000];
        bytes.resize(35_000, 0);
        assert!(fs::read(&path).expect("it is there") == bytes);
        let read = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let file = File::open(&path).expect("it is there");
        file.set_times(fs::FileTimes::new().set_accessed(read))
            .expect("a time");
        let known = fs::metadata(&path).expect("it is there");
        assert_eq!(known.accessed().expect("a time"), read);
        assert!(known.modified().expect("a time") < read);
        let long = mount.point.join("x".repeat(256));
        let refused = fs::metadata(long).expect_err("no name is so long");
        assert_eq!(refused.raw_os_error(), Some(libc::ENAMETOOLONG));
        cloud.has("share/mount/a.bin", &bytes);
    });
}
