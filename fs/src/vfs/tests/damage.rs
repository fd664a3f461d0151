//! Contents that a disk damages while nobody looks.

use super::*;

fn content(rig: &Rig, id: NodeId) -> crate::tree::ContentId {
    let books = rig.vfs.ledger().books();
    books.node(id).unwrap().held.as_ref().unwrap().content
}

/// Flips a bit of a content, whose length and name stay as they are.
fn flip(rig: &Rig, id: NodeId) {
    let blob = rig.vfs.store().load(content(rig, id)).unwrap();
    let byte = blob.read_at(1, 1).unwrap()[0];
    blob.write_at(1, &[byte ^ 4]).unwrap();
}

/// Lets the journal note that what was sealed so far has got to the disk, which it does with the change after
/// it: else a start takes damage for a power cut.
async fn known_to_be_there(rig: &Rig) {
    rig.vfs.mkdir(NodeId::ROOT, "d", 0o755).await.unwrap();
    rig.vfs.rmdir(NodeId::ROOT, "d").await.unwrap();
}

fn quarantined(rig: &Rig) -> Vec<Vec<u8>> {
    let dir = std::fs::read_dir(rig.dir.path().join("quarantine")).unwrap();
    let files = dir.map(|entry| entry.unwrap().path());
    let contents = files.filter(|path| path.file_name().unwrap() != "REPORT");
    let mut all: Vec<_> = contents.map(|path| std::fs::read(path).unwrap()).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_at_the_first_open_after_a_start() {
    let rig = Rig::new().await;
    let root = NodeId::ROOT;
    let sent = rig.put(root, "sent", b"sent").await;
    let seen = rig.put(root, "seen", b"seen").await;
    rig.drain().await;
    let unsent = rig.put(root, "unsent", b"unsent").await;
    known_to_be_there(&rig).await;
    for id in [sent, unsent] {
        flip(&rig, id);
    }
    let rig = rig.restart().await;
    assert_eq!(
        rig.get(root, "sent").await.unwrap(),
        b"sent",
        "fetched again"
    );
    let refused = rig.get(root, "unsent").await.unwrap_err();
    let VfsError::Damaged(why) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(quarantined(&rig), [b"sant".to_vec(), b"ujsent".to_vec()]);
    let parked = &rig.vfs.status().parked[..];
    let [parked] = parked else {
        panic!("{parked:?}");
    };
    assert_eq!((&*parked.path, &parked.why), ("unsent", why));
    assert!(why.contains("/quarantine/"), "{why}");
    rig.drain().await;
    rig.drive_has(&[("seen", Some(b"seen")), ("sent", Some(b"sent"))]);

    // What was not damaged is read to the end once, and not at each open.
    assert_eq!(rig.get(root, "seen").await.unwrap(), b"seen");
    flip(&rig, seen);
    assert_eq!(rig.get(root, "seen").await.unwrap(), b"saen");

    // Whoever looks again, or tries to send it, still hears where it is.
    let again = rig.get(root, "unsent").await.unwrap_err();
    assert!(
        matches!(&again, VfsError::Damaged(why) if why.contains("/quarantine/")),
        "{again:?}"
    );
    rig.outbox.retry(None);
    rig.drain().await;
    let parked = &rig.vfs.status().parked[0].why;
    assert!(parked.contains("/quarantine/"), "{parked}");
    rig.put(root, "unsent", b"written anew").await;
    assert!(rig.vfs.status().parked.is_empty());
    rig.drain().await;
    assert_eq!(rig.get(root, "unsent").await.unwrap(), b"written anew");
    rig.drive_has(&[
        ("seen", Some(b"seen")),
        ("sent", Some(b"sent")),
        ("unsent", Some(b"written anew")),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_before_the_upload_and_what_is_left_is_put_aside() {
    let rig = Rig::new().await;
    let node = rig.put(NodeId::ROOT, "unsent", b"unsent").await;
    flip(&rig, node);
    rig.drain().await;
    rig.drive_has(&[]);
    assert_eq!(quarantined(&rig), [b"ujsent".to_vec()]);
    let parked = &rig.vfs.status().parked[0];
    assert_eq!(parked.path, "unsent");
    assert!(parked.why.contains("/quarantine/"), "{}", parked.why);
    rig.vfs.discard_parked("unsent").await.unwrap();
    assert!(rig.get(NodeId::ROOT, "unsent").await.is_err());
    assert_eq!(quarantined(&rig), [b"ujsent".to_vec()], "never deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_somebody_has_deleted_or_cut_is_told_of_at_the_start() {
    let rig = Rig::new().await;
    let gone = rig.put(NodeId::ROOT, "gone", b"gone").await;
    let cut = rig.put(NodeId::ROOT, "cut", b"cut off").await;
    known_to_be_there(&rig).await;
    rig.vfs
        .store()
        .load(content(&rig, cut))
        .unwrap()
        .set_len(3)
        .unwrap();
    rig.vfs.store().remove(content(&rig, gone));
    let rig = rig.restart().await;
    let parked = rig.vfs.status().parked;
    let paths: Vec<_> = parked.iter().map(|parked| &*parked.path).collect();
    assert_eq!(paths, ["gone", "cut"]);
    assert!(
        parked[0].why.contains("nothing is left"),
        "{}",
        parked[0].why
    );
    assert_eq!(quarantined(&rig), [b"cut".to_vec()]);
    for name in ["gone", "cut"] {
        let refused = rig.get(NodeId::ROOT, name).await.unwrap_err();
        assert!(matches!(refused, VfsError::Damaged(_)), "{refused:?}");
    }
}

/// Ends a run, and does something to the file of its journal.
async fn with_journal(rig: Rig, harm: impl FnOnce(&mut Vec<u8>)) -> Rig {
    let Rig {
        dir,
        drive,
        vfs,
        sync,
        outbox,
        ..
    } = rig;
    vfs.quiesce(Duration::from_secs(10)).await;
    vfs.ledger().journal().close();
    drop((vfs, sync, outbox));
    let path = dir.path().join("journal.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    harm(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    Rig::start(dir, drive).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_put_aside_and_what_was_not_sent_comes_back_from_its_rows() {
    type Harm = fn(&mut Vec<u8>);
    // With the name that each row of the file leaves, where one is left.
    let harms: [(Harm, Option<&str>); 4] = [
        (|bytes| bytes[..512].fill(0), Some("unsent.gif")),
        (|bytes| flip_in_rows(bytes), Some("unsdnt.gif")),
        (|bytes| bytes.truncate(600), None),
        (|bytes| bytes.reverse(), None),
    ];
    for (harm, left) in harms {
        let rig = Rig::new().await;
        let root = NodeId::ROOT;
        rig.put(root, "sent.gif", b"sent").await;
        rig.drain().await;
        let folder = rig.vfs.mkdir(root, "2026", 0o755).await.unwrap().node;
        rig.put(folder, "unsent.gif", b"unsent").await;
        known_to_be_there(&rig).await;
        let rig = with_journal(rig, harm).await;
        assert!(
            rig.report[0].starts_with("the journal was damaged"),
            "{:?}",
            rig.report
        );
        assert!(rig.dir.path().join("quarantine/journal.redb").exists());
        rig.sync.round().await.unwrap();
        assert_eq!(rig.get(root, "sent.gif").await.unwrap(), b"sent");
        let folders = rig.vfs.list(root).await.unwrap();
        let recovered = folders.iter().find(|it| it.name.starts_with("recovered "));
        let Some(left) = left else {
            // Its bytes are left, and nobody knows of what.
            assert!(recovered.is_none());
            assert!(quarantined(&rig).contains(&b"unsent".to_vec()));
            continue;
        };
        let recovered = recovered.unwrap().attr.node;
        let folder = rig.vfs.lookup(recovered, "2026").await.unwrap().node;
        assert_eq!(rig.get(folder, left).await.unwrap(), b"unsent");
        rig.drain().await;
        let name = &folders
            .iter()
            .find(|it| it.attr.node == recovered)
            .unwrap()
            .name;
        let path = format!("{name}/2026/{left}");
        let dump = rig.drive.dump();
        assert!(
            dump.iter()
                .any(|(it, bytes)| *it == path && bytes.as_deref() == Some(b"unsent")),
            "{dump:?}"
        );
    }
}

/// A letter of a name, in each row that has it.
fn flip_in_rows(bytes: &mut [u8]) {
    let rows = bytes.windows(10).enumerate();
    let named = rows.filter(|(_, it)| *it == b"unsent.gif");
    let at: Vec<usize> = named.map(|(at, _)| at + 3).collect();
    for at in at {
        bytes[at] ^= 1;
    }
}
