//! `tuyunfs` as its users run it: a settings file, a sign-in, a daemon, a folder.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tempfile::TempDir;

use crate::cloud::{CLIENT_ID, Cloud};
use crate::http;
use crate::process::{Daemon, free_port, run};
use crate::wait::until;

/// Opens the origin's `/_api/`.
pub const ORIGIN_TOKEN: &str = "an-origin-token-for-tests";

/// A mount, running or not, with all that survives a restart.
pub struct Mount {
    dir: TempDir,
    /// The settings file.
    pub config: PathBuf,
    /// The folder.
    pub point: PathBuf,
    /// The origin, without a slash at the end.
    pub origin: String,
    /// Health and metrics, without a slash at the end.
    pub metrics: String,
    daemon: Option<Daemon>,
}

impl Mount {
    /// Writes settings, signs in, and mounts.
    ///
    /// # Panics
    /// Any of these fails.
    #[must_use]
    pub fn start(cloud: &Cloud) -> Self {
        let mut mount = Self::prepare(cloud, &[]);
        mount.login(cloud);
        mount.run();
        mount
    }

    /// Writes settings; `keys` are lines such as `writeback.settle = "5s"`, put before the rest.
    ///
    /// # Panics
    /// The files cannot be written.
    #[must_use]
    pub fn prepare(cloud: &Cloud, keys: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| dir.path().join(name);
        let point = at("mnt");
        std::fs::create_dir(&point).expect("a mount point");
        std::fs::write(at("origin-tokens"), ORIGIN_TOKEN).expect("a token file");
        let (origin, metrics) = (free_port(), free_port());
        let mut table: toml::Table = toml::toml! {
            [drive]
            poll = "1s"
            [mount]
            timeout = "10s"
            [cache]
            min_free = "1MiB"
            [writeback]
            settle = "100ms"
            grace = "20s"
        };
        let mut set = |key: &str, value: String| {
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            let target = if section.is_empty() {
                &mut table
            } else {
                table
                    .entry(section)
                    .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                    .as_table_mut()
                    .expect("a section")
            };
            let number = value.parse().map(toml::Value::Integer);
            target.insert(
                name.to_owned(),
                number.unwrap_or(toml::Value::String(value)),
            );
        };
        set("state_dir", at("state").display().to_string());
        set("drive.login_url", cloud.0.login_url().to_owned());
        set("drive.graph_url", cloud.0.graph_url().to_owned());
        set("drive.client_id", CLIENT_ID.to_owned());
        set("mount.point", point.display().to_string());
        set("origin.listen", format!("127.0.0.1:{origin}"));
        set(
            "origin.tokens_file",
            at("origin-tokens").display().to_string(),
        );
        set("control.socket", at("control.sock").display().to_string());
        set("control.metrics", format!("127.0.0.1:{metrics}"));
        for (key, value) in keys {
            set(key, (*value).to_owned());
        }
        let config = at("tuyunfs.toml");
        std::fs::write(&config, table.to_string()).expect("a settings file");
        Self {
            config,
            point,
            origin: format!("http://127.0.0.1:{origin}"),
            metrics: format!("http://127.0.0.1:{metrics}"),
            daemon: None,
            dir,
        }
    }

    /// Signs in with a token that came from rclone.
    ///
    /// # Panics
    /// It is refused.
    pub fn login(&self, cloud: &Cloud) {
        let file = self.dir.path().join("rclone-token.json");
        std::fs::write(&file, cloud.rclone_token()).expect("a token file");
        let (config, file) = (
            self.config.display().to_string(),
            file.display().to_string(),
        );
        let done = run(
            "tuyunfs",
            &["login", "--rclone", &file, "--config", &config],
        );
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// Starts the daemon and waits until the folder is there and it says that it is ready.
    ///
    /// # Panics
    /// It ends instead.
    pub fn run(&mut self) {
        let config = self.config.display().to_string();
        let mut daemon = Daemon::start("tuyunfs", &["mount", "--config", &config], self.dir.path());
        let ready = format!("{}/readyz", self.metrics);
        until("the mount is ready", || {
            assert!(daemon.ended().is_none(), "tuyunfs ended:\n{}", daemon.log());
            let answer = http::try_get(&ready, &[])?;
            (self.is_mounted() && answer.status == 200).then_some(())
        });
        self.daemon = Some(daemon);
    }

    /// Starts the daemon and waits until the folder is there, though it is not all well.
    ///
    /// # Panics
    /// It ends instead.
    pub fn run_degraded(&mut self) {
        let config = self.config.display().to_string();
        let mut daemon = Daemon::start("tuyunfs", &["mount", "--config", &config], self.dir.path());
        until("the folder is mounted", || {
            assert!(daemon.ended().is_none(), "tuyunfs ended:\n{}", daemon.log());
            let alive = http::try_get(&format!("{}/healthz", self.metrics), &[])?;
            (self.is_mounted() && alive.status == 200).then_some(())
        });
        self.daemon = Some(daemon);
    }

    /// Asks the daemon to stop and waits for its end.
    ///
    /// # Panics
    /// It is not running, or does not stop.
    pub fn stop(&mut self) -> ExitStatus {
        self.daemon.take().expect("it is running").stop()
    }

    /// Ends the daemon by SIGKILL. The dead mount stays, as it would.
    ///
    /// # Panics
    /// It is not running.
    pub fn kill(&mut self) {
        self.daemon.take().expect("it is running").kill();
    }

    /// Takes away the dead mount of a daemon that was killed, as the end of a machine does: with it goes what the
    /// kernel has open by itself.
    ///
    /// # Panics
    /// There is none.
    pub fn forget(&self) {
        let mut unmount = std::process::Command::new("umount");
        let done = unmount.arg("-l").arg(&self.point).status();
        assert!(done.expect("umount(8)").success());
    }

    /// What the daemon has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("tuyunfs.log")).unwrap_or_default()
    }

    /// Where its state is.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A folder that belongs to this test.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command of `tuyunfs` with these settings: what it prints.
    ///
    /// # Panics
    /// It does not succeed.
    #[expect(
        clippy::must_use_candidate,
        reason = "many commands are given for what they do"
    )]
    pub fn tuyunfs(&self, arguments: &[&str]) -> String {
        let config = self.config.display().to_string();
        let done = run("tuyunfs", &[arguments, &["--config", &config]].concat());
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "tuyunfs {arguments:?}: {said}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// `tuyunfs status --json`.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        let config = self.config.display().to_string();
        let done = run("tuyunfs", &["status", "--json", "--config", &config]);
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{error}: {text}{}", String::from_utf8_lossy(&done.stderr))
        })
    }

    /// Whether the kernel has our filesystem at the mount point.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        let point = format!(" {} ", self.point.display());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mounts
            .lines()
            .any(|line| line.contains(&point) && line.contains("fuse.tuyunfs"))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.daemon = None;
        if self.is_mounted() {
            let _ = std::process::Command::new("umount")
                .arg("-l")
                .arg(&self.point)
                .status();
        }
    }
}
