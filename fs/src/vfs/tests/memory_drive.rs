//! A drive in memory, for tests of the use cases: conditional, case-ignoring, and made to fail.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::content::hash::QuickXor;
use crate::ports::{
    DeltaFrom, DeltaLink, DeltaNext, DeltaPage, Download, Drive, DriveError, Quota, Update, Upload,
    UploadTarget,
};
use crate::tree::{DriveId, ETag, Fold, Item, ItemFacet, ItemId, QuickXorHash};

/// The id of the folder that is mounted.
pub(super) const ROOT: &str = "ROOT";

#[derive(Default)]
pub(super) struct MemoryDrive {
    state: Mutex<State>,
    /// Requests that wait until the test lets them go on; `None`: nobody waits.
    gate: Mutex<Option<Vec<Waiting>>>,
}

/// A request at the gate: what it is, and who is to say what becomes of it.
type Waiting = (String, oneshot::Sender<Fate>);

/// What becomes of a request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It takes effect and is answered.
    Answer,
    /// It does not arrive.
    LoseRequest,
    /// It takes effect, and nobody is told.
    LoseReply,
    /// It takes effect, and its reply waits in turn.
    Late,
}

/// What the drive does at present.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Quirk {
    /// It has no delta.
    WithoutDelta,
    /// What changes something takes effect, and its reply is lost.
    LosingReplies,
    /// It does not answer listings.
    NoListings,
    /// Listings go on showing what was deleted.
    Lingering,
    /// It has no room for any content.
    Full,
    /// It refuses every change for good.
    Refusing,
    /// It answers 404 to every item that is asked for by its id.
    NoItems,
    /// What is seen under a name waits at the gate, and is old when it arrives.
    SlowLooks,
}

#[derive(Clone, Default)]
struct State {
    items: HashMap<ItemId, Stored>,
    log: Vec<ItemId>,
    next: u64,
    calls: Vec<String>,
    offline: bool,
    /// Items that listings lack.
    hidden: HashSet<ItemId>,
    /// What the next delta answers in place of its page.
    resync: Option<bool>,
    quirks: HashSet<Quirk>,
    /// Another client renames this, to that, just before the next upload arrives.
    rename_first: Option<(ItemId, String)>,
}

#[derive(Clone)]
struct Stored {
    parent: ItemId,
    name: String,
    bytes: Option<Vec<u8>>,
    version: u64,
    modified: SystemTime,
    deleted: bool,
    /// The hash that is told is that of another stream.
    odd: bool,
    /// It is a notebook.
    notebook: bool,
    /// It is a link to this item of another drive.
    leads_to: Option<(DriveId, ItemId)>,
}

fn hash(bytes: &[u8]) -> QuickXorHash {
    let mut hash = QuickXor::new();
    hash.update(bytes);
    hash.finish()
}

