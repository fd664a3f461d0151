//! Leases in Redis, as the originals keep them: `jump_{id}` = url, with a life.
//!
//! Beside each stands `tuyun:node:{id}` with what originals do not know. It counts only while its
//! url is the one under `jump_{id}`: if not, an original has written that since. A node that
//! visitors have not been shown to reach stands under `tuyun:node:{id}` alone, so that originals on
//! the same Redis send nobody there.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tuyun_protocol::{Base, NodeId};

use super::{Registry, RegistryError};
use crate::roster::{Kind, Lease, MOST_NODES};

/// The database that the originals use.
const DATABASE: i64 = 2;

/// How long one question may take, connecting included. Redis in the same network answers in
/// milliseconds; whoever waits longer has lost it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keys looked at in one step of a SCAN: a fleet in one or two, without holding up Redis.
const SCAN_COUNT: usize = 1000;

/// Steps of one SCAN: a database of two million other keys is not ours to search each second.
const SCAN_STEPS: usize = 2000;

/// Which Redis, read from a URL.
#[derive(Clone, Debug)]
pub struct Place(ConnectionInfo);

impl Place {
    /// Reads `redis://` and `rediss://` URLs; database 2 unless the URL names one.
    ///
    /// # Errors
    /// Says what is wrong with the URL, without repeating it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|error| format!("it is not a URL ({error})"))?;
        match url.scheme() {
            "redis" | "rediss" => {}
            other @ ("redis+sentinel" | "rediss+sentinel" | "redis+cluster" | "rediss+cluster"
            | "sentinel" | "cluster") => {
                return Err(format!("{other}:// is not available in this version"));
            }
            other => return Err(format!("{other}:// is not a Redis URL")),
        }
        let info = text
            .into_connection_info()
            .map_err(|error| error.to_string())?;
        if url.path().trim_matches('/').is_empty() {
            let settings = info.redis_settings().clone().set_db(DATABASE);
            return Ok(Self(info.set_redis_settings(settings)));
        }
        Ok(Self(info))
    }
}

/// A registry that outlives the process and is shared.
pub struct Redis {
    connection: ConnectionManager,
    /// The life of a key that somebody wrote without one.
    ttl: Duration,
}

/// What stands under `tuyun:node:{id}`.
#[derive(Serialize, Deserialize)]
struct Details {
    url: String,
    kind: KindName,
    proven: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Tuyun,
    Original,
}

/// What Redis says of one node: both values, and both remaining lives in milliseconds.
struct Row {
    url: Option<String>,
    url_life: i64,
    details: Option<String>,
    details_life: i64,
}

