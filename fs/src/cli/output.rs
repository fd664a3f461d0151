//! Text for people and programs, on standard output.

use std::io::{ErrorKind, Write as _};

use tuyun_chassis::exit::{Code, Failure};

/// The daemon does not answer what was asked.
pub(super) fn another_answer() -> Failure {
    Failure::new(
        Code::Failure,
        "the daemon gave another answer than was asked for",
    )
    .hint("it may be of another version: restart it")
}

/// Prints. A reader who has seen enough, as in `tuyunfs man | head`, is no failure.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Code::Failure, "cannot print").because(&error)),
        Ok(()) => Ok(()),
    }
}
