//! Real PHP, making the calls that Lsky Pro makes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::needs::Need;

/// What these tests need of a machine.
pub const NEEDS: &[Need] = &[
    Need::Root,
    Need::Fuse,
    Need::Program("php"),
    Need::Program("redis-server"),
];

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lsky/lsky.php")
}

/// Starts one call sequence.
///
/// # Panics
/// PHP is not there.
#[must_use]
pub fn spawn(arguments: &[&str]) -> Child {
    Command::new("php")
        .arg(script())
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("php: run `make deps`")
}

/// Waits for a call sequence and gives what it printed.
///
/// # Panics
/// A call failed that Lsky reports as an error.
#[must_use]
pub fn finish(child: Child) -> serde_json::Value {
    let done = child.wait_with_output().expect("it was started");
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    serde_json::from_slice(&done.stdout).expect("one JSON object")
}

/// Runs one call sequence.
///
/// # Panics
/// A call failed that Lsky reports as an error.
#[must_use]
pub fn run(arguments: &[&str]) -> serde_json::Value {
    finish(spawn(arguments))
}

/// Makes a picture of a kind (`gif`, `jpg`, `png`, `webp`) and size, and gives its bytes.
///
/// # Panics
/// PHP is not there.
#[must_use]
pub fn picture(dir: &Path, kind: &str, size: usize, seed: &str) -> (PathBuf, Vec<u8>) {
    let file = dir.join(format!("source-{seed}.{kind}"));
    let text = file.display().to_string();
    let made = run(&["picture", &text, kind, &size.to_string(), seed]);
    let bytes = std::fs::read(&file).expect("just written");
    assert_eq!(made["bytes"], bytes.len());
    (file, bytes)
}
