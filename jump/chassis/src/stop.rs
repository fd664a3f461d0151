//! When to leave, and when to read settings and certificates again.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The wish to stop, as one token that everybody waits on, and the wish to reload.
#[derive(Clone, Debug)]
pub struct Stop {
    token: CancellationToken,
    reloads: watch::Receiver<u64>,
}

impl Stop {
    /// Listens to signals from now on: TERM and INT stop in order, a second INT at once, HUP
    /// asks for a reload. To be called inside the runtime, once a process.
    ///
    /// # Errors
    /// When the system refuses a signal handler.
    pub fn listen() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let token = CancellationToken::new();
        let (reload, reloads) = watch::channel(0_u64);
        let stopping = token.clone();
        // Lives as long as the process: there is nobody who could wait for it.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {
                        tracing::info!("stopping, as asked by SIGTERM");
                        stopping.cancel();
                    }
                    _ = interrupt.recv() => {
                        if stopping.is_cancelled() {
                            tracing::warn!("leaving at once, as asked by a second SIGINT");
                            std::process::exit(1);
                        }
                        tracing::info!("stopping; press Ctrl-C again to leave at once");
                        stopping.cancel();
                    }
                    _ = hangup.recv() => {
                        tracing::debug!("SIGHUP");
                        reload.send_modify(|count| *count += 1);
                    }
                }
            }
        });
        Ok(Self { token, reloads })
    }

    /// A wish that comes from elsewhere than signals: another program part, or a test.
    #[must_use]
    pub fn by(token: CancellationToken) -> Self {
        let (_, reloads) = watch::channel(0);
        Self { token, reloads }
    }

    /// Cancelled when it is time to stop.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Waits for the next SIGHUP; for ever when none can come any more.
    pub async fn reload(&mut self) {
        if self.reloads.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
