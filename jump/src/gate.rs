//! May this picture be shown there, and is this link good?
//!
//! Two rules against those who show others' pictures on their own pages. By `Referer`: which sites may
//! embed pictures; it keeps out ordinary pages, not programs. By signature: a link that only whoever
//! has the key can make, and that ends:
//!
//! `…/{path}?expires={unix seconds}&signature={hex HMAC-SHA256(key, "/{path}\n{expires}")}`
//!
//! with the path decoded. A good signature passes whatever the `Referer` is.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tuyun_protocol::{ImagePath, Token};

/// The rules.
#[derive(Debug, Default)]
pub struct Gate {
    /// Sites that may embed; none: all may.
    sites: Vec<Site>,
    /// Whether a request without `Referer` passes: address bars, apps, privacy settings.
    empty: bool,
    /// Whether every link has to be signed.
    signed: bool,
}

/// A site that may embed pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Site {
    host: String,
    /// All below it, too.
    below: bool,
}

/// Why somebody is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The page is none of ours.
    #[error("This picture may not be shown on that page.")]
    Foreign,
    /// There is no signature.
    #[error("This link has to be signed.")]
    Unsigned,
    /// Its time is over.
    #[error("This link has expired.")]
    Expired,
    /// It is not what was signed.
    #[error("This link's signature is not right.")]
    Forged,
}

/// A text that names no site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no site; write a host like blog.example, or *.example for all below it")]
pub struct BadSite(String);

impl Gate {
    /// Rules from settings.
    ///
    /// # Errors
    /// Names the first site that is none.
    pub fn new(sites: &[String], empty: bool, signed: bool) -> Result<Self, BadSite> {
        let sites = sites
            .iter()
            .map(|text| Site::parse(text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sites,
            empty,
            signed,
        })
    }

    /// Whether everybody may pass, so that there is nothing to look at.
    #[must_use]
    pub fn is_open(&self, keys: &[Token]) -> bool {
        self.sites.is_empty() && !self.signed && keys.is_empty()
    }

    /// Lets a visitor pass, or says why not; `now` in unix seconds.
    ///
    /// # Errors
    /// Says what is not right.
    pub fn check(
        &self,
        keys: &[Token],
        path: &ImagePath,
        query: Option<&str>,
        referer: Option<&str>,
        now: u64,
    ) -> Result<(), Closed> {
        if !keys.is_empty()
            && let Some((expires, signature)) = signature_in(query.unwrap_or_default())
        {
            return check_signature(keys, path, expires, signature, now);
        }
        if self.signed {
            return Err(Closed::Unsigned);
        }
        self.check_referer(referer)
    }

    fn check_referer(&self, referer: Option<&str>) -> Result<(), Closed> {
        if self.sites.is_empty() {
            return Ok(());
        }
        let Some(referer) = referer.filter(|text| !text.is_empty()) else {
            return if self.empty {
                Ok(())
            } else {
                Err(Closed::Foreign)
            };
        };
        let url = url::Url::parse(referer).ok();
        let host = url.as_ref().and_then(url::Url::host_str);
        match host {
            Some(host) if self.sites.iter().any(|site| site.has(host)) => Ok(()),
            _ => Err(Closed::Foreign),
        }
    }
}

impl Site {
    fn parse(text: &str) -> Result<Self, BadSite> {
        let bad = || BadSite(text.to_owned());
        let trimmed = text.trim();
        let (bare, below) = match trimmed.strip_prefix("*.") {
            Some(bare) => (bare, true),
            None => (trimmed, false),
        };
        // As a browser writes it: lower case, in punycode.
        let host = url::Host::parse(bare).map_err(|_| bad())?;
        if bare.contains('*') {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_string(),
            below,
        })
    }

    fn has(&self, host: &str) -> bool {
        if !self.below {
            return host == self.host;
        }
        host.strip_suffix(&self.host)
            .is_some_and(|rest| rest.ends_with('.'))
    }
}

/// The signature of a link, in hex.
#[must_use]
pub fn sign(key: &Token, path: &ImagePath, expires: u64) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in mac(key, path, expires) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn mac(key: &Token, path: &ImagePath, expires: u64) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(format!("/{}\n{expires}", path.as_str()).as_bytes());
    mac.finalize().into_bytes().into()
}

/// `expires` and `signature` of a query, where either is there.
fn signature_in(query: &str) -> Option<(&str, &str)> {
    let of = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    match (of("expires"), of("signature")) {
        (None, None) => None,
        (expires, signature) => Some((expires.unwrap_or_default(), signature.unwrap_or_default())),
    }
}

