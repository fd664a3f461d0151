//! Letting go of whoever mounted: their terminal, their pipes.
//!
//! `ssh host mount /mnt` would hang for as long as the daemon lives, if it kept their standard
//! error. The log goes on into the system's journal, where there is one.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// Where systemd's journal takes lines; see systemd-cat(1).
const JOURNAL: &str = "/run/systemd/journal/stdout";

/// What a line's sender says of itself: identifier, unit, priority (6: information), and whether
/// lines carry priorities and are passed on to syslog, kernel log and console.
const INTRODUCTION: &[u8] = b"tuyunfs\n\n6\n0\n0\n0\n0\n";

/// Replaces standard output and standard error.
pub(super) fn from_caller() {
    let nowhere = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map(OwnedFd::from)
    };
    let let_go = || -> io::Result<()> {
        rustix::stdio::dup2_stdout(nowhere()?)?;
        // A unit's standard error is the journal already, and the log knows it by that.
        if std::env::var_os("JOURNAL_STREAM").is_none() {
            rustix::stdio::dup2_stderr(journal().or_else(|_| nowhere())?)?;
        }
        Ok(())
    };
    if let Err(error) = let_go() {
        tracing::warn!(%error, "cannot let go of the caller's terminal");
    }
}

fn journal() -> io::Result<OwnedFd> {
    let mut stream = UnixStream::connect(JOURNAL)?;
    stream.write_all(INTRODUCTION)?;
    Ok(stream.into())
}
