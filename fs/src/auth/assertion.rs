//! The signed statement by which an application with a certificate proves that it is itself:
//! a JWT of our own making for one request (`graph-api.md` section 2.5).

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::errors::TokenError;

/// How long a statement is good for: one request and its tries take a minute, and clocks differ.
const LIFE: Duration = Duration::from_mins(5);

/// It begins so much earlier, for an authority whose clock is behind ours.
const BEHIND: Duration = Duration::from_mins(1);

/// What is stated.
pub(super) struct Claims {
    audience: String,
    client: String,
    now: u64,
}

impl Claims {
    /// That the application `client` speaks to the token endpoint `audience`.
    pub(super) fn new(audience: &str, client: &str, now: SystemTime) -> Self {
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            audience: audience.to_owned(),
            client: client.to_owned(),
            now: now.unwrap_or_default().as_secs(),
        }
    }
}

/// Signs with RSASSA-PSS over SHA-256, which the service prefers to the older PKCS 1.
pub(super) fn sign(pair: &CertifiedKey, claims: &Claims) -> Result<String, TokenError> {
    let failed = |what: String| TokenError::Configuration(format!("drive.client_key_file: {what}"));
    let certificate = pair
        .end_entity_cert()
        .map_err(|error| failed(error.to_string()))?;
    let header = json!({
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": URL_SAFE_NO_PAD.encode(Sha256::digest(certificate)),
    });
    let body = json!({
        "aud": claims.audience,
        "iss": claims.client,
        "sub": claims.client,
        // Told apart from every other, so that none can be used twice.
        "jti": format!("{:032x}", rand::random::<u128>()),
        "nbf": claims.now.saturating_sub(BEHIND.as_secs()),
        "exp": claims.now + LIFE.as_secs(),
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(&body));
    let signer = pair
        .key
        .choose_scheme(&[SignatureScheme::RSA_PSS_SHA256])
        .ok_or_else(|| failed("the key is of a kind that cannot be used: it takes RSA".into()))?;
    let signature = signer
        .sign(text.as_bytes())
        .map_err(|error| failed(format!("cannot sign: {error}")))?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
