//! A client that proves itself by a signed statement in place of a secret: RFC 7523, as the
//! service takes it.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rustls::{
    SignatureScheme,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The kind of statement that is taken.
const JWT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A statement is good for so long at most.
const LONGEST_LIFE: i64 = 24 * 3600;

/// What a statement is checked against.
pub(super) struct Expected<'a> {
    /// The client's certificate, PEM.
    pub(super) certificate: &'a str,
    pub(super) client: &'a str,
    /// The token endpoint.
    pub(super) audience: &'a str,
    pub(super) now: Timestamp,
}

/// The statement's own id, when it is one of the client's and for this endpoint; else what is
/// wrong with it.
pub(super) fn check(
    form: &HashMap<String, String>,
    expected: &Expected<'_>,
) -> Result<String, &'static str> {
    if form.get("client_assertion_type").map(String::as_str) != Some(JWT) {
        return Err("The client_assertion_type is not supported.");
    }
    let text = form.get("client_assertion").ok_or("It is missing.")?;
    let (signed, signature) = text.rsplit_once('.').ok_or("It is no JWT.")?;
    let (header, claims) = signed.split_once('.').ok_or("It is no JWT.")?;
    let (header, claims) = (json(header)?, json(claims)?);
    let certificate = CertificateDer::from_pem_slice(expected.certificate.as_bytes())
        .map_err(|_| "The client has no certificate.")?;
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate));
    if header["x5t#S256"] != thumbprint {
        return Err("No key of the client has this thumbprint.");
    }
    let scheme = match header["alg"].as_str() {
        Some("PS256") => SignatureScheme::RSA_PSS_SHA256,
        Some("RS256") => SignatureScheme::RSA_PKCS1_SHA256,
        _ => return Err("The alg is not supported."),
    };
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| "It is no JWT.")?;
    let party = webpki::EndEntityCert::try_from(&certificate)
        .map_err(|_| "The client's certificate cannot be read.")?;
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let mut fitting = algorithms.mapping.iter().filter(|(of, _)| *of == scheme);
    let verified = fitting.any(|(_, algorithms)| {
        let mut algorithms = algorithms.iter();
        algorithms.any(|each| {
            party
                .verify_signature(*each, signed.as_bytes(), &signature)
                .is_ok()
        })
    });
    if !verified {
        return Err("Its signature is invalid.");
    }
    if claims["aud"] != expected.audience {
        return Err("Its audience is another endpoint.");
    }
    if claims["iss"] != expected.client || claims["sub"] != expected.client {
        return Err("It is about another client.");
    }
    let now = expected.now.as_second();
    let at = |name: &str| claims[name].as_i64();
    let (Some(from), Some(until)) = (at("nbf"), at("exp")) else {
        return Err("It is not limited in time.");
    };
    if now < from || now >= until || until - now > LONGEST_LIFE {
        return Err("It is not within its valid time range.");
    }
    let id = claims["jti"].as_str().filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or("It has no jti.")
}

fn json(part: &str) -> Result<Value, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| "It is no JWT.")?;
    serde_json::from_slice(&bytes).map_err(|_| "It is no JWT.")
}
