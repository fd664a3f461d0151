//! `tuyunfs deletions`: what the drive says is gone, when that is suspiciously much.

use std::fmt::Write as _;

use clap::ArgMatches;
use tuyun_chassis::exit::Failure;

use super::output::{another_answer, say};
use crate::control::client::{ask, report};
use crate::control::{Answer, Order};
use crate::settings::Settings;
use crate::tree::Withheld;
use crate::vfs::Decision;

/// Paths that are printed; of more, only the number.
const PRINTED: usize = 40;

pub(super) fn run(matches: &ArgMatches, settings: &Settings) -> Result<(), Failure> {
    let socket = &settings.control.socket;
    let decision = match (matches.get_flag("accept"), matches.get_flag("restore")) {
        (true, _) => Decision::Accept,
        (_, true) => Decision::Restore,
        _ => {
            return match ask(socket, &Order::Deletions)? {
                Answer::Withheld(withheld) => say(&as_text(&withheld)),
                _ => Err(another_answer()),
            };
        }
    };
    report(socket, &Order::Decide { decision })?;
    say(match decision {
        Decision::Accept => "removed here too\n",
        Decision::Restore => "what was here is sent again; see `tuyunfs status`\n",
    })
}

fn as_text(withheld: &Withheld) -> String {
    if withheld.count == 0 && withheld.folders == 0 && !withheld.root {
        return "nothing waits for a decision\n".into();
    }
    let mut text = String::new();
    if withheld.root {
        text.push_str("The mounted folder itself is gone from the drive.\n");
    }
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "The drive says that {} files and {} folders are gone. Of the files, {} are whole on this disk.",
        withheld.count, withheld.folders, withheld.here
    );
    for (path, here) in withheld.files.iter().take(PRINTED) {
        let mark = if *here { "here" } else { "    " };
        let _ = writeln!(text, "  {mark}  {path}");
    }
    if withheld.count > PRINTED {
        let _ = writeln!(text, "  and {} more", withheld.count - PRINTED);
    }
    text.push_str(
        "\n\
         tuyunfs deletions --accept   removes them here too\n\
         tuyunfs deletions --restore  sends again those that are here\n\
         Or restore them from the drive's recycle bin: they are then found again by themselves.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_what_is_gone_and_what_can_be_done() {
        assert_eq!(
            as_text(&Withheld::default()),
            "nothing waits for a decision\n"
        );
        let withheld = Withheld {
            count: 2,
            here: 1,
            files: vec![("a.gif".into(), true), ("b.gif".into(), false)],
            folders: 1,
            root: true,
            since: None,
        };
        let text = as_text(&withheld);
        assert!(text.contains("mounted folder itself"), "{text}");
        assert!(text.contains("  here  a.gif\n        b.gif\n"), "{text}");
        assert!(
            text.contains("--accept") && text.contains("--restore"),
            "{text}"
        );
    }
}
