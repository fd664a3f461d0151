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
        Self::start_with(port, &[])
    }

    /// Starts one on a port with more settings, as on its command line.
    ///
    /// # Panics
    /// `redis-server` is not there, or does not answer.
    #[must_use]
    pub fn start_with(port: u16, more: &[&str]) -> Self {
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
            .args(more)
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

impl Redis {
    /// One that copies this one.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn replica(&self) -> Self {
        let port = self.port.to_string();
        Self::start_with(
            free_port(),
            &[
                "--replicaof",
                "127.0.0.1",
                &port,
                "--repl-diskless-sync-delay",
                "0",
            ],
        )
    }

    /// Stops answering without a word and without closing anything, as a machine does that hangs.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Goes on as if nothing had been.
    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Asks it something, and gives what it says as text.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .expect("redis-cli: run `make deps`");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// A Sentinel that watches one master, ended when it goes out of scope.
pub struct Sentinel {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Sentinel {
    /// Starts one that takes its master for dead after half a second.
    ///
    /// # Panics
    /// `redis-server` is not there, or does not find the replica.
    #[must_use]
    pub fn watching(master: &Redis) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let settings = dir.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n",
            dir.path().display(),
            master.port
        );
        std::fs::write(&settings, text).expect("a settings file");
        let child = Command::new("redis-server")
            .arg(&settings)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server: run `make deps`");
        let sentinel = Self {
            child,
            port,
            _dir: dir,
        };
        until("Sentinel knows the replica", || {
            let output = Command::new("redis-cli")
                .args(["-p", &port.to_string(), "sentinel", "replicas", "mymaster"])
                .output()
                .ok()?;
            String::from_utf8_lossy(&output.stdout)
                .contains("runid")
                .then_some(())
        });
        sentinel
    }

    /// The URL that jump takes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/mymaster", self.port)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Cluster of three masters.
pub struct Cluster(Vec<Redis>);

impl Cluster {
    /// Starts one.
    ///
    /// # Panics
    /// It does not come together.
    #[must_use]
    pub fn start() -> Self {
        let servers: Vec<Redis> = (0..3)
            .map(|_| Redis::start_with(bus_port(), &["--cluster-enabled", "yes"]))
            .collect();
        let hosts: Vec<String> = servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port))
            .collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&hosts)
            .arg("--cluster-yes")
            .output()
            .expect("redis-cli: run `make deps`");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stdout)
        );
        until("all of the Cluster is well", || {
            let well = |server: &Redis| {
                server
                    .ask(&["cluster", "info"])
                    .contains("cluster_state:ok")
            };
            servers.iter().all(well).then_some(())
        });
        Self(servers)
    }

    /// The URL that jump takes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{}/", self.0[0].port)
    }

    /// The value of a key, wherever it is.
    #[must_use]
    pub fn get(&self, key: &str) -> String {
        self.0[0].ask(&["-c", "get", key])
    }

    /// Moves the slot of this key to another master, with all that is in it.
    ///
    /// # Panics
    /// It does not move.
    pub fn move_slot_of(&self, key: &str) {
        let slot = self.0[0].ask(&["cluster", "keyslot", key]);
        let has = |server: &&Redis| server.ask(&["cluster", "countkeysinslot", &slot]) != "0";
        let from = self.0.iter().find(has).expect("somebody has the key");
        let to = self
            .0
            .iter()
            .find(|server| server.port != from.port)
            .expect("three");
        let id = |server: &Redis| server.ask(&["cluster", "myid"]);
        let setslot = |server: &Redis, how: &str, whose: &str| {
            let said = server.ask(&["cluster", "setslot", &slot, how, whose]);
            assert_eq!(said, "OK");
        };
        setslot(to, "importing", &id(from));
        setslot(from, "migrating", &id(to));
        let keys = from.ask(&["cluster", "getkeysinslot", &slot, "100"]);
        let port = to.port.to_string();
        let mut migrate = vec!["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
        migrate.extend(keys.lines());
        assert_eq!(from.ask(&migrate), "OK");
        for server in [to, from] {
            setslot(server, "node", &id(to));
        }
    }
}

/// A port whose bus, ten thousand above, is one too.
fn bus_port() -> u16 {
    loop {
        let port = free_port();
        if port < 55_000 && std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
