//! The local socket: one JSON object a line, one answer each.
//!
//! Who may open it may operate the daemon: its owner and group (mode 0660). A lock beside it
//! makes sure that there is one daemon a socket; a socket left behind by a dead one is replaced.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tuyun_chassis::exit::{Code, Explain};

use super::{Answer, Facts, Order};

/// Operators at a time. They are people and their scripts.
const OPERATORS: usize = 16;

/// How long an operator may take for an order, and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a look for a new sign-in may hold up its answer: less than an operator waits.
const LOOK: Duration = Duration::from_secs(5);

/// The longest order: a few words and a path, which Linux holds to 4,096 bytes and JSON may make
/// six times as long.
const LONGEST: u64 = 32 * 1024;

/// A bound socket.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Held for as long as the daemon lives.
    _lock: File,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// There is another daemon.
    #[error("another tuyunfs runs with the control socket {}", .0.display())]
    Taken(PathBuf),
    /// The system refuses.
    #[error("cannot make the control socket {}", .path.display())]
    Failed {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Explain for SocketError {
    fn code(&self) -> Code {
        match self {
            Self::Taken(_) => Code::Unavailable,
            Self::Failed { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Code::Permission
            }
            Self::Failed { .. } => Code::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Taken(_) => "see it with `tuyunfs status`; for a second mount, set another \
                 control.socket, state_dir, origin.listen and control.metrics"
                .into(),
            Self::Failed { .. } => {
                "set control.socket to a path of at most 107 bytes in a directory that this user \
                 may write"
                    .into()
            }
        })
    }
}

impl Socket {
    /// Makes the socket, and its directory. To be called inside the runtime.
    ///
    /// # Errors
    /// Another daemon has it, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Failed {
            path: path.to_owned(),
            source,
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let beside = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(beside(".lock")).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(SocketError::Taken(path.to_owned())),
            Err(errno) => return Err(failed(errno.into())),
        }
        // Made aside and moved, so that nobody finds it with wider rights than it will have.
        let aside = beside(".new");
        let _ = std::fs::remove_file(&aside);
        let listener = UnixListener::bind(&aside).map_err(failed)?;
        std::fs::set_permissions(&aside, Permissions::from_mode(0o660)).map_err(failed)?;
        std::fs::rename(&aside, path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Serves until `stop`. An order to unmount cancels `leave`.
    pub async fn serve(self, facts: Arc<Facts>, leave: CancellationToken, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(OPERATORS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (facts, leave) = (facts.clone(), leave.clone());
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = attend(stream, &facts, &leave).await {
                            tracing::debug!(%error, "an operator was not attended to");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an operator");
                    // Out of descriptors: asking again at once would only burn time.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The lock goes last, so nobody else has made a socket there yet.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn attend(stream: UnixStream, facts: &Facts, leave: &CancellationToken) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(LONGEST));
    tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Order>(&line) {
        Ok(order) => carry_out(order, facts, leave).await,
        Err(error) => Answer::Refused(format!("not an order: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    tokio::time::timeout(PATIENCE, write.write_all(&text)).await?
}

async fn carry_out(order: Order, facts: &Facts, leave: &CancellationToken) -> Answer {
    match order {
        Order::Status => {}
        Order::Flush => facts.hurry(),
        Order::Retry { path } => return Answer::Retried(facts.vfs.retry_parked(path.as_deref())),
        Order::Discard { path } => {
            if let Err(error) = facts.vfs.discard_parked(&path).await {
                return Answer::Failed(chain(&error));
            }
            tracing::info!(path, "an operator gave up a change that the drive refuses");
        }
        Order::Deletions => return Answer::Withheld(facts.vfs.withheld()),
        Order::Decide { decision } => {
            let (_, _, root) = &facts.drive;
            if let Err(error) = facts.vfs.decide(decision, root).await {
                return Answer::Failed(chain(&error));
            }
            tracing::info!(?decision, "an operator decided about the drive's deletions");
            facts.hurry();
        }
        Order::SignIn => {
            // Whoever asks waits for an answer; what takes longer goes on without him.
            let _ = tokio::time::timeout(LOOK, facts.auth.look(true)).await;
        }
        Order::Unmount => {
            tracing::info!("stopping, as asked by an operator");
            leave.cancel();
        }
    }
    Answer::Report(Box::new(facts.report()))
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_daemon_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        let first = Socket::bind(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        assert!(matches!(Socket::bind(&path), Err(SocketError::Taken(_))));
        drop(first);
        assert!(!path.exists());
        Socket::bind(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_a_dead_daemon_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Socket::bind(&path).unwrap();
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_refused_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let error = Socket::bind(&dir.path().join("x".repeat(120)))
            .err()
            .unwrap();
        assert!(matches!(error, SocketError::Failed { .. }));
        assert_eq!(error.code(), Code::Config);
        assert!(error.hint().unwrap().contains("107"));
    }
}
