//! The nodes on disk, so that a restart knows them before they report again.
//!
//! One small JSON file, written aside, synced and renamed: after a power cut there is the former one.
//! A file that cannot be read is put aside and said, and jump starts without.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tuyun_protocol::{Base, NodeId, Report};

use crate::keeper::Keeper;
use crate::roster::{Kind, Lease, MOST_NODES, Order, Restored};

/// How often it is written: what a restart does not find, nodes say again within seconds.
const EVERY: Duration = Duration::from_secs(5);

/// The largest file that is read: all nodes there can be, at a kilobyte each.
const MOST_BYTES: u64 = (MOST_NODES * 2048) as u64;

/// The shape of the file. A later one is not read by an earlier program.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    nodes: Vec<Saved>,
    #[serde(default)]
    orders: BTreeMap<String, Order>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    server_id: String,
    url: String,
    /// Whether it is one of ours.
    tuyun: bool,
    proven: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default)]
    report: Report,
    /// The end of its lease, in seconds since 1970.
    until: u64,
}

/// Where the nodes are kept.
#[derive(Clone, Debug)]
pub struct Snapshot {
    path: PathBuf,
}

impl Snapshot {
    /// Keeps them in this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Gives a keeper what was remembered. With `tell`, the registry has forgotten it.
    pub fn restore(&self, keeper: &Keeper, tell: bool) {
        match self.load(now()) {
            Ok(Some((nodes, orders))) => {
                tracing::info!(nodes = nodes.len(), path = %self.path.display(), "remembering the nodes of before");
                keeper.restore(nodes, orders, tell);
            }
            Ok(None) => {}
            Err(error) => {
                let aside = self.path.with_extension("unreadable");
                let moved = std::fs::rename(&self.path, &aside).is_ok();
                tracing::warn!(
                    %error, path = %self.path.display(), put_aside = moved,
                    "cannot read the nodes of before; starting without, they will report again"
                );
            }
        }
    }

    /// Writes what has changed until `stop`, and once more then.
    pub async fn follow(self, keeper: &Keeper, stop: CancellationToken) {
        let mut written = String::new();
        let mut ails = false;
        loop {
            let over = stop
                .run_until_cancelled(tokio::time::sleep(EVERY))
                .await
                .is_none();
            let (nodes, orders) = keeper.remember();
            let text = render(nodes, orders, now());
            if text != written {
                let snapshot = self.clone();
                let saved = text.clone();
                let outcome = tokio::task::spawn_blocking(move || snapshot.save(&saved)).await;
                match outcome.map_err(io::Error::other).flatten() {
                    Ok(()) => (written, ails) = (text, false),
                    // Said once; a full disk keeps no visitor waiting.
                    Err(error) if !ails => {
                        ails = true;
                        tracing::warn!(%error, path = %self.path.display(), "cannot write down the nodes; a restart will not know them");
                    }
                    Err(_) => {}
                }
            }
            if over {
                return;
            }
        }
    }

    fn load(&self, now: u64) -> io::Result<Option<Remembered>> {
        let meta = match std::fs::metadata(&self.path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if meta.len() > MOST_BYTES {
            return Err(io::Error::other("the file is too large"));
        }
        parse(&std::fs::read(&self.path)?, now).map(Some)
    }

    fn save(&self, text: &str) -> io::Result<()> {
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    }
}

type Remembered = (Vec<Restored>, Vec<(NodeId, Order)>);

fn render(nodes: Vec<Restored>, orders: Vec<(NodeId, Order)>, now: u64) -> String {
    let nodes = nodes
        .into_iter()
        .map(|Restored { lease, remaining }| Saved {
            server_id: lease.id.to_string(),
            url: lease.url.to_string(),
            tuyun: lease.kind == Kind::Tuyun,
            proven: lease.proven,
            version: lease.version,
            report: lease.report,
            until: now + remaining.as_secs(),
        });
    let file = File {
        version: VERSION,
        nodes: nodes.collect(),
        orders: orders
            .into_iter()
            .map(|(id, order)| (id.to_string(), order))
            .collect(),
    };
    serde_json::to_string(&file).unwrap_or_default()
}

fn parse(bytes: &[u8], now: u64) -> io::Result<Remembered> {
    let file: File = serde_json::from_slice(bytes)?;
    if file.version != VERSION {
        return Err(io::Error::other("another version wrote it"));
    }
    let nodes = file.nodes.into_iter().filter_map(|saved| {
        let remaining = saved.until.checked_sub(now).filter(|left| *left > 0)?;
        Some(Restored {
            lease: Lease {
                id: saved.server_id.parse().ok()?,
                url: Base::parse(&saved.url).ok()?,
                kind: if saved.tuyun {
                    Kind::Tuyun
                } else {
                    Kind::Original
                },
                proven: saved.proven,
                version: saved.version,
                report: saved.report,
            },
            remaining: Duration::from_secs(remaining),
        })
    });
    let orders = file.orders.into_iter();
    let orders = orders.filter_map(|(id, order)| Some((id.parse().ok()?, order)));
    Ok((nodes.collect(), orders.collect()))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::tests::lease;

    const NOW: u64 = 1_700_000_000;

    fn node(id: &str, seconds: u64) -> Restored {
        Restored {
            lease: lease(id),
            remaining: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn what_is_written_is_read_back_with_the_life_it_has_left() {
        let order = Order {
            drain: true,
            ..Order::default()
        };
        let orders = vec![("2".parse().unwrap(), order)];
        let text = render(vec![node("1", 20), node("2", 5)], orders.clone(), NOW);
        let (nodes, read) = parse(text.as_bytes(), NOW + 10).unwrap();
        assert_eq!(nodes, [node("1", 10)], "the other's lease has ended");
        assert_eq!(read, orders);
    }

    #[test]
    fn what_is_no_snapshot_is_an_error_and_what_is_no_node_is_passed_over() {
        for text in ["", "[]", "{\"version\":9,\"nodes\":[]}", "{\"version\":1"] {
            assert!(parse(text.as_bytes(), NOW).is_err(), "{text}");
        }
        let text = render(vec![node("1", 20)], vec![], NOW);
        for (from, to) in [("\"1\"", "\"a b\""), ("https:", "javascript:")] {
            let odd = text.replace(from, to);
            assert_eq!(parse(odd.as_bytes(), NOW).unwrap().0, [], "{odd}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::new(dir.path().join("nodes.json"));
        assert!(snapshot.load(NOW).unwrap().is_none());
        for seconds in [20, 30] {
            snapshot
                .save(&render(vec![node("1", seconds)], vec![], NOW))
                .unwrap();
            let (nodes, _) = snapshot.load(NOW).unwrap().unwrap();
            assert_eq!(nodes, [node("1", seconds)]);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::write(&snapshot.path, "{").unwrap();
        assert!(snapshot.load(NOW).is_err());
    }
}
