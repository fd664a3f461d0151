//! What a plain map of paths to bytes would do, and the same done in the mounted folder.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::AsRawFd as _;

use proptest::prelude::*;

use super::memory_drive::Quirk;
use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Put(usize, Vec<u8>),
    Append(usize, Vec<u8>),
    Cut(usize, u8),
    Unlink(usize),
    /// Unlinked while open, written and read, and closed.
    WriteUnlinked(usize, Vec<u8>),
    /// What was closed is brought to the disk.
    Sync(usize),
    Mkdir(usize),
    Rmdir(usize),
    Rename(usize, usize),
    Exchange(usize, usize),
    /// Somebody reads it, and goes on: the kernel has it open by itself.
    Hold(usize),
    /// All who read are done.
    LetGo,
    Drain,
    DrainInVain,
    Evict,
    Round,
}

/// Few places, so that steps meet: three names in the root and in each of two folders.
pub(super) const PLACES: &[&str] = &["a", "b", "d", "e", "d/a", "d/b", "d/e", "e/a", "e/b", "e/d"];

pub(super) fn step() -> impl Strategy<Value = Step> {
    let place = || 0..PLACES.len();
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        6 => (place(), bytes()).prop_map(|(at, bytes)| Step::Put(at, bytes)),
        2 => (place(), bytes()).prop_map(|(at, bytes)| Step::Append(at, bytes)),
        1 => (place(), any::<u8>()).prop_map(|(at, len)| Step::Cut(at, len % 20)),
        3 => place().prop_map(Step::Unlink),
        1 => (place(), bytes()).prop_map(|(at, bytes)| Step::WriteUnlinked(at, bytes)),
        4 => place().prop_map(Step::Mkdir),
        2 => place().prop_map(Step::Rmdir),
        6 => (place(), place()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (place(), place()).prop_map(|(from, to)| Step::Exchange(from, to)),
        3 => place().prop_map(Step::Hold),
        1 => Just(Step::LetGo),
        3 => Just(Step::Drain),
        1 => Just(Step::DrainInVain),
        1 => Just(Step::Evict),
        2 => Just(Step::Round),
    ]
}

/// Files with their bytes, folders with `None`.
pub(super) type Model = BTreeMap<String, Option<Vec<u8>>>;

pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

pub(super) fn is_dir(model: &Model, path: &str) -> bool {
    path.is_empty() || model.get(path) == Some(&None)
}

fn empty(model: &Model, dir: &str) -> bool {
    !model.keys().any(|path| parent(path) == dir)
}

pub(super) fn moved(model: &mut Model, from: &str, to: &str) {
    let below: Vec<String> = model
        .keys()
        .filter(|path| *path == from || path.starts_with(&format!("{from}/")))
        .cloned()
        .collect();
    for path in below {
        let value = model.remove(&path).expect("just listed");
        model.insert(format!("{to}{}", &path[from.len()..]), value);
    }
}

/// What the map does; whether it was allowed.
pub(super) fn apply(model: &mut Model, step: &Step) -> bool {
    match step {
        Step::Put(at, bytes) => {
            let path = PLACES[*at];
            let ok = is_dir(model, parent(path)) && model.get(path) != Some(&None);
            if ok {
                model.insert(path.to_owned(), Some(bytes.clone()));
            }
            ok
        }
        Step::Append(at, bytes) => match model.get_mut(PLACES[*at]) {
            Some(Some(held)) => {
                held.extend(bytes);
                true
            }
            _ => false,
        },
        Step::Cut(at, len) => match model.get_mut(PLACES[*at]) {
            Some(Some(held)) => {
                held.resize(usize::from(*len), 0);
                true
            }
            _ => false,
        },
        Step::Unlink(at) | Step::WriteUnlinked(at, _) => {
            let file = matches!(model.get(PLACES[*at]), Some(Some(_)));
            if file {
                model.remove(PLACES[*at]);
            }
            file
        }
        Step::Mkdir(at) => {
            let path = PLACES[*at];
            let ok = is_dir(model, parent(path)) && !model.contains_key(path);
            if ok {
                model.insert(path.to_owned(), None);
            }
            ok
        }
        Step::Rmdir(at) => {
            let ok = model.get(PLACES[*at]) == Some(&None) && empty(model, PLACES[*at]);
            if ok {
                model.remove(PLACES[*at]);
            }
            ok
        }
        Step::Rename(from, to) => {
            let (from, to) = (PLACES[*from], PLACES[*to]);
            let Some(source) = model.get(from).cloned() else {
                return false;
            };
            if !is_dir(model, parent(to)) || format!("{to}/").starts_with(&format!("{from}/")) {
                // Onto itself it does nothing, and below itself it may not.
                return from == to;
            }
            match (source.is_none(), model.get(to)) {
                (_, None) | (false, Some(Some(_))) => {}
                (true, Some(None)) if empty(model, to) => {}
                _ => return false,
            }
            model.remove(to);
            moved(model, from, to);
            true
        }
        Step::Exchange(a, b) => {
            let (a, b) = (PLACES[*a], PLACES[*b]);
            let within = |x: &str, y: &str| format!("{x}/").starts_with(&format!("{y}/"));
            let there = model.contains_key(a) && model.contains_key(b);
            if !there || (a != b && (within(a, b) || within(b, a))) {
                return false;
            }
            if a != b {
                moved(model, a, "?");
                moved(model, b, a);
                moved(model, "?", b);
            }
            true
        }
        Step::Sync(at) => matches!(model.get(PLACES[*at]), Some(Some(_))),
        Step::Hold(_)
        | Step::LetGo
        | Step::Drain
        | Step::DrainInVain
        | Step::Evict
        | Step::Round => true,
    }
}