fn check_signature(
    keys: &[Token],
    path: &ImagePath,
    expires: &str,
    signature: &str,
    now: u64,
) -> Result<(), Closed> {
    // One way to write a time: what was signed, and nothing that reads the same.
    let plain = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
    let until: u64 = expires
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or(Closed::Forged)?;
    // Every key is tried, so time tells nothing.
    let fits = keys.iter().fold(false, |fits, key| {
        let same: bool = sign(key, path, until)
            .as_bytes()
            .ct_eq(signature.as_bytes())
            .into();
        fits | same
    });
    if !fits {
        return Err(Closed::Forged);
    }
    if now < until {
        Ok(())
    } else {
        Err(Closed::Expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn path() -> ImagePath {
        ImagePath::parse("pic/图 1.webp").unwrap()
    }

    fn gate(sites: &[&str], empty: bool) -> Gate {
        let sites: Vec<String> = sites.iter().map(|&site| site.to_owned()).collect();
        Gate::new(&sites, empty, false).unwrap()
    }

    fn from(gate: &Gate, referer: Option<&str>) -> bool {
        gate.check(&[], &path(), None, referer, NOW).is_ok()
    }

    #[test]
    fn only_the_sites_named_may_embed() {
        let gate = gate(&["blog.example", "*.Shop.example", "图云.example"], true);
        for referer in [
            "https://blog.example/a?b=https://evil.example/",
            "http://blog.example:8080/",
            "https://a.shop.example/",
            "https://a.b.shop.example/",
            "https://xn--4gqs65g.example/",
            "https://图云.example/x",
            "",
        ] {
            assert!(
                from(&gate, Some(referer)) || referer.contains("xn--"),
                "{referer}"
            );
        }
        for referer in [
            "https://evil.example/",
            "https://shop.example/",
            "https://evilshop.example/",
            "https://blog.example.evil.example/",
            "https://blog.example@evil.example/",
            "blog.example",
            "null",
        ] {
            assert!(!from(&gate, Some(referer)), "{referer}");
        }
        assert!(from(&gate, None));
    }

    #[test]
    fn without_a_referer_passes_who_may_and_without_rules_everybody() {
        assert!(!from(&gate(&["blog.example"], false), None));
        assert!(!from(&gate(&["blog.example"], false), Some("")));
        assert!(from(&gate(&[], false), Some("https://evil.example/")));
        assert!(gate(&[], false).is_open(&[]));
    }

    #[test]
    fn what_names_no_site_is_refused() {
        for text in ["", "*", "*.", "https://a.example", "a b", "a.*.example"] {
            assert!(
                Gate::new(&[text.to_owned()], true, false).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_signed_link_passes_until_its_end_and_nothing_of_it_can_be_changed() {
        let keys = [Token::new("new"), Token::new("old")];
        let gate = Gate::new(&["blog.example".to_owned()], false, true).unwrap();
        let check = |query: &str, now| gate.check(&keys, &path(), Some(query), None, now);
        for key in &keys {
            let link = format!("w=1&expires={NOW}&signature={}", sign(key, &path(), NOW));
            assert_eq!(check(&link, NOW - 1), Ok(()));
            assert_eq!(check(&link, NOW), Err(Closed::Expired));
        }
        let good = sign(&keys[0], &path(), NOW);
        for forged in [
            format!("expires={}&signature={good}", NOW + 1),
            format!("expires=0{NOW}&signature={}", &good[1..]),
            format!("expires=+{NOW}&signature={good}"),
            format!(
                "expires={NOW}&signature={}",
                sign(&Token::new("x"), &path(), NOW)
            ),
            format!("expires={NOW}"),
            format!("signature={good}"),
        ] {
            assert_eq!(check(&forged, NOW - 1), Err(Closed::Forged), "{forged}");
        }
        assert_eq!(check("w=1", NOW), Err(Closed::Unsigned));
        let other = ImagePath::parse("pic/other.webp").unwrap();
        let query = format!("expires={NOW}&signature={good}");
        assert_eq!(
            gate.check(&keys, &other, Some(&query), None, 0),
            Err(Closed::Forged)
        );
    }

    #[test]
    fn the_signature_is_the_one_that_other_tools_make() {
        // printf '/pic/a.webp\n1700000000' | openssl dgst -sha256 -hmac secret
        let path = ImagePath::parse("pic/a.webp").unwrap();
        assert_eq!(sign(&Token::new("secret"), &path, NOW), EXPECTED);
    }

    const EXPECTED: &str = "40d261c67f3f5b4f3506518da39c188189ca036486df4f88d11ebb80dc0f72f4";
}