impl Redis {
    /// Prepares the connection; it is made when first needed, and again when it was lost. To be
    /// called inside the runtime.
    ///
    /// # Errors
    /// When the place cannot be one.
    pub fn new(place: Place, ttl: Duration) -> Result<Self, RegistryError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE / 2))
            .set_response_timeout(Some(PATIENCE / 2))
            // Our own rhythm tries again; retries within would only delay the news.
            .set_number_of_retries(0);
        let client = Client::open(place.0)?;
        let connection = ConnectionManager::new_lazy_with_config(client, config)?;
        Ok(Self { connection, ttl })
    }

    async fn ids(&self) -> Result<BTreeSet<NodeId>, RedisError> {
        let mut ids = BTreeSet::new();
        for prefix in [NODE, DETAILS] {
            let mut cursor = 0_u64;
            for _ in 0..SCAN_STEPS {
                let (next, keys): (u64, Vec<Vec<u8>>) = ::redis::cmd("SCAN")
                    .arg(cursor)
                    .arg("MATCH")
                    .arg(format!("{prefix}*"))
                    .arg("COUNT")
                    .arg(SCAN_COUNT)
                    .query_async(&mut self.connection.clone())
                    .await?;
                let names = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
                ids.extend(names.filter_map(|name| name.strip_prefix(prefix)?.parse().ok()));
                cursor = next;
                if cursor == 0 || ids.len() > MOST_NODES {
                    break;
                }
            }
        }
        Ok(ids)
    }

    async fn read(&self) -> Result<Vec<(Lease, Duration)>, RedisError> {
        let ids = self.ids().await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // MGET passes over keys of another type, which belong to somebody else.
        let mut values = ::redis::cmd("MGET");
        let mut lives = ::redis::pipe();
        for id in &ids {
            let (node, details) = keys(id);
            values.arg(&node).arg(&details);
            lives.pttl(&node).pttl(&details);
        }
        let mut connection = self.connection.clone();
        let values: Vec<Option<Vec<u8>>> = values.query_async(&mut connection).await?;
        let lives: Vec<i64> = lives.query_async(&mut connection).await?;
        let text = |value: &Option<Vec<u8>>| {
            value
                .as_ref()
                .and_then(|bytes| String::from_utf8(bytes.clone()).ok())
        };
        let rows = values
            .chunks_exact(2)
            .zip(lives.chunks_exact(2))
            .map(|(values, lives)| Row {
                url: text(&values[0]),
                url_life: lives[0],
                details: text(&values[1]),
                details_life: lives[1],
            });
        Ok(ids
            .into_iter()
            .zip(rows)
            .filter_map(|(id, row)| row.lease(id, self.ttl))
            .collect())
    }
}

const NODE: &str = "jump_";
const DETAILS: &str = "tuyun:node:";
const NONCE: &str = "tuyun:nonce:";

fn keys(id: &NodeId) -> (String, String) {
    (format!("{NODE}{id}"), format!("{DETAILS}{id}"))
}

impl Row {
    /// The lease that the two keys make, if they make one.
    fn lease(self, id: NodeId, ttl: Duration) -> Option<(Lease, Duration)> {
        let details = self
            .details
            .and_then(|text| serde_json::from_str::<Details>(&text).ok());
        let life = |millis: i64| match millis {
            // Somebody wrote it without one; listed again each second, it lasts while it is there.
            -1 => Some(ttl),
            1.. => Some(Duration::from_millis(millis.unsigned_abs()).min(ttl)),
            _ => None,
        };
        match (self.url, details) {
            (Some(url), details) => {
                let url = Base::parse(url.trim()).ok()?;
                let ours = details.filter(|details| details.url == url.as_str());
                let (kind, version) = match ours {
                    Some(details) => (details.kind.into(), details.version),
                    None => (Kind::Original, None),
                };
                Some((
                    Lease {
                        id,
                        url,
                        kind,
                        proven: true,
                        version,
                    },
                    life(self.url_life)?,
                ))
            }
            (None, Some(details)) if !details.proven => {
                let url = Base::parse(&details.url).ok()?;
                let kind = details.kind.into();
                let lease = Lease {
                    id,
                    url,
                    kind,
                    proven: false,
                    version: details.version,
                };
                Some((lease, life(self.details_life)?))
            }
            // Proven, and its address is gone: somebody removed the node.
            (None, _) => None,
        }
    }
}

#[async_trait]
impl Registry for Redis {
    async fn put(&self, lease: &Lease, ttl: Duration) -> Result<(), RegistryError> {
        let (node, details) = keys(&lease.id);
        let life = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let said = Details {
            url: lease.url.to_string(),
            kind: lease.kind.into(),
            proven: lease.proven,
            version: lease.version.clone(),
        };
        let said = serde_json::to_string(&said).unwrap_or_default();
        let mut write = ::redis::pipe();
        write.atomic();
        if lease.proven {
            write.pset_ex(&node, lease.url.as_str(), life).ignore();
        } else {
            write.del(&node).ignore();
        }
        write.pset_ex(&details, said, life).ignore();
        let mut connection = self.connection.clone();
        in_time(write.query_async(&mut connection)).await
    }