async fn at(rig: &Rig, path: &str) -> Result<(NodeId, String), VfsError> {
    let mut dir = NodeId::ROOT;
    if let Some((parent, name)) = path.rsplit_once('/') {
        dir = rig.vfs.lookup(NodeId::ROOT, parent).await?.node;
        return Ok((dir, name.to_owned()));
    }
    Ok((dir, path.to_owned()))
}

/// Writes through a handle of its own, which is closed whatever becomes of it.
async fn through(
    rig: &Rig,
    handle: HandleId,
    work: impl Future<Output = Result<(), VfsError>>,
) -> Result<(), VfsError> {
    let done = work.await;
    let flushed = rig.vfs.flush(handle).await;
    rig.vfs.release(handle).await;
    done.and(flushed)
}

async fn write(rig: &Rig, node: NodeId, offset: Option<u64>, bytes: &[u8]) -> Result<(), VfsError> {
    let handle = rig.vfs.open(node, WRITE).await?;
    let work = async {
        let set = SetAttr {
            size: offset,
            ..SetAttr::default()
        };
        rig.vfs.set_attr(node, set, Some(handle)).await?;
        let end = rig.vfs.attr(node).await?.size;
        if !bytes.is_empty() {
            write_at(rig, handle, end, bytes).await?;
        }
        Ok(())
    };
    through(rig, handle, work).await
}

/// Writes as an application does: by the kernel itself, where it has the file open that way.
async fn write_at(rig: &Rig, handle: HandleId, at: u64, bytes: &[u8]) -> Result<(), VfsError> {
    let Some(passed) = rig.vfs.through(handle).await? else {
        let bytes = Bytes::copy_from_slice(bytes);
        return rig.vfs.write(handle, at, bytes).await.map(drop);
    };
    let file = passed.registered(std::fs::File::try_clone)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let file = std::fs::File::options().write(true).open(path)?;
    Ok(rig.disk.write_at(&file, bytes, at)?)
}

/// Opens a file for reading, for long.
async fn hold(rig: &Rig, path: &str) -> Result<(), VfsError> {
    let (dir, name) = at(rig, path).await?;
    let node = rig.vfs.lookup(dir, &name).await?.node;
    let handle = rig.vfs.open(node, READ).await?;
    rig.vfs.through(handle).await?;
    rig.held.lock().push(handle);
    Ok(())
}

/// Closes what is held, and waits for what that leaves to be done.
pub(super) async fn let_go(rig: &Rig) {
    let held = std::mem::take(&mut *rig.held.lock());
    for handle in held {
        rig.vfs.release(handle).await;
    }
    rig.vfs.quiesce(Duration::from_secs(10)).await;
}

async fn write_unlinked(rig: &Rig, path: &str, bytes: &[u8]) -> Result<(), VfsError> {
    let (dir, name) = at(rig, path).await?;
    let node = rig.vfs.lookup(dir, &name).await?.node;
    let handle = rig.vfs.open(node, WRITE).await?;
    if let Err(error) = rig.vfs.through(handle).await {
        rig.vfs.release(handle).await;
        return Err(error);
    }
    let unlinked = rig.vfs.unlink(dir, &name).await;
    if unlinked.is_err() {
        rig.vfs.release(handle).await;
        return unlinked;
    }
    let work = async {
        write_at(rig, handle, 3, bytes).await?;
        let all = rig.vfs.read(handle, 3, bytes.len()).await?;
        assert_eq!(all, bytes);
        Ok(())
    };
    // The name is gone, whatever the disk says to the rest.
    through(rig, handle, work).await.ok();
    Ok(())
}

