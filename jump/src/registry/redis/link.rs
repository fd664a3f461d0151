//! The connection to Redis, however many servers it is.
//!
//! Made when first needed, and again after it was lost; a failover shows as an error, after which the
//! Sentinels are asked anew. Our own rhythm tries again: retries within would only delay the news.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{
    ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection,
};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue as _,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
    TlsMode, Value,
};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use tokio::sync::{Mutex, Notify};

use super::place::{Kind, Place};

/// How long one answer may take, and a connection: Redis in the same network answers in milliseconds;
/// whoever waits longer has lost it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keys looked at in one step of a SCAN: a fleet in one or two, without holding up Redis.
const SCAN_COUNT: usize = 1000;

/// Steps of one SCAN: a database of two million other keys is not ours to search each second.
const SCAN_STEPS: usize = 2000;

/// Keys that are taken in from one SCAN.
const MOST_KEYS: usize = 3 * crate::roster::MOST_NODES;

/// A connection.
pub(super) struct Link {
    route: Route,
}

enum Route {
    Single(ConnectionManager, Client),
    Sentinel(Mutex<Sentinel>),
    Cluster(ClusterClient, Mutex<Option<ClusterConnection>>, Vec<Client>),
}

struct Sentinel {
    client: SentinelClient,
    held: Option<MultiplexedConnection>,
}

