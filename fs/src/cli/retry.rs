//! `tuyunfs retry`: lets parked changes run again.

use clap::ArgMatches;
use tuyun_chassis::exit::Failure;

use super::output::{another_answer, say};
use super::parked::nothing_parked_at;
use crate::control::client::ask;
use crate::control::{Answer, Order};
use crate::settings::Settings;

pub(super) fn run(matches: &ArgMatches, settings: &Settings) -> Result<(), Failure> {
    let path = matches.get_one::<String>("path").cloned();
    let order = Order::Retry { path: path.clone() };
    match (ask(&settings.control.socket, &order)?, path) {
        (Answer::Retried(0), Some(path)) => Err(nothing_parked_at(&path)),
        (Answer::Retried(0), None) => say("nothing is parked\n"),
        (Answer::Retried(count), _) => say(&format!(
            "{count} changes are tried again; see how it went with `tuyunfs status`\n"
        )),
        _ => Err(another_answer()),
    }
}
