//! `tuyunfs unmount`: asks the daemon to leave, and takes away what a dead one left behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tuyun_chassis::exit::{Code, Failure};

use super::output::say;
use crate::control::Order;
use crate::control::client::{AskError, report};
use crate::mount;
use crate::settings::Settings;

/// How often to look whether the folder is gone.
const LOOK: Duration = Duration::from_millis(50);

/// How long the folder may take to go: requests under way end within the daemon's own deadlines.
const GONE: Duration = Duration::from_secs(30);

pub(super) fn run(matches: &clap::ArgMatches, settings: &Settings) -> Result<(), Failure> {
    let named = matches.get_one::<String>("dir").map(PathBuf::from);
    let point = named
        .clone()
        .unwrap_or_else(|| PathBuf::from(&settings.mount.point));
    if matches.get_flag("stale") {
        needs(&point)?;
        let shown = point.display();
        let found = mount::unmount_stale(&point)?;
        let done = if found {
            "took a dead mount away"
        } else {
            "no dead mount is there"
        };
        return say(&format!(
            "{shown}: {done}
"
        ));
    }
    match report(&settings.control.socket, &Order::Status) {
        Ok(running)
            if serves(
                running.mount.as_ref().map(|m| m.point.as_path()),
                named.as_deref(),
            ) =>
        {
            report(&settings.control.socket, &Order::Unmount)?;
            wait_until_gone(running.mount.as_ref().map(|mount| mount.point.clone()))
        }
        // Nobody to ask, or another daemon: the folder itself can still be unmounted.
        Ok(_) | Err(AskError::Nobody(_)) => {
            needs(&point)?;
            if !mount::unmount_stale(&point)? {
                if !mount::is_mounted(&point) {
                    let what = format!("no tuyunfs is mounted at {}", point.display());
                    return Err(Failure::new(Code::Unavailable, what)
                        .hint("`findmnt -t fuse.tuyunfs` shows what is mounted where"));
                }
                mount::unmount(&point, false)?;
            }
            say(&format!("{}: unmounted\n", point.display()))
        }
        Err(other) => Err(other.into()),
    }
}

/// Whether the daemon that answers is the one that is meant.
fn serves(its: Option<&Path>, named: Option<&Path>) -> bool {
    match (its, named) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(its), Some(named)) => {
            std::path::absolute(named).is_ok_and(|named| its == named)
                || named.canonicalize().is_ok_and(|named| its == named)
        }
    }
}

fn needs(point: &Path) -> Result<(), Failure> {
    if point.as_os_str().is_empty() {
        return Err(mount::MountError::NoPoint.into());
    }
    Ok(())
}

fn wait_until_gone(point: Option<PathBuf>) -> Result<(), Failure> {
    let Some(point) = point else {
        return say("the daemon stops\n");
    };
    let until = Instant::now() + GONE;
    while mount::is_mounted(&point) {
        if Instant::now() > until {
            let what = format!("{} is still mounted", point.display());
            return Err(Failure::new(Code::TryAgain, what)
                .hint("see the daemon's log: journalctl -u tuyunfs"));
        }
        std::thread::sleep(LOOK);
    }
    say(&format!(
        "{}: unmounted; what is pending is kept\n",
        point.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_daemon_that_is_meant_is_asked_to_leave() {
        let its = Some(Path::new("/mnt/a"));
        assert!(serves(its, None));
        assert!(serves(None, None), "the origin only");
        assert!(serves(its, Some(Path::new("/mnt/a"))));
        assert!(!serves(its, Some(Path::new("/mnt/b"))));
        assert!(!serves(None, Some(Path::new("/mnt/a"))));
    }
}
