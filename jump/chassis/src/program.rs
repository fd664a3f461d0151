//! The command line of a daemon that only serves: `serve`, `config check`, `config example`.
//!
//! A program with more commands than these uses the parts of this crate by itself.

use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{Code, Failure};
use crate::settings::{Loaded, Spec};
use crate::stop::Stop;
use crate::{log, start};

/// What blocking work may still take once everything else has stopped: a last file operation.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// A daemon as its command line presents it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The binary's name.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// The binary's version.
    pub version: &'static str,
    /// Where its settings come from.
    pub spec: Spec,
    /// The commented settings file that `config example` prints.
    pub example: &'static str,
}

/// A command besides `serve` and `config`, for a program that has one: it says something and ends.
pub struct Extra<T> {
    /// The command that it is part of, and what that is about: `node` of `node add`.
    pub parent: Option<(&'static str, &'static str)>,
    /// What it looks like. The settings' flags are added.
    pub command: fn() -> Command,
    /// Does it, and says what to print.
    pub run: fn(&ArgMatches, &T) -> Result<String, Failure>,
}

impl Program {
    /// The whole of `main`: reads the command line, serves until a signal, reports a failure.
    ///
    /// `check` refuses settings that are well formed and cannot work; `config check` runs it too.
    pub fn main<T, F, R>(&self, check: fn(&T) -> Result<(), Failure>, run: F) -> ExitCode
    where
        T: Serialize + DeserializeOwned + Default,
        F: FnOnce(T, Stop) -> R,
        R: Future<Output = Result<(), Failure>>,
    {
        self.main_with(&[], check, run)
    }

    /// The same for a program with commands of its own.
    pub fn main_with<T, F, R>(
        &self,
        extras: &[Extra<T>],
        check: fn(&T) -> Result<(), Failure>,
        run: F,
    ) -> ExitCode
    where
        T: Serialize + DeserializeOwned + Default,
        F: FnOnce(T, Stop) -> R,
        R: Future<Output = Result<(), Failure>>,
    {
        let matches = match self.command_with(extras).try_get_matches() {
            Ok(matches) => matches,
            Err(message) => {
                // Also how --help and --version end, with code 0.
                let _ = message.print();
                return ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(1));
            }
        };
        match self.obey(&matches, extras, check, run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(self.name),
        }
    }

    /// The command line, also for completions and the manual page.
    #[must_use]
    pub fn command<T: Serialize + Default>(&self) -> Command {
        let serve = Command::new("serve").about("Serve until SIGTERM or Ctrl-C");
        let check = Command::new("check").about("Say whether the settings can be used");
        let example = Command::new("example").about("Print a commented settings file");
        Command::new(self.name)
            .about(self.about)
            .version(self.version)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(self.spec.attach::<T>(serve))
            .subcommand(
                Command::new("config")
                    .about("Check or explain the settings")
                    .subcommand_required(true)
                    .arg_required_else_help(true)
                    .subcommand(self.spec.attach::<T>(check))
                    .subcommand(example),
            )
    }

    /// The same with commands of the program's own.
    #[must_use]
    pub fn command_with<T: Serialize + Default>(&self, extras: &[Extra<T>]) -> Command {
        let mut whole = self.command::<T>();
        for extra in extras {
            let command = self.spec.attach::<T>((extra.command)());
            whole = match extra.parent {
                None => whole.subcommand(command),
                Some((name, about)) if whole.find_subcommand(name).is_none() => {
                    let parent = Command::new(name)
                        .about(about)
                        .subcommand_required(true)
                        .arg_required_else_help(true);
                    whole.subcommand(parent.subcommand(command))
                }
                Some((name, _)) => whole.mut_subcommand(name, |parent| parent.subcommand(command)),
            };
        }
        whole
    }

    /// Runs the extra command that was given, if one was.
    fn obey_extra<T>(
        &self,
        matches: &ArgMatches,
        extras: &[Extra<T>],
    ) -> Option<Result<(), Failure>>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        let (name, inner) = matches.subcommand()?;
        for extra in extras {
            let command = (extra.command)();
            let found = match extra.parent {
                None => (name == command.get_name()).then_some(inner),
                Some((parent, _)) if parent == name => {
                    let part = inner.subcommand();
                    part.filter(|(part, _)| *part == command.get_name())
                        .map(|(_, matches)| matches)
                }
                Some(_) => None,
            };
            if let Some(matches) = found {
                let loaded = self.spec.load::<T>(matches).map_err(Failure::from);
                let said = loaded.and_then(|loaded| (extra.run)(matches, &loaded.settings));
                return Some(said.and_then(|text| print(&text)));
            }
        }
        None
    }

    fn obey<T, F, R>(
        &self,
        matches: &ArgMatches,
        extras: &[Extra<T>],
        check: fn(&T) -> Result<(), Failure>,
        run: F,
    ) -> Result<(), Failure>
    where
        T: Serialize + DeserializeOwned + Default,
        F: FnOnce(T, Stop) -> R,
        R: Future<Output = Result<(), Failure>>,
    {
        if let Some(done) = self.obey_extra(matches, extras) {
            return done;
        }
        match matches.subcommand() {
            Some(("serve", matches)) => {
                let loaded: Loaded<T> = self.spec.load(matches)?;
                log::init(log::Format::from_environment());
                for warning in &loaded.warnings {
                    tracing::warn!("{warning}");
                }
                check(&loaded.settings)?;
                tracing::info!(
                    version = self.version,
                    settings = %file_of(&loaded),
                    "{} starts", self.name
                );
                serve(run, loaded.settings)
            }
            Some(("config", matches)) => match matches.subcommand() {
                Some(("check", matches)) => {
                    let loaded: Loaded<T> = self.spec.load(matches)?;
                    check(&loaded.settings)?;
                    let mut said = format!("{}: the settings can be used\n", file_of(&loaded));
                    for warning in &loaded.warnings {
                        said.push_str("warning: ");
                        said.push_str(warning);
                        said.push('\n');
                    }
                    print(&said)
                }
                _ => print(self.example),
            },
            // clap has refused everything else.
            _ => Err(Failure::new(Code::Usage, "no such command").hint("see --help")),
        }
    }
}

fn serve<T, F, R>(run: F, settings: T) -> Result<(), Failure>
where
    F: FnOnce(T, Stop) -> R,
    R: Future<Output = Result<(), Failure>>,
{
    start::install_crypto();
    start::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failure, "cannot start threads").because(&error))?;
    let served = runtime.block_on(async {
        let stop = Stop::listen().map_err(|error| {
            Failure::new(Code::Failure, "cannot listen to signals").because(&error)
        })?;
        run(settings, stop).await
    });
    runtime.shutdown_timeout(LAST_BREATH);
    served
}

fn file_of<T>(loaded: &Loaded<T>) -> String {
    loaded
        .file
        .as_ref()
        .map_or("no settings file".into(), |path| path.display().to_string())
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader who has seen enough, as in `config example | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Code::Failure, "cannot print").because(&error)),
        Ok(()) => Ok(()),
    }
}
