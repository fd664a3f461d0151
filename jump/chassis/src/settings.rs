//! Settings: a flag outweighs the environment, which outweighs the file, which outweighs the default.
//!
//! A program describes its settings as one type with a default; everything else follows from it.
//! The type needs `Serialize`, `DeserializeOwned` and `Default`, and on each struct
//! `#[serde(deny_unknown_fields, default)]`. No `Option`: what is not set is an empty string, so
//! that every key shows in the default and thereby has its flag and its variable.
//!
//! A wrong value is reported where it was written: file and line, flag, or variable.

mod keys;
mod secret;
mod value;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use self::keys::Key;
pub use self::secret::{SecretError, read_secret, read_secret_lines, read_secret_text};
pub use self::value::{Period, Size};
use crate::exit::{Code, Explain};

/// The clap id of `--config`.
const CONFIG: &str = "config";

/// Where a program's settings come from.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// What variables begin with: `TUYUN_JUMP` for `TUYUN_JUMP_LISTEN`.
    pub prefix: &'static str,
    /// The file that is read when `--config` names no other; it may be absent.
    pub file: &'static str,
}

/// What a person said outside the file.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The file named by `--config`; it must exist.
    pub file: Option<PathBuf>,
    /// Keys (`drive.client_id`) and values from flags.
    pub flags: Vec<(String, String)>,
    /// The environment: all of it, other programs' variables too.
    pub environment: Vec<(String, String)>,
}

/// Settings that can be used, and how they came about.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// What to tell once there is a log: variables with our prefix that name no key.
    pub warnings: Vec<String>,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, and the line in it when known.
    File(PathBuf, Option<usize>),
    /// A flag, with its dashes.
    Flag(String),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}, line {line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(variable) => write!(f, "environment variable {variable}"),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something in the file, a flag or a variable is not as it should be.
    #[error("{place}: {problem}")]
    Wrong {
        /// Where it was written.
        place: Place,
        /// What is wrong with it.
        problem: String,
    },
    /// A value is well formed and still cannot be used; said by the program that reads it.
    #[error("setting `{key}`: {problem}")]
    Unusable {
        /// The key, as in the file: `nodes.token_file`.
        key: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// The settings type breaks its own rules.
    #[error("the built-in settings cannot be written down: {0}")]
    Default(String),
}

impl SettingsError {
    /// A value that is well formed and cannot be used: which key, why, and what to do.
    pub fn unusable(
        key: impl Into<String>,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::Unusable {
            key: key.into(),
            problem: problem.into(),
            advice: advice.into(),
        }
    }
}

impl Explain for SettingsError {
    fn code(&self) -> Code {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Code::Permission
            }
            Self::Wrong {
                place: Place::Flag(_),
                ..
            } => Code::Usage,
            Self::Unreadable { .. } | Self::Wrong { .. } | Self::Unusable { .. } => Code::Config,
            Self::Default(_) => Code::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some(
                "give another file with --config FILE, or print a commented example with: config example"
                    .into(),
            ),
            Self::Wrong { place: Place::File(..), .. } => Some(
                "correct that line, then try it with: config check; `config example` shows every key".into(),
            ),
            Self::Wrong { place: Place::Flag(_), .. } => {
                Some("correct that flag; --help shows every one with its default".into())
            }
            Self::Wrong { place: Place::Variable(_), .. } => {
                Some("correct or unset that variable; --help shows every one".into())
            }
            Self::Unusable { advice, .. } => Some(advice.clone()),
            Self::Default(_) => None,
        }
    }
}

