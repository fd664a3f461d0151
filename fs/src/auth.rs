//! Sign-in: getting a token, keeping it alive, and saying in time when it dies.
//!
//! A network failure is never taken for a revoked token: only the service's own `invalid_grant`
//! and its kin mean that a person has to sign in again (`graph-api.md` section 2.6, trap T25). The
//! stored token is never deleted, and a `login` while mounted is told over the control socket, or
//! noticed by its file.

mod assertion;
mod authenticator;
mod callback;
mod carrier;
mod credential;
mod current;
mod errors;
mod flows;
mod import;
mod keeper;
mod lifetime;
mod renewal;
mod state;
mod token;
mod wire;

pub use authenticator::Authenticator;
pub(crate) use carrier::plain;
pub use credential::Credential;
pub use errors::TokenError;
pub use flows::{Prompt, sign_in_browser, sign_in_device};
pub use import::{ImportError, Imported, import_rclone};
pub use keeper::keep;
pub use renewal::renewed;
pub use state::{AuthState, Standing};
pub use token::{StoredToken, TokenStore};

/// The name of Graph in the scopes of the global cloud, which may be left out there.
const GLOBAL: &str = "https://graph.microsoft.com";

/// Where and as what to sign in.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// The login authority, without a slash at the end.
    pub login_url: String,
    /// Graph, as the cloud's scopes name it: not where it is reached, which may be a proxy.
    pub resource: String,
    /// The tenant.
    pub tenant: String,
    /// The registered application.
    pub client_id: String,
    /// What it proves itself by, where it has to.
    pub credential: Credential,
    /// The application signs in for itself.
    pub app_only: bool,
    /// More trusted certificates, PEM.
    pub ca_pem: Option<Vec<u8>>,
}

impl AuthConfig {
    /// The scopes that are asked for: all that this program does, and to come back without a
    /// person (section 2.1). National clouds want the host named.
    #[must_use]
    pub fn scopes(&self) -> Vec<String> {
        let host = self.resource.trim_end_matches('/');
        if self.app_only {
            return vec![format!("{host}/.default")];
        }
        let files = match host {
            "" | GLOBAL => "Files.ReadWrite.All".to_owned(),
            national => format!("{national}/Files.ReadWrite.All"),
        };
        vec![files, "offline_access".to_owned()]
    }
}
