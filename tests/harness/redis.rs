//! A real Redis on a port of its own, with nothing kept.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::free_port;
use crate::wait::until;

/// A running Redis, ended when it goes out of scope.
pub struct Redis {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Redis {
    /// Starts one.
    ///
    /// # Panics
    /// `redis-server` is not there, or does not answer.
    #[must_use]
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    /// Starts one on a port, as after an outage.
    ///
    /// # Panics
    /// `redis-server` is not there, or does not answer.
    #[must_use]
    pub fn start_on(port: u16) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .args(["--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server: run `make deps`");
        until("Redis takes connections", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            child,
            port,
            _dir: dir,
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
