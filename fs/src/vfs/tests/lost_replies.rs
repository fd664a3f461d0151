//! Requests that took effect though nobody told us: what they made is known as ours, whatever was
//! done to the file meanwhile.

use super::memory_drive::Quirk;
use super::*;

/// Sends once, into a line that loses the reply.
async fn send_in_vain(rig: &Rig) {
    rig.drive.set(Quirk::LosingReplies);
    rig.drain().await;
    rig.drive.clear(Quirk::LosingReplies);
}

/// Sends and looks until nothing is left to do.
async fn calm(rig: &Rig) {
    for _ in 0..4 {
        rig.outbox.retry(None);
        rig.drain().await;
        rig.sync.round().await.unwrap();
    }
}

async fn created_in_vain() -> Rig {
    let rig = Rig::new().await;
    rig.sync.round().await.unwrap();
    assert_eq!(rig.vfs.list(NodeId::ROOT).await.unwrap().len(), 0);
    rig.put(NodeId::ROOT, "a.gif", b"one").await;
    send_in_vain(&rig).await;
    rig.drive_has(&[("a.gif", Some(b"one"))]);
    rig
}

async fn overwrite(rig: &Rig, name: &str, bytes: &'static [u8]) {
    let node = rig.vfs.lookup(NodeId::ROOT, name).await.unwrap().node;
    let handle = rig.vfs.open(node, WRITE).await.unwrap();
    let write = rig.vfs.write(handle, 0, Bytes::from_static(bytes));
    write.await.unwrap();
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.release(handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_overwritten_after_a_lost_create_is_one_file() {
    for told in [false, true] {
        let rig = created_in_vain().await;
        overwrite(&rig, "a.gif", b"two").await;
        if told {
            rig.sync.round().await.unwrap();
        }
        calm(&rig).await;
        rig.drive_has(&[("a.gif", Some(b"two"))]);
        assert_eq!(rig.get(NodeId::ROOT, "a.gif").await.unwrap(), b"two");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_overwritten_after_a_lost_overwrite_is_one_file() {
    for told in [false, true] {
        let rig = Rig::new().await;
        rig.put(NodeId::ROOT, "a.gif", b"one").await;
        rig.drain().await;
        rig.sync.round().await.unwrap();
        overwrite(&rig, "a.gif", b"two").await;
        send_in_vain(&rig).await;
        overwrite(&rig, "a.gif", b"six").await;
        if told {
            rig.sync.round().await.unwrap();
        }
        calm(&rig).await;
        rig.drive_has(&[("a.gif", Some(b"six"))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_by_rename_after_a_lost_overwrite_is_one_file() {
    let rig = Rig::new().await;
    rig.put(NodeId::ROOT, "a.gif", b"one").await;
    rig.drain().await;
    rig.sync.round().await.unwrap();
    overwrite(&rig, "a.gif", b"two").await;
    send_in_vain(&rig).await;
    rig.put(NodeId::ROOT, "a.part", b"six").await;
    let free = RenameFlags::default();
    let renamed = rig
        .vfs
        .rename(NodeId::ROOT, "a.part", NodeId::ROOT, "a.gif", free);
    renamed.await.unwrap();
    calm(&rig).await;
    rig.drive_has(&[("a.gif", Some(b"six"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_renamed_after_a_lost_create_leaves_nothing_under_its_old_name() {
    for killed in [false, true] {
        let mut rig = created_in_vain().await;
        if killed {
            rig = rig.restart().await;
        }
        let free = RenameFlags::default();
        let renamed = rig
            .vfs
            .rename(NodeId::ROOT, "a.gif", NodeId::ROOT, "b.gif", free);
        renamed.await.unwrap();
        calm(&rig).await;
        rig.drive_has(&[("b.gif", Some(b"one"))]);
        let listed = rig.vfs.list(NodeId::ROOT).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_deleted_after_a_lost_create_does_not_come_back() {
    for killed in [false, true] {
        let mut rig = created_in_vain().await;
        if killed {
            rig = rig.restart().await;
        }
        rig.vfs.unlink(NodeId::ROOT, "a.gif").await.unwrap();
        rig.sync.round().await.unwrap();
        calm(&rig).await;
        rig.drive_has(&[]);
        assert_eq!(rig.vfs.list(NodeId::ROOT).await.unwrap().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_used_again_after_a_lost_create_takes_over_what_was_made() {
    let rig = created_in_vain().await;
    rig.vfs.unlink(NodeId::ROOT, "a.gif").await.unwrap();
    rig.put(NodeId::ROOT, "a.gif", b"another").await;
    calm(&rig).await;
    rig.drive_has(&[("a.gif", Some(b"another"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_renamed_after_a_lost_create_is_one_folder() {
    let rig = Rig::new().await;
    rig.vfs.mkdir(NodeId::ROOT, "d", 0o755).await.unwrap();
    send_in_vain(&rig).await;
    let free = RenameFlags::default();
    let renamed = rig.vfs.rename(NodeId::ROOT, "d", NodeId::ROOT, "e", free);
    renamed.await.unwrap();
    let dir = rig.vfs.lookup(NodeId::ROOT, "e").await.unwrap().node;
    rig.put(dir, "a.gif", b"a").await;
    calm(&rig).await;
    rig.drive_has(&[("e/", None), ("e/a.gif", Some(b"a"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_put_under_the_name_meanwhile_is_left_alone() {
    let rig = created_in_vain().await;
    rig.drive.put(ROOT, "a.gif", b"theirs");
    rig.vfs.unlink(NodeId::ROOT, "a.gif").await.unwrap();
    calm(&rig).await;
    rig.drive_has(&[("a.gif", Some(b"theirs"))]);
    assert_eq!(rig.get(NodeId::ROOT, "a.gif").await.unwrap(), b"theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_whose_making_nobody_answered_for_is_never_waited_for() {
    let rig = Rig::new().await;
    rig.sync.round().await.unwrap();
    assert_eq!(rig.vfs.list(NodeId::ROOT).await.unwrap().len(), 0);
    let made = rig.vfs.mkdir(NodeId::ROOT, "day", 0o755).await.unwrap();
    send_in_vain(&rig).await;
    let there = rig.drive.find("day").unwrap();
    rig.drive
        .put(&there.to_string(), "theirs", b"another client's");
    calm(&rig).await;
    rig.drive.set_offline(true);
    rig.put(made.node, "ours", b"written at once").await;
    assert_eq!(
        rig.get(made.node, "ours").await.unwrap(),
        b"written at once"
    );
    let mut names: Vec<String> = rig
        .vfs
        .list(made.node)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    names.sort();
    assert_eq!(names, ["ours", "theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_whose_reply_was_lost_is_looked_at_and_not_repeated_over_a_restart_too() {
    for restart in [false, true] {
        let mut rig = created_in_vain().await;
        calm(&rig).await;
        let item = rig.item(NodeId::ROOT, "a.gif").await;
        let root = NodeId::ROOT;
        let flags = RenameFlags::default();
        let renamed = rig.vfs.rename(root, "a.gif", root, "b.gif", flags).await;
        renamed.unwrap();
        send_in_vain(&rig).await;
        rig.drive_has(&[("b.gif", Some(b"one"))]);
        let version = rig.drive.version(&item);
        if restart {
            rig = rig.restart().await;
        }
        rig.outbox.retry(None);
        rig.drain().await;
        assert!(rig.outbox.is_drained());
        assert_eq!(rig.drive.version(&item), version, "restart: {restart}");
        assert_eq!(rig.get(root, "b.gif").await.unwrap(), b"one");
    }
}

/// On one thread, where what is spawned runs in that order: a step is planned, then something overtakes
/// it, and then it is performed.
async fn overtaken<F: Future<Output = ()> + Send + 'static>(rig: &Rig, by: F) -> Vec<String> {
    rig.drive.calls();
    let stop = CancellationToken::new();
    stop.cancel();
    let sending = tokio::spawn(rig.outbox.clone().run(stop));
    tokio::spawn(by).await.unwrap();
    sending.await.unwrap();
    rig.drain().await;
    rig.drive.calls()
}

#[tokio::test]
async fn a_create_that_a_rename_has_overtaken_is_not_sent_under_the_old_name() {
    let rig = Rig::new().await;
    let root = NodeId::ROOT;
    rig.put(root, "a.part", b"bytes").await;
    let vfs = rig.vfs.clone();
    let rename = async move {
        let flags = RenameFlags::default();
        vfs.rename(root, "a.part", root, "a", flags).await.unwrap();
    };
    let calls = overtaken(&rig, rename).await;
    assert!(
        !calls.is_empty() && calls.iter().all(|call| !call.contains("a.part")),
        "{calls:?}"
    );
    rig.drive_has(&[("a", Some(b"bytes"))]);
}

#[tokio::test]
async fn an_upload_whose_content_has_been_replaced_and_removed_is_planned_anew() {
    let rig = Rig::new().await;
    let root = NodeId::ROOT;
    let node = rig.put(root, "a", b"old").await;
    let content = |rig: &Rig| {
        let books = rig.vfs.ledger().books();
        books.node(node).unwrap().held.as_ref().unwrap().content
    };
    let (old, ledger, store) = (
        content(&rig),
        rig.vfs.ledger().clone(),
        rig.vfs.store().clone(),
    );
    let newer = store.create().unwrap();
    newer.write_at(0, b"newer").unwrap();
    let (size, hash) = newer.quick_xor().unwrap();
    let replace = async move {
        let now = SystemTime::now();
        let ((), _ticket) = ledger.change(|books| {
            books.tree.edit(node, now, |node| {
                node.generation = node.generation.next();
                node.size = size;
                node.seal(crate::tree::Held {
                    content: newer.id(),
                    generation: node.generation,
                    size,
                    hash: Some(hash),
                });
            });
        });
        store.remove(old);
    };
    overtaken(&rig, replace).await;
    assert!(rig.vfs.status().parked.is_empty(), "{:?}", rig.vfs.status());
    rig.drive_has(&[("a", Some(b"newer"))]);
}
