//! A client of an emulated drive, and what its tests share.

pub(crate) use std::fs::File;
pub(crate) use std::io::Write;
use std::ops::Deref;
pub(crate) use std::os::unix::fs::FileExt;
pub(crate) use std::sync::Arc;
pub(crate) use std::time::{Duration, SystemTime};

pub(crate) use futures_util::StreamExt;
pub(crate) use futures_util::future::join_all;
pub(crate) use graph_emulator::{Act, Fault, Host, NodeKind, Profile, ReplyBody, Route, Settings};
use tuyunfs::graph::FoundDrive;
pub(crate) use tuyunfs::graph::{DriveKind, Graph, GraphConfig};
pub(crate) use tuyunfs::ports::{
    DeltaFrom, DeltaNext, Drive, DriveError, Quota, Update, Upload, UploadTarget,
};
pub(crate) use tuyunfs::tree::{ContentId, ETag, Item, ItemFacet, ItemId};

pub(crate) use crate::bench::Bench;

pub(crate) const MIB: usize = 1 << 20;

/// Kinds whose tags, ids and times look different.
pub(crate) const KINDS: [Profile; 4] = [
    Profile::PersonalClassic,
    Profile::PersonalMigrated,
    Profile::Business,
    Profile::Library,
];

/// A client of an emulated drive, and the folder that it works in.
pub(crate) struct Client {
    pub(crate) bench: Bench,
    pub(crate) graph: Arc<Graph>,
    pub(crate) root: Item,
    config: GraphConfig,
    found: FoundDrive,
}

impl Deref for Client {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl Client {
    pub(crate) async fn of(profile: Profile) -> Self {
        Self::with(profile, |_| {}).await
    }

    pub(crate) async fn with(profile: Profile, adjust: impl FnOnce(&mut Settings)) -> Self {
        let bench = Bench::start(profile, adjust).await;
        Self::on(bench, |_| {}).await
    }

    pub(crate) async fn configured(
        profile: Profile,
        adjust: impl FnOnce(&mut GraphConfig),
    ) -> Self {
        Self::on(Bench::start(profile, |_| {}).await, adjust).await
    }

    async fn on(bench: Bench, adjust: impl FnOnce(&mut GraphConfig)) -> Self {
        // A library is nobody's own drive: its id is named.
        let profile = bench.service.profile();
        let named = if profile == Profile::Library {
            bench.service.drive_id()
        } else {
            String::new()
        };
        let found = find(&bench, &named).await.unwrap();
        let mut config = GraphConfig {
            graph_url: bench.service.graph_url().to_owned(),
            state_dir: Some(bench.dir.path().to_owned()),
            china: profile == Profile::China,
            ..GraphConfig::default()
        };
        adjust(&mut config);
        let graph = Arc::new(Graph::of(&config, bench.signed_in(), &found).unwrap());
        let root = graph.ensure_root("/share/mount").await.unwrap();
        bench.service.reset_log();
        Self {
            bench,
            graph,
            root,
            config,
            found,
        }
    }

    /// A process that starts on the same state.
    pub(crate) fn restart(&mut self) {
        let graph = Graph::of(&self.config, self.bench.signed_in(), &self.found);
        self.graph = Arc::new(graph.unwrap());
    }

    pub(crate) fn new_file(&self, name: &str) -> UploadTarget {
        UploadTarget::New {
            parent: self.root.id.clone(),
            name: name.into(),
        }
    }

    pub(crate) async fn put(&self, target: UploadTarget, bytes: &[u8]) -> Result<Item, DriveError> {
        self.put_at(target, bytes, None).await
    }

    pub(crate) async fn put_at(
        &self,
        target: UploadTarget,
        bytes: &[u8],
        modified: Option<SystemTime>,
    ) -> Result<Item, DriveError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let file = Arc::new(file);
        self.upload(Upload {
            target,
            content: ContentId(1),
            file,
            size: bytes.len() as u64,
            modified,
        })
        .await
    }

    pub(crate) async fn read_all(
        &self,
        id: &ItemId,
        start: u64,
        end: u64,
    ) -> Result<Vec<u8>, DriveError> {
        let mut download = self.read(id, start..end).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = download.bytes.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok(bytes)
    }

    /// What the drive holds in our folder under a name, in how many versions.
    pub(crate) fn held(&self, name: &str) -> (Vec<u8>, usize) {
        let path = format!("/share/mount/{name}");
        let node = self
            .bench
            .service
            .node(&path)
            .unwrap_or_else(|| panic!("no {path}"));
        (self.bench.service.read_file(&path).unwrap(), node.versions)
    }

    pub(crate) fn put_elsewhere(&self, name: &str, bytes: &[u8]) {
        self.bench
            .service
            .put_file(&format!("/share/mount/{name}"), bytes)
            .unwrap();
    }
}

pub(crate) async fn find(bench: &Bench, drive_id: &str) -> Result<FoundDrive, DriveError> {
    let config = GraphConfig {
        graph_url: bench.service.graph_url().to_owned(),
        ca_pem: None,
        ..GraphConfig::default()
    };
    Graph::find(&config, bench.signed_in(), drive_id, "").await
}

pub(crate) fn replacing(item: &Item) -> UploadTarget {
    UploadTarget::Replace {
        id: item.id.clone(),
        held: item.etag.clone(),
    }
}

/// Bytes that tell where they are from.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// Nothing arrived while the service had asked for silence.
pub(crate) fn assert_silent(client: &Client) {
    let entries = client.bench.service.requests();
    let asked: Vec<_> = entries
        .iter()
        .filter(|entry| entry.retry_after.is_some())
        .collect();
    assert!(!asked.is_empty());
    for refused in asked {
        let from = refused.arrived_ms + refused.took_ms.unwrap();
        // What was under way when the refusal left is nobody's fault.
        let (from, until) = (from + 50, from + refused.retry_after.unwrap() * 1000);
        let loud = entries
            .iter()
            .find(|entry| (from..until).contains(&entry.arrived_ms));
        assert!(
            loud.is_none(),
            "{loud:?} came during the silence of {refused:?}"
        );
    }
}
