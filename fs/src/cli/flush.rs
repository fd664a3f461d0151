//! `tuyunfs flush`: sends what is pending, and waits for it if asked to.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tuyun_chassis::exit::{Code, Failure};

use super::output::say;
use crate::control::client::report;
use crate::control::{Order, Report};
use crate::settings::Settings;

/// How often the daemon is asked while waiting. A person watches, and a look costs it little.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn run(matches: &clap::ArgMatches, settings: &Settings) -> Result<(), Failure> {
    let socket = &settings.control.socket;
    let mut now = report(socket, &Order::Flush)?;
    if !matches.get_flag("wait") {
        return say(&format!("{}\n", summary(&now)));
    }
    let mut watcher = Watcher::new();
    // Waits for as long as the person does: Ctrl-C ends it, and nothing is lost by that.
    while left(&now) > 0 {
        watcher.tell(&now);
        if let Some(why) = &now.degraded
            && needs_a_person(&now)
        {
            return Err(
                Failure::new(Code::Permission, format!("not all is sent: {why}"))
                    .hint("nothing is lost; it is sent once that is put right"),
            );
        }
        std::thread::sleep(LOOK);
        now = report(socket, &Order::Status)?;
    }
    watcher.end();
    match now.local.parked.len() {
        0 => say("the drive has everything\n"),
        parked => Err(Failure::new(
            Code::TryAgain,
            format!("the drive refuses {parked} changes"),
        )
        .hint("see why with `tuyunfs status`, then run `tuyunfs retry`")),
    }
}

/// Who waits: at a terminal he sees a bar, in a log a line for each change.
struct Watcher {
    bar: ProgressBar,
    told: String,
}

impl Watcher {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} sent, {msg} ({elapsed})");
        // Hidden where nobody looks at a terminal.
        let bar = ProgressBar::new(0);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            bar,
            told: String::new(),
        }
    }

    fn tell(&mut self, report: &Report) {
        let left = left(report) as u64;
        let line = summary(report);
        if self.bar.is_hidden() && line != self.told {
            eprintln!("{line}");
        }
        // What is changed meanwhile makes the whole longer, and takes nothing back.
        let length = self.bar.length().unwrap_or_default();
        let sent = self.bar.position().max(length.saturating_sub(left));
        self.bar.set_length(sent + left);
        self.bar.set_position(sent);
        let bytes = bytesize::ByteSize(report.local.pending_bytes);
        self.bar.set_message(format!("{bytes} left"));
        self.told = line;
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// What is pending and not parked.
fn left(report: &Report) -> usize {
    report
        .local
        .pending
        .saturating_sub(report.local.parked.len())
}

fn needs_a_person(report: &Report) -> bool {
    report.sign_in.state.to_do().is_some()
}

fn summary(report: &Report) -> String {
    match (left(report), report.local.parked.len()) {
        (0, 0) => "the drive has everything".into(),
        (0, parked) => format!("the drive refuses {parked} changes; see `tuyunfs status`"),
        (left, _) => format!(
            "{left} changes are on their way, {}",
            bytesize::ByteSize(report.local.pending_bytes)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::ParkedChange;

    #[test]
    fn a_bar_counts_what_was_sent_and_what_came_meanwhile() {
        let mut watcher = Watcher::new();
        let mut report = crate::control::report::example();
        let seen = [10, 4, 6, 0].map(|pending| {
            report.local.pending = pending;
            watcher.tell(&report);
            (watcher.bar.position(), watcher.bar.length().unwrap())
        });
        assert_eq!(seen, [(0, 10), (6, 10), (6, 12), (12, 12)]);
    }

    #[test]
    fn what_is_parked_is_not_waited_for() {
        let mut report = crate::control::report::example();
        assert_eq!(
            (left(&report), summary(&report).as_str()),
            (0, "the drive has everything")
        );
        report.local.pending = 3;
        report.local.pending_bytes = 2048;
        assert_eq!(summary(&report), "3 changes are on their way, 2.0 KiB");
        let parked = ParkedChange {
            path: "/a".into(),
            why: "no".into(),
            since: 0,
            deleted: false,
            on_drive: false,
            content: None,
        };
        report.local.parked = vec![parked.clone(), parked.clone(), parked];
        assert_eq!(left(&report), 0);
        assert!(summary(&report).contains("refuses 3"));
    }
}
