//! `tuyunfs status`: how things stand, for a person or a program.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use tuyun_chassis::exit::{Code, Failure};

use super::output::say;
use crate::auth::AuthState;
use crate::control::client::report;
use crate::control::report::SignIn;
use crate::control::{Order, Report};
use crate::graph::PushState;
use crate::settings::Settings;
use crate::vfs::Status;

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(1);

/// Parked changes that are shown one by one; `--json` has them all.
const SHOWN: usize = 20;

pub(super) fn run(matches: &clap::ArgMatches, settings: &Settings) -> Result<(), Failure> {
    let (json, watch) = (matches.get_flag("json"), matches.get_flag("watch"));
    loop {
        let report = report(&settings.control.socket, &Order::Status)?;
        let text = if json {
            as_json(&report)?
        } else {
            as_text(&report, SystemTime::now())
        };
        if watch && !json && std::io::stdout().is_terminal() {
            // Cleared first, so that it stays in one place.
            say("\x1b[2J\x1b[H")?;
        }
        say(&text)?;
        if !watch {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

fn as_json(report: &Report) -> Result<String, Failure> {
    serde_json::to_string(report)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(Code::Failure, "cannot write the report").because(&error))
}

fn as_text(report: &Report, now: SystemTime) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<9} {value}");
    };
    let Report { local, drive, .. } = report;
    line(
        "tuyunfs",
        format!(
            "{}, process {}, up {}",
            report.version,
            report.pid,
            ago(report.since, now)
        ),
    );
    if let Some(why) = &report.degraded {
        line("degraded", why.clone());
    }
    line(
        "mount",
        match &report.mount {
            Some(mount) => format!("{} ({})", mount.point.display(), mount.mode),
            None => "none, the origin only".into(),
        },
    );
    if let Some(origin) = &report.origin {
        line("origin", origin.clone());
    }
    let (free, total) = (ByteSize(drive.space_free), ByteSize(drive.space_total));
    line(
        "drive",
        format!(
            "{}, folder {}, {free} free of {total}",
            drive.owner, drive.root
        ),
    );
    line("sign-in", sign_in(&report.sign_in, now));
    if let Some(warning) = &report.sign_in.warning {
        line("", warning.clone());
    }
    line(
        "remote",
        match (
            &report.remote.trouble,
            report.remote.online,
            report.remote.by_listing,
        ) {
            (Some(why), ..) => format!("out of reach: {why}"),
            (None, true, false) => "followed by delta".into(),
            (None, true, true) => "followed by listing".into(),
            (None, false, _) => "not reached yet".into(),
        },
    );
    line("push", push(&report.push.state));
    line("pending", pending(report, now));
    here(local, now, &mut line);
    text
}

/// What is here, and what a person has to decide about it.
fn here(local: &Status, now: SystemTime, line: &mut impl FnMut(&str, String)) {
    line(
        "cache",
        format!(
            "{} in {} files; {} files and folders known, {} open",
            ByteSize(local.cached_bytes),
            local.cached_files,
            local.nodes,
            local.open_files
        ),
    );
    if local.disk_short {
        let free = ByteSize(local.disk_free.unwrap_or_default());
        line(
            "disk",
            format!(
                "{free} free, which is little: what the drive has is given up, the rest is sent at once, \
                 and what does not fit is refused"
            ),
        );
    }
    if local.withheld > 0 {
        line(
            "deletions",
            format!(
                "{} files and folders that the drive says are gone are kept: see `tuyunfs deletions`",
                local.withheld
            ),
        );
    }
    if !local.parked.is_empty() {
        line(
            "parked",
            format!(
                "{} changes; try again with `tuyunfs retry`, or give up with `tuyunfs discard`",
                local.parked.len()
            ),
        );
        for parked in local.parked.iter().take(SHOWN) {
            let since = ago(parked.since, now);
            let deleted = if parked.deleted {
                " (deleted here)"
            } else {
                ""
            };
            let (path, why) = (&parked.path, &parked.why);
            line("", format!("{path}{deleted}: {why} (for {since})"));
        }
        if local.parked.len() > SHOWN {
            line(
                "",
                format!("and {} more; see --json", local.parked.len() - SHOWN),
            );
        }
    }
}

