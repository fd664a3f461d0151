//! `tuyunfs discard`: gives up a change that the drive refuses.

use clap::ArgMatches;
use tuyun_chassis::exit::{Code, Failure};

use super::output::say;
use super::parked::parked_at;
use crate::control::Order;
use crate::control::client::report;
use crate::settings::Settings;

pub(super) fn run(matches: &ArgMatches, settings: &Settings) -> Result<(), Failure> {
    let Some(path) = matches.get_one::<String>("path").cloned() else {
        return Err(Failure::new(Code::Usage, "no path was given"));
    };
    let parked = parked_at(settings, &path)?;
    if !matches.get_flag("yes") {
        let lost = if parked.deleted {
            "the deletion is given up, and what the drive has is shown again"
        } else if parked.on_drive {
            "what was changed here is lost, and what the drive has is shown again"
        } else {
            "it is deleted here, and the drive has no copy"
        };
        return Err(Failure::new(Code::Usage, format!("{path}: {lost}"))
            .hint("`tuyunfs export` copies it out first; to go on, add --yes"));
    }
    report(
        &settings.control.socket,
        &Order::Discard { path: path.clone() },
    )?;
    say(&format!("{path}: the change is given up\n"))
}
