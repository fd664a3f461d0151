//! `tuyunfs man` and `tuyunfs completions`: made from the command line's own description.

use std::path::PathBuf;

use clap_complete::Shell;
use tuyun_chassis::exit::{Code, Failure};

use super::output::say;
use super::{NAME, commands};

pub(super) fn pages(matches: &clap::ArgMatches) -> Result<(), Failure> {
    if let Some(dir) = matches.get_one::<PathBuf>("dir") {
        return clap_mangen::generate_to(commands::all(), dir).map_err(|error| {
            Failure::new(
                Code::Failure,
                format!("cannot write the pages to {}", dir.display()),
            )
            .because(&error)
            .hint("give a directory that exists and may be written")
        });
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(commands::all())
        .render(&mut page)
        .map_err(|error| {
            Failure::new(Code::Failure, "cannot write the manual page").because(&error)
        })?;
    say(&String::from_utf8_lossy(&page))
}

pub(super) fn completions(matches: &clap::ArgMatches) -> Result<(), Failure> {
    let Some(shell) = matches.get_one::<Shell>("shell") else {
        return Err(Failure::new(Code::Usage, "no shell was named").hint("see --help"));
    };
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut commands::all(), NAME, &mut script);
    say(&String::from_utf8_lossy(&script))
}
