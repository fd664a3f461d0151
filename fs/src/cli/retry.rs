//! `tuyunfs retry`: lets parked changes run again.

use tuyun_chassis::exit::{Code, Failure};

use super::output::say;
use crate::control::client::ask;
use crate::control::{Answer, Order};
use crate::settings::Settings;

pub(super) fn run(settings: &Settings) -> Result<(), Failure> {
    match ask(&settings.control.socket, Order::Retry)? {
        Answer::Retried(0) => say("nothing is parked\n"),
        Answer::Retried(count) => say(&format!(
            "{count} changes are tried again; see how it went with `tuyunfs status`\n"
        )),
        Answer::Report(_) | Answer::Withheld(_) | Answer::Refused(_) => Err(Failure::new(
            Code::Failure,
            "the daemon gave another answer than was asked for",
        )
        .hint("it may be of another version: restart it")),
    }
}
