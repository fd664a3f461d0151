//! The settings of `tuyun-jump`, and which of them cannot work.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tuyun_chassis::exit::Failure;
use tuyun_chassis::http::{TlsFiles, TrustedProxies};
use tuyun_chassis::settings::{Period, SettingsError, Spec};
use tuyun_protocol::Base;

use crate::choose::Policy;
use crate::gate::Gate;
use crate::registry::redis::Place;

/// Where the settings come from.
pub const SPEC: Spec = Spec {
    prefix: "TUYUN_JUMP",
    file: "/etc/tuyun/jump.toml",
};

/// The commented settings file that `config example` prints.
pub const EXAMPLE: &str = include_str!("../example.toml");

/// Below this, probes would be most of what a small node serves.
const SHORTEST_PROBE: Duration = Duration::from_millis(100);

/// The same for figures, which cost a node more than its health.
const SHORTEST_FIGURES: Duration = Duration::from_millis(100);

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where visitors and nodes reach jump.
    pub listen: String,
    /// Where visitors go when no node is alive: a base, or a prefix that ends in `?path=/`.
    pub origin: String,
    /// Which living node gets a visitor.
    pub policy: PolicyName,
    /// Where leases are kept; empty: in memory.
    pub redis: String,
    /// A certificate that Redis' own has to descend from; empty: those the public trusts.
    pub redis_ca_file: String,
    /// Where a restart finds its nodes; `auto`: in the service's state directory; empty: nowhere.
    pub snapshot: String,
    /// `Access-Control-Allow-Origin` on redirects; empty: none.
    pub allow_origin: String,
    /// The public listener's certificate.
    pub tls: Tls,
    /// The nodes.
    pub nodes: Nodes,
    /// Where visitors are.
    pub geo: Geo,
    /// How much one address may ask.
    pub limit: Limit,
    /// Who may show pictures.
    pub hotlink: Hotlink,
    /// The operator's token.
    pub admin: Admin,
    /// The operator's listener.
    pub control: Control,
}

/// The name of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyName {
    /// The lowest id that lives.
    Priority,
    /// One path keeps to one node.
    Affinity,
    /// The same, with more paths for nodes that carry more.
    Weighted,
}

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert: String,
    /// Its key, PEM.
    pub key: String,
}

/// `[nodes]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// The file with the nodes' tokens.
    pub token_file: String,
    /// Whether a heartbeat has to be signed.
    pub require_signed: bool,
    /// How long a heartbeat counts, at most.
    pub ttl: Period,
    /// How often our nodes are asked whether they live; zero: never.
    pub probe: Period,
    /// How often nodes are asked for their figures; zero: never.
    pub figures: Period,
    /// Whether nodes may have addresses that are not global.
    pub allow_private: bool,
}

/// `[geo]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Geo {
    /// A table of ranges.
    pub table: String,
    /// A database in `MaxMind`'s format.
    pub database: String,
}

/// `[hotlink]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hotlink {
    /// Sites that may show pictures; empty: all.
    pub sites: Vec<String>,
    /// Whether a request without `Referer` passes.
    pub empty_referer: bool,
    /// The file with the keys of signed links.
    pub key_file: String,
    /// Whether every link has to be signed.
    pub require_signed: bool,
}

/// `[limit]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// Redirects per second and address; zero: no limit.
    pub redirect_per_second: u32,
    /// Heartbeats per second and address; zero: no limit.
    pub update_per_second: u32,
    /// Whether redirects are counted in the whole fleet, by Redis.
    pub fleet: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

