//! What a test does to the drive, and sees of it, without going through the API.
//!
//! Shared by the Rust methods and the control listener. Changes obey the service's rules.

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    refusal::Refusal,
    store::{Conflict, Drive, Item, Kind, Mark, MoveQuirks, Place, Relocation, Stamps},
    world::{State, World},
};

/// The drive that the profile is about.
pub(crate) const MAIN: usize = 0;
/// What a client of this product would ask for.
const SCOPE: &str = "Files.ReadWrite.All offline_access";

/// An item as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Decoded path from the root, without a slash in front.
    pub path: String,
    /// The item id.
    pub id: String,
    /// File, folder or neither.
    pub kind: NodeKind,
    /// Bytes of a file; of a folder, the sum below it.
    pub size: u64,
    /// `QuickXorHash` in base64, of files.
    pub quick_xor_hash: Option<String>,
    /// The eTag as the API gives it.
    pub etag: String,
    /// The cTag, where the API gives one.
    pub ctag: Option<String>,
    /// How many versions a file has, the present one included; 0 for folders.
    pub versions: usize,
    /// The client's mtime as the API gives it.
    pub mtime: String,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A notebook.
    Package,
}

/// One version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// `1.0`, `2.0`, …
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// `QuickXorHash` in base64.
    pub quick_xor_hash: String,
}

/// Tokens given without a sign-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenPair {
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// Life of the access token in seconds.
    pub expires_in: u64,
}

// By value, as `map_err` gives it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err needs"
)]
fn in_words(refusal: Refusal) -> anyhow::Error {
    anyhow!("{refusal}")
}

fn names(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn find<'a>(state: &'a State, path: &str) -> anyhow::Result<&'a Item> {
    let drive = &state.drives[MAIN];
    match drive.resolve(&drive.root, &names(path)) {
        Ok(Place::Taken(id)) => drive.get(&id).context("the item has just been found"),
        Ok(Place::Free { .. }) | Err(_) => Err(anyhow!("there is no {path} on the drive")),
    }
}

fn stamps(now: Timestamp) -> Stamps {
    Stamps {
        created: now,
        modified: now,
    }
}

/// The folder of these names, made where it is missing.
fn ensure(drive: &mut Drive, names: &[String], now: Timestamp) -> anyhow::Result<String> {
    let mut at = drive.root.clone();
    for name in names {
        let there = drive.child(&at, name).map(|item| item.id.clone());
        at = match there {
            Some(id) => id,
            None => {
                drive
                    .make_folder(&at, name, Conflict::Fail, stamps(now), now)
                    .map_err(in_words)?
                    .0
            }
        };
    }
    Ok(at)
}

fn parent_and_name(path: &str) -> anyhow::Result<(Vec<String>, String)> {
    let mut names = names(path);
    let name = names
        .pop()
        .with_context(|| format!("{path:?} names no item"))?;
    Ok((names, name))
}

pub(crate) fn put_file(world: &World, path: &str, bytes: &[u8]) -> anyhow::Result<Node> {
    let (folders, name) = parent_and_name(path)?;
    let content = world.hold(bytes, MAIN).map_err(in_words)?;
    let now = world.now();
    let node = {
        let mut state = world.state();
        let drive = &mut state.drives[MAIN];
        let parent = ensure(drive, &folders, now)?;
        let place = drive.resolve(&parent, &[name]).map_err(in_words)?;
        let (id, _) = drive
            .put_file(place, content, Conflict::Replace, stamps(now), now)
            .map_err(in_words)?;
        describe_id(drive, &id)?
    };
    world.pulse.beat();
    Ok(node)
}

pub(crate) fn make_folder(world: &World, path: &str) -> anyhow::Result<Node> {
    let node = {
        let mut state = world.state();
        let drive = &mut state.drives[MAIN];
        let id = ensure(drive, &names(path), world.now())?;
        describe_id(drive, &id)?
    };
    world.pulse.beat();
    Ok(node)
}

pub(crate) fn make_package(world: &World, path: &str) -> anyhow::Result<Node> {
    let (folders, name) = parent_and_name(path)?;
    let now = world.now();
    let node = {
        let mut state = world.state();
        let drive = &mut state.drives[MAIN];
        let parent = ensure(drive, &folders, now)?;
        if drive.child(&parent, &name).is_some() {
            return Err(in_words(Refusal::name_exists()));
        }
        let id = drive
            .create(&parent, &name, Kind::Package, stamps(now), now)
            .map_err(in_words)?;
        describe_id(drive, &id)?
    };
    world.pulse.beat();
    Ok(node)
}

