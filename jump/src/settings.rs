//! The settings of `tuyun-jump`, and which of them cannot work.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tuyun_chassis::exit::Failure;
use tuyun_chassis::http::{TlsFiles, TrustedProxies};
use tuyun_chassis::settings::{Period, SettingsError, Spec};
use tuyun_protocol::Base;

use crate::choose::Policy;
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
    /// `Access-Control-Allow-Origin` on redirects; empty: none.
    pub allow_origin: String,
    /// The public listener's certificate.
    pub tls: Tls,
    /// The nodes.
    pub nodes: Nodes,
    /// How much one address may ask.
    pub limit: Limit,
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
    /// By the nodes' weights.
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
    /// Whether nodes may have addresses that are not global.
    pub allow_private: bool,
}

/// `[limit]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// Redirects per second and address; zero: no limit.
    pub redirect_per_second: u32,
    /// Heartbeats per second and address; zero: no limit.
    pub update_per_second: u32,
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
            allow_origin: "*".into(),
            tls: Tls::default(),
            nodes: Nodes::default(),
            limit: Limit::default(),
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
            allow_private: false,
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            redirect_per_second: 30,
            update_per_second: 5,
            trusted_proxies: Vec::new(),
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
        self.policy()?;
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
        Ok(())
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
    pub(crate) fn policy(&self) -> Result<Policy, SettingsError> {
        match self.policy {
            PolicyName::Priority => Ok(Policy::Priority),
            PolicyName::Affinity => Ok(Policy::Affinity),
            PolicyName::Weighted => Err(SettingsError::unusable(
                "policy",
                "\"weighted\" is not available in this version",
                "set it to \"priority\" or \"affinity\"",
            )),
        }
    }

    /// Where leases are kept; `None`: in memory.
    pub(crate) fn redis(&self) -> Result<Option<Place>, SettingsError> {
        if self.redis.is_empty() {
            return Ok(None);
        }
        let wrong = |problem: String| {
            let advice =
                "write it like \"redis://127.0.0.1:6379/\" or \"rediss://:password@host:6379/2\"";
            SettingsError::unusable("redis", problem, advice)
        };
        Place::parse(&self.redis).map(Some).map_err(wrong)
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
        let weighted = refuse(|s| s.policy = PolicyName::Weighted);
        assert!(weighted.starts_with("setting `policy`: \"weighted\" is not available"));
        let cluster = refuse(|s| s.redis = "redis+cluster://a:1/".into());
        assert!(cluster.starts_with("setting `redis`: "), "{cluster}");
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
