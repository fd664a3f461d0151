//! Where is a visitor?
//!
//! Looked up by address: first in a table of ranges that the operator keeps, then in a database in
//! `MaxMind`'s format. Both are in memory. Whoever is in neither is nowhere, and goes wherever the policy
//! says.

use std::net::IpAddr;
use std::path::Path;

use arc_swap::ArcSwap;
use ipnet::{Ipv4Net, Ipv6Net};
use maxminddb::Reader;
use prefix_trie::PrefixMap;
use serde::Deserialize;
use tuyun_protocol::Labels;

use crate::fresh::Fresh;

/// The largest file that is taken into memory: city databases have 130 MB.
const MOST_BYTES: u64 = 512 << 20;

/// What is known of addresses.
#[derive(Default)]
pub struct Atlas {
    table: Option<Fresh<Ranges>>,
    database: Option<Fresh<Database>>,
}

/// Ranges of addresses, and where they are.
#[derive(Debug, Default)]
pub struct Ranges {
    v4: PrefixMap<Ipv4Net, Labels>,
    v6: PrefixMap<Ipv6Net, Labels>,
}

/// A database in `MaxMind`'s format.
pub struct Database(Reader<Vec<u8>>);

/// Why a file says nothing about addresses.
#[derive(Debug, thiserror::Error)]
pub enum BadAtlas {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is larger than anything of its kind.
    #[error("it is larger than {} MiB", MOST_BYTES >> 20)]
    TooLarge,
    /// A line is none.
    #[error(
        "line {0} is not `range,isp,province,country`, such as 1.2.0.0/16,telecom,guangdong,cn"
    )]
    Line(usize),
    /// It is no database.
    #[error("it is not a MaxMind database: {0}")]
    Format(#[from] maxminddb::MaxMindDbError),
}

impl Atlas {
    /// An atlas of these, where they are there.
    #[must_use]
    pub fn new(table: Option<Fresh<Ranges>>, database: Option<Fresh<Database>>) -> Self {
        Self { table, database }
    }

    /// Whether nothing can be found at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_none() && self.database.is_none()
    }

    /// Where an address is, as far as that is known.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Labels {
        let table = self.table.as_deref().map(ArcSwap::load);
        let written = table.map(|ranges| ranges.find(address)).unwrap_or_default();
        let database = self.database.as_deref().map(ArcSwap::load);
        let known = database.map(|database| database.find(address));
        written.or(known.unwrap_or_default())
    }
}

impl Ranges {
    /// Reads a table from its file.
    ///
    /// # Errors
    /// When it cannot be read or a line is none.
    pub fn read(path: &Path) -> Result<Self, BadAtlas> {
        Self::parse(&String::from_utf8_lossy(&whole(path)?))
    }

    /// Reads lines of `range,isp,province,country`; blank ones and those that begin with `#` are
    /// passed over. Of several ranges around an address the narrowest counts.
    ///
    /// # Errors
    /// Names the first line that is none.
    pub fn parse(text: &str) -> Result<Self, BadAtlas> {
        let mut ranges = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || BadAtlas::Line(index + 1);
            let mut parts = line.split(',').map(str::trim);
            let range = parts.next().unwrap_or_default();
            let mut label = || parts.next().unwrap_or_default();
            let labels = Labels::new(label(), label(), label());
            if labels.is_empty() || parts.next().is_some() {
                return Err(bad());
            }
            ranges.put(range, labels).ok_or_else(bad)?;
        }
        Ok(ranges)
    }

    fn put(&mut self, range: &str, labels: Labels) -> Option<()> {
        let net = match range.parse() {
            Ok(net) => net,
            Err(_) => ipnet::IpNet::from(range.parse::<IpAddr>().ok()?),
        };
        match net {
            ipnet::IpNet::V4(net) => self.v4.insert(net, labels),
            ipnet::IpNet::V6(net) => self.v6.insert(net, labels),
        };
        Some(())
    }

    fn find(&self, address: IpAddr) -> Labels {
        let found = match address {
            IpAddr::V4(address) => self.v4.get_lpm(&address.into()).map(|(_, labels)| labels),
            IpAddr::V6(address) => self.v6.get_lpm(&address.into()).map(|(_, labels)| labels),
        };
        found.cloned().unwrap_or_default()
    }
}

impl Database {
    /// Reads a database from its file.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self, BadAtlas> {
        Ok(Self(Reader::from_source(whole(path)?)?))
    }

    /// Countries are ISO codes; provinces are the code and, failing that, the English name; providers
    /// are whatever the database calls them.
    fn find(&self, address: IpAddr) -> Labels {
        let found = self
            .0
            .lookup(address)
            .and_then(|found| found.decode::<Record<'_>>());
        let Ok(Some(record)) = found else {
            return Labels::default();
        };
        let province = record.subdivisions.first();
        let province = province.and_then(|it| it.iso_code.or(it.names.en));
        let isp = record.isp.or(record.traits.isp).or(record.organization);
        Labels::new(
            isp.or(record.autonomous_system_organization)
                .unwrap_or_default(),
            province.unwrap_or_default(),
            record.country.iso_code.unwrap_or_default(),
        )
    }
}

/// What databases of cities, countries, providers and systems have, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Record<'a> {
    country: Region<'a>,
    subdivisions: Vec<Region<'a>>,
    traits: Traits<'a>,
    isp: Option<&'a str>,
    organization: Option<&'a str>,
    autonomous_system_organization: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Region<'a> {
    iso_code: Option<&'a str>,
    names: Names<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Names<'a> {
    en: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Traits<'a> {
    isp: Option<&'a str>,
}

fn whole(path: &Path) -> Result<Vec<u8>, BadAtlas> {
    if std::fs::metadata(path)?.len() > MOST_BYTES {
        return Err(BadAtlas::TooLarge);
    }
    Ok(std::fs::read(path)?)
}

#[cfg(test)]
mod tests;