/// As the service keeps times (trap T42).
fn to_the_second(at: SystemTime) -> SystemTime {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

impl State {
    fn item(&self, id: &ItemId) -> Result<Item, DriveError> {
        let stored = self
            .items
            .get(id)
            .filter(|it| !it.deleted)
            .ok_or(DriveError::NotFound)?;
        Ok(describe(id, stored))
    }

    fn holder(&self, parent: &ItemId, name: &str) -> Option<ItemId> {
        let fold = Fold::of(name);
        self.items
            .iter()
            .find(|(_, it)| !it.deleted && it.parent == *parent && Fold::of(&it.name) == fold)
            .map(|(id, _)| id.clone())
    }

    fn touch(&mut self, id: &ItemId) {
        self.log.push(id.clone());
    }

    fn add(&mut self, parent: &ItemId, name: &str, bytes: Option<Vec<u8>>) -> ItemId {
        self.next += 1;
        let id = ItemId::new(format!("I{}", self.next));
        let stored = Stored {
            parent: parent.clone(),
            name: name.to_owned(),
            bytes,
            version: 1,
            modified: SystemTime::now(),
            deleted: false,
            odd: false,
            notebook: false,
            leads_to: None,
        };
        self.items.insert(id.clone(), stored);
        self.touch(&id);
        id
    }

    fn call(&mut self, what: String) -> Result<(), DriveError> {
        self.calls.push(what);
        if self.offline {
            return Err(DriveError::Unavailable {
                what: "unplugged".into(),
                retry_after: None,
            });
        }
        Ok(())
    }

    /// What a request that took effect is answered with.
    fn made(&self, id: &ItemId) -> Result<Item, DriveError> {
        if self.quirks.contains(&Quirk::LosingReplies) {
            return Err(DriveError::Unavailable {
                what: "the reply was lost".into(),
                retry_after: Some(std::time::Duration::from_millis(1)),
            });
        }
        self.item(id)
    }

    fn parent_exists(&self, parent: &ItemId) -> Result<(), DriveError> {
        let known = parent.as_str() == ROOT || self.items.get(parent).is_some_and(|it| !it.deleted);
        if known {
            Ok(())
        } else {
            Err(DriveError::NotFound)
        }
    }
}

fn describe(id: &ItemId, stored: &Stored) -> Item {
    Item {
        id: id.clone(),
        parent: Some(stored.parent.clone()),
        name: Some(stored.name.clone()),
        facet: match &stored.bytes {
            _ if stored.deleted => ItemFacet::Deleted,
            _ if stored.notebook => ItemFacet::Other,
            Some(bytes) => ItemFacet::File {
                hash: Some(hash(if stored.odd { b"another" } else { bytes })),
                malware: false,
            },
            None => match stored.leads_to.clone() {
                Some((drive, item)) => ItemFacet::Shortcut {
                    drive,
                    item,
                    folder: true,
                },
                None => ItemFacet::Folder,
            },
        },
        size: stored.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
        etag: Some(ETag::new(format!("{id}-{}", stored.version))),
        ctag: None,
        modified: Some(stored.modified),
        created: None,
    }
}

impl MemoryDrive {
    /// Another drive that has the same, and goes its own way from here.
    pub(super) fn twin(&self) -> Self {
        Self {
            state: Mutex::new(self.state.lock().clone()),
            gate: Mutex::default(),
        }
    }

    /// All paths with their bytes; folders end in a slash.
    pub(super) fn dump(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let state = self.state.lock();
        let mut all: Vec<_> = state
            .items
            .values()
            .filter(|it| !it.deleted)
            .map(|it| {
                let mut path = it.name.clone();
                let mut at = &it.parent;
                while ![ROOT, "TOP", "b!other/ABOVE"].contains(&at.as_str()) {
                    let dir = &state.items[at];
                    path = format!("{}/{path}", dir.name);
                    at = &dir.parent;
                }
                (
                    if it.bytes.is_some() { path } else { path + "/" },
                    it.bytes.clone(),
                )
            })
            .collect();
        all.sort();
        all
    }

    /// The calls since the last time that somebody asked.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().calls)
    }

    pub(super) fn set_offline(&self, offline: bool) {
        self.state.lock().offline = offline;
    }

    /// Another client puts a file.
    pub(super) fn put(&self, parent: &str, name: &str, bytes: &[u8]) -> ItemId {
        let mut state = self.state.lock();
        let parent = ItemId::new(parent);
        if let Some(id) = state.holder(&parent, name) {
            let stored = state.items.get_mut(&id).expect("just found");
            stored.bytes = Some(bytes.to_vec());
            stored.version += 1;
            state.touch(&id);
            return id;
        }
        state.add(&parent, name, Some(bytes.to_vec()))
    }

    /// The item of a name in the mounted folder.
    pub(super) fn find(&self, name: &str) -> Option<ItemId> {
        self.state.lock().holder(&ItemId::new(ROOT), name)
    }

    /// The item at a path below the mounted folder.
    pub(super) fn at(&self, path: &str) -> Option<ItemId> {
        let state = self.state.lock();
        let mut at = ItemId::new(ROOT);
        for name in path.split('/') {
            at = state.holder(&at, name)?;
        }
        Some(at)
    }

    /// Another client deletes a folder with all that is in it.
    pub(super) fn remove_all(&self, id: &ItemId) {
        let below: Vec<ItemId> = {
            let state = self.state.lock();
            let inside = state.items.iter().filter(|(_, it)| !it.deleted);
            inside
                .filter(|(_, it)| it.parent == *id)
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in &below {
            self.remove_all(id);
        }
        self.remove(id);
    }

    /// The service gives an item another tag.
    pub(super) fn retag(&self, id: &ItemId) {
        let mut state = self.state.lock();
        state.items.get_mut(id).expect("a known item").version += 1;
        state.touch(id);
    }

    /// Another client makes a notebook.
    pub(super) fn notebook(&self, name: &str) -> ItemId {
        let mut state = self.state.lock();
        let id = state.add(&ItemId::new(ROOT), name, None);
        state.items.get_mut(&id).expect("just made").notebook = true;
        id
    }

    /// The service tells the hash of another stream than the one that it sends.
    pub(super) fn tell_another_hash(&self, id: &ItemId) {
        let mut state = self.state.lock();
        state.items.get_mut(id).expect("a known item").odd = true;
        state.touch(id);
    }

    /// Another client makes a folder.
    pub(super) fn mkdir(&self, parent: &str, name: &str) -> ItemId {
        self.state.lock().add(&ItemId::new(parent), name, None)
    }

    /// Another client adds a link to a folder of another drive, and what is in that folder.
    pub(super) fn link(&self, name: &str, inside: &[(&str, &[u8])]) -> (ItemId, ItemId) {
        let mut state = self.state.lock();
        let (drive, folder) = (DriveId::new("b!other"), ItemId::new("SHARED"));
        let target = ItemId::in_drive(&drive, folder.as_str());
        let link = state.add(&ItemId::new(ROOT), name, None);
        state.items.get_mut(&link).expect("just made").leads_to = Some((drive, folder));
        let above = Stored {
            parent: ItemId::new("b!other/ABOVE"),
            name: "shared".into(),
            bytes: None,
            version: 1,
            modified: SystemTime::now(),
            deleted: false,
            odd: false,
            notebook: false,
            leads_to: None,
        };
        state.items.insert(target.clone(), above);
        for (name, bytes) in inside {
            state.add(&target, name, Some(bytes.to_vec()));
        }
        (link, target)
    }

    /// Another client deletes.
    pub(super) fn remove(&self, id: &ItemId) {
        let mut state = self.state.lock();
        if let Some(it) = state.items.get_mut(id) {
            it.deleted = true;
        }
        state.touch(id);
    }

    /// The drive forgets an item without a tombstone.
    pub(super) fn forget(&self, id: &ItemId) {
        if let Some(it) = self.state.lock().items.get_mut(id) {
            it.deleted = true;
        }
    }

    /// A deleted item comes back from the recycle bin.
    pub(super) fn undelete(&self, id: &ItemId) {
        let mut state = self.state.lock();
        if let Some(it) = state.items.get_mut(id) {
            it.deleted = false;
        }
        state.touch(id);
    }

    pub(super) fn set(&self, quirk: Quirk) {
        self.state.lock().quirks.insert(quirk);
    }

    pub(super) fn clear(&self, quirk: Quirk) {
        self.state.lock().quirks.remove(&quirk);
    }

    /// Another client moves an item.
    pub(super) fn shift(&self, id: &ItemId, parent: &str, name: &str) {
        let mut state = self.state.lock();
        let stored = state.items.get_mut(id).expect("a known item");
        (stored.parent, stored.name) = (ItemId::new(parent), name.to_owned());
        stored.version += 1;
        state.touch(id);
    }

    /// Listings lack an item that is there.
    pub(super) fn hide(&self, id: &ItemId) {
        self.state.lock().hidden.insert(id.clone());
    }

    /// The next link is refused as too old.
    pub(super) fn lose_track(&self, keep_local: bool) {
        self.state.lock().resync = Some(keep_local);
    }

    /// Another client renames an item just before the next upload arrives.
    pub(super) fn rename_before_upload(&self, id: &ItemId, name: &str) {
        self.state.lock().rename_first = Some((id.clone(), name.to_owned()));
    }

    pub(super) fn version(&self, id: &ItemId) -> u64 {
        self.state.lock().items[id].version
    }
}

/// Requests at the gate.
impl MemoryDrive {
    /// From now on what changes something waits for the test.
    pub(super) fn shut_gate(&self) {
        *self.gate.lock() = Some(Vec::new());
    }

    /// Everything goes on, now and later.
    pub(super) fn open_gate(&self) {
        for (_, go) in self.gate.lock().take().into_iter().flatten() {
            let _ = go.send(Fate::Answer);
        }
    }

    /// What waits.
    pub(super) fn waiting(&self) -> Vec<String> {
        let gate = self.gate.lock();
        gate.iter()
            .flatten()
            .map(|(what, _)| what.clone())
            .collect()
    }

    /// Decides on one of those that wait.
    pub(super) fn decide(&self, which: usize, fate: Fate) {
        let mut gate = self.gate.lock();
        let Some(waiting) = gate.as_mut().filter(|waiting| !waiting.is_empty()) else {
            return;
        };
        let (_, go) = waiting.remove(which % waiting.len());
        let _ = go.send(fate);
    }

    async fn fate(&self, what: &str) -> Fate {
        let decision = {
            let mut gate = self.gate.lock();
            let Some(waiting) = gate.as_mut() else {
                return Fate::Answer;
            };
            let (go, decision) = oneshot::channel();
            waiting.push((what.to_owned(), go));
            decision
        };
        decision.await.unwrap_or(Fate::LoseRequest)
    }

    /// A request that changes something: at the gate, then its effect, then its reply.
    async fn change<T>(
        &self,
        what: String,
        effect: impl FnOnce(&mut State) -> Result<T, DriveError> + Send,
    ) -> Result<T, DriveError> {
        let lost = || DriveError::Unavailable {
            what: "lost on the way".into(),
            retry_after: None,
        };
        let fate = self.fate(&what).await;
        if fate == Fate::LoseRequest {
            return Err(lost());
        }
        let result = {
            let mut state = self.state.lock();
            state.call(what.clone())?;
            if state.quirks.contains(&Quirk::Refusing) {
                return Err(DriveError::Refused {
                    code: "invalidRequest".into(),
                    message: "no".into(),
                });
            }
            effect(&mut state)
        };
        let told = match fate {
            Fate::Late => self.fate(&format!("reply of {what}")).await,
            fate => fate,
        };
        match told {
            Fate::Answer | Fate::Late => result,
            Fate::LoseReply | Fate::LoseRequest => Err(lost()),
        }
    }
}

#[async_trait]
impl Drive for MemoryDrive {
    async fn item(&self, id: &ItemId) -> Result<Item, DriveError> {
        let mut state = self.state.lock();
        state.call(format!("item {id}"))?;
        if state.quirks.contains(&Quirk::NoItems) {
            return Err(DriveError::NotFound);
        }
        state.item(id)
    }

    async fn child(&self, folder: &ItemId, name: &str) -> Result<Item, DriveError> {
        let (seen, slow) = {
            let mut state = self.state.lock();
            state.call(format!("child {name}"))?;
            let holder = state.holder(folder, name).ok_or(DriveError::NotFound);
            let seen = holder.and_then(|id| state.item(&id));
            (seen, state.quirks.contains(&Quirk::SlowLooks))
        };
        if slow {
            match self.fate(&format!("look {name}")).await {
                Fate::Answer | Fate::Late => {}
                Fate::LoseRequest | Fate::LoseReply => {
                    return Err(DriveError::Unavailable {
                        what: "lost on the way".into(),
                        retry_after: None,
                    });
                }
            }
        }
        seen
    }

    async fn children(&self, folder: &ItemId) -> Result<Vec<Item>, DriveError> {
        let mut state = self.state.lock();
        state.call(format!("children {folder}"))?;
        if state.quirks.contains(&Quirk::NoListings) {
            return Err(DriveError::Unavailable {
                what: "no listings now".into(),
                retry_after: None,
            });
        }
        state.parent_exists(folder)?;
        Ok(state
            .items
            .iter()
            .filter(|(id, it)| {
                let lives = !it.deleted || state.quirks.contains(&Quirk::Lingering);
                lives && it.parent == *folder && !state.hidden.contains(*id)
            })
            .map(|(id, it)| {
                let shown = Stored {
                    deleted: false,
                    ..it.clone()
                };
                describe(id, &shown)
            })
            .collect())
    }

    async fn create_folder(&self, parent: &ItemId, name: &str) -> Result<Item, DriveError> {
        self.change(format!("mkdir {name}"), |state| {
            state.parent_exists(parent)?;
            if state.holder(parent, name).is_some() {
                return Err(DriveError::NameTaken);
            }
            let id = state.add(parent, name, None);
            state.made(&id)
        })
        .await
    }

    async fn folder_at(&self, path: &str) -> Result<Item, DriveError> {
        let mut state = self.state.lock();
        state.call(format!("folder {path}"))?;
        let parent = ItemId::new("TOP");
        let id = match state.holder(&parent, path) {
            Some(id) => id,
            None => state.add(&parent, path, None),
        };
        state.item(&id)
    }

    async fn upload(&self, upload: Upload) -> Result<Item, DriveError> {
        let mut bytes = vec![0; usize::try_from(upload.size).expect("small in tests")];
        upload
            .file
            .read_exact_at(&mut bytes, 0)
            .map_err(DriveError::Disk)?;
        if self.state.lock().quirks.contains(&Quirk::Full) {
            return Err(DriveError::QuotaFull);
        }
        let what = match &upload.target {
            UploadTarget::New { name, .. } => format!("create {name}"),
            UploadTarget::Replace { id, .. } => format!("replace {id}"),
        };
        self.change(what, |state| match upload.target {
            UploadTarget::New { parent, name } => {
                state.parent_exists(&parent)?;
                if state.holder(&parent, &name).is_some() {
                    return Err(DriveError::NameTaken);
                }
                let id = state.add(&parent, &name, Some(bytes));
                state.made(&id)
            }
            UploadTarget::Replace { id, held } => {
                if let Some((id, name)) = state.rename_first.take() {
                    state.items.get_mut(&id).expect("a known item").name = name;
                    state.touch(&id);
                }
                let now = state.item(&id)?;
                if held.is_some() && held != now.etag {
                    return Err(DriveError::Conflict);
                }
                let stored = state.items.get_mut(&id).expect("just seen");
                stored.bytes = Some(bytes);
                stored.version += 1;
                state.touch(&id);
                state.made(&id)
            }
        })
        .await
    }

    async fn update(&self, id: &ItemId, update: Update) -> Result<Item, DriveError> {
        let what = match &update.place {
            Some((_, name)) if update.replace => format!("update {id} over {name}"),
            _ => format!("update {id}"),
        };
        self.change(what, |state| {
            state.item(id)?;
            if let Some((parent, name)) = &update.place {
                state.parent_exists(parent)?;
                if let Some(other) = state.holder(parent, name).filter(|other| other != id) {
                    if !update.replace {
                        return Err(DriveError::NameTaken);
                    }
                    state.items.get_mut(&other).expect("just found").deleted = true;
                    state.touch(&other);
                }
                let stored = state.items.get_mut(id).expect("just seen");
                (stored.parent, stored.name) = (parent.clone(), name.clone());
            }
            let stored = state.items.get_mut(id).expect("just seen");
            if let Some(modified) = update.modified {
                stored.modified = to_the_second(modified);
            }
            stored.version += 1;
            state.touch(id);
            state.made(id)
        })
        .await
    }

    async fn delete(&self, id: &ItemId, held: Option<&ETag>) -> Result<(), DriveError> {
        self.change(format!("delete {id}"), |state| {
            let Ok(now) = state.item(id) else {
                return Ok(());
            };
            if held.is_some() && held != now.etag.as_ref() {
                return Err(DriveError::Conflict);
            }
            state.items.get_mut(id).expect("just seen").deleted = true;
            state.touch(id);
            Ok(())
        })
        .await
    }

    async fn read(&self, id: &ItemId, range: Range<u64>) -> Result<Download, DriveError> {
        let mut state = self.state.lock();
        state.call(format!("read {id} {}..{}", range.start, range.end))?;
        state.item(id)?;
        let bytes = state.items[id].bytes.clone().ok_or(DriveError::NotFound)?;
        let at = |n: u64| usize::try_from(n).expect("small in tests").min(bytes.len());
        let part = Bytes::copy_from_slice(&bytes[at(range.start)..at(range.end)]);
        Ok(Download {
            version: None,
            total: bytes.len() as u64,
            bytes: Box::pin(futures_util::stream::iter([Ok(part)])),
        })
    }

    async fn delta(&self, from: DeltaFrom) -> Result<DeltaPage, DriveError> {
        let mut state = self.state.lock();
        state.call("delta".into())?;
        if state.quirks.contains(&Quirk::WithoutDelta) {
            return Err(DriveError::NotSupported("delta".into()));
        }
        if let (Some(keep_local), DeltaFrom::Link(_)) = (state.resync, &from) {
            state.resync = None;
            return Err(DriveError::Resync {
                start: None,
                keep_local,
            });
        }
        let start = match from {
            DeltaFrom::Now => state.log.len(),
            DeltaFrom::Start => 0,
            DeltaFrom::Link(link) => link.0.parse().map_err(|_| DriveError::Resync {
                start: None,
                keep_local: false,
            })?,
        };
        let items = state.log[start..]
            .iter()
            .map(|id| describe(id, &state.items[id]))
            .collect();
        let next = DeltaNext::Round(DeltaLink(state.log.len().to_string()));
        Ok(DeltaPage { items, next })
    }

    async fn quota(&self) -> Result<Option<Quota>, DriveError> {
        Ok(None)
    }
}
