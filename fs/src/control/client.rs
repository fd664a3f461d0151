//! Asks a running daemon.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tuyun_chassis::exit::{Code, Explain};

use super::{Answer, Order, Report};

/// How long a daemon may take to answer; it rarely waits for the network to do so.
const PATIENCE: Duration = Duration::from_secs(10);

/// A decision may have to make a folder on the drive first, within `mount.timeout`.
const DECIDED: Duration = Duration::from_mins(5);

/// The longest answer: ten thousand parked changes with their reasons.
const LONGEST: u64 = 8 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no tuyunfs runs with the control socket {}", .0.display())]
    Nobody(PathBuf),
    /// This user may not.
    #[error("not allowed to use the control socket {}", .0.display())]
    NotAllowed(PathBuf),
    /// It does not answer as it should.
    #[error("the daemon behind {} does not answer", .path.display())]
    Silent {
        /// Which socket.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// It does not know the order.
    #[error("the daemon refuses: {0}")]
    Refused(String),
    /// It could not carry it out.
    #[error("{0}")]
    Failed(String),
}

impl Explain for AskError {
    fn code(&self) -> Code {
        match self {
            Self::Nobody(_) | Self::Silent { .. } => Code::Unavailable,
            Self::NotAllowed(_) => Code::Permission,
            Self::Refused(_) | Self::Failed(_) => Code::Failure,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Nobody(_) => "start it with `systemctl start tuyunfs` or `tuyunfs mount`; if it \
                 runs with other settings, give the same --config"
                .into(),
            Self::NotAllowed(_) => "run this as root, or as a member of the socket's group".into(),
            Self::Silent { .. } => "see its log: journalctl -u tuyunfs".into(),
            Self::Failed(_) => "nothing was changed; see `tuyunfs status`".into(),
            Self::Refused(_) => "the daemon may be of another version: restart it".into(),
        })
    }
}

/// Gives an order, and waits for the answer.
///
/// # Errors
/// No daemon answers, or it refuses.
pub fn ask(socket: &Path, order: &Order) -> Result<Answer, AskError> {
    let silent = |source| AskError::Silent {
        path: socket.to_owned(),
        source,
    };
    let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::Nobody(socket.to_owned())
        }
        io::ErrorKind::PermissionDenied => AskError::NotAllowed(socket.to_owned()),
        _ => silent(source),
    })?;
    let patience = match order {
        Order::Decide { .. } => DECIDED,
        _ => PATIENCE,
    };
    let mut line = serde_json::to_vec(order).map_err(|error| silent(error.into()))?;
    line.push(b'\n');
    let talk = |mut stream: UnixStream| -> io::Result<Answer> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream.take(LONGEST)).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    };
    match talk(stream).map_err(silent)? {
        Answer::Refused(why) => Err(AskError::Refused(why)),
        Answer::Failed(why) => Err(AskError::Failed(why)),
        answer => Ok(answer),
    }
}

/// Gives an order that is answered by a report.
///
/// # Errors
/// No daemon answers, or it refuses.
pub fn report(socket: &Path, order: &Order) -> Result<Report, AskError> {
    match ask(socket, order)? {
        Answer::Report(report) => Ok(*report),
        _ => Err(AskError::Refused(
            "another answer than was asked for".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_daemon_is_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let error = report(&path, &Order::Status).unwrap_err();
        assert!(matches!(error, AskError::Nobody(_)));
        assert_eq!(error.code(), Code::Unavailable);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(
            report(&path, &Order::Status),
            Err(AskError::Nobody(_))
        ));
    }

    #[test]
    fn an_answer_is_understood_and_a_refusal_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let answers = [
            Answer::Report(Box::new(crate::control::report::example())),
            Answer::Refused("no".into()),
        ];
        let daemon = std::thread::spawn(move || {
            answers.map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut order = String::new();
                BufReader::new(&stream).read_line(&mut order).unwrap();
                writeln!(stream, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
                order
            })
        });
        assert_eq!(
            report(&path, &Order::Flush).unwrap(),
            crate::control::report::example()
        );
        assert!(matches!(
            report(&path, &Order::Status),
            Err(AskError::Refused(_))
        ));
        assert_eq!(
            daemon.join().unwrap(),
            ["{\"do\":\"flush\"}\n", "{\"do\":\"status\"}\n"]
        );
    }
}
