//! Names that the drive cannot hold, or would take for others.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use graph_emulator::Profile;
use harness::cloud::Cloud;
use harness::http;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::wait::until;

fn names(dir: &std::path::Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(dir).expect("a folder");
    entries.map(|e| e.expect("an entry").file_name()).collect()
}

#[test]
fn names_that_the_drive_cannot_hold_are_stored_as_rclone_stores_them() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    for profile in [Profile::Business, Profile::PersonalMigrated] {
        let cloud = Cloud::start(profile);
        let mut mount = Mount::start(&cloud);
        let not_utf8 = OsString::from_vec(b"caf\xe9.gif".to_vec());
        let ours = [
            ("a:b?.gif", "a：b？.gif"),
            (" two \u{1} ", "␠two ␁␠"),
            ("dots...", "dots..．"),
            ("~$doc", "～$doc"),
            ("literally：", "literally‛："),
        ];
        for (name, _) in ours {
            fs::write(mount.point.join(name), name).expect("a file");
        }
        fs::create_dir(mount.point.join("d|r")).expect("a folder");
        fs::write(mount.point.join("d|r").join(&not_utf8), b"bytes").expect("a file");
        for (name, stored) in ours {
            cloud.has(&format!("share/mount/{stored}"), name.as_bytes());
        }
        cloud.has("share/mount/d｜r/caf‛E9.gif", b"bytes");

        cloud
            .0
            .put_file("share/mount/theirs＊.gif", b"theirs")
            .expect("a file");
        cloud
            .0
            .put_file("share/mount/stray‛.gif", b"stray")
            .expect("a file");
        let read = |name: &str| fs::read(mount.point.join(name)).ok();
        until("another client's names are seen", || {
            read("theirs*.gif").filter(|bytes| bytes == b"theirs")?;
            read("stray‛.gif").filter(|bytes| bytes == b"stray")
        });
        let encoded = http::get(&format!("{}/mount/theirs%2A.gif", mount.origin), &[]);
        assert_eq!((encoded.status, &encoded.body[..]), (200, &b"theirs"[..]));

        let before = names(&mount.point);
        let expected: BTreeSet<OsString> = ours
            .iter()
            .map(|(name, _)| *name)
            .chain(["d|r", "theirs*.gif", "stray‛.gif"])
            .map(OsString::from)
            .collect();
        assert_eq!(before, expected);
        assert!(mount.stop().success());
        mount.run();
        assert_eq!(names(&mount.point), before);
        assert_eq!(
            names(&mount.point.join("d|r")),
            BTreeSet::from([not_utf8.clone()])
        );

        fs::rename(mount.point.join("a:b?.gif"), mount.point.join("c*d.gif")).expect("a rename");
        fs::remove_file(mount.point.join("stray‛.gif")).expect("a deletion");
        cloud.until("both have arrived", |drive| {
            drive.node("share/mount/c＊d.gif").is_some()
                && drive.node("share/mount/stray‛.gif").is_none()
        });
        assert!(cloud.0.node("share/mount/a：b？.gif").is_none());
    }
}

#[test]
fn words_that_the_service_keeps_and_paths_that_are_too_long_are_refused_when_they_are_made() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    let at = |path: &str| mount.point.join(path);
    let number = |done: std::io::Result<()>| done.expect_err("refused").raw_os_error();
    for word in ["CON", "nul.txt", "desktop.ini", "a_vti_b", ".lock"] {
        assert_eq!(
            number(fs::write(at(word), b"")),
            Some(libc::EINVAL),
            "{word}"
        );
    }
    // "share/mount" and a slash are 12 characters; 255 and 132 more with a slash are 400.
    let (long, rest) = ("图".repeat(255), "x".repeat(132));
    assert_eq!(
        number(fs::create_dir(at(&format!("{long}图")))),
        Some(libc::ENAMETOOLONG)
    );
    fs::create_dir(at(&long)).expect("255 characters are good");
    fs::write(at(&format!("{long}/{rest}")), b"").expect("400 characters are good");
    assert_eq!(
        number(fs::write(at(&format!("{long}/{rest}x")), b"")),
        Some(libc::ENAMETOOLONG)
    );
    fs::create_dir(at("d")).expect("a folder");
    assert_eq!(
        number(fs::rename(at(&long), at(&format!("d/{long}")))),
        Some(libc::ENAMETOOLONG),
        "what is in it would be beyond the limit"
    );
    fs::rename(at(&long), at("d/sub")).expect("a shorter path is good");
    cloud.has(&format!("share/mount/d/sub/{rest}"), b"");
}
