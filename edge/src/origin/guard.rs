//! Where a redirect may lead: the bases themselves, and addresses that everybody can reach.
//!
//! The origin's word is believed for pictures, not for making this node ask its router or its
//! neighbours. A name is checked by what it resolves to, at the moment of connecting.

use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tuyun_protocol::{Base, is_global};
use url::{Host, Url};

/// Whether a URL points at one of the bases: same host, same port.
pub(super) fn is_home<'a>(url: &Url, mut bases: impl Iterator<Item = &'a Base>) -> bool {
    let end = |url: &Url| {
        (
            url.host().map(|host| host.to_owned()),
            url.port_or_known_default(),
        )
    };
    bases.any(|base| end(base.url()) == end(url))
}

/// Whether a redirect to a foreign host may be followed, as far as its text tells.
pub(super) fn may_lead_to(url: &Url) -> bool {
    let plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none();
    plain
        && match url.host() {
            Some(Host::Ipv4(address)) => is_global(address.into()),
            Some(Host::Ipv6(address)) => is_global(address.into()),
            // Its addresses are looked at by the resolver.
            Some(Host::Domain(_)) => true,
            None => false,
        }
}

/// Resolves names to global addresses only.
pub(super) struct GlobalOnly;

impl Resolve for GlobalOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let global: Vec<SocketAddr> = found.filter(|found| is_global(found.ip())).collect();
            if global.is_empty() {
                let error = io::Error::other("a redirect to an address that is not global");
                return Err(error.into());
            }
            Ok(Box::new(global.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn private_addresses_are_no_place_to_go() {
        for text in [
            "http://127.0.0.1/",
            "http://192.168.1.1/",
            "http://[::1]/",
            "http://169.254.169.254/",
        ] {
            assert!(!may_lead_to(&url(text)), "{text}");
        }
        assert!(may_lead_to(&url("https://1.1.1.1/a")));
        assert!(may_lead_to(&url("https://example.com/a")));
    }

    #[test]
    fn other_schemes_and_credentials_are_not_followed() {
        assert!(!may_lead_to(&url("ftp://example.com/")));
        assert!(!may_lead_to(&url("file:///etc/passwd")));
        assert!(!may_lead_to(&url("https://a:b@example.com/")));
    }

    #[test]
    fn home_is_the_same_host_and_port() {
        let bases = [Base::parse("http://10.0.0.1:7200/").expect("a base")];
        assert!(is_home(
            &url("http://10.0.0.1:7200/elsewhere"),
            bases.iter()
        ));
        assert!(!is_home(&url("http://10.0.0.1/"), bases.iter()));
        assert!(!is_home(&url("http://10.0.0.2:7200/"), bases.iter()));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_resolves_to_nothing() {
        let name = "localhost".parse().expect("a name");
        assert!(GlobalOnly.resolve(name).await.is_err());
    }
}
