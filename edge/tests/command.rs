//! The command line: settings that can be used, and failures that say what to do.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn edge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tuyun-edge"))
        .args(arguments)
        .env_clear()
        .output()
        .expect("it starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("edge.toml");
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn the_example_can_be_used_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let example = edge(&["config", "example"]);
    assert_eq!(code(&example), 0);
    let path = file(
        dir.path(),
        &String::from_utf8(example.stdout).expect("UTF-8"),
    );
    let check = edge(&["config", "check", "--config", &path]);
    assert_eq!(code(&check), 0, "{}", said(&check));
}

#[test]
fn the_example_shows_the_defaults() {
    let example: tuyun_edge::Settings =
        toml::from_str(include_str!("../example.toml")).expect("settings");
    let example = toml::Table::try_from(&example).expect("TOML");
    let mut settings = tuyun_edge::Settings::default();
    settings.origin.primary = "https://image-server:7200/".into();
    let defaults = toml::Table::try_from(&settings).expect("TOML");
    assert_eq!(example, defaults);
}

#[test]
fn a_key_that_is_unknown_is_named_with_its_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(
        dir.path(),
        "listen = \"127.0.0.1:0\"\n[cache]\nmax_sice = \"1GiB\"\n",
    );
    let output = edge(&["serve", "--config", &path]);
    assert_eq!(code(&output), 78);
    let said = said(&output);
    assert!(
        said.contains("max_sice") && said.contains("line 3"),
        "{said}"
    );
}

#[test]
fn without_an_origin_it_says_which_setting_is_missing() {
    let output = edge(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code(&output), 78);
    assert!(
        said(&output).contains("origin.primary"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_token_file_that_is_not_there_is_named_with_its_setting() {
    let output = edge(&[
        "config",
        "check",
        "--origin.primary",
        "http://127.0.0.1:7200/",
        "--admin.token-file",
        "/nowhere/token",
    ]);
    assert_eq!(code(&output), 78);
    let said = said(&output);
    assert!(
        said.contains("admin.token_file") && said.contains("/nowhere/token"),
        "{said}"
    );
}

#[test]
fn a_port_that_is_taken_ends_with_69() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let cache = dir.path().join("cache").to_str().expect("UTF-8").to_owned();
    let output = edge(&[
        "serve",
        "--origin.primary",
        "http://127.0.0.1:7200/",
        "--listen",
        &address,
        "--cache.dir",
        &cache,
    ]);
    assert_eq!(code(&output), 69);
    assert!(said(&output).contains(&address), "{}", said(&output));
}
