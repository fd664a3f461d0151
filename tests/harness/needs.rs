//! What a machine must have for a test to run on it.

use std::path::Path;
use std::process::{Command, Stdio};

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Root, who may mount with a type of its own and allow others in.
    Root,
    /// `/dev/fuse`.
    Fuse,
    /// A kernel that reads and writes files by itself: Linux 6.9.
    Passthrough,
    /// Loop devices, to mount a disk of one's own.
    Loop,
    /// A program on the path.
    Program(&'static str),
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Root => rustix::process::geteuid().is_root(),
            Self::Fuse => Path::new("/dev/fuse").exists(),
            Self::Passthrough => {
                let uname = rustix::system::uname();
                let release = uname.release().to_string_lossy().into_owned();
                let mut numbers = release.split(|c: char| !c.is_ascii_digit());
                let mut number = || numbers.next()?.parse::<u32>().ok();
                (number(), number()) >= (Some(6), Some(9))
            }
            Self::Loop => Path::new("/dev/loop-control").exists(),
            Self::Program(name) => Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok(),
        }
    }
}

/// Whether all needs are met. Where one is not, says so, and the test ends there.
///
/// # Panics
/// Under `CI`, where everything has to be there.
#[must_use]
pub fn met(needs: &[Need]) -> bool {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "missing on this machine: {missing:?}"
    );
    eprintln!("skipped: missing on this machine: {missing:?} (`make deps` installs what it can)");
    false
}
