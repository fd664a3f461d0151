//! Sign-in: getting a token, keeping it alive, and saying in time when it dies.
//!
//! A network failure is never taken for a revoked token: only the service's own `invalid_grant`
//! and its kin mean that a person has to sign in again (`graph-api.md` section 2.6, trap T25). The
//! stored token is never deleted, and a `login` while mounted is noticed by its file.

mod authenticator;
mod callback;
mod errors;
mod flows;
mod import;
mod renewal;
mod token;
mod wire;

pub use authenticator::{AuthState, Authenticator};
pub use errors::TokenError;
pub use flows::{Prompt, sign_in_browser, sign_in_device};
pub use import::{ImportError, Imported, import_rclone};
pub use renewal::renewed;
pub use token::{StoredToken, TokenStore};
pub(crate) use wire::plain;

use secrecy::SecretString;

/// Where and as what to sign in.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// The login authority, without a slash at the end.
    pub login_url: String,
    /// Graph, which scopes may have to name.
    pub graph_url: String,
    /// The tenant.
    pub tenant: String,
    /// The registered application.
    pub client_id: String,
    /// Its secret, where it has one.
    pub client_secret: Option<SecretString>,
    /// The application signs in for itself, by its secret.
    pub app_only: bool,
    /// More trusted certificates, PEM.
    pub ca_pem: Option<Vec<u8>>,
}

impl AuthConfig {
    /// The scopes that are asked for: all that this program does, and to come back without a
    /// person (section 2.1). National clouds want the host named.
    #[must_use]
    pub fn scopes(&self) -> Vec<String> {
        let host = self.graph_url.trim_end_matches('/');
        if self.app_only {
            return vec![format!("{host}/.default")];
        }
        let national = [".us", ".cn"].iter().any(|end| host.ends_with(end));
        let files = if national {
            format!("{host}/Files.ReadWrite.All")
        } else {
            "Files.ReadWrite.All".to_owned()
        };
        vec![files, "offline_access".to_owned()]
    }
}
