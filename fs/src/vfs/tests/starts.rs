//! A start after a power cut that does not get to its end: what it was to put aside, the next one puts aside.

use super::durability::{content_of, quarantined};
use super::fragile_disk::{Call, Fault, FragileDisk, Left, Moment, Trouble};
use super::*;

const KEPT: &[u8] = b"kept for hours";

/// What a power cut leaves of a file that another was renamed over: the journal got to the disk, and the bytes
/// that it names did not. What it has let go is all that is left.
async fn torn() -> Moment {
    let dir = tempfile::tempdir().unwrap();
    let disk = FragileDisk::over(dir.path(), "first");
    let rig = Rig::start_on(disk.clone(), dir, Arc::default(), Durability::Fsync).await;
    let rig = rig.unwrap();
    let root = NodeId::ROOT;
    rig.put(root, "a", KEPT).await;
    let written = rig.vfs.ledger().journal().everything();
    written.durable().await.unwrap();
    rig.put(root, "a.part", b"new").await;
    rig.vfs.quiesce(Duration::from_secs(10)).await;
    let over = RenameFlags::default();
    let renamed = rig.vfs.rename(root, "a.part", root, "a", over).await;
    renamed.unwrap();
    let dir = tempfile::tempdir().unwrap();
    disk.now().lay(Left::MOST, dir.path());
    let new = content_of(&rig, rig.vfs.lookup(root, "a").await.unwrap().node, &dir);
    std::fs::write(new, b"").unwrap();
    FragileDisk::over(dir.path(), "second").now()
}

/// A start on what a moment leaves, in a boot.
async fn start(
    moment: &Moment,
    left: Left,
    boot: &str,
    prepare: impl FnOnce(&Arc<FragileDisk>),
) -> (Result<Rig, StartError>, Arc<FragileDisk>) {
    let dir = tempfile::tempdir().unwrap();
    moment.lay(left, dir.path());
    let disk = FragileDisk::over(dir.path(), boot);
    prepare(&disk);
    let rig = Rig::start_on(disk.clone(), dir, Arc::default(), Durability::Close).await;
    (rig, disk)
}

async fn has_what_was_kept(rig: &Rig, what: &str) {
    let read = rig.get(NodeId::ROOT, "a").await.ok();
    let aside = quarantined(rig.dir.path());
    let is_there = read.as_deref() == Some(KEPT) || aside.iter().any(|bytes| bytes == KEPT);
    assert!(
        is_there,
        "{what}: {read:?} and aside {aside:?}: {:?}",
        rig.report
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_was_renamed_over_is_put_aside_where_its_own_bytes_did_not_get_to_the_disk() {
    let (rig, _) = start(&torn().await, Left::MOST, "second", |_| ()).await;
    has_what_was_kept(&rig.unwrap(), "after one start").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_ends_at_any_call_leaves_the_next_one_to_put_aside_what_it_did_not() {
    let moments: Arc<Mutex<Vec<(usize, Call, Moment)>>> = Arc::default();
    let seen = moments.clone();
    let (rig, disk) = start(&torn().await, Left::MOST, "second", move |disk| {
        disk.watch(move |number, call, moment| seen.lock().push((number, call, moment)));
    })
    .await;
    let written = rig.unwrap().vfs.ledger().journal().everything();
    written.durable().await.unwrap();
    disk.unwatch();
    let moments = std::mem::take(&mut *moments.lock());
    let changes = moments.iter().filter(|(_, call, _)| *call != Call::Read);
    for (number, call, moment) in changes {
        for (left, boot) in [(Left::MOST, "second"), (Left::LEAST, "third")] {
            let (rig, _) = start(moment, left, boot, |_| ()).await;
            let what = format!("before call {number} ({call:?}), {left:?} in boot {boot}");
            has_what_was_kept(&rig.unwrap(), &what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_put_something_aside_leaves_it_to_the_next_one() {
    let torn = torn().await;
    for trouble in [Trouble::Full, Trouble::Broken] {
        for at in 0.. {
            let fail = |disk: &Arc<FragileDisk>| disk.fail(Fault::From(at), trouble);
            let (rig, disk) = start(&torn, Left::MOST, "second", fail).await;
            let refused = rig.is_err();
            drop(rig);
            let met = !disk.heal().is_empty();
            let what = format!("{trouble:?} from call {at} on, refused: {refused}");
            let (rig, _) = start(&disk.now(), Left::MOST, "second", |_| ()).await;
            has_what_was_kept(&rig.unwrap(), &what).await;
            if !met {
                break;
            }
        }
    }
}
