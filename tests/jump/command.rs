//! The program on its command line: what it says when something is wrong, and how it ends.

use std::net::TcpListener;

use harness::process::{Daemon, command, free_port, run};
use harness::wait::until;

use crate::jump::file;

/// Exit code and standard error of `tuyun-jump serve` with this settings file.
fn serve(settings: &str, flags: &[&str]) -> (Option<i32>, String) {
    let file = file(settings);
    let mut args = vec!["serve", "--config", file.path().to_str().unwrap()];
    args.extend(flags);
    let output = run("tuyun-jump", &args);
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

const WORKING: &str = "listen = \"127.0.0.1:0\"\norigin = \"https://origin.example/\"\n\
    [control]\nlisten = \"127.0.0.1:0\"\n";

#[test]
fn wrong_settings_end_with_78_and_say_where_and_what_to_do() {
    let (code, said) = serve("listen = \"127.0.0.1:0\"\nlistne = \"x\"\n", &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains(", line 2: unknown field `listne`") && said.contains("config check"),
        "{said}"
    );

    let (code, said) = serve("listen = \"127.0.0.1:0\"\n", &[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("setting `origin`: it is not set") && said.contains("set it to"),
        "{said}"
    );

    let (code, said) = serve(WORKING, &["--geo.table", "/nonexistent/table"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("setting `geo.table`: /nonexistent/table: it cannot be read"),
        "{said}"
    );

    let (code, said) = serve(WORKING, &["--redis", "redis+sentinel://:secret@a/"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("it names no service") && !said.contains("secret"),
        "{said}"
    );

    let (code, said) = serve(WORKING, &["--nodes.token-file", "/nonexistent/tokens"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("/nonexistent/tokens") && said.contains("openssl rand"),
        "{said}"
    );

    let odd = file("1 one two three\n");
    let (code, said) = serve(
        WORKING,
        &["--nodes.token-file", odd.path().to_str().unwrap()],
    );
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("line 1 is neither") && !said.contains("three"),
        "{said}"
    );
}

#[test]
fn a_settings_file_that_was_named_and_is_absent_is_an_error() {
    let output = run(
        "tuyun-jump",
        &["serve", "--config", "/nonexistent/jump.toml"],
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains("/nonexistent/jump.toml") && said.contains("config example"),
        "{said}"
    );
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [&["--nonsense"][..], &["serve", "--listn", "x"], &[]] {
        assert_eq!(run("tuyun-jump", args).status.code(), Some(2), "{args:?}");
    }
    let (code, said) = serve(WORKING, &["--nodes.ttl", "soon"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("--nodes.ttl: `soon` is not a time span"),
        "{said}"
    );
}

#[test]
fn a_taken_port_ends_with_69_and_names_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = serve(WORKING, &["--listen", &address]);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains(&format!("cannot listen on {address} (setting `listen`)")),
        "{said}"
    );
    assert!(said.contains("another program has this port"), "{said}");
}

#[test]
fn the_example_can_be_used_as_it_is() {
    let example = run("tuyun-jump", &["config", "example"]);
    assert!(example.status.success());
    let file = file(&String::from_utf8(example.stdout).unwrap());
    let path = file.path().to_str().unwrap();
    let check = run("tuyun-jump", &["config", "check", "--config", path]);
    assert!(check.status.success(), "{check:?}");
    let output = command("tuyun-jump")
        .args(["config", "check", "--config", path])
        .env("TUYUN_JUMP_NODES__PROBE", "often")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains("environment variable TUYUN_JUMP_NODES__PROBE: `often`"),
        "{said}"
    );
}

#[test]
fn asked_to_stop_it_ends_well() {
    let dir = tempfile::tempdir().unwrap();
    let settings = file(WORKING);
    let (public, control) = (
        format!("127.0.0.1:{}", free_port()),
        format!("127.0.0.1:{}", free_port()),
    );
    let args = [
        "serve",
        "--config",
        settings.path().to_str().unwrap(),
        "--listen",
        &public,
        "--control.listen",
        &control,
    ];
    let daemon = Daemon::start("tuyun-jump", &args, dir.path());
    until("it takes connections", || {
        std::net::TcpStream::connect(&public).ok()
    });
    assert_eq!(daemon.stop().code(), Some(0));
}
