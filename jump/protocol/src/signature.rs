//! Signed heartbeats: the token proves itself without travelling.
//!
//! `Tuyun-Signature: v1=` HMAC-SHA256(token, METHOD \n PATH \n TIME \n NONCE \n BODY), in hex, with
//! `Tuyun-Time` (unix seconds) and `Tuyun-Nonce` (32 hex) beside it. PATH is
//! [`UPDATE_PATH`](crate::UPDATE_PATH) whatever prefix a reverse proxy puts before it. A signature
//! counts within 300 s of its time; whoever verifies remembers nonces for that long.

use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::Token;

/// A value used once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(Box<str>);

/// A signature as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    time: u64,
    nonce: Nonce,
    mac: [u8; 32],
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// A header is missing or not what it should be.
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    /// Signed too long ago, or in the future.
    #[error("it was signed {0} s away from this machine's time, more than 300 s; check the clocks")]
    Time(u64),
}

impl Signature {
    /// The header with the time of signing.
    pub const TIME: &'static str = "tuyun-time";
    /// The header with the nonce.
    pub const NONCE: &'static str = "tuyun-nonce";
    /// The header with the signature itself.
    pub const SIGNATURE: &'static str = "tuyun-signature";
    /// How far the clocks of node and jump may be apart, and how long nonces are remembered.
    pub const WINDOW: Duration = Duration::from_mins(5);

    /// Signs a request.
    #[must_use]
    pub fn sign(
        token: &Token,
        method: &str,
        path: &str,
        time: u64,
        nonce: Nonce,
        body: &[u8],
    ) -> Self {
        let mac = mac(token, method, path, time, &nonce, body);
        Self { time, nonce, mac }
    }

    /// The headers that carry it, names in lower case.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let mut hex = String::from("v1=");
        for byte in self.mac {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        [
            (Self::TIME, self.time.to_string()),
            (Self::NONCE, self.nonce.0.to_string()),
            (Self::SIGNATURE, hex),
        ]
    }

    /// Reads the headers; `header` gives the value for a name in lower case. Without any of the
    /// three there is no signature: `Ok(None)`.
    ///
    /// # Errors
    /// When some are there and one is missing or malformed.
    pub fn from_headers<'a>(
        header: impl Fn(&'static str) -> Option<&'a str>,
    ) -> Result<Option<Self>, BadSignature> {
        let values = [Self::TIME, Self::NONCE, Self::SIGNATURE].map(&header);
        if values.iter().all(Option::is_none) {
            return Ok(None);
        }
        let [time, nonce, mac] = values;
        let time = time.and_then(|text| text.parse().ok());
        let nonce = nonce.and_then(Nonce::parse);
        let mac = mac.and_then(|text| unhex(text.strip_prefix("v1=")?));
        Ok(Some(Self {
            time: time.ok_or(BadSignature::Header(Self::TIME))?,
            nonce: nonce.ok_or(BadSignature::Header(Self::NONCE))?,
            mac: mac.ok_or(BadSignature::Header(Self::SIGNATURE))?,
        }))
    }

    /// Whether it was signed near enough to `now`, in unix seconds.
    ///
    /// # Errors
    /// When it was not, with the distance.
    pub fn check_time(&self, now: u64) -> Result<(), BadSignature> {
        let distance = self.time.abs_diff(now);
        if distance <= Self::WINDOW.as_secs() {
            Ok(())
        } else {
            Err(BadSignature::Time(distance))
        }
    }

    /// Whether this token signed this request, in constant time.
    #[must_use]
    pub fn fits(&self, token: &Token, method: &str, path: &str, body: &[u8]) -> bool {
        mac(token, method, path, self.time, &self.nonce, body)
            .ct_eq(&self.mac)
            .into()
    }

    /// The value that must not come again.
    #[must_use]
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }
}

impl Nonce {
    /// From 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: u128) -> Self {
        Self(format!("{bytes:032x}").into())
    }

    /// From 32 hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        whole.then(|| Self(text.into()))
    }

    /// The nonce as a number, the same however its digits were written.
    #[must_use]
    pub fn number(&self) -> u128 {
        // 32 hexadecimal digits always fit.
        u128::from_str_radix(&self.0, 16).unwrap_or_default()
    }
}

fn mac(token: &Token, method: &str, path: &str, time: u64, nonce: &Nonce, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.expose().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(format!("{method}\n{path}\n{time}\n{}\n", nonce.0).as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().into()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"server_id":"1","url":"https://a.example/"}"#;

    fn signed() -> Signature {
        let nonce = Nonce::from_random(7);
        Signature::sign(
            &Token::new("secret"),
            "POST",
            "/_api/update",
            1_700_000_000,
            nonce,
            BODY,
        )
    }

    fn travel(signature: &Signature) -> Result<Option<Signature>, BadSignature> {
        let headers = signature.headers();
        Signature::from_headers(|name| {
            headers
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.as_str())
        })
    }

    #[test]
    fn a_signature_arrives_as_it_was_sent_and_fits() {
        let arrived = travel(&signed()).unwrap().unwrap();
        assert_eq!(arrived, signed());
        assert!(arrived.fits(&Token::new("secret"), "POST", "/_api/update", BODY));
    }

    /// Made with: printf 'POST\n/_api/update\n1700000000\n00000000000000000000000000000007\n%s' BODY
    /// | openssl dgst -sha256 -hmac secret
    #[test]
    fn the_signature_is_the_one_that_other_tools_make() {
        let [.., (_, value)] = signed().headers();
        assert_eq!(value, format!("v1={EXPECTED}"));
    }

    const EXPECTED: &str = "d771b6e678b68b8c25c1fa1eaf6c87888ae5866e94fc893dcf9c51d3bcf7641f";

    #[test]
    fn nothing_signed_can_be_changed() {
        let signature = signed();
        let token = Token::new("secret");
        assert!(!signature.fits(&Token::new("other"), "POST", "/_api/update", BODY));
        assert!(!signature.fits(&token, "DELETE", "/_api/update", BODY));
        assert!(!signature.fits(&token, "POST", "/_api/other", BODY));
        assert!(!signature.fits(&token, "POST", "/_api/update", b"{}"));
        let later = Signature {
            time: signature.time + 1,
            ..signature.clone()
        };
        assert!(!later.fits(&token, "POST", "/_api/update", BODY));
        let again = Signature {
            nonce: Nonce::from_random(8),
            ..signature
        };
        assert!(!again.fits(&token, "POST", "/_api/update", BODY));
    }

    #[test]
    fn a_signature_counts_for_300_seconds_both_ways() {
        let signature = signed();
        assert_eq!(signature.check_time(1_700_000_300), Ok(()));
        assert_eq!(signature.check_time(1_699_999_700), Ok(()));
        assert_eq!(
            signature.check_time(1_700_000_301),
            Err(BadSignature::Time(301))
        );
        assert_eq!(
            signature.check_time(1_699_999_699),
            Err(BadSignature::Time(301))
        );
    }

    #[test]
    fn half_a_signature_is_malformed_and_none_is_none() {
        assert_eq!(Signature::from_headers(|_| None), Ok(None));
        let only = |name| (name == Signature::TIME).then_some("1");
        assert_eq!(
            Signature::from_headers(only),
            Err(BadSignature::Header(Signature::NONCE))
        );
        assert!(Nonce::parse("0123").is_none());
        assert!(Nonce::parse(&"+1".repeat(16)).is_none());
    }
}
