//! `mount.tuyunfs`: how mount(8) and a line of fstab mount.
//!
//! The helper starts the daemon as a process of its own (this same program with `--foreground`),
//! waits until the folder is mounted, and leaves; what goes wrong until then is on standard
//! error, and in the exit code, as mount(8) defines both. Later, the daemon has nothing of the
//! caller's any more: no session, no terminal, no pipe that somebody waits on.

mod detach;
mod options;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tuyun_chassis::exit::{Code, Failure};

use self::options::{Misuse, Wish, parse};
use super::mount::serve;
use crate::serve::Scope;
use crate::settings::{SPEC, Settings};

/// The name in messages.
const NAME: &str = "mount.tuyunfs";

/// What the daemon says once it is mounted.
const READY: &str = "ready";

/// What is added to the arguments of the daemon's process.
const FOREGROUND: &str = "--foreground";

/// How long the daemon may take: longer than its own longest wait for the first listing.
const PATIENCE: Duration = Duration::from_mins(1);

/// mount(8): incorrect invocation or permissions.
const INCORRECT: u8 = 1;

/// mount(8): system error.
const SYSTEM: u8 = 2;

/// mount(8): mount failure.
const FAILED: u8 = 32;

/// Whether the program was called as a mount helper: under its name, or as libfuse's own helper
/// calls a filesystem, `tuyunfs SOURCE DIR -o OPTIONS`.
pub(super) fn is_called_for(arguments: &[OsString]) -> bool {
    let called = arguments
        .first()
        .and_then(|called| Path::new(called).file_name());
    let source = arguments
        .get(1)
        .and_then(|source| source.to_str())
        .unwrap_or_default();
    called.is_some_and(|name| name == "mount.tuyunfs" || name == "mount.fuse.tuyunfs")
        || source == "none"
        || source.starts_with("onedrive:")
}

/// The whole of `main` under such a name.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let wish = match parse(arguments) {
        Ok(wish) => wish,
        Err(misuse) => return complain(&misuse),
    };
    for note in &wish.notes {
        say(note);
    }
    if wish.fake {
        return ExitCode::SUCCESS;
    }
    if wish.foreground {
        daemon(&wish)
    } else {
        start(&wish, arguments)
    }
}

fn complain(misuse: &Misuse) -> ExitCode {
    say(&misuse.to_string());
    ExitCode::from(INCORRECT)
}

fn say(text: &str) {
    // Standard error may be closed; the exit code still tells.
    let _ = writeln!(std::io::stderr().lock(), "{NAME}: {text}");
}

/// Starts the daemon and waits until it is ready.
fn start(wish: &Wish, arguments: &[OsString]) -> ExitCode {
    if wish.verbose {
        say(&format!("mounting {} at {}", wish.source, wish.point));
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            say(&format!("cannot tell where this program is: {error}"));
            return ExitCode::from(SYSTEM);
        }
    };
    let child = Command::new(program)
        .arg0(NAME)
        .args(arguments)
        .arg(FOREGROUND)
        .envs(wish.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    match child {
        Ok(child) => wait_for(child),
        Err(error) => {
            say(&format!("cannot start the daemon: {error}"));
            ExitCode::from(SYSTEM)
        }
    }
}

fn wait_for(mut child: Child) -> ExitCode {
    let (tell, told) = mpsc::channel();
    let out = child.stdout.take();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = out.map(|out| BufReader::new(out).read_line(&mut line));
        let _ = tell.send(matches!(read, Some(Ok(_))) && line.trim_end() == READY);
    });
    match told.recv_timeout(PATIENCE) {
        Ok(true) => ExitCode::SUCCESS,
        // It has said why on standard error, which is ours.
        Ok(false) => match child.wait().ok().and_then(|status| status.code()) {
            Some(code) if code != 0 => ExitCode::from(u8::try_from(code).unwrap_or(FAILED)),
            _ => {
                say("the daemon ended before it was ready; see its log");
                ExitCode::from(FAILED)
            }
        },
        Err(_) => {
            let pid = rustix::process::Pid::from_child(&child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            say(&format!(
                "the daemon was not ready within {} seconds, and is stopped; see its log",
                PATIENCE.as_secs()
            ));
            ExitCode::from(FAILED)
        }
    }
}

/// The daemon's process.
fn daemon(wish: &Wish) -> ExitCode {
    // Fails only where this process leads a session already, which is as good.
    let _ = rustix::process::setsid();
    let ready = || {
        let mut out = std::io::stdout().lock();
        // A helper that is gone has given up on us; the mount is there all the same.
        let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
        drop(out);
        detach::from_caller();
    };
    match given(wish).and_then(|given| serve(&given, Scope::default(), ready)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = code_of(&failure);
            let _ = failure.report(NAME);
            ExitCode::from(code)
        }
    }
}

/// The environment as it is, and the options in the place of flags.
fn given(wish: &Wish) -> Result<tuyun_chassis::settings::Given, Failure> {
    let nothing = SPEC
        .attach::<Settings>(clap::Command::new(NAME))
        .get_matches_from([NAME]);
    let mut given = SPEC.given::<Settings>(&nothing)?;
    given.file.clone_from(&wish.config);
    given.flags.clone_from(&wish.settings);
    Ok(given)
}

fn code_of(failure: &Failure) -> u8 {
    match failure.code() {
        Code::Usage | Code::Config | Code::Permission => INCORRECT,
        Code::Failure | Code::Unavailable | Code::TryAgain => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_known_by_its_name_or_by_its_source() {
        let called =
            |line: &str| is_called_for(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in [
            "mount.tuyunfs",
            "/sbin/mount.tuyunfs none /mnt",
            "/usr/sbin/mount.fuse.tuyunfs onedrive:/a /mnt -o rw",
            "tuyunfs onedrive:/a /mnt -o rw,dev,suid",
            "/usr/bin/tuyunfs none /mnt",
        ] {
            assert!(called(line), "{line}");
        }
        for line in [
            "tuyunfs",
            "tuyunfs mount",
            "tuyunfs status",
            "/sbin/mount.tuyunfs/x",
        ] {
            assert!(!called(line), "{line}");
        }
    }

    #[test]
    fn failures_become_the_codes_of_mount() {
        let code = |code| code_of(&Failure::new(code, "x"));
        assert_eq!(code(Code::Config), 1);
        assert_eq!(code(Code::Permission), 1);
        assert_eq!(code(Code::Unavailable), 32);
        assert_eq!(code(Code::Failure), 32);
    }

    #[test]
    fn a_daemon_that_ends_early_passes_its_code_on() {
        let child = |script: &str| {
            Command::new("sh")
                .args(["-c", script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        assert_eq!(wait_for(child("exit 1")), ExitCode::from(1));
        assert_eq!(
            wait_for(child("echo other; exit 0")),
            ExitCode::from(FAILED)
        );
        assert_eq!(wait_for(child("kill -9 $$")), ExitCode::from(FAILED));
        assert_eq!(wait_for(child("echo ready")), ExitCode::SUCCESS);
    }
}