    async fn remove(&self, id: &NodeId) -> Result<(), RegistryError> {
        let (node, details) = keys(id);
        let mut write = ::redis::pipe();
        write.atomic().del(&node).ignore().del(&details).ignore();
        let mut connection = self.connection.clone();
        in_time(write.query_async(&mut connection)).await
    }

    async fn first_use(
        &self,
        id: &NodeId,
        nonce: u128,
        life: Duration,
    ) -> Result<bool, RegistryError> {
        let mut set = ::redis::cmd("SET");
        set.arg(format!("{NONCE}{id}:{nonce:032x}"))
            .arg(1)
            .arg("NX")
            .arg("EX")
            .arg(life.as_secs().max(1));
        let mut connection = self.connection.clone();
        let set: Option<String> = in_time(set.query_async(&mut connection)).await?;
        Ok(set.is_some())
    }

    async fn list(&self) -> Result<Vec<(Lease, Duration)>, RegistryError> {
        in_time(self.read()).await
    }
}

async fn in_time<T>(
    asking: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RegistryError> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RegistryError::TooSlow(PATIENCE)),
    }
}

impl From<Kind> for KindName {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Tuyun => Self::Tuyun,
            Kind::Original => Self::Original,
        }
    }
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Tuyun => Self::Tuyun,
            KindName::Original => Self::Original,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_mins(20);
    const OURS: &str = r#"{"url":"https://a.example/","kind":"tuyun","proven":true}"#;
    const UNPROVEN: &str = r#"{"url":"https://a.example/","kind":"tuyun","proven":false}"#;

    fn row(url: Option<(&str, i64)>, details: Option<&str>) -> Option<(Lease, Duration)> {
        let (value, life) = url.unzip();
        let row = Row {
            url: value.map(str::to_owned),
            url_life: life.unwrap_or(-2),
            details: details.map(str::to_owned),
            details_life: 5000,
        };
        row.lease("1".parse().unwrap(), TTL)
    }

    #[test]
    fn an_original_s_key_is_a_lease() {
        let (lease, remaining) = row(Some(("https://a.example/", 9000)), None).unwrap();
        assert_eq!((lease.kind, lease.proven), (Kind::Original, true));
        assert_eq!(remaining, Duration::from_secs(9));
        assert_eq!(row(Some(("https://a.example", -1)), None).unwrap().1, TTL);
        assert_eq!(row(Some(("javascript:x", 9000)), None), None);
        assert_eq!(row(Some(("", 9000)), None), None);
    }

    #[test]
    fn our_fields_count_only_for_the_address_they_were_written_with() {
        let (lease, _) = row(Some(("https://a.example/", 9000)), Some(OURS)).unwrap();
        assert_eq!(lease.kind, Kind::Tuyun);
        let (lease, _) = row(Some(("https://b.example/", 9000)), Some(OURS)).unwrap();
        assert_eq!(lease.kind, Kind::Original);
    }

    #[test]
    fn an_unproven_node_has_no_key_of_the_originals() {
        let (lease, remaining) = row(None, Some(UNPROVEN)).unwrap();
        assert!(!lease.proven);
        assert_eq!(remaining, Duration::from_secs(5));
        assert_eq!(row(None, Some(OURS)), None);
    }

    #[test]
    fn a_url_may_name_its_database() {
        let database = |text: &str| Place::parse(text).unwrap().0.redis_settings().db();
        assert_eq!(database("redis://127.0.0.1:6379/"), 2);
        assert_eq!(database("rediss://:word@host:6380"), 2);
        assert_eq!(database("redis://127.0.0.1/0"), 0);
        assert_eq!(database("redis://127.0.0.1/5"), 5);
        let refused = Place::parse("redis+sentinel://:word@a/").unwrap_err();
        assert_eq!(
            refused,
            "redis+sentinel:// is not available in this version"
        );
        assert!(Place::parse("http://a/").is_err());
    }
}