impl Link {
    /// Prepares the connection. To be called inside the runtime.
    pub(super) fn new(place: &Place) -> RedisResult<Self> {
        let route = match &place.kind {
            Kind::Single => {
                let client = open(place, &place.hosts[0])?;
                let config = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(PATIENCE))
                    .set_response_timeout(Some(PATIENCE))
                    .set_number_of_retries(0);
                let manager = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
                Route::Single(manager, client)
            }
            Kind::Sentinel(service) => {
                let client = sentinel(place, service)?;
                Route::Sentinel(Mutex::new(Sentinel { client, held: None }))
            }
            Kind::Cluster => {
                let clients = place.hosts.iter().map(|host| open(place, host));
                let clients = clients.collect::<RedisResult<_>>()?;
                Route::Cluster(cluster(place)?, Mutex::new(None), clients)
            }
        };
        Ok(Self { route })
    }

    /// Asks all of these, in order; one server does them in one transaction. A Cluster has no
    /// transaction over several keys.
    pub(super) async fn ask(&self, questions: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let mut pipe = Pipeline::new();
        if questions.len() > 1 {
            pipe.atomic();
        }
        match &self.route {
            Route::Single(manager, _) => {
                for question in questions {
                    pipe.add_command(question);
                }
                pipe.query_async(&mut manager.clone()).await
            }
            Route::Sentinel(sentinel) => {
                for question in questions {
                    pipe.add_command(question);
                }
                let mut connection = sentinel.lock().await.connection().await?;
                let answer = pipe.query_async(&mut connection).await;
                if answer.is_err() {
                    sentinel.lock().await.held = None;
                }
                answer
            }
            Route::Cluster(client, held, _) => {
                let connection = spread(client, held).await?;
                let asking = questions.into_iter().map(|question| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(&question).await }
                });
                let answers = try_join_all(asking).await;
                forget_lost(held, &answers).await;
                answers
            }
        }
    }

    /// The keys that begin with this.
    pub(super) async fn keys(&self, prefix: &str) -> RedisResult<Vec<Vec<u8>>> {
        match &self.route {
            Route::Single(manager, _) => scan(&mut manager.clone(), prefix).await,
            Route::Sentinel(sentinel) => {
                let mut connection = sentinel.lock().await.connection().await?;
                let found = scan(&mut connection, prefix).await;
                if found.is_err() {
                    sentinel.lock().await.held = None;
                }
                found
            }
            Route::Cluster(client, held, _) => {
                let connection = spread(client, held).await?;
                let found = scan_all(&connection, prefix).await;
                forget_lost(held, &found).await;
                found
            }
        }
    }

    /// Rings the bell at each message on this channel, until the connection is lost.
    pub(super) async fn listen(&self, channel: &str, bell: &Arc<Notify>) -> RedisResult<()> {
        let mut listening = match &self.route {
            Route::Single(_, client) => in_time(client.get_async_pubsub()).await?,
            Route::Sentinel(sentinel) => {
                let client = {
                    let mut sentinel = sentinel.lock().await;
                    in_time(sentinel.client.async_get_client()).await?
                };
                in_time(client.get_async_pubsub()).await?
            }
            // What one server of a Cluster is told, all tell.
            Route::Cluster(_, _, clients) => {
                let mut last = RedisError::from(std::io::Error::other("no server answers"));
                let mut found = None;
                for client in clients {
                    match in_time(client.get_async_pubsub()).await {
                        Ok(listening) => {
                            found = Some(listening);
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                found.ok_or(last)?
            }
        };
        in_time(listening.subscribe(channel)).await?;
        // Whatever was said while nobody listened.
        bell.notify_one();
        let mut news = listening.into_on_message();
        while news.next().await.is_some() {
            bell.notify_one();
        }
        Ok(())
    }
}

impl Sentinel {
    async fn connection(&mut self) -> RedisResult<MultiplexedConnection> {
        if let Some(held) = &self.held {
            return Ok(held.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let asking = self.client.get_async_connection_with_config(&config);
        let connection = in_time(asking).await?;
        self.held = Some(connection.clone());
        Ok(connection)
    }
}

/// The connection to a Cluster, which knows all its servers.
async fn spread(
    client: &ClusterClient,
    held: &Mutex<Option<ClusterConnection>>,
) -> RedisResult<ClusterConnection> {
    let mut held = held.lock().await;
    if let Some(connection) = &*held {
        return Ok(connection.clone());
    }
    let connection = in_time(client.get_async_connection()).await?;
    *held = Some(connection.clone());
    Ok(connection)
}

/// A Cluster's connection finds moved slots by itself; one that lost everybody is made anew.
async fn forget_lost<T>(held: &Mutex<Option<ClusterConnection>>, answer: &RedisResult<T>) {
    if let Err(error) = answer
        && (error.is_io_error() || error.is_cluster_error() || error.is_timeout())
    {
        *held.lock().await = None;
    }
}

async fn scan(connection: &mut impl ConnectionLike, prefix: &str) -> RedisResult<Vec<Vec<u8>>> {
    let mut scan = Scan::new(prefix);
    while let Some(step) = scan.step() {
        let answer = connection.req_packed_command(&step).await?;
        scan.take(answer)?;
    }
    Ok(scan.keys)
}

/// One SCAN, step by step.
struct Scan {
    pattern: String,
    cursor: u64,
    steps: usize,
    keys: Vec<Vec<u8>>,
}

impl Scan {
    fn new(prefix: &str) -> Self {
        Self {
            pattern: format!("{prefix}*"),
            cursor: 0,
            steps: 0,
            keys: Vec::new(),
        }
    }

    /// The next question, if there is more to ask.
    fn step(&mut self) -> Option<Cmd> {
        let over = self.cursor == 0 && self.steps > 0;
        if over || self.steps >= SCAN_STEPS || self.keys.len() > MOST_KEYS {
            return None;
        }
        self.steps += 1;
        let mut step = ::redis::cmd("SCAN");
        step.arg(self.cursor)
            .arg("MATCH")
            .arg(&self.pattern)
            .arg("COUNT")
            .arg(SCAN_COUNT);
        Some(step)
    }

    fn take(&mut self, answer: Value) -> RedisResult<()> {
        let (cursor, found) = <(u64, Vec<Vec<u8>>)>::from_redis_value(answer)?;
        self.cursor = cursor;
        self.keys.extend(found);
        Ok(())
    }
}

/// Each master of a Cluster has its own keys, and its own SCAN.
async fn scan_all(connection: &ClusterConnection, prefix: &str) -> RedisResult<Vec<Vec<u8>>> {
    let mut slots = ::redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    let known = connection
        .clone()
        .route_command(
            slots,
            RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random),
        )
        .await?;
    let mut keys = Vec::new();
    for (host, port) in masters(&known)? {
        let there = SingleNodeRoutingInfo::ByAddress { host, port };
        let routing = RoutingInfo::SingleNode(there);
        let mut scan = Scan::new(prefix);
        while let Some(step) = scan.step() {
            let mut connection = connection.clone();
            scan.take(connection.route_command(step, routing.clone()).await?)?;
        }
        keys.append(&mut scan.keys);
    }
    // A slot that moves just now may show a key in two places.
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// The first server of each range of slots: `[from, to, [host, port, …], …]`. One that cannot be read is
/// an error: to pass it over would be to lose its nodes.
fn masters(slots: &Value) -> RedisResult<Vec<(String, u16)>> {
    let odd = || {
        let what = "a master of the Cluster does not tell its address; see cluster-announce-ip";
        RedisError::from(std::io::Error::other(what))
    };
    let parts = |value: &Value| match value {
        Value::Array(parts) => Ok(parts.clone()),
        _ => Err(odd()),
    };
    let mut masters = Vec::new();
    for range in parts(slots)? {
        let range = parts(&range)?;
        let master = parts(range.get(2).ok_or_else(odd)?)?;
        let [host, port, ..] = master.as_slice() else {
            return Err(odd());
        };
        let host = String::from_redis_value(host.clone()).map_err(|_| odd())?;
        let port = i64::from_redis_value(port.clone()).map_err(|_| odd())?;
        let port = u16::try_from(port).map_err(|_| odd())?;
        if host.is_empty() || host == "?" {
            return Err(odd());
        }
        masters.push((host, port));
    }
    masters.sort_unstable();
    masters.dedup();
    Ok(masters)
}

fn address(place: &Place, (host, port): &(String, u16)) -> ConnectionAddr {
    if place.tls {
        ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host.clone(), *port)
    }
}

fn trust(place: &Place) -> Option<TlsCertificates> {
    place.ca.clone().map(|pem| TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    })
}

fn open(place: &Place, host: &(String, u16)) -> RedisResult<Client> {
    let mut login = RedisConnectionInfo::default().set_db(place.database);
    if let Some(user) = &place.user {
        login = login.set_username(user);
    }
    if let Some(password) = &place.password {
        login = login.set_password(password);
    }
    let info: ConnectionInfo = address(place, host).into_connection_info()?;
    let info = info.set_redis_settings(login);
    match trust(place) {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

fn sentinel(place: &Place, service: &str) -> RedisResult<SentinelClient> {
    let hosts = place.hosts.iter().map(|host| address(place, host));
    let mut builder = SentinelClientBuilder::new(hosts, service, SentinelServerType::Master)?
        .set_client_to_redis_db(place.database);
    if place.tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(user) = &place.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &place.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(certificates) = trust(place) {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build()
}

fn cluster(place: &Place) -> RedisResult<ClusterClient> {
    let nodes: Vec<ConnectionInfo> = place
        .hosts
        .iter()
        .map(|host| address(place, host).into_connection_info())
        .collect::<RedisResult<_>>()?;
    // A slot that has moved is followed at once; more would only hold up our own rhythm.
    let mut builder = ClusterClient::builder(nodes)
        .retries(3)
        .min_retry_wait(20)
        .max_retry_wait(200)
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE);
    if let Some(user) = &place.user {
        builder = builder.username(user);
    }
    if let Some(password) = &place.password {
        builder = builder.password(password);
    }
    if place.tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if let Some(certificates) = trust(place) {
        builder = builder.certs(certificates);
    }
    builder.build()
}

async fn in_time<T>(asking: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    match tokio::time::timeout(2 * PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(late().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(host: &str, port: i64) -> Value {
        let text = |text: &str| Value::BulkString(text.into());
        let master = vec![text(host), Value::Int(port), text("id")];
        Value::Array(vec![Value::Int(0), Value::Int(9), Value::Array(master)])
    }

    #[test]
    fn each_master_of_a_cluster_is_asked_once_and_none_is_passed_over() {
        let slots = Value::Array(vec![range("b", 2), range("a", 1), range("b", 2)]);
        let expected = vec![("a".to_owned(), 1), ("b".to_owned(), 2)];
        assert_eq!(masters(&slots).unwrap(), expected);
        for odd in [range("", 1), range("?", 1), range("a", 70_000), Value::Nil] {
            assert!(masters(&Value::Array(vec![range("b", 2), odd])).is_err());
        }
    }
}
