//! Programs that nobody wrote for us, at work in the mounted folder: each finds there what it would on a plain
//! disk, and in the end so does the drive.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use graph_emulator::{NodeKind, Profile};
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::wait::until;
use harness::{http, process};

/// A mount, where these programs are to be had.
fn with(programs: &[&'static str], test: impl FnOnce(&Cloud, &mut Mount)) {
    let mut needs = vec![Need::Root, Need::Fuse];
    needs.extend(programs.iter().map(|name| Need::Program(name)));
    if !needs::met(&needs) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    // A program that was built is to be run.
    let mut mount = Mount::prepare(&cloud, &[("mount.permissions", "posix")]);
    mount.login(&cloud);
    mount.run();
    test(&cloud, &mut mount);
}

/// Runs a command line in a folder; what it prints.
fn run(dir: &Path, line: &str) -> String {
    let done = Command::new("sh")
        .args(["-euc", line])
        .current_dir(dir)
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{line}\n{out}{err}");
    out.trim_end().to_owned()
}

/// Files and folders of many sizes, some of them empty.
fn tree(dir: &Path) {
    for folder in 0..6 {
        let folder = dir.join(format!("2026/{folder:02}"));
        fs::create_dir_all(&folder).expect("folders");
        for n in 0..20 {
            let bytes = format!("{} {n} ", folder.display()).repeat(n * n * 7);
            fs::write(folder.join(format!("图 {n}.txt")), bytes).expect("a file");
        }
    }
    fs::create_dir(dir.join("empty")).expect("a folder");
}

/// All files below a folder, with their bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("it is below");
                let bytes = fs::read(&path).expect("a file");
                found.insert(name.to_string_lossy().into_owned(), bytes);
            }
        }
    }
    found
}

/// The drive has what the folder has, once everything was sent.
fn arrives(cloud: &Cloud, mount: &Mount) {
    mount.tuyunfs(&["flush", "--wait"]);
    let mut there = BTreeMap::new();
    for node in cloud.0.tree() {
        if let Some(path) = node.path.strip_prefix("share/mount/")
            && node.kind == NodeKind::File
        {
            let bytes = cloud.0.read_file(&node.path).expect("a file");
            there.insert(path.to_owned(), bytes);
        }
    }
    let here = files(&mount.point);
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&there), names(&here));
    assert!(there == here, "the drive has other bytes");
}

#[test]
fn tar_unpacks_into_the_folder_and_packs_it_again() {
    with(&["tar"], |cloud, mount| {
        let plain = tempfile::tempdir().expect("a folder");
        tree(plain.path());
        let point = mount.point.display();
        run(plain.path(), &format!("tar -cf - . | tar -C {point} -xf -"));
        run(plain.path(), &format!("diff -r . {point}"));
        let again = tempfile::tempdir().expect("a folder");
        run(
            &mount.point,
            &format!("tar -cf - . | tar -C {} -xf -", again.path().display()),
        );
        run(
            again.path(),
            &format!("diff -r . {}", plain.path().display()),
        );
        arrives(cloud, mount);
    });
}

#[test]
fn rsync_copies_both_ways_and_finds_nothing_to_do_the_second_time() {
    with(&["rsync"], |cloud, mount| {
        let plain = tempfile::tempdir().expect("a folder");
        tree(plain.path());
        let (from, to) = (plain.path().display(), mount.point.join("copy"));
        let copy = format!("rsync -a --itemize-changes {from}/ {}/", to.display());
        run(plain.path(), &copy);
        assert_eq!(run(plain.path(), &copy), "", "times and sizes are kept");
        fs::write(plain.path().join("2026/00/图 3.txt"), "other bytes").expect("a file");
        fs::remove_file(plain.path().join("2026/01/图 4.txt")).expect("it was there");
        run(plain.path(), &format!("{copy} --delete"));
        let back = tempfile::tempdir().expect("a folder");
        run(back.path(), &format!("rsync -a {}/ .", to.display()));
        run(back.path(), &format!("diff -r . {from}"));
        arrives(cloud, mount);
    });
}

