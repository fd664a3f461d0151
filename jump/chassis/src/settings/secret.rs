//! Secrets live in files of their own, so that settings can be shown, copied and committed.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::exit::{Code, Explain};

/// Why a file did not yield its secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// There is nothing in it.
    #[error("the secret file {} is empty", .0.display())]
    Empty(PathBuf),
    /// One secret is expected and the file has several lines.
    #[error("the secret file {} has several lines, but holds one token", .0.display())]
    Several(PathBuf),
}

impl Explain for SecretError {
    fn code(&self) -> Code {
        match self {
            Self::Unreadable(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Code::Permission
            }
            Self::Unreadable(..) | Self::Empty(_) | Self::Several(_) => Code::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        let (Self::Unreadable(path, _) | Self::Empty(path) | Self::Several(path)) = self;
        Some(format!(
            "make one with: (umask 077; openssl rand -hex 32 > '{}'), readable by the service's user",
            path.display()
        ))
    }
}

/// The one secret in a file, without the white space around it.
///
/// # Errors
/// When the file cannot be read, is empty or has more than one line of content.
pub fn read_secret(path: &Path) -> Result<SecretString, SecretError> {
    let mut lines = read_secret_lines(path)?;
    match (lines.pop(), lines.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(SecretError::Several(path.to_owned())),
    }
}

/// The whole text of a file of secrets, for a program that knows its lines.
///
/// # Errors
/// When the file cannot be read.
pub fn read_secret_text(path: &Path) -> Result<String, SecretError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| SecretError::Unreadable(path.to_owned(), error))?;
    warn_when_shared(path);
    Ok(text)
}

/// Every line of a secret file that is neither blank nor a `#` comment; at least one.
///
/// # Errors
/// When the file cannot be read or has no such line.
pub fn read_secret_lines(path: &Path) -> Result<Vec<SecretString>, SecretError> {
    let text = read_secret_text(path)?;
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(SecretString::from)
        .collect();
    if lines.is_empty() {
        Err(SecretError::Empty(path.to_owned()))
    } else {
        Ok(lines)
    }
}

/// A secret that others on the machine can read is worth a line in the log, not a refusal:
/// panels and container mounts often leave no choice.
fn warn_when_shared(path: &Path) {
    let Ok(meta) = std::fs::metadata(path) else {
        return;
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o044 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = %format_args!("{mode:04o}"),
            "other users of this machine can read this secret; chmod 0600 it"
        );
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_secret_is_read_without_its_white_space() {
        let held = file("# the admin's\n\n  abc  \n");
        assert_eq!(read_secret(held.path()).unwrap().expose_secret(), "abc");
    }

    #[test]
    fn an_absent_empty_or_double_secret_says_what_to_do() {
        let absent = read_secret(Path::new("/nonexistent/token")).unwrap_err();
        assert!(matches!(absent, SecretError::Unreadable(..)));
        assert!(
            absent
                .hint()
                .unwrap()
                .contains("openssl rand -hex 32 > '/nonexistent/token'")
        );
        assert!(matches!(
            read_secret(file(" \n").path()),
            Err(SecretError::Empty(_))
        ));
        assert!(matches!(
            read_secret(file("a\nb\n").path()),
            Err(SecretError::Several(_))
        ));
    }
}
