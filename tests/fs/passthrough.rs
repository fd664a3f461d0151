//! Files that the kernel reads and writes by itself, and the same without that.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::wait::until;
use memmap2::{MmapMut, MmapOptions};

/// On a mount that passes through, and on one that does not: with the name of its mode.
fn on_both(test: impl Fn(&Cloud, &mut Mount, &str)) {
    if !needs::met(&[Need::Root, Need::Fuse, Need::Passthrough]) {
        return;
    }
    for (setting, mode) in [("auto", "passthrough"), ("off", "fallback")] {
        let cloud = Cloud::start(Profile::Business);
        let mut mount = Mount::prepare(&cloud, &[("mount.passthrough", setting)]);
        mount.login(&cloud);
        mount.run();
        assert_eq!(mount.status()["mount"]["mode"], mode);
        test(&cloud, &mut mount, mode);
    }
}

fn writable(path: &std::path::Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(path).expect("an open")
}

#[expect(unsafe_code, reason = "nobody else changes the length of the file")]
fn map(file: &File) -> MmapMut {
    // SAFETY: the file stays as long as it is, in this test alone.
    unsafe { MmapOptions::new().map_mut(file) }.expect("a mapping")
}

#[test]
fn a_reader_sees_what_is_written_while_he_has_the_file_open_and_the_drive_gets_what_was_closed() {
    on_both(|cloud, mount, mode| {
        let path = mount.point.join("a.log");
        fs::write(&path, b"one\n").expect("a file");
        let reader = File::open(&path).expect("an open");
        let mut bytes = [0; 64];
        assert_eq!(reader.read_at(&mut bytes, 0).expect("a read"), 4);
        let writer = writable(&path);
        writer.write_all_at(b"two\n", 4).expect("a write");
        let read = reader.read_at(&mut bytes, 0).expect("a read");
        assert_eq!(&bytes[..read], b"one\ntwo\n", "{mode}");
        assert_eq!(reader.metadata().expect("a stat").len(), 8, "{mode}");
        assert_eq!(fs::metadata(&path).expect("a stat").len(), 8, "{mode}");
        drop(writer);
        cloud.has("share/mount/a.log", b"one\ntwo\n");
        fs::write(&path, b"anew\n").expect("a file that is emptied first");
        let read = reader.read_at(&mut bytes, 0).expect("a read");
        assert_eq!(&bytes[..read], b"anew\n", "{mode}");
        cloud.has("share/mount/a.log", b"anew\n");
        drop(reader);
        assert_eq!(fs::read(&path).expect("a read"), b"anew\n", "{mode}");
    });
}

#[test]
fn a_mapping_that_outlives_its_descriptor_is_sealed_as_it_was_left() {
    on_both(|cloud, mount, mode| {
        let path = mount.point.join("a.bin");
        fs::write(&path, vec![b'.'; 10_000]).expect("a file");
        let reader = File::open(&path).expect("an open");
        let writer = writable(&path);
        let mut mapping = map(&writer);
        mapping[0] = b'a';
        drop(writer);
        mapping[9_999] = b'z';
        drop(mapping);
        let mut left = vec![b'.'; 10_000];
        (left[0], left[9_999]) = (b'a', b'z');
        cloud.has("share/mount/a.bin", &left);
        drop(reader);
        assert!(fs::read(&path).expect("a read") == left, "{mode}");
    });
}

#[test]
fn a_program_whose_daemon_was_killed_goes_on_and_what_it_had_written_by_then_is_kept() {
    on_both(|cloud, mount, mode| {
        let path = mount.point.join("a.log");
        fs::write(&path, b"closed;").expect("a file");
        cloud.has("share/mount/a.log", b"closed;");
        let reader = File::open(&path).expect("an open");
        let writer = writable(&path);
        writer.write_all_at(b"written;", 7).expect("a write");
        mount.kill();
        let mut bytes = [0; 32];
        let passes = mode == "passthrough";
        // The kernel goes on by itself where it did before.
        assert_eq!(reader.read_at(&mut bytes, 0).is_ok(), passes);
        assert_eq!(writer.write_all_at(b"late;", 15).is_ok(), passes);
        mount.run();
        let saved = fs::read(&path).expect("a read");
        let all: &[u8] = if passes {
            b"closed;written;late;"
        } else {
            b"closed;written;"
        };
        assert_eq!(saved, all, "{mode}");
        // What is written from now on is nobody's.
        let _ = writer.write_all_at(b"too late", 0);
        assert_eq!(fs::read(&path).expect("a read"), all, "{mode}");
        cloud.has("share/mount/a.log", all);
    });
}

#[test]
fn times_that_a_program_sets_on_an_open_file_are_kept() {
    on_both(|_, mount, mode| {
        let path = mount.point.join("a.txt");
        fs::write(&path, b"text").expect("a file");
        let _reader = File::open(&path).expect("an open");
        let writer = writable(&path);
        writer.write_all_at(b"TEXT", 0).expect("a write");
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_hours(400_000);
        writer.set_modified(then).expect("utimens");
        drop(writer);
        assert_eq!(
            fs::metadata(&path).expect("a stat").mtime(),
            1_440_000_000,
            "{mode}"
        );
    });
}

#[test]
fn a_new_version_of_another_client_is_seen_by_the_next_open_while_an_older_one_is_being_read() {
    on_both(|cloud, mount, mode| {
        let path = mount.point.join("a.txt");
        fs::write(&path, b"ours").expect("a file");
        cloud.has("share/mount/a.txt", b"ours");
        let reader = File::open(&path).expect("an open");
        let put = cloud.0.put_file("share/mount/a.txt", b"their new one");
        put.expect("a file of another client");
        let mut bytes = [0; 32];
        let read = reader.read_at(&mut bytes, 0).expect("a read");
        assert_eq!(&bytes[..read], b"ours", "{mode}");
        drop(reader);
        until("the new one is here", || {
            (fs::read(&path).expect("a read") == b"their new one").then_some(())
        });
    });
}