fn push(state: &PushState) -> String {
    match state {
        PushState::Connected => "connected, changes are told as they happen".into(),
        PushState::Off => "off, changes are found by polling".into(),
        PushState::Waiting { why } => format!("not connected, changes are found by polling: {why}"),
        PushState::NotOffered { why } => {
            format!("not offered, changes are found by polling: {why}")
        }
    }
}

fn sign_in(sign_in: &SignIn, now: SystemTime) -> String {
    let since = ago(sign_in.since, now);
    match &sign_in.state {
        AuthState::SignedIn => "signed in".into(),
        AuthState::SignInNeeded { why, .. } => {
            format!("needed for {since}, run `tuyunfs login`: {why}")
        }
        AuthState::Unreachable { why } => format!("cannot be renewed for {since}: {why}"),
        AuthState::Misconfigured { why } => {
            format!("refused for {since}, put the settings or the app right: {why}")
        }
    }
}

fn pending(report: &Report, now: SystemTime) -> String {
    let local = &report.local;
    if local.pending == 0 {
        return "nothing, the drive has everything".into();
    }
    let mut text = format!(
        "{} changes, {}, {} on their way",
        local.pending,
        ByteSize(local.pending_bytes),
        local.sending
    );
    if let Some(oldest) = local.oldest_pending {
        let _ = write!(text, ", the oldest for {}", ago(oldest, now));
    }
    text
}

fn ago(since: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    humantime::format_duration(Duration::from_secs(now.saturating_sub(since))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::ParkedChange;

    #[test]
    fn a_person_reads_what_is_pending_parked_cached_and_signed_in() {
        let mut report = crate::control::report::example();
        let now = UNIX_EPOCH + Duration::from_secs(report.since + 3661);
        let calm = as_text(&report, now);
        assert!(calm.contains("up 1h 1m 1s"), "{calm}");
        assert!(
            calm.contains("mount     /mnt/onedrive (fallback)"),
            "{calm}"
        );
        assert!(calm.contains("pending   nothing"), "{calm}");
        assert!(calm.contains("sign-in   signed in"), "{calm}");
        assert!(
            !calm.contains("parked") && !calm.contains("degraded"),
            "{calm}"
        );

        assert!(calm.contains("push      connected"), "{calm}");
        report.push.state = PushState::NotOffered {
            why: "403 accessDenied".into(),
        };
        let told = as_text(&report, now);
        assert!(
            told.contains("push      not offered") && told.contains("403"),
            "{told}"
        );

        report.sign_in.warning = Some("the sign-in ends in 3 days".into());
        assert!(as_text(&report, now).contains("ends in 3 days"));
        report.sign_in.state = AuthState::SignInNeeded {
            why: "AADSTS50173".into(),
            claims: None,
        };
        let needed = as_text(&report, now);
        assert!(
            needed.contains("sign-in   needed for 1h 1m 1s, run `tuyunfs login`: AADSTS50173"),
            "{needed}"
        );
        report.sign_in.state = AuthState::Misconfigured {
            why: "AADSTS7000222".into(),
        };
        let wrong = as_text(&report, now);
        assert!(wrong.contains("sign-in   refused for 1h 1m 1s"), "{wrong}");

        report.local.pending = 30;
        report.local.oldest_pending = Some(report.since + 3600);
        let parked = |n| ParkedChange {
            path: format!("/{n}.jpg"),
            why: "locked".into(),
            since: 0,
            deleted: n == 1,
            on_drive: true,
            content: None,
        };
        report.local.parked = (0..25).map(parked).collect();
        report.degraded = Some("the drive cannot be reached".into());
        let busy = as_text(&report, now);
        assert!(
            busy.contains("30 changes") && busy.contains("the oldest for 1m 1s"),
            "{busy}"
        );
        assert!(
            busy.contains("/1.jpg (deleted here): locked")
                && busy.contains("/0.jpg: locked")
                && busy.contains("and 5 more"),
            "{busy}"
        );
        assert!(
            busy.contains("degraded  the drive cannot be reached"),
            "{busy}"
        );
    }
}
