//! How an application proves that it is itself: not at all, by a secret, or by a certificate.
//!
//! Files are read whenever a proof is needed, about once an hour: a secret or a certificate that
//! was renewed in its place is used from then on, without a restart.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::SecretString;
use tuyun_chassis::settings::read_secret;

use super::assertion::{self, Claims};
use super::errors::TokenError;

/// What an application has to show.
#[derive(Clone, Debug, Default)]
pub enum Credential {
    /// Nothing: a public client, in which a person signs in.
    #[default]
    None,
    /// A secret.
    Secret(SecretString),
    /// A secret in a file of its own.
    SecretFile(PathBuf),
    /// A certificate that is registered with the application, and its key, both PEM.
    Certificate {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// What is shown in one request.
pub(super) enum Proof {
    /// Nothing.
    None,
    /// The secret itself.
    Secret(SecretString),
    /// A signed statement.
    Assertion(String),
}

impl Credential {
    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Reads what it names, so that a wrong file is found at the start.
    ///
    /// # Errors
    /// What a person has to put right.
    pub fn check(&self) -> Result<(), TokenError> {
        let claims = Claims::new("https://login.test/token", "check", SystemTime::now());
        self.prove(&claims).map(drop)
    }

    /// A proof for the one request that the claims are about.
    pub(super) fn prove(&self, claims: &Claims) -> Result<Proof, TokenError> {
        Ok(match self {
            Self::None => Proof::None,
            Self::Secret(secret) => Proof::Secret(secret.clone()),
            Self::SecretFile(path) => Proof::Secret(read_secret(path).map_err(|error| {
                TokenError::Configuration(format!("drive.client_secret_file: {}", chain(&error)))
            })?),
            Self::Certificate { certificate, key } => {
                Proof::Assertion(assertion::sign(&pair(certificate, key)?, claims)?)
            }
        })
    }

    /// The files that it is read from.
    pub(super) fn files(&self) -> [Option<&Path>; 2] {
        match self {
            Self::None | Self::Secret(_) => [None, None],
            Self::SecretFile(path) => [Some(path), None],
            Self::Certificate { certificate, key } => [Some(certificate), Some(key)],
        }
    }
}

/// A certificate with the key that belongs to it.
fn pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, TokenError> {
    let wrong = |setting: &str, path: &Path, what: &str| {
        TokenError::Configuration(format!("{setting}: {} {what}", path.display()))
    };
    let of_certificate = |what: &str| wrong("drive.client_certificate_file", certificate, what);
    let of_key = |what: &str| wrong("drive.client_key_file", key, what);
    let pem = std::fs::read(certificate)
        .map_err(|error| of_certificate(&format!("cannot be read: {error}")))?;
    let certificate = CertificateDer::from_pem_slice(&pem)
        .map_err(|_| of_certificate("holds no certificate in PEM form"))?;
    let pem = std::fs::read(key).map_err(|error| of_key(&format!("cannot be read: {error}")))?;
    // Nothing of the parser's own words: they are about a key.
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| of_key("holds no key in PEM form, or one that is encrypted"))?;
    let private = rustls::crypto::ring::sign::any_supported_type(&private)
        .map_err(|_| of_key("holds a key of a kind that cannot be used: it takes RSA"))?;
    let pair = CertifiedKey::new(vec![certificate.into_owned()], private);
    pair.keys_match().map_err(|_| {
        of_key("does not belong to the certificate of drive.client_certificate_file")
    })?;
    Ok(pair)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = include_str!("../../tests/data/client.pem");
    const KEY: &str = include_str!("../../tests/data/client.key");

    fn told(certificate: &str, key: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let credential = Credential::Certificate {
            certificate: at("c.pem", certificate),
            key: at("k.pem", key),
        };
        credential.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_certificate_and_its_key_are_checked_before_they_are_needed() {
        assert_eq!(told(CERTIFICATE, KEY), Ok(()));
        assert_eq!(told(&format!("{KEY}{CERTIFICATE}"), KEY), Ok(()));
        let other = rcgen::generate_simple_self_signed(["x".into()]).unwrap();
        let refused = told(CERTIFICATE, &other.signing_key.serialize_pem()).unwrap_err();
        assert!(refused.contains("does not belong"), "{refused}");
        let refused = told(&other.cert.pem(), &other.signing_key.serialize_pem()).unwrap_err();
        assert!(refused.contains("RSA"), "{refused}");
        for (certificate, key) in [
            ("", KEY),
            (KEY, KEY),
            (CERTIFICATE, ""),
            (CERTIFICATE, "secret"),
        ] {
            let refused = told(certificate, key).unwrap_err();
            assert!(
                refused.contains("PEM") && refused.contains("drive.client_"),
                "{refused}"
            );
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn a_secret_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let credential = Credential::SecretFile(path.clone());
        let refused = credential.check().unwrap_err().to_string();
        assert!(refused.contains("drive.client_secret_file"), "{refused}");
        let claims = Claims::new("a", "b", SystemTime::UNIX_EPOCH);
        for secret in ["one", "two"] {
            std::fs::write(&path, secret).unwrap();
            let Ok(Proof::Secret(read)) = credential.prove(&claims) else {
                panic!("a secret")
            };
            assert_eq!(secrecy::ExposeSecret::expose_secret(&read), secret);
        }
    }
}
