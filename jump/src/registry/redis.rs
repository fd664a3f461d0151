//! Leases in Redis, as the originals keep them: `jump_{id}` = url, with a life.
//!
//! Beside each stands `tuyun:node:{id}` with what originals do not know. It counts only while its
//! url is the one under `jump_{id}`: if not, an original has written that since. A node that
//! visitors have not been shown to reach stands under `tuyun:node:{id}` alone, so that originals on
//! the same Redis send nobody there.

mod link;
mod place;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value, cmd};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tuyun_protocol::{Base, NodeId, Report};

use self::link::Link;
pub use self::place::{Kind as PlaceKind, Place};
use super::{Registry, RegistryError};
use crate::roster::{Kind, Lease, Listed, MOST_NODES, Order, Sighting};

/// How long one question may take, connecting included. Redis in the same network answers in
/// milliseconds; whoever waits longer has lost it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a visitor may wait to be counted: someone is waiting for a picture.
const COUNT_PATIENCE: Duration = Duration::from_millis(100);

/// How long a node's figures are kept: somebody asks each half minute.
const SIGHTING: Duration = Duration::from_mins(10);

/// How long to wait before listening anew, at first and at most: Redis that comes back meets few jumps
/// at once.
const LISTEN_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A registry that outlives the process and is shared.
pub struct Redis {
    link: Link,
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
    #[serde(default)]
    report: Report,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Tuyun,
    Original,
}

/// What Redis says of one node: its values, and the lives of the first two in milliseconds.
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
    pub fn new(place: &Place, ttl: Duration) -> Result<Self, RegistryError> {
        let link = Link::new(place)?;
        Ok(Self { link, ttl })
    }

    async fn ids(&self) -> Result<BTreeSet<NodeId>, RedisError> {
        let mut ids = BTreeSet::new();
        for prefix in [NODE, DETAILS] {
            let keys = self.link.keys(prefix).await?;
            let names = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
            ids.extend(names.filter_map(|name| name.strip_prefix(prefix)?.parse().ok()));
        }
        while ids.len() > MOST_NODES {
            ids.pop_last();
        }
        Ok(ids)
    }

    async fn read(&self) -> Result<Vec<Listed>, RedisError> {
        let ids = self.ids().await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // MGET passes over keys of another type, which belong to somebody else.
        let mut values = cmd("MGET");
        let mut questions = Vec::with_capacity(1 + 2 * ids.len());
        for id in &ids {
            let keys = Keys::of(id);
            values.arg(&keys.node).arg(&keys.details);
            values.arg(&keys.order).arg(&keys.sighting);
            for key in [&keys.node, &keys.details] {
                questions.push(with("PTTL", key));
            }
        }
        questions.push(values);
        let mut answers = self.link.ask(questions).await?;
        let values = answers.pop().unwrap_or(Value::Nil);
        let values = Vec::<Option<Vec<u8>>>::from_redis_value(values)?;
        let lives = answers.into_iter().map(i64::from_redis_value);
        let lives = lives.collect::<Result<Vec<_>, _>>()?;
        let text = |value: &Option<Vec<u8>>| {
            value
                .as_ref()
                .and_then(|bytes| String::from_utf8(bytes.clone()).ok())
        };
        let listed = ids
            .into_iter()
            .zip(values.chunks_exact(4).zip(lives.chunks_exact(2)))
            .filter_map(|(id, (values, lives))| {
                let row = Row {
                    url: text(&values[0]),
                    url_life: lives[0],
                    details: text(&values[1]),
                    details_life: lives[1],
                };
                let (lease, remaining) = row.lease(id, self.ttl)?;
                let json = |value| text(value).unwrap_or_default();
                Some(Listed {
                    lease,
                    remaining,
                    order: serde_json::from_str(&json(&values[2])).ok(),
                    sighting: serde_json::from_str(&json(&values[3])).ok(),
                })
            });
        Ok(listed.collect())
    }

    async fn write(&self, questions: Vec<Cmd>) -> Result<Vec<Value>, RegistryError> {
        in_time(PATIENCE, self.link.ask(questions)).await
    }
}

const NODE: &str = "jump_";
const DETAILS: &str = "tuyun:node:";
const ORDER: &str = "tuyun:order:";
const SIGHTING_KEY: &str = "tuyun:seen:";
const TURN: &str = "tuyun:turn:";
const NONCE: &str = "tuyun:nonce:";
const COUNT: &str = "tuyun:count:";

/// Where jumps tell each other that something has changed.
const CHANNEL: &str = "tuyun:changed";

/// So many a second, as many at once, by the clock of Redis: the time at which the last of them is
/// worked off moves on with each, and may be a second ahead at most. Answers the microseconds to wait.
const COUNT_SCRIPT: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local every = math.floor(1000000 / tonumber(ARGV[1]))
local due = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
local ahead = due + every - now - 1000000
if ahead > 0 then return ahead end
redis.call('SET', KEYS[1], string.format('%.0f', due + every), 'PX', 2000)
return 0";

struct Keys {
    node: String,
    details: String,
    order: String,
    sighting: String,
}

impl Keys {
    fn of(id: &NodeId) -> Self {
        Self {
            node: format!("{NODE}{id}"),
            details: format!("{DETAILS}{id}"),
            order: format!("{ORDER}{id}"),
            sighting: format!("{SIGHTING_KEY}{id}"),
        }
    }
}

