//! Through a real mount, where this machine lets us: root and `/dev/fuse`. Elsewhere these tests
//! say so and end; the project's own run has both.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::*;
use crate::scripted::Rig;
use crate::settings::Settings;
use crate::tree::NodeId;

/// Names that need several answers of the kernel's size.
const MANY: usize = 3000;

struct Drive {
    rig: Rig,
    mounted: Mounted,
    point: PathBuf,
    _dir: tempfile::TempDir,
}

async fn mounted(files: Vec<(&'static str, Bytes)>) -> Option<Drive> {
    mounted_with(files, |_| {}).await
}

async fn mounted_with(
    files: Vec<(&'static str, Bytes)>,
    change: impl FnOnce(&mut Settings),
) -> Option<Drive> {
    if !rustix::process::geteuid().is_root() || File::open("/dev/fuse").is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "root and /dev/fuse are needed"
        );
        eprintln!("skipped: needs root and /dev/fuse");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.mount.point = dir.path().to_str().unwrap().into();
    change(&mut settings);
    let rig = Rig::over(files).await;
    let place = prepare(&settings).unwrap();
    let point = place.point();
    let mounted = mount(place, rig.vfs.clone(), &settings).await.unwrap();
    Some(Drive {
        rig,
        mounted,
        point,
        _dir: dir,
    })
}

/// Applications block, as the kernel makes them.
async fn blocking<R: Send + 'static>(
    point: &Path,
    work: impl FnOnce(PathBuf) -> R + Send + 'static,
) -> R {
    let point = point.to_owned();
    let work = tokio::task::spawn_blocking(move || work(point));
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("in time")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_finds_a_filesystem_as_it_knows_them() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    blocking(&drive.point, |point| {
        fs::create_dir_all(point.join("2026/11")).unwrap();
        let path = point.join("2026/11/a.gif");
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.write_all(b"GIF89a").unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"GIF89a");
        let again = OpenOptions::new().create_new(true).write(true).open(&path);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);

        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"+tail").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 11);
        file.set_len(8).unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"GIF89a+t");
        fs::write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");

        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(then)
            .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), then);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o777,
            0o644,
            "fixed: not shown"
        );

        fs::rename(&path, point.join("b.gif")).unwrap();
        assert_eq!(fs::read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let names = |dir: PathBuf| {
            let mut names: Vec<_> = fs::read_dir(dir)
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(point.clone()), ["2026", "b.gif"]);
        let full = fs::remove_dir(point.join("2026")).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::DirectoryNotEmpty);
        fs::remove_dir(point.join("2026/11")).unwrap();
        fs::remove_dir(point.join("2026")).unwrap();
        fs::remove_file(point.join("b.gif")).unwrap();
        assert!(names(point).is_empty());
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused_by_its_number() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    blocking(&drive.point, |point| {
        let number = |result: io::Result<()>| result.unwrap_err().raw_os_error().unwrap();
        let file = point.join("file");
        fs::write(&file, b"x").unwrap();
        assert_eq!(
            number(std::os::unix::fs::symlink("file", point.join("link"))),
            libc::EPERM
        );
        assert_eq!(
            number(fs::hard_link(&file, point.join("hard"))),
            libc::EPERM
        );
        assert_eq!(number(fs::create_dir(point.join("con"))), libc::EINVAL);
        assert_eq!(number(fs::create_dir(&file)), libc::EEXIST);
        assert_eq!(number(fs::create_dir(file.join("below"))), libc::ENOTDIR);
        let fifo = rustix::fs::mknodat(
            rustix::fs::CWD,
            point.join("fifo"),
            rustix::fs::FileType::Fifo,
            0o644.into(),
            0,
        );
        assert_eq!(fifo, Err(rustix::io::Errno::PERM));
        let plain = rustix::fs::FileType::RegularFile;
        rustix::fs::mknodat(rustix::fs::CWD, point.join("plain"), plain, 0o644.into(), 0).unwrap();
        assert_eq!(fs::metadata(point.join("plain")).unwrap().len(), 0);
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_unlinked_while_open_lives_until_it_is_closed() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    blocking(&drive.point, |point| {
        let path = point.join("tmp");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.write_all(b"before").unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all(b" after").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before after");
        assert!(!path.exists());
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_names_are_listed_whole_and_once() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    for n in 0..MANY {
        let mode = crate::vfs::OpenMode {
            read: false,
            write: true,
            truncate: false,
        };
        let (_, handle) = drive
            .rig
            .vfs
            .create(NodeId::ROOT, &format!("{n:05}"), 0o644, mode, true)
            .await
            .unwrap();
        drive.rig.vfs.release(handle).await;
    }
    blocking(&drive.point, |point| {
        let mut names: Vec<_> = fs::read_dir(&point)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        let expected: Vec<_> = (0..MANY)
            .map(|n| format!("{n:05}").into())
            .collect::<Vec<std::ffi::OsString>>();
        assert_eq!(names, expected);
        let sizes: u64 = fs::read_dir(&point)
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(sizes, 0);
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_never_takes_back_a_size_that_an_application_knows() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    blocking(&drive.point, |point| {
        let path = point.join("log");
        fs::write(&path, b"1").unwrap();
        // The folder is opened, then the file grows, then the folder is read.
        let listing = fs::read_dir(&point).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"23456789").unwrap();
        assert_eq!(listing.count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().len(), 9);
        file.write_all(b"!").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"123456789!");
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_never_brings_back_a_name_that_is_gone() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    blocking(&drive.point, |point| {
        let (tmp, name) = (point.join("a.tmp"), point.join("a"));
        fs::write(&tmp, b"1").unwrap();
        // The folder is opened, then the file is renamed, then the folder is read.
        let listing = fs::read_dir(&point).unwrap();
        fs::rename(&tmp, &name).unwrap();
        for entry in listing {
            let _ = entry.unwrap().metadata();
        }
        fs::remove_file(&name).unwrap();
        assert!(!tmp.exists());
        fs::write(&tmp, b"2").unwrap();
        assert_eq!(fs::read(&tmp).unwrap(), b"2");
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_readers_of_one_folder_do_not_disturb_each_other() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    let work = |point: PathBuf, who: usize| {
        for round in 0..20 {
            let name = point.join(format!("{who}-{}", round % 3));
            let tmp = name.with_extension("tmp");
            let text = format!("{who} {round}");
            fs::write(&tmp, &text).unwrap();
            fs::rename(&tmp, &name).unwrap();
            assert_eq!(fs::read_to_string(&name).unwrap(), text);
            assert!(fs::read_dir(&point).unwrap().count() >= 1);
            if round % 4 == 0 {
                fs::remove_file(&name).unwrap();
            }
        }
    };
    blocking(&drive.point, move |point| {
        std::thread::scope(|scope| {
            for who in 0..4 {
                let point = point.clone();
                scope.spawn(move || work(point, who));
            }
        });
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_forgets_what_changed_elsewhere() {
    let Some(drive) = mounted(vec![("a", Bytes::from_static(b"one"))]).await else {
        return;
    };
    blocking(&drive.point, |point| {
        assert!(!point.join("b").exists()); // an absence that the kernel remembers
        assert_eq!(fs::read(point.join("a")).unwrap(), b"one");
    })
    .await;
    // Another client's doing: the use cases are called behind the kernel's back.
    drive.rig.put("b", b"two").await;
    drive.rig.vfs.ledger().announce(crate::tree::Effects {
        entries: vec![(NodeId::ROOT, "b".into())],
        ..Default::default()
    });
    let soon = std::time::Instant::now() + Duration::from_secs(10);
    let b = drive.point.join("b");
    while !blocking(&b, |b| b.exists()).await {
        assert!(
            std::time::Instant::now() < soon,
            "the absence is still remembered"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_needs_the_drive_fails_in_time_and_holds_up_nobody() {
    let Some(drive) = mounted(vec![("far", Bytes::from_static(b"away"))]).await else {
        return;
    };
    drive.rig.put("near", b"here").await;
    drive.rig.drive.offline.store(true, Ordering::Relaxed);
    blocking(&drive.point, |point| {
        let far: Vec<_> = (0..8)
            .map(|_| {
                let far = point.join("far");
                std::thread::spawn(move || fs::read(far).unwrap_err().raw_os_error())
            })
            .collect();
        assert_eq!(fs::read(point.join("near")).unwrap(), b"here");
        for far in far {
            assert_eq!(far.join().unwrap(), Some(libc::EIO));
        }
    })
    .await;
    drive.rig.drive.offline.store(false, Ordering::Relaxed);
    blocking(&drive.point, |point| {
        assert_eq!(fs::read(point.join("far")).unwrap(), b"away");
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_and_modes_are_shown_where_that_was_asked_for() {
    let posix = |settings: &mut Settings| {
        settings.mount.permissions = crate::settings::Permissions::Posix;
        settings.mount.uid = "4711".into();
    };
    let Some(drive) = mounted_with(Vec::new(), posix).await else {
        return;
    };
    blocking(&drive.point, |point| {
        assert_eq!(fs::metadata(&point).unwrap().uid(), 4711);
        let path = point.join("mine");
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o640)
            .open(&path)
            .unwrap();
        let shown = fs::metadata(&path).unwrap();
        assert_eq!((shown.uid(), shown.mode() & 0o7777), (0, 0o640));
        std::os::unix::fs::chown(&path, Some(33), Some(34)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let shown = fs::metadata(&path).unwrap();
        assert_eq!(
            (shown.uid(), shown.gid(), shown.mode() & 0o7777),
            (33, 34, 0o600)
        );
    })
    .await;
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_shown_by_its_type_and_source_and_ends_when_anybody_unmounts() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    let entry = table::at(&drive.point).unwrap();
    assert_eq!(
        (entry.fstype.as_str(), entry.source.as_str()),
        (TYPE, "onedrive:/share/mount")
    );
    let mut settings = Settings::default();
    settings.mount.point = drive.point.to_str().unwrap().into();
    let second = blocking(&drive.point, move |_| prepare(&settings)).await;
    assert!(
        matches!(second, Err(MountError::InUse { .. })),
        "{second:?}"
    );
    assert!(
        !blocking(&drive.point, |point| unmount_stale(&point).unwrap()).await,
        "it is alive"
    );
    let mut ended = drive.mounted.ended();
    blocking(&drive.point, |point| unmount(&point, false).unwrap()).await;
    tokio::time::timeout(Duration::from_secs(10), ended.wait())
        .await
        .unwrap()
        .unwrap();
    drive.mounted.unmount().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmount_does_not_wait_for_those_who_keep_files_open() {
    let Some(drive) = mounted(Vec::new()).await else {
        return;
    };
    let file = blocking(&drive.point, |point| {
        let file = File::create_new(point.join("held")).unwrap();
        file.write_all_at(b"kept", 0).unwrap();
        file
    })
    .await;
    let closing = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::task::spawn_blocking(move || drop(file))
            .await
            .unwrap();
    });
    let point = drive.point.clone();
    drive.mounted.unmount().await.unwrap();
    assert_eq!(table::at(&point), None);
    closing.await.unwrap();
}
