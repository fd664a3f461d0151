//! What the drive refuses, by its path: whom `retry`, `export` and `discard` speak of.

use tuyun_chassis::exit::{Code, Failure};

use crate::control::Order;
use crate::control::client::report;
use crate::settings::Settings;
use crate::vfs::ParkedChange;

/// What is parked at a path, as a person may write it.
pub(super) fn parked_at(settings: &Settings, path: &str) -> Result<ParkedChange, Failure> {
    let known = report(&settings.control.socket, &Order::Status)?
        .local
        .parked;
    let parked = known.into_iter().find(|parked| parked.is_at(path));
    parked.ok_or_else(|| nothing_parked_at(path))
}

/// Nothing is.
pub(super) fn nothing_parked_at(path: &str) -> Failure {
    Failure::new(Code::Usage, format!("nothing is parked at {path}")).hint(
        "see what is with `tuyunfs status`; any other file can be copied from the mounted folder",
    )
}