pub(super) async fn perform(rig: &Rig, step: &Step) -> Result<(), VfsError> {
    match step {
        Step::Put(place, bytes) => {
            let (dir, name) = at(rig, PLACES[*place]).await?;
            match rig.vfs.lookup(dir, &name).await {
                Ok(attr) => write(rig, attr.node, Some(0), bytes).await,
                Err(VfsError::NotFound) => {
                    let (_, handle) = rig.vfs.create(dir, &name, 0o644, WRITE, true).await?;
                    let bytes = Bytes::copy_from_slice(bytes);
                    let work = async { rig.vfs.write(handle, 0, bytes).await.map(drop) };
                    through(rig, handle, work).await
                }
                Err(error) => Err(error),
            }
        }
        Step::Append(place, bytes) => {
            let (dir, name) = at(rig, PLACES[*place]).await?;
            let node = rig.vfs.lookup(dir, &name).await?.node;
            write(rig, node, None, bytes).await
        }
        Step::Cut(place, len) => {
            let (dir, name) = at(rig, PLACES[*place]).await?;
            let node = rig.vfs.lookup(dir, &name).await?.node;
            let set = SetAttr {
                size: Some(u64::from(*len)),
                ..SetAttr::default()
            };
            rig.vfs.set_attr(node, set, None).await.map(drop)
        }
        Step::Unlink(place) => {
            let (dir, name) = at(rig, PLACES[*place]).await?;
            rig.vfs.unlink(dir, &name).await
        }
        Step::WriteUnlinked(place, bytes) => write_unlinked(rig, PLACES[*place], bytes).await,
        Step::Sync(place) => {
            let (dir, name) = at(rig, PLACES[*place]).await?;
            let node = rig.vfs.lookup(dir, &name).await?.node;
            let handle = rig.vfs.open(node, WRITE).await?;
            let synced = rig.vfs.fsync(handle).await;
            rig.vfs.release(handle).await;
            synced
        }
        Step::Mkdir(place) => {
            let (dir, name) = at(rig, PLACES[*place]).await?;
            rig.vfs.mkdir(dir, &name, 0o755).await.map(drop)
        }
        Step::Rmdir(place) => {
            let (dir, name) = at(rig, PLACES[*place]).await?;
            rig.vfs.rmdir(dir, &name).await
        }
        Step::Rename(from, to) => {
            let (from, to) = (at(rig, PLACES[*from]).await?, at(rig, PLACES[*to]).await?);
            rig.vfs
                .rename(from.0, &from.1, to.0, &to.1, RenameFlags::default())
                .await
        }
        Step::Exchange(a, b) => {
            let (a, b) = (at(rig, PLACES[*a]).await?, at(rig, PLACES[*b]).await?);
            let flags = RenameFlags {
                exchange: true,
                no_replace: false,
            };
            rig.vfs.rename(a.0, &a.1, b.0, &b.1, flags).await
        }
        Step::Hold(place) => match hold(rig, PLACES[*place]).await {
            // What it is to be done to may not be there.
            Err(VfsError::NotFound | VfsError::IsDirectory | VfsError::NotDirectory) => Ok(()),
            other => other,
        },
        Step::LetGo => {
            let_go(rig).await;
            Ok(())
        }
        Step::DrainInVain => {
            rig.drive.set(Quirk::LosingReplies);
            rig.drain().await;
            rig.drive.clear(Quirk::LosingReplies);
            Ok(())
        }
        Step::Drain => {
            rig.outbox.retry(None);
            rig.drain().await;
            Ok(())
        }
        Step::Evict => {
            rig.vfs.evict(SystemTime::now() + Duration::from_hours(2));
            Ok(())
        }
        Step::Round => {
            rig.sync.round().await.expect("the drive is in memory");
            Ok(())
        }
    }
}

pub(super) async fn listing(rig: &Rig) -> Model {
    let mut model = Model::new();
    let mut dirs = vec![(String::new(), NodeId::ROOT)];
    while let Some((path, dir)) = dirs.pop() {
        for entry in rig.vfs.list(dir).await.expect("the drive is in memory") {
            let path = format!("{path}{}", entry.name);
            if entry.attr.kind == Kind::Directory {
                dirs.push((format!("{path}/"), entry.attr.node));
                model.insert(path, None);
            } else {
                let bytes = rig
                    .get(dir, &entry.name)
                    .await
                    .expect("the drive is in memory");
                model.insert(path, Some(bytes));
            }
        }
    }
    model
}
