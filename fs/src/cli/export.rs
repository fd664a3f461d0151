//! `tuyunfs export`: copies out what the drive refuses, before it is given up.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use bytesize::ByteSize;
use clap::ArgMatches;
use tuyun_chassis::exit::{Code, Failure};

use super::output::say;
use super::parked::parked_at;
use crate::settings::Settings;

pub(super) fn run(matches: &ArgMatches, settings: &Settings) -> Result<(), Failure> {
    let argument = |name| matches.get_one::<String>(name).cloned();
    let (Some(path), Some(file)) = (argument("path"), argument("file")) else {
        return Err(Failure::new(Code::Usage, "a path and a file are needed"));
    };
    let parked = parked_at(settings, &path)?;
    let Some(content) = parked.content else {
        let why = format!("no bytes of {path} are here: {}", parked.why);
        return Err(Failure::new(Code::Unavailable, why).hint(
            "a folder and a deletion have none; those of a damaged file are where that says",
        ));
    };
    let copied = copy(&content, Path::new(&file)).map_err(|error| {
        Failure::new(
            Code::Unavailable,
            format!("cannot copy {} to {file}", content.display()),
        )
        .because(&error)
        .hint("run this as root; a file that exists already is left alone")
    })?;
    say(&format!("{file}: {}\n", ByteSize(copied)))
}

/// Copies to a new file, down to the disk.
fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let mut content = File::open(from)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
    let copied = io::copy(&mut content, &mut file)?;
    file.sync_all()?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, b"bytes").unwrap();
        assert_eq!(copy(&from, &to).unwrap(), 5);
        let again = copy(&from, &to).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(to).unwrap(), b"bytes");
    }
}