/// `[admin]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// The file with the operator's token.
    pub token_file: String,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Where health and metrics are served.
    pub listen: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:56789".into(),
            origin: String::new(),
            policy: PolicyName::Priority,
            redis: String::new(),
            redis_ca_file: String::new(),
            snapshot: "auto".into(),
            allow_origin: "*".into(),
            tls: Tls::default(),
            nodes: Nodes::default(),
            geo: Geo::default(),
            limit: Limit::default(),
            hotlink: Hotlink::default(),
            admin: Admin::default(),
            control: Control {
                listen: "127.0.0.1:56790".into(),
            },
        }
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            token_file: String::new(),
            require_signed: false,
            ttl: Period::seconds(1200),
            probe: Period::seconds(4),
            figures: Period::seconds(30),
            allow_private: false,
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            redirect_per_second: 30,
            update_per_second: 5,
            fleet: false,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Hotlink {
    fn default() -> Self {
        Self {
            sites: Vec::new(),
            empty_referer: true,
            key_file: String::new(),
            require_signed: false,
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Settings::default().control
    }
}

impl Settings {
    /// Refuses what is well formed and cannot work.
    ///
    /// # Errors
    /// Names the first setting that cannot be used, and what to do.
    pub fn check(&self) -> Result<(), Failure> {
        self.origin()?;
        self.gate()?;
        self.redis()?;
        self.tls()?;
        self.proxies()?;
        if self.nodes.ttl < Period::seconds(1) {
            return Err(SettingsError::unusable(
                "nodes.ttl",
                "a lease has to last a second at least",
                "set it to \"1200s\", the life that the original jump gives",
            )
            .into());
        }
        let probe = self.nodes.probe.get();
        if !probe.is_zero() && probe < SHORTEST_PROBE {
            return Err(SettingsError::unusable(
                "nodes.probe",
                "nodes would be asked too often",
                "set it to \"4s\", or to \"0s\" to ask never",
            )
            .into());
        }
        let figures = self.nodes.figures.get();
        if !figures.is_zero() && figures < SHORTEST_FIGURES {
            return Err(SettingsError::unusable(
                "nodes.figures",
                "nodes would be asked too often",
                "set it to \"30s\", or to \"0s\" to ask never",
            )
            .into());
        }
        if self.limit.fleet && self.redis.is_empty() {
            return Err(SettingsError::unusable(
                "limit.fleet",
                "there is no Redis to count in",
                "set `redis`, or limit.fleet to false",
            )
            .into());
        }
        if self.hotlink.require_signed && self.hotlink.key_file.is_empty() {
            return Err(SettingsError::unusable(
                "hotlink.require_signed",
                "there is no key to sign with, so nobody would get a picture",
                "set hotlink.key_file",
            )
            .into());
        }
        Ok(())
    }

    /// Who may show pictures.
    pub(crate) fn gate(&self) -> Result<Gate, SettingsError> {
        let Hotlink {
            sites,
            empty_referer,
            require_signed,
            ..
        } = &self.hotlink;
        Gate::new(sites, *empty_referer, *require_signed).map_err(|bad| {
            let advice = "list hosts, like [\"blog.example\", \"*.blog.example\"]";
            SettingsError::unusable("hotlink.sites", bad.to_string(), advice)
        })
    }

    /// Where a restart finds its nodes.
    pub(crate) fn snapshot(&self) -> Option<PathBuf> {
        match self.snapshot.as_str() {
            "" => None,
            // Systemd names it where a unit has one; several would be separated by colons.
            "auto" => {
                let dirs = std::env::var("STATE_DIRECTORY").ok()?;
                let first = dirs.split(':').find(|dir| !dir.is_empty())?;
                Some(Path::new(first).join("nodes.json"))
            }
            path => Some(path.into()),
        }
    }

    /// Where visitors go when no node lives.
    pub(crate) fn origin(&self) -> Result<Base, SettingsError> {
        let advice = "set it to where the pictures come from: \"https://image-server:7200/\", or a prefix like \"https://host/api/raw/?path=/\"";
        if self.origin.is_empty() {
            return Err(SettingsError::unusable("origin", "it is not set", advice));
        }
        Base::parse(&self.origin)
            .map_err(|error| SettingsError::unusable("origin", error.to_string(), advice))
    }

    /// How a node is chosen.
    pub(crate) fn policy(&self) -> Policy {
        match self.policy {
            PolicyName::Priority => Policy::Priority,
            PolicyName::Affinity => Policy::Affinity,
            PolicyName::Weighted => Policy::Weighted,
        }
    }

    /// Where leases are kept; `None`: in memory.
    pub(crate) fn redis(&self) -> Result<Option<Place>, SettingsError> {
        if self.redis.is_empty() {
            return Ok(None);
        }
        let wrong = |problem: String| {
            let advice = "write it like \"redis://127.0.0.1:6379/\", \"rediss://:password@host:6379/2\", \"redis+sentinel://host:26379/mymaster\" or \"redis+cluster://host:6379/\"";
            SettingsError::unusable("redis", problem, advice)
        };
        let place = Place::parse(&self.redis).map_err(wrong)?;
        place
            .trusting(&self.redis_ca_file)
            .map(Some)
            .map_err(|problem| {
                let advice = "name a readable PEM file, or leave it empty";
                SettingsError::unusable("redis_ca_file", problem, advice)
            })
    }

    /// The certificate; `None`: plain HTTP.
    pub(crate) fn tls(&self) -> Result<Option<TlsFiles>, SettingsError> {
        TlsFiles::from_settings(&self.tls.cert, &self.tls.key).map_err(|problem| {
            SettingsError::unusable("tls", problem, "set both tls.cert and tls.key, or neither")
        })
    }

    /// Whose word about a client's address is taken.
    pub(crate) fn proxies(&self) -> Result<TrustedProxies, SettingsError> {
        TrustedProxies::parse(&self.limit.trusted_proxies).map_err(|error| {
            SettingsError::unusable(
                "limit.trusted_proxies",
                error.to_string(),
                "list addresses or ranges, like [\"127.0.0.1\", \"10.0.0.0/8\"]",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default_with_an_origin() {
        let example: Settings = toml::from_str(EXAMPLE).unwrap();
        let expected = Settings {
            origin: "https://origin.example/".into(),
            ..Settings::default()
        };
        assert_eq!(example, expected);
        example.check().unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_key() {
        let refuse = |change: fn(&mut Settings)| {
            let mut settings: Settings = toml::from_str(EXAMPLE).unwrap();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(refuse(|s| s.origin.clear()).starts_with("setting `origin`: it is not set\n"));
        assert!(refuse(|s| s.origin = "ftp://x/".into()).starts_with("setting `origin`: it is"));
        let cluster = refuse(|s| s.redis = "redis+cluster://a:1/3".into());
        assert!(
            cluster.starts_with("setting `redis`: a Cluster has"),
            "{cluster}"
        );
        let ca = refuse(|s| {
            s.redis = "redis://a/".into();
            s.redis_ca_file = "/ca.pem".into();
        });
        assert!(
            ca.starts_with("setting `redis_ca_file`: the URL does not speak TLS"),
            "{ca}"
        );
        assert!(refuse(|s| s.limit.fleet = true).contains("no Redis to count in"));
        assert!(refuse(|s| s.hotlink.require_signed = true).contains("set hotlink.key_file"));
        assert!(refuse(|s| s.hotlink.sites = vec!["*".into()]).contains("`*` is no site"));
        assert!(
            refuse(|s| s.nodes.figures = Period(Duration::from_millis(1)))
                .contains("nodes.figures")
        );
        assert!(refuse(|s| s.tls.cert = "a".into()).contains("there is a certificate but no key"));
        assert!(refuse(|s| s.limit.trusted_proxies = vec!["x".into()]).contains("`x` is neither"));
        assert!(refuse(|s| s.nodes.ttl = Period::seconds(0)).contains("nodes.ttl"));
        assert!(
            refuse(|s| s.nodes.probe = Period(Duration::from_millis(1))).contains("nodes.probe")
        );
    }

    #[test]
    fn the_command_line_stands() {
        crate::PROGRAM.command::<Settings>().debug_assert();
    }
}