#[test]
fn git_clones_commits_and_builds_in_the_folder() {
    with(&["git", "make", "cc"], |cloud, mount| {
        let plain = tempfile::tempdir().expect("a folder");
        tree(plain.path());
        let program = "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n";
        fs::write(plain.path().join("main.c"), program).expect("a file");
        let rules = "built: main.o\n\t$(CC) -o built main.o\n";
        fs::write(plain.path().join("Makefile"), rules).expect("a file");
        let who = "git -c user.name=ada -c user.email=ada@example.org -c init.defaultBranch=main";
        run(
            plain.path(),
            &format!("{who} init -q . && git add -A && {who} commit -qm first"),
        );
        run(
            &mount.point,
            &format!("git clone -q {} clone", plain.path().display()),
        );
        let clone = mount.point.join("clone");
        assert_eq!(run(&clone, "git status --porcelain"), "");
        assert_eq!(run(&clone, "make -s && ./built"), "built");
        run(
            &clone,
            "rm built main.o && echo more >>main.c && git mv main.c other.c",
        );
        run(
            &clone,
            &format!("{who} commit -qam second && git gc -q && git fsck --strict"),
        );
        assert_eq!(run(&clone, "git log --format=%s"), "second\nfirst");
        assert_eq!(run(&clone, "git status --porcelain"), "");
        arrives(cloud, mount);
    });
}

#[test]
fn sqlite_keeps_its_promises_in_the_folder_and_over_a_restart() {
    with(&["sqlite3"], |cloud, mount| {
        for mode in ["delete", "wal"] {
            let name = format!("{mode}.db");
            let mut statements = format!("pragma journal_mode={mode}; create table t(n, s);");
            for n in 0..200 {
                let _ = write!(
                    statements,
                    "insert into t values({n}, hex(randomblob(200)));"
                );
            }
            statements
                .push_str("update t set s = 'x' where n % 3 = 0; delete from t where n > 150;");
            fs::write(mount.dir().join("statements"), statements).expect("a file");
            let script = mount.dir().join("statements");
            run(
                &mount.point,
                &format!("sqlite3 {name} <{}", script.display()),
            );
        }
        assert!(mount.stop().success());
        mount.run();
        for mode in ["delete", "wal"] {
            let asked = "pragma integrity_check; select count(*), sum(s = 'x') from t;";
            let told = run(&mount.point, &format!("sqlite3 {mode}.db \"{asked}\""));
            assert_eq!(told, "ok\n151|51", "{mode}");
        }
        arrives(cloud, mount);
    });
}

#[test]
fn an_editor_that_saves_by_rename_leaves_one_file_with_its_versions() {
    with(&["vim.tiny", "sed"], |cloud, mount| {
        fs::write(mount.point.join("notes.txt"), "a cat\n").expect("a file");
        mount.tuyunfs(&["flush", "--wait"]);
        let before = cloud.0.node("share/mount/notes.txt").expect("it was sent");
        let vim = "vim.tiny -u NONE --cmd 'set nobackup writebackup backupcopy=no' -es";
        run(
            &mount.point,
            &format!("{vim} -c '%s/cat/dog/' -c 'wq' notes.txt"),
        );
        assert_eq!(run(&mount.point, "cat notes.txt"), "a dog");
        run(&mount.point, "sed -i s/dog/bird/ notes.txt");
        arrives(cloud, mount);
        let after = cloud.0.node("share/mount/notes.txt").expect("it is there");
        assert_eq!(after.id, before.id, "shared links and versions stay");
        assert_eq!(run(&mount.point, "ls -A"), "notes.txt");
    });
}

#[test]
fn nginx_serves_the_folder_and_what_replaces_a_picture() {
    with(&["nginx"], |_, mount| {
        let picture: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        fs::write(mount.point.join("a.jpg"), &picture).expect("a file");
        let (dir, port) = (mount.dir().join("nginx"), process::free_port());
        fs::create_dir(&dir).expect("a folder");
        let settings = format!(
            "daemon off; master_process off; user root; pid {dir}/pid; error_log {dir}/error.log;
             events {{}}
             http {{ access_log off; sendfile on;
                 client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
                 uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
                 server {{ listen 127.0.0.1:{port}; root {root}; }} }}",
            dir = dir.display(),
            root = mount.point.display(),
        );
        fs::write(dir.join("nginx.conf"), settings).expect("a file");
        let mut nginx = Command::new("nginx")
            .args(["-c", &dir.join("nginx.conf").display().to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("it was just found");
        let url = format!("http://127.0.0.1:{port}/a.jpg");
        let served = until("nginx serves", || http::try_get(&url, &[]));
        assert!(served.body == picture, "{}", served.status);
        let part = http::get(&url, &[("range", "bytes=1000-1999")]);
        assert_eq!((part.status, &part.body[..]), (206, &picture[1000..2000]));
        fs::write(mount.point.join("new.part"), "replaced").expect("a file");
        fs::rename(mount.point.join("new.part"), mount.point.join("a.jpg")).expect("a rename");
        assert_eq!(http::get(&url, &[]).body, b"replaced");
        fs::remove_file(mount.point.join("a.jpg")).expect("it was there");
        assert_eq!(http::get(&url, &[]).status, 404);
        nginx.kill().expect("it is our child");
        nginx.wait().expect("it is our child");
    });
}