impl Spec {
    /// Adds `--config FILE` and one flag for each key of `T` to a command.
    /// A default that cannot be written as TOML has no flags; loading says so.
    #[must_use]
    pub fn attach<T: Serialize + Default>(&self, command: Command) -> Command {
        let keys = defaults::<T>()
            .map(|table| keys::leaves(&table))
            .unwrap_or_default();
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!(
                "The settings file [default: {}] [env: {}_CONFIG]",
                self.file, self.prefix
            ));
        command
            .arg(config)
            .args(keys.iter().map(|key| self.arg(key)))
    }

    fn arg(&self, key: &Key) -> Arg {
        let (kind, default) = match &key.default {
            Value::Boolean(on) => ("BOOL", on.to_string()),
            Value::Integer(number) => ("NUMBER", number.to_string()),
            Value::Array(items) => ("LIST", Value::Array(items.clone()).to_string()),
            Value::String(text) => ("TEXT", format!("{text:?}")),
            other => ("VALUE", other.to_string()),
        };
        let arg = Arg::new(key.name())
            .long(key.flag())
            .value_name(kind)
            .help_heading("Settings")
            .hide_short_help(true)
            .help(format!(
                "[default: {default}] [env: {}]",
                key.variable(self.prefix)
            ));
        match (&key.default, key.flag() == key.name()) {
            (Value::Boolean(_), true) => arg.num_args(0..=1).default_missing_value("true"),
            (Value::Boolean(_), false) => arg
                .num_args(0..=1)
                .default_missing_value("true")
                .alias(key.name()),
            (_, true) => arg,
            (_, false) => arg.alias(key.name()),
        }
    }

    /// Reads the settings, from a command line that [`attach`](Self::attach) prepared and from the
    /// environment of this process.
    ///
    /// # Errors
    /// When the file cannot be read, or a key or value in file, environment or flag is wrong.
    pub fn load<T>(&self, matches: &ArgMatches) -> Result<Loaded<T>, SettingsError>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        self.load_given(&self.given::<T>(matches)?)
    }

    /// What a prepared command line and the environment of this process say, before it is read.
    ///
    /// # Errors
    /// When the default of `T` cannot be written down.
    pub fn given<T: Serialize + Default>(
        &self,
        matches: &ArgMatches,
    ) -> Result<Given, SettingsError> {
        let keys = keys::leaves(&defaults::<T>()?);
        let flags = keys.iter().filter_map(|key| {
            let name = key.name();
            let said = matches.value_source(&name) == Some(ValueSource::CommandLine);
            let value = matches.get_one::<String>(&name).filter(|_| said)?;
            Some((name, value.clone()))
        });
        Ok(Given {
            file: matches.get_one::<PathBuf>(CONFIG).cloned(),
            flags: flags.collect(),
            environment: text_environment(std::env::vars_os()),
        })
    }

    /// Reads the settings from what is given, and from nothing else but the file.
    ///
    /// # Errors
    /// When the file cannot be read, or a key or value in file, environment or flag is wrong.
    pub fn load_given<T>(&self, given: &Given) -> Result<Loaded<T>, SettingsError>
    where
        T: Serialize + DeserializeOwned + Default,
    {
        let defaults = defaults::<T>()?;
        let keys = keys::leaves(&defaults);
        let mut merged = defaults.clone();
        let mut warnings = Vec::new();

        let file = self.read_file(given)?;
        if let Some((path, text)) = &file {
            keys::lay_over(&mut merged, parse_file::<T>(path, text)?);
        }
        for (variable, text) in &given.environment {
            let Some(rest) = variable
                .strip_prefix(self.prefix)
                .and_then(|r| r.strip_prefix('_'))
            else {
                continue;
            };
            match keys
                .iter()
                .find(|key| key.variable(self.prefix) == *variable)
            {
                Some(key) => {
                    let place = Place::Variable(variable.clone());
                    put::<T>(&defaults, &mut merged, key, text, place)?;
                }
                None if rest == "CONFIG" => {}
                None => warnings.push(format!("environment variable {variable} names no setting")),
            }
        }
        for (name, text) in &given.flags {
            let Some(key) = keys.iter().find(|key| key.name() == *name) else {
                let place = Place::Flag(format!("--{name}"));
                return Err(SettingsError::Wrong {
                    place,
                    problem: "no such setting".into(),
                });
            };
            let place = Place::Flag(format!("--{}", key.flag()));
            put::<T>(&defaults, &mut merged, key, text, place)?;
        }
        let settings =
            read_table(merged).map_err(|error| SettingsError::Default(error.message().into()))?;
        Ok(Loaded {
            settings,
            file: file.map(|(path, _)| path),
            warnings,
        })
    }

    /// The file's text. Only the default file may be absent: one that was named is meant.
    fn read_file(&self, given: &Given) -> Result<Option<(PathBuf, String)>, SettingsError> {
        let variable = format!("{}_CONFIG", self.prefix);
        let from_environment = given
            .environment
            .iter()
            .find(|(name, _)| *name == variable)
            .map(|(_, path)| path.into());
        let named = given.file.clone().or(from_environment);
        let path = named.clone().unwrap_or_else(|| self.file.into());
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SettingsError::Unreadable { path, source }),
        }
    }
}

/// Checks the file against the type, for the sake of the line numbers, and returns its table.
fn parse_file<T: DeserializeOwned>(path: &Path, text: &str) -> Result<Table, SettingsError> {
    let wrong = |error: toml::de::Error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let place = Place::File(path.to_owned(), line);
        SettingsError::Wrong {
            place,
            problem: error.message().to_owned(),
        }
    };
    toml::from_str::<T>(text).map_err(wrong)?;
    toml::from_str::<Table>(text).map_err(wrong)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// Puts one value, after trying it alone on the defaults: so the blame falls on the right place.
fn put<T: DeserializeOwned>(
    defaults: &Table,
    merged: &mut Table,
    key: &Key,
    text: &str,
    place: Place,
) -> Result<(), SettingsError> {
    let attempt = || {
        let value = key.read(text)?;
        let mut alone = defaults.clone();
        key.put(&mut alone, value.clone());
        read_table::<T>(alone).map_err(|error| error.message().to_owned())?;
        Ok(value)
    };
    let value = attempt().map_err(|problem| SettingsError::Wrong { place, problem })?;
    key.put(merged, value);
    Ok(())
}

fn read_table<T: DeserializeOwned>(table: Table) -> Result<T, toml::de::Error> {
    table.try_into()
}

fn defaults<T: Serialize + Default>() -> Result<Table, SettingsError> {
    Table::try_from(T::default()).map_err(|error| SettingsError::Default(error.to_string()))
}

/// What of the environment is text; a variable of ours that is not names no valid setting anyway.
fn text_environment(all: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    let text: BTreeSet<_> = all
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    text.into_iter().collect()
}

#[cfg(test)]
mod tests;
