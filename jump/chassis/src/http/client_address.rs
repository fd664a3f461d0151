//! Who asks?
//!
//! The TCP peer; if that is a trusted proxy, the rightmost `X-Forwarded-For` entry that is not one.
//! From anybody else the header is ignored, since anybody can write it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::request::Parts;

use super::Problem;

/// The address a request is accounted to; an extractor once [`dress`](super::dress) is around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(pub IpAddr);

impl Client {
    /// What counts as one visitor: an IPv4 address, or the /64 that an IPv6 subscriber gets.
    #[must_use]
    pub fn key(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .copied()
            .ok_or_else(Problem::internal)
    }
}

/// A text that is neither an address nor a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a range like 10.0.0.0/8")]
pub struct BadProxy(String);

/// The proxies whose word about the client's address is taken.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    bits: u8,
}

impl TrustedProxies {
    /// Reads addresses (`10.0.0.1`) and ranges (`10.0.0.0/8`, `fd00::/8`).
    ///
    /// # Errors
    /// Names the first entry that is neither.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, BadProxy> {
        entries
            .iter()
            .map(|entry| entry.as_ref().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The client behind a peer that sent these headers.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let lines = headers.get_all("x-forwarded-for").iter();
        self.client_of(peer, lines.map(|line| line.to_str().unwrap_or("")))
    }

    /// The client behind a peer that sent these lines of `X-Forwarded-For`, in their order.
    pub fn client_of<'a>(
        &self,
        peer: IpAddr,
        lines: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Client {
        let mut client = peer.to_canonical();
        if self.contains(client) {
            for entry in lines.rev().flat_map(|line| line.rsplit(',')) {
                // What is no address was not written by our proxy: the chain of trust ends there.
                let Some(address) = read_entry(entry.trim()) else {
                    break;
                };
                client = address.to_canonical();
                if !self.contains(client) {
                    break;
                }
            }
        }
        Client(client)
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.bits))
                    .unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        let bad = || BadProxy(text.to_owned());
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let first: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| bad())?;
        if bits <= most {
            Ok(Self { first, bits })
        } else {
            Err(bad())
        }
    }
}

/// Proxies write `1.2.3.4`, some `1.2.3.4:5678`, `[2001:db8::1]` or `[2001:db8::1]:5678`.
fn read_entry(entry: &str) -> Option<IpAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(entry);
    bare.parse()
        .ok()
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Middleware: finds the client and leaves it in the request.
pub(super) async fn find(
    State(proxies): State<Arc<TrustedProxies>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        let client = proxies.client(peer.ip(), request.headers());
        request.extensions_mut().insert(client);
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        let proxies = TrustedProxies::parse(trusted).unwrap();
        proxies
            .client(peer.parse().unwrap(), &headers)
            .0
            .to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(client(&[], "198.51.100.7", &["1.1.1.1"]), "198.51.100.7");
        assert_eq!(
            client(&["10.0.0.0/8"], "198.51.100.7", &["1.1.1.1"]),
            "198.51.100.7"
        );
    }

    #[test]
    fn behind_trusted_proxies_the_rightmost_other_entry_counts() {
        let trusted = ["10.0.0.0/8", "203.0.113.5"];
        assert_eq!(
            client(&trusted, "10.0.0.1", &["1.1.1.1, 9.9.9.9"]),
            "9.9.9.9"
        );
        assert_eq!(
            client(&trusted, "10.0.0.1", &["1.1.1.1, 9.9.9.9, 203.0.113.5"]),
            "9.9.9.9"
        );
        assert_eq!(
            client(&trusted, "10.0.0.1", &["1.1.1.1", "9.9.9.9,10.2.3.4"]),
            "9.9.9.9"
        );
        assert_eq!(client(&trusted, "10.0.0.1", &["9.9.9.9:1234"]), "9.9.9.9");
        assert_eq!(
            client(&trusted, "10.0.0.1", &["[2001:db8::1]:80"]),
            "2001:db8::1"
        );
        assert_eq!(client(&trusted, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn an_entry_that_is_no_address_ends_the_chain() {
        assert_eq!(
            client(&["10.0.0.0/8"], "10.0.0.1", &["9.9.9.9, unknown"]),
            "10.0.0.1"
        );
        assert_eq!(
            client(&["10.0.0.0/8"], "10.0.0.1", &["9.9.9.9, unknown, 10.0.0.2"]),
            "10.0.0.2"
        );
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_maps() {
        assert_eq!(
            client(&["127.0.0.1"], "::ffff:127.0.0.1", &["9.9.9.9"]),
            "9.9.9.9"
        );
    }

    #[test]
    fn ipv6_is_counted_by_its_first_64_bits() {
        let key = |text: &str| Client(text.parse().unwrap()).key();
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for odd in ["example.com", "10.0.0.0/33", "10.0.0.0/x", ""] {
            assert_eq!(
                TrustedProxies::parse(&[odd]).unwrap_err(),
                BadProxy(odd.into())
            );
        }
        assert!(TrustedProxies::parse(&["0.0.0.0/0", "::/0"]).is_ok());
    }
}
