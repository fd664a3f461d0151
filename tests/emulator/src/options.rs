//! How an emulator is started.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::{profile::Profile, settings::Settings};

/// The confidential client that is registered unless the options say otherwise.
pub const CONFIDENTIAL_CLIENT: &str = "7f0f0a60-2c0b-4d3e-9a5e-6d1b5f6f2c11";
/// Its secret.
pub const CONFIDENTIAL_SECRET: &str = "emulated~secret";

/// A client that is registered. Any other client id is taken for a public client whose redirect is
/// `http://localhost`.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client id.
    pub id: String,
    /// The secret of a confidential client; none for a public one.
    pub secret: Option<String>,
    /// The certificate (PEM) of a client that proves itself by signed statements.
    pub certificate: Option<String>,
    /// The registered redirect URIs; the port of `localhost` is ignored.
    pub redirects: Vec<String>,
}

/// Where the emulator listens.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// The sign-in host.
    pub login: SocketAddr,
    /// The API host.
    pub graph: SocketAddr,
    /// The storage host.
    pub storage: SocketAddr,
    /// The control interface, always plain HTTP.
    pub control: SocketAddr,
    /// One address for all three hosts under their public names, told apart by the `Host` header.
    /// The three addresses above are then not used.
    pub public: Option<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            login: any,
            graph: any,
            storage: any,
            control: any,
            public: None,
        }
    }
}

/// All that is decided before the start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which OneDrive.
    pub profile: Profile,
    /// HTTPS with the emulator's own authority; otherwise plain HTTP.
    pub tls: bool,
    /// The addresses.
    pub listen: Listen,
    /// Where the authority's certificate is written, if anywhere.
    pub ca_out: Option<PathBuf>,
    /// The registered clients.
    pub clients: Vec<Client>,
    /// What may be turned later.
    pub settings: Settings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            tls: false,
            listen: Listen::default(),
            ca_out: None,
            clients: vec![Client {
                id: CONFIDENTIAL_CLIENT.to_owned(),
                secret: Some(CONFIDENTIAL_SECRET.to_owned()),
                certificate: None,
                redirects: vec!["http://localhost".to_owned()],
            }],
            settings: Settings::default(),
        }
    }
}

impl Options {
    /// Plain HTTP on free ports of the loopback.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            ..Self::default()
        }
    }

    /// The same with HTTPS.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Changes the settings it starts with.
    #[must_use]
    pub fn adjusted(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }
}
