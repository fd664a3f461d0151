//! The command line: one file a command.
//!
//! Called as `mount.tuyunfs` or `mount.fuse.tuyunfs`, the program is a mount helper instead, as
//! mount(8) runs it for a line of fstab.

mod commands;
mod config;
mod deletions;
mod discard;
mod export;
mod flush;
mod helper;
pub mod login;
mod manual;
mod mount;
mod output;
mod parked;
mod retry;
mod status;
mod unmount;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use tuyun_chassis::exit::{Code, Failure};
use tuyun_chassis::settings::{Given, Loaded};

use crate::settings::{self, SPEC, Settings};

/// The program's name in messages.
const NAME: &str = "tuyunfs";

/// The whole of `main`.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if helper::is_called_for(&arguments) {
        return helper::main(&arguments[1..]);
    }
    let matches = match commands::all().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(message) => {
            // Also how --help and --version end, with code 0.
            let _ = message.print();
            return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(1));
        }
    };
    match obey(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(NAME),
    }
}

fn obey(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, own)) = matches.subcommand() else {
        return Err(Failure::new(Code::Usage, "no command was given").hint("see --help"));
    };
    let load = |own: &ArgMatches| load(matches, own);
    match name {
        "login" => {
            let choice = commands::choice(own);
            block_on(login::run(&load(own)?.settings, &choice))
        }
        "mount" => mount::run(own, given(matches, own)?),
        "unmount" => unmount::run(own, &load(own)?.settings),
        "status" => status::run(own, &load(own)?.settings),
        "flush" => flush::run(own, &load(own)?.settings),
        "deletions" => deletions::run(own, &load(own)?.settings),
        "retry" => retry::run(own, &load(own)?.settings),
        "export" => export::run(own, &load(own)?.settings),
        "discard" => discard::run(own, &load(own)?.settings),
        "config" => match own.subcommand() {
            Some(("check", own)) => config::check(&load(own)?),
            _ => output::say(settings::EXAMPLE),
        },
        "completions" => manual::completions(own),
        "man" => manual::pages(own),
        // clap has refused everything else.
        _ => Err(Failure::new(Code::Usage, "no such command").hint("see --help")),
    }
}

/// What was said outside of the file; `--config` may stand before the command or behind it.
fn given(matches: &ArgMatches, own: &ArgMatches) -> Result<Given, Failure> {
    let mut given = SPEC.given::<Settings>(own)?;
    if given.file.is_none() {
        given.file = matches.get_one::<PathBuf>(commands::CONFIG).cloned();
    }
    Ok(given)
}

fn load(matches: &ArgMatches, own: &ArgMatches) -> Result<Loaded<Settings>, Failure> {
    Ok(settings::load(&given(matches, own)?)?)
}

/// Runs a command that waits for the network.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tuyun_chassis::start::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failure, "cannot start threads").because(&error))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(mount::LAST_BREATH);
    done
}
