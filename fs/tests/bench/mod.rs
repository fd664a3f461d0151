//! An emulated service, and what is needed to sign in to it.

use std::sync::Arc;
use std::time::SystemTime;

use graph_emulator::{Emulator, Options, Profile, Running, Settings};
use tempfile::TempDir;
use tuyunfs::auth::{AuthConfig, Authenticator, StoredToken, TokenStore};

/// The application that tests sign in as.
pub(crate) const CLIENT: &str = "00000000-aaaa-bbbb-cccc-000000000001";

/// An emulated service, and a state directory.
pub(crate) struct Bench {
    pub(crate) service: Running,
    pub(crate) dir: TempDir,
    pub(crate) config: AuthConfig,
}

impl Bench {
    pub(crate) async fn start(profile: Profile, adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with(profile, |options| adjust(&mut options.settings)).await
    }

    pub(crate) async fn start_with(profile: Profile, adjust: impl FnOnce(&mut Options)) -> Self {
        // Whoever comes first installs it, for all tests of the process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut options = Options::new(profile);
        adjust(&mut options);
        let service = Emulator::start(options).await.unwrap();
        let config = AuthConfig {
            login_url: service.login_url().to_owned(),
            resource: "https://graph.microsoft.com".into(),
            tenant: "common".into(),
            client_id: CLIENT.into(),
            ..AuthConfig::default()
        };
        Self {
            service,
            dir: tempfile::tempdir().unwrap(),
            config,
        }
    }

    pub(crate) fn store(&self) -> TokenStore {
        TokenStore::in_dir(self.dir.path())
    }

    /// A token that has ended and can be renewed.
    pub(crate) fn ended_token(&self) -> StoredToken {
        let pair = self.service.issue_token(CLIENT);
        StoredToken {
            login_url: self.service.login_url().to_owned(),
            tenant: "common".into(),
            client_id: CLIENT.into(),
            client_secret: None,
            scope: "Files.ReadWrite.All offline_access".into(),
            refresh_token: pair.refresh_token.into(),
            access_token: pair.access_token.into(),
            expires_at: SystemTime::UNIX_EPOCH,
            refreshed_at: SystemTime::now(),
            told_end: None,
        }
    }

    /// Signed in, by a token that has to be renewed before it is used.
    pub(crate) fn signed_in(&self) -> Arc<Authenticator> {
        self.store().save(&self.ended_token()).unwrap();
        Authenticator::new(self.config.clone(), self.store()).unwrap()
    }
}
