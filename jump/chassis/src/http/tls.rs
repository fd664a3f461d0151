//! Certificates from files, taken anew when the files change.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use tokio_util::sync::CancellationToken;

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, our own certificate first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// From the settings `cert` and `key`: both or neither. `None` is plain HTTP.
    ///
    /// # Errors
    /// When only one of them is set; the text says which one is missing.
    pub fn from_settings(cert: &str, key: &str) -> Result<Option<Self>, &'static str> {
        match (cert.is_empty(), key.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(Self {
                cert: cert.into(),
                key: key.into(),
            })),
            (false, true) => Err("there is a certificate but no key"),
            (true, false) => Err("there is a key but no certificate"),
        }
    }

    pub(super) async fn load(&self) -> io::Result<RustlsConfig> {
        RustlsConfig::from_pem_file(&self.cert, &self.key).await
    }

    /// Replaces the certificate when its files have changed, looking `every` so often, until `stop`.
    pub(super) async fn follow(
        self,
        config: RustlsConfig,
        every: Duration,
        stop: CancellationToken,
    ) {
        let mut held = self.state();
        while stop
            .run_until_cancelled(tokio::time::sleep(every))
            .await
            .is_some()
        {
            let seen = self.state();
            if seen == held || seen.iter().any(Option::is_none) {
                continue;
            }
            match config.reload_from_pem_file(&self.cert, &self.key).await {
                Ok(()) => {
                    held = seen;
                    tracing::info!(cert = %self.cert.display(), "took the new certificate");
                }
                // Half written, perhaps: the next look tries again, the old one still serves.
                Err(error) => tracing::warn!(
                    %error,
                    cert = %self.cert.display(),
                    "cannot use the new certificate, keeping the old one"
                ),
            }
        }
    }

    fn state(&self) -> [Option<(SystemTime, u64)>; 2] {
        let look = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        [look(&self.cert), look(&self.key)]
    }
}
