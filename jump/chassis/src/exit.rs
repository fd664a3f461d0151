//! What a failure costs the process, and what its reader should do next.
//!
//! A message that reaches a person has three parts: what happened and to what (the text), why
//! (the chain of causes), and what to do (the hint). Whoever waits for the process reads the code.

use std::error::Error;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// How the process ends. The numbers are those of `sysexits.h`, except [`Usage`](Code::Usage),
/// where clap and rclone agree on 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Something failed that no other code describes.
    Failure = 1,
    /// The command line was wrong.
    Usage = 2,
    /// Something that is needed is not there: a service, a device, a port.
    Unavailable = 69,
    /// It may work later without anybody changing anything.
    TryAgain = 75,
    /// Not allowed, or not signed in.
    Permission = 77,
    /// The settings are wrong.
    Config = 78,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An error that knows its exit code and what its reader can do about it.
pub trait Explain: Error + Send + Sync + 'static {
    /// How the process should end when this is what ended it.
    fn code(&self) -> Code;

    /// What to do, as a sentence for the person who reads it.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// What ends a program: a message for a person and a code for a supervisor.
///
/// It is deliberately no [`Error`] itself, so that every [`Explain`] converts into it with `?`.
pub struct Failure {
    code: Code,
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure: what happened, and to what.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// Adds the error that caused it, with the whole chain behind that.
    #[must_use]
    pub fn because(mut self, cause: &dyn Error) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// How the process should end.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Prints the failure to standard error and returns the code to leave `main` with.
    #[must_use]
    pub fn report(&self, program: &str) -> ExitCode {
        // Standard error may be closed; the exit code still tells.
        let _ = writeln!(std::io::stderr().lock(), "{program}: {self}");
        self.code.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} (exit code {})", self.code as u8)
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut failure = Self::new(error.code(), error.to_string());
        failure.hint = error.hint();
        match error.source() {
            Some(cause) => failure.because(cause),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Shut(#[source] std::io::Error);

    impl Explain for Shut {
        fn code(&self) -> Code {
            Code::Permission
        }
        fn hint(&self) -> Option<String> {
            Some("knock".into())
        }
    }

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let failure = Failure::from(Shut(std::io::Error::other("locked")));
        assert_eq!(failure.to_string(), "cannot open the door: locked\n  knock");
        assert_eq!(failure.code() as u8, 77);
    }
}