fn with(name: &str, key: &str) -> Cmd {
    let mut question = cmd(name);
    question.arg(key);
    question
}

fn news() -> Cmd {
    let mut question = with("PUBLISH", CHANNEL);
    question.arg(1);
    question
}

fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
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
                let (kind, version, report) = match ours {
                    Some(details) => (details.kind.into(), details.version, details.report),
                    None => (Kind::Original, None, Report::default()),
                };
                Some((
                    Lease {
                        id,
                        url,
                        kind,
                        proven: true,
                        version,
                        report,
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
                    report: details.report,
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
    async fn put(&self, lease: &Lease, ttl: Duration, tell: bool) -> Result<(), RegistryError> {
        let keys = Keys::of(&lease.id);
        let life = millis(ttl);
        let said = Details {
            url: lease.url.to_string(),
            kind: lease.kind.into(),
            proven: lease.proven,
            version: lease.version.clone(),
            report: lease.report.clone(),
        };
        let said = serde_json::to_string(&said).unwrap_or_default();
        let mut details = with("PSETEX", &keys.details);
        details.arg(life).arg(said);
        let mut questions = vec![details];
        if lease.proven {
            let mut node = with("PSETEX", &keys.node);
            node.arg(life).arg(lease.url.as_str());
            questions.push(node);
        } else {
            questions.push(with("DEL", &keys.node));
        }
        if tell {
            questions.push(news());
        }
        self.write(questions).await.map(drop)
    }

    async fn remove(&self, id: &NodeId) -> Result<(), RegistryError> {
        let keys = Keys::of(id);
        let gone = [&keys.node, &keys.details, &keys.sighting];
        let mut questions: Vec<Cmd> = gone.map(|key| with("DEL", key)).into();
        questions.push(news());
        self.write(questions).await.map(drop)
    }

    async fn order(&self, id: &NodeId, order: Option<&Order>) -> Result<(), RegistryError> {
        let key = Keys::of(id).order;
        let write = match order {
            Some(order) => {
                let mut set = with("SET", &key);
                set.arg(serde_json::to_string(order).unwrap_or_default());
                set
            }
            None => with("DEL", &key),
        };
        self.write(vec![write, news()]).await.map(drop)
    }

    async fn first_use(
        &self,
        id: &NodeId,
        nonce: u128,
        life: Duration,
    ) -> Result<bool, RegistryError> {
        let mut set = with("SET", &format!("{NONCE}{id}:{nonce:032x}"));
        set.arg(1).arg("NX").arg("PX").arg(millis(life));
        Ok(was_set(&self.write(vec![set]).await?))
    }

    async fn turn(&self, id: &NodeId, life: Duration) -> Result<bool, RegistryError> {
        let mut set = with("SET", &format!("{TURN}{id}"));
        set.arg(1).arg("NX").arg("PX").arg(millis(life));
        Ok(was_set(&self.write(vec![set]).await?))
    }

    async fn saw(&self, id: &NodeId, sighting: &Sighting) -> Result<(), RegistryError> {
        let mut set = with("PSETEX", &Keys::of(id).sighting);
        set.arg(millis(SIGHTING))
            .arg(serde_json::to_string(sighting).unwrap_or_default());
        self.write(vec![set]).await.map(drop)
    }

    async fn count(
        &self,
        visitor: IpAddr,
        per_second: u32,
    ) -> Result<Option<Duration>, RegistryError> {
        let ask = |name: &str, script: &str| {
            let mut question = cmd(name);
            question
                .arg(script)
                .arg(1)
                .arg(format!("{COUNT}{visitor}"))
                .arg(per_second.max(1));
            question
        };
        let script = ::redis::Script::new(COUNT_SCRIPT);
        let counting = async {
            let known = ask("EVALSHA", script.get_hash());
            match self.link.ask(vec![known]).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    self.link.ask(vec![ask("EVAL", COUNT_SCRIPT)]).await
                }
                answer => answer,
            }
        };
        let answer = in_time(COUNT_PATIENCE, counting).await?;
        let wait = answer.into_iter().next().unwrap_or(Value::Nil);
        let wait = u64::from_redis_value(wait).map_err(RedisError::from)?;
        Ok((wait > 0).then(|| Duration::from_micros(wait)))
    }

    async fn list(&self) -> Result<Vec<Listed>, RegistryError> {
        in_time(PATIENCE, self.read()).await
    }

    async fn listen(&self, bell: Arc<Notify>, stop: CancellationToken) {
        let listening = async {
            let (first, most) = LISTEN_AGAIN;
            let mut wait = first;
            loop {
                let began = tokio::time::Instant::now();
                if let Err(error) = self.link.listen(CHANNEL, &bell).await {
                    tracing::debug!(%error, "cannot listen to Redis; the roster is read each second anyway");
                }
                wait = if began.elapsed() > most {
                    first
                } else {
                    (2 * wait).min(most)
                };
                tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>())).await;
            }
        };
        stop.run_until_cancelled(listening).await;
    }
}

/// The answer to `SET … NX`.
fn was_set(answer: &[Value]) -> bool {
    !matches!(answer.first(), None | Some(Value::Nil))
}

async fn in_time<T>(
    patience: Duration,
    asking: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RegistryError> {
    match tokio::time::timeout(patience, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RegistryError::TooSlow(patience)),
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
mod tests;
