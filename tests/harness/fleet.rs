//! Jump and edges as processes, told of each other as on a real network.

use tempfile::TempDir;

use crate::http;
use crate::mount::ORIGIN_TOKEN;
use crate::process::{Daemon, free_port};
use crate::wait::until;

/// What a node proves itself with.
pub const NODE_TOKEN: &str = "a-node-token-for-tests";

/// A running `tuyun-jump`.
pub struct Jump {
    /// Where visitors ask, without a slash at the end.
    pub url: String,
    /// Where the operator asks, without a slash at the end.
    pub control: String,
    daemon: Daemon,
    _dir: TempDir,
}

impl Jump {
    /// Starts one, with its nodes in this Redis (none: in memory).
    ///
    /// # Panics
    /// It ends instead.
    #[must_use]
    pub fn start(origin: &str, redis: &str) -> Self {
        Self::start_with(origin, redis, |_| ())
    }

    /// Starts one with settings changed.
    ///
    /// # Panics
    /// It ends instead.
    #[must_use]
    pub fn start_with(origin: &str, redis: &str, change: impl FnOnce(&mut toml::Table)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (port, control) = (free_port(), free_port());
        let tokens = dir.path().join("tokens");
        std::fs::write(&tokens, NODE_TOKEN).expect("a token file");
        let settings = toml::toml! {
            [nodes]
            allow_private = true
            probe = "200ms"
            [limit]
            redirect_per_second = 0
            update_per_second = 0
        };
        let mut settings = settings;
        settings.insert("listen".into(), format!("127.0.0.1:{port}").into());
        settings.insert("origin".into(), format!("{origin}/").into());
        settings.insert("redis".into(), redis.into());
        set(
            &mut settings,
            "nodes",
            "token_file",
            tokens.display().to_string(),
        );
        set(
            &mut settings,
            "control",
            "listen",
            format!("127.0.0.1:{control}"),
        );
        change(&mut settings);
        let config = dir.path().join("jump.toml");
        std::fs::write(&config, settings.to_string()).expect("a settings file");
        let config = config.display().to_string();
        let daemon = Daemon::start("tuyun-jump", &["serve", "--config", &config], dir.path());
        let daemon = ready(daemon, &format!("http://127.0.0.1:{control}/healthz"));
        Self {
            url: format!("http://127.0.0.1:{port}"),
            control: format!("http://127.0.0.1:{control}"),
            daemon,
            _dir: dir,
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Reports a node to it, as an original does.
    ///
    /// # Panics
    /// It is not taken.
    pub fn report(&self, id: &str, url: &str, ttl: u64) {
        let body = serde_json::json!({ "token": NODE_TOKEN, "server_id": id, "url": url, "ttl": ttl,
            "version": "tuyun-test 1" });
        let reply = http::post(&format!("{}/_api/update", self.url), &body);
        assert_eq!(
            reply.status,
            200,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
    }

    /// Whether `readyz` says that all is well.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        http::get(&format!("{}/readyz", self.control), &[]).status == 200
    }

    /// Where a visitor is sent.
    ///
    /// # Panics
    /// It is not sent anywhere.
    #[must_use]
    pub fn location(&self, path: &str) -> String {
        let reply = http::get(&format!("{}{path}", self.url), &[]);
        assert_eq!(reply.status, 302);
        reply.header("location").to_owned()
    }
}

/// A running `tuyun-edge`.
pub struct Edge {
    /// Where it answers, with a slash at the end.
    pub url: String,
    daemon: Daemon,
    _dir: TempDir,
}

impl Edge {
    /// Starts one that reports to `jump` and fetches from `origin`.
    ///
    /// # Panics
    /// It ends instead.
    #[must_use]
    pub fn start(id: u32, origin: &str, jump: &Jump) -> Self {
        Self::start_with(id, origin, jump, |_| ())
    }

    /// Starts one with settings changed.
    ///
    /// # Panics
    /// It ends instead.
    #[must_use]
    pub fn start_with(
        id: u32,
        origin: &str,
        jump: &Jump,
        change: impl FnOnce(&mut toml::Table),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (port, control) = (free_port(), free_port());
        let token = dir.path().join("token");
        std::fs::write(&token, NODE_TOKEN).expect("a token file");
        let origin_token = dir.path().join("origin-token");
        std::fs::write(&origin_token, ORIGIN_TOKEN).expect("a token file");
        let url = format!("http://127.0.0.1:{port}/");
        let mut settings = toml::toml! {
            [jump]
            interval = "1s"
            insecure = true
            [limit]
            per_second = 0
            [origin]
            insecure = true
        };
        settings.insert("listen".into(), format!("127.0.0.1:{port}").into());
        settings.insert("server_id".into(), id.to_string().into());
        settings.insert("url".into(), url.clone().into());
        set(&mut settings, "origin", "primary", format!("{origin}/"));
        set(
            &mut settings,
            "origin",
            "token_file",
            origin_token.display().to_string(),
        );
        set(
            &mut settings,
            "cache",
            "dir",
            dir.path().join("cache").display().to_string(),
        );
        set(
            &mut settings,
            "jump",
            "token_file",
            token.display().to_string(),
        );
        set(
            &mut settings,
            "control",
            "listen",
            format!("127.0.0.1:{control}"),
        );
        if let Some(section) = settings.get_mut("jump").and_then(toml::Value::as_table_mut) {
            let urls = vec![toml::Value::String(format!("{}/", jump.url))];
            section.insert("urls".into(), toml::Value::Array(urls));
        }
        change(&mut settings);
        let config = dir.path().join("edge.toml");
        std::fs::write(&config, settings.to_string()).expect("a settings file");
        let config = config.display().to_string();
        let daemon = Daemon::start("tuyun-edge", &["serve", "--config", &config], dir.path());
        let daemon = ready(daemon, &format!("http://127.0.0.1:{control}/healthz"));
        Self {
            url,
            daemon,
            _dir: dir,
        }
    }

    /// Ends it without a word.
    pub fn kill(self) {
        self.daemon.kill();
    }

    /// Asks it to stop, and waits for its end.
    #[must_use]
    pub fn stop(self) -> std::process::ExitStatus {
        self.daemon.stop()
    }
}

fn set(settings: &mut toml::Table, section: &str, key: &str, value: String) {
    settings
        .entry(section)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        .as_table_mut()
        .expect("a section")
        .insert(key.to_owned(), toml::Value::String(value));
}

fn ready(mut daemon: Daemon, health: &str) -> Daemon {
    until("the daemon is alive", || {
        assert!(daemon.ended().is_none(), "it ended:\n{}", daemon.log());
        http::try_get(health, &[]).filter(|reply| reply.status == 200)
    });
    daemon
}