pub(crate) fn relocate(
    world: &World,
    path: &str,
    folder: Option<&str>,
    name: Option<&str>,
) -> anyhow::Result<Node> {
    let node = {
        let mut state = world.state();
        let id = find(&state, path)?.id.clone();
        let parent = folder
            .map(|folder| anyhow::Ok(find(&state, folder)?.id.clone()))
            .transpose()?;
        let change = Relocation {
            parent,
            name: name.map(str::to_owned),
            created: None,
            modified: None,
        };
        let drive = &mut state.drives[MAIN];
        drive
            .relocate(
                &id,
                &change,
                Conflict::Fail,
                MoveQuirks::default(),
                world.now(),
            )
            .map_err(in_words)?;
        describe_id(drive, &id)?
    };
    world.pulse.beat();
    Ok(node)
}

pub(crate) fn delete(world: &World, path: &str) -> anyhow::Result<()> {
    {
        let mut state = world.state();
        let id = find(&state, path)?.id.clone();
        state.drives[MAIN]
            .remove(&id, world.now())
            .map_err(in_words)?;
    }
    world.pulse.beat();
    Ok(())
}

pub(crate) fn mark(world: &World, path: &str, mark: Option<Mark>) -> anyhow::Result<()> {
    let mut state = world.state();
    let id = find(&state, path)?.id.clone();
    state.drives[MAIN].mark(&id, mark).map_err(in_words)
}

pub(crate) fn tree(world: &World) -> Vec<Node> {
    let state = world.state();
    let drive = &state.drives[MAIN];
    let mut nodes: Vec<Node> = drive
        .below(&drive.root)
        .into_iter()
        .map(|item| describe(drive, item))
        .collect();
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    nodes
}

pub(crate) fn file_count(world: &World) -> usize {
    let state = world.state();
    let drive = &state.drives[MAIN];
    drive
        .below(&drive.root)
        .into_iter()
        .filter(|item| item.file().is_some())
        .count()
}

pub(crate) fn node(world: &World, path: &str) -> Option<Node> {
    let state = world.state();
    let item = find(&state, path).ok()?;
    let node = describe(&state.drives[MAIN], item);
    (node.path == names(path).join("/")).then_some(node)
}

pub(crate) fn read_file(world: &World, path: &str) -> Option<Vec<u8>> {
    let content = find(&world.state(), path).ok()?.file()?.content.clone();
    content.all().ok().map(Vec::from)
}

pub(crate) fn versions(world: &World, path: &str) -> Vec<VersionInfo> {
    let state = world.state();
    let Some(file) = find(&state, path).ok().and_then(Item::file) else {
        return Vec::new();
    };
    let info = |number: u32, content: &crate::content::Content| VersionInfo {
        id: format!("{number}.0"),
        size: content.length(),
        quick_xor_hash: content.quick().to_owned(),
    };
    let mut versions = vec![info(file.number, &file.content)];
    versions.extend(
        file.older
            .iter()
            .rev()
            .map(|old| info(old.number, &old.content)),
    );
    versions
}

fn describe_id(drive: &Drive, id: &str) -> anyhow::Result<Node> {
    Ok(describe(drive, drive.find(id).map_err(in_words)?))
}

fn describe(drive: &Drive, item: &Item) -> Node {
    let file = item.file();
    Node {
        path: drive.path(&item.id),
        id: item.id.clone(),
        kind: match item.kind {
            Kind::Folder(_) => NodeKind::Folder,
            Kind::File(_) => NodeKind::File,
            Kind::Package => NodeKind::Package,
        },
        size: item.size(),
        quick_xor_hash: file.map(|file| file.content.quick().to_owned()),
        etag: item.etag(&drive.switches),
        ctag: item.ctag(&drive.switches),
        versions: file.map_or(0, |file| file.older.len() + 1),
        mtime: clock::text(item.stamps.modified, drive.switches.millis),
    }
}

pub(crate) fn issue_token(world: &World, client_id: &str) -> TokenPair {
    let now = world.now();
    let mut state = world.state();
    let settings = state.settings.clone();
    let reply = state.grants.give(client_id, SCOPE, &settings, now);
    let text = |name: &str| reply[name].as_str().unwrap_or_default().to_owned();
    TokenPair {
        access_token: text("access_token"),
        refresh_token: text("refresh_token"),
        expires_in: settings.access_token_seconds,
    }
}

pub(crate) fn waiting_devices(world: &World) -> Vec<String> {
    let now = world.now();
    let state = world.state();
    let waiting = state.grants.devices.values();
    waiting
        .filter(|device| device.decision.is_none() && now < device.expires)
        .map(|device| device.user_code.clone())
        .collect()
}
