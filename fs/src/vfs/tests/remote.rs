//! News from the drive: rounds, comparisons, and removals that are too many.

use super::memory_drive::Quirk;
use super::*;
use crate::tree::{Kind, News};

const NOTHING: &[u8] = b"";

async fn names(rig: &Rig, dir: NodeId) -> Vec<String> {
    let listed = rig.vfs.list(dir).await.unwrap();
    let mut names: Vec<String> = listed.into_iter().map(|it| it.name).collect();
    names.sort();
    names
}

/// Ten pictures that the drive has, two of them here, and another client that empties the folder.
async fn emptied() -> (Rig, Vec<ItemId>) {
    let rig = Rig::new().await;
    let mut items = Vec::new();
    for n in 0..10 {
        items.push(rig.drive.put(ROOT, &format!("{n}.gif"), &[b'0' + n]));
    }
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await.len(), 10);
    for name in ["3.gif", "7.gif"] {
        assert_eq!(rig.get(NodeId::ROOT, name).await.unwrap().len(), 1);
    }
    for item in &items {
        rig.drive.remove(item);
    }
    rig.sync.round().await.unwrap();
    (rig, items)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_empties_a_folder_is_held_back_and_what_is_here_stays_readable() {
    let (rig, _) = emptied().await;
    assert_eq!(names(&rig, NodeId::ROOT).await.len(), 10);
    assert_eq!(rig.vfs.status().withheld, 10);
    assert_eq!(rig.get(NodeId::ROOT, "3.gif").await.unwrap(), b"3");
    let later = SystemTime::now() + Duration::from_hours(48);
    assert_eq!(
        rig.vfs.evict(later).0.len(),
        0,
        "the only copies are not evicted"
    );
    let rig = rig.restart().await;
    assert_eq!(rig.vfs.status().withheld, 10, "a restart remembers");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await.len(), 10);
    let withheld = rig.vfs.withheld();
    let here: Vec<&str> = withheld
        .files
        .iter()
        .filter(|file| file.1)
        .map(|file| file.0.as_str())
        .collect();
    assert_eq!(here, ["3.gif", "7.gif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_back_goes_when_a_person_says_so() {
    let (rig, _) = emptied().await;
    rig.vfs.decide(Decision::Accept, "/mount").await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, [""; 0]);
    rig.drain().await;
    rig.drive_has(&[]);
    assert_eq!(rig.vfs.status().withheld, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_back_and_is_here_is_sent_again_when_a_person_says_so() {
    let (rig, _) = emptied().await;
    rig.vfs.decide(Decision::Restore, "/mount").await.unwrap();
    rig.drain().await;
    rig.drive_has(&[("3.gif", Some(b"3")), ("7.gif", Some(b"7"))]);
    assert_eq!(names(&rig, NodeId::ROOT).await, ["3.gif", "7.gif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_comes_back_is_no_longer_held_back() {
    let (rig, items) = emptied().await;
    rig.drive.undelete(&items[3]);
    rig.sync.round().await.unwrap();
    assert_eq!(rig.vfs.status().withheld, 9);
    rig.vfs.decide(Decision::Accept, "/mount").await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["3.gif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_tombstone_in_the_round_that_moves_its_children_out_spares_them() {
    let rig = Rig::new().await;
    let old = rig.drive.mkdir(ROOT, "old");
    rig.drive.mkdir(ROOT, "new");
    let picture = rig.drive.put(old.as_str(), "a.gif", b"a");
    rig.sync.round().await.unwrap();
    let before = rig.vfs.lookup(NodeId::ROOT, "old").await.unwrap().node;
    assert_eq!(rig.get(before, "a.gif").await.unwrap(), b"a");
    let node = rig.vfs.lookup(before, "a.gif").await.unwrap().node;
    let new = rig.vfs.lookup(NodeId::ROOT, "new").await.unwrap();
    assert_eq!(names(&rig, new.node).await, [""; 0]);
    rig.drive.calls();
    // The tombstone comes first, as it does on the real one.
    rig.drive.remove(&old);
    let new_item = rig
        .vfs
        .ledger()
        .books()
        .tree
        .item_of(new.node)
        .unwrap()
        .clone();
    rig.drive.shift(&picture, new_item.as_str(), "b.gif");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["new"]);
    let moved = rig.vfs.lookup(new.node, "b.gif").await.unwrap();
    assert_eq!(moved.node, node, "it is the same file");
    assert_eq!(rig.get(new.node, "b.gif").await.unwrap(), b"a");
    assert_eq!(rig.drive.calls(), ["delta"], "its bytes were still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_listing_lacks_is_asked_for_before_it_counts_as_gone() {
    let rig = Rig::new().await;
    let dir = rig.drive.mkdir(ROOT, "dir");
    let lagging = rig.drive.put(ROOT, "lagging.gif", b"1");
    let moved = rig.drive.put(ROOT, "moved.gif", b"2");
    let gone = rig.drive.put(ROOT, "gone.gif", b"3");
    rig.sync.round().await.unwrap();
    let all = ["dir", "gone.gif", "lagging.gif", "moved.gif"];
    assert_eq!(names(&rig, NodeId::ROOT).await, all);
    let inner = rig.vfs.lookup(NodeId::ROOT, "dir").await.unwrap().node;
    assert_eq!(names(&rig, inner).await, [""; 0]);
    rig.drive.hide(&lagging);
    rig.drive.shift(&moved, dir.as_str(), "moved.gif");
    rig.drive.forget(&gone);
    let asked = rig.drive.clone();
    rig.vfs.compare(NodeId::ROOT, asked, false).await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["dir", "lagging.gif"]);
    assert_eq!(names(&rig, inner).await, ["moved.gif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tombstone_is_found_by_the_daily_comparison() {
    let rig = Rig::new().await;
    let item = rig.drive.put(ROOT, "a.gif", b"a");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["a.gif"]);
    rig.drive.forget(&item);
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["a.gif"], "not due yet");
    let rig = rig.restart().await;
    let yesterday = SystemTime::now() - Duration::from_hours(25);
    let ((), _ticket) = rig.vfs.ledger().change(|books| {
        let root = |root: &mut crate::tree::Node| root.listed_at = Some(yesterday);
        books.tree.edit(NodeId::ROOT, SystemTime::now(), root);
    });
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_resync_what_is_gone_is_gone_and_what_is_new_is_seen() {
    let rig = Rig::new().await;
    let gone = rig.drive.put(ROOT, "gone.gif", b"1");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["gone.gif"]);
    rig.drive.forget(&gone);
    rig.drive.put(ROOT, "new.gif", b"2");
    rig.drive.lose_track(false);
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["new.gif"]);
    rig.drive.put(ROOT, "later.gif", NOTHING);
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["later.gif", "new.gif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_may_have_lost_changes_gets_what_we_hold_again() {
    let rig = Rig::new().await;
    rig.put(NodeId::ROOT, "ours.gif", b"ours").await;
    rig.drain().await;
    let theirs = rig.drive.put(ROOT, "theirs.gif", b"theirs");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["ours.gif", "theirs.gif"]);
    let ours = rig.item(NodeId::ROOT, "ours.gif").await;
    rig.age(&ours);
    rig.drive.forget(&ours);
    rig.drive.forget(&theirs);
    rig.drive.lose_track(true);
    rig.sync.round().await.unwrap();
    rig.drain().await;
    rig.drive_has(&[("ours.gif", Some(b"ours"))]);
    assert_eq!(names(&rig, NodeId::ROOT).await, ["ours.gif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_is_interrupted_goes_on_before_the_next_round() {
    let rig = Rig::new().await;
    let gone = rig.drive.put(ROOT, "gone.gif", b"1");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["gone.gif"]);
    rig.drive.forget(&gone);
    rig.drive.lose_track(false);
    rig.drive.set(Quirk::NoListings);
    rig.sync.round().await.unwrap_err();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["gone.gif"]);
    rig.drive.clear(Quirk::NoListings);
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_by_another_client_during_an_upload_is_followed_and_not_undone() {
    let rig = Rig::new().await;
    let item = rig.drive.put(ROOT, "a.gif", b"old");
    rig.sync.round().await.unwrap();
    let node = rig.vfs.lookup(NodeId::ROOT, "a.gif").await.unwrap().node;
    let handle = rig.vfs.open(node, WRITE).await.unwrap();
    let new = Bytes::from_static(b"new");
    rig.vfs.write(handle, 0, new).await.unwrap();
    rig.vfs.flush(handle).await.unwrap();
    rig.vfs.release(handle).await;
    rig.drive.rename_before_upload(&item, "b.gif");
    rig.drain().await;
    rig.drive_has(&[("b.gif", Some(b"new"))]);
    rig.sync.round().await.unwrap();
    rig.drain().await;
    rig.drive_has(&[("b.gif", Some(b"new"))]);
    assert_eq!(names(&rig, NodeId::ROOT).await, ["b.gif"]);
    let attr = rig.vfs.lookup(NodeId::ROOT, "b.gif").await.unwrap();
    assert_eq!((attr.node, attr.kind), (node, Kind::File));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_moved_into_a_folder_survives_the_end_of_that_folder() {
    let rig = Rig::new().await;
    let root = NodeId::ROOT;
    let [a, b] = [
        rig.vfs.mkdir(root, "a", 0o755).await,
        rig.vfs.mkdir(root, "b", 0o755).await,
    ]
    .map(|made| made.unwrap().node);
    rig.put(a, "p.jpg", b"picture").await;
    rig.drain().await;
    rig.sync.round().await.unwrap();
    let folder = rig.item(root, "b").await;
    rig.vfs
        .rename(a, "p.jpg", b, "p.jpg", RenameFlags::default())
        .await
        .unwrap();
    rig.drive.remove(&folder);
    rig.sync.round().await.unwrap();
    assert_eq!(rig.get(b, "p.jpg").await.unwrap(), b"picture");
    rig.drain().await;
    rig.drive_has(&[("a/", None), ("b/", None), ("b/p.jpg", Some(b"picture"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_without_delta_is_followed_by_listings_in_turn() {
    let rig = Rig::new().await;
    rig.drive.set(Quirk::WithoutDelta);
    let item = rig.drive.put(ROOT, "a.gif", b"a");
    rig.sync.round().await.unwrap();
    assert!(rig.sync.status().by_listing);
    assert_eq!(names(&rig, NodeId::ROOT).await, ["a.gif"]);
    rig.drive.put(ROOT, "b.gif", b"b");
    rig.drive.remove(&item);
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["b.gif"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_lags_does_not_bring_back_a_folder_that_was_emptied_here() {
    let rig = Rig::new().await;
    rig.vfs.mkdir(NodeId::ROOT, "d", 0o755).await.unwrap();
    let dir = rig.vfs.lookup(NodeId::ROOT, "d").await.unwrap().node;
    rig.put(dir, "a.gif", b"a").await;
    rig.drain().await;
    rig.drive.set(Quirk::Lingering);
    rig.vfs.unlink(dir, "a.gif").await.unwrap();
    rig.vfs.rmdir(NodeId::ROOT, "d").await.unwrap();
    rig.drain().await;
    rig.drive_has(&[]);
    assert_eq!(names(&rig, NodeId::ROOT).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_a_folder_of_another_drive_is_that_folder() {
    let rig = Rig::new().await;
    let (_, target) = rig.drive.link("linked", &[("theirs.gif", b"theirs")]);
    rig.sync.round().await.unwrap();
    let dir = rig.vfs.lookup(NodeId::ROOT, "linked").await.unwrap();
    assert_eq!(dir.kind, Kind::Directory);
    assert_eq!(rig.get(dir.node, "theirs.gif").await.unwrap(), b"theirs");
    rig.put(dir.node, "ours.gif", b"ours").await;
    rig.put(NodeId::ROOT, "own.gif", b"own").await;
    rig.drain().await;
    rig.drive_has(&[
        ("linked/", None),
        ("own.gif", Some(b"own")),
        ("shared/", None),
        ("shared/ours.gif", Some(b"ours")),
        ("shared/theirs.gif", Some(b"theirs")),
    ]);
    // The delta of our own drive does not tell of what happens there: it is looked at.
    rig.drive.put(target.as_str(), "new.gif", b"new");
    rig.sync.round().await.unwrap();
    let all = ["new.gif", "ours.gif", "theirs.gif"];
    assert_eq!(names(&rig, dir.node).await, all);

    let free = RenameFlags::default();
    let across = rig
        .vfs
        .rename(NodeId::ROOT, "own.gif", dir.node, "own.gif", free);
    assert!(matches!(across.await, Err(VfsError::OtherDrive)));
    let within = rig
        .vfs
        .rename(dir.node, "ours.gif", dir.node, "b.gif", free);
    within.await.unwrap();
    let whole = rig
        .vfs
        .rename(NodeId::ROOT, "linked", NodeId::ROOT, "link", free);
    whole.await.unwrap();
    rig.drain().await;
    rig.drive_has(&[
        ("link/", None),
        ("own.gif", Some(b"own")),
        ("shared/", None),
        ("shared/b.gif", Some(b"ours")),
        ("shared/new.gif", Some(b"new")),
        ("shared/theirs.gif", Some(b"theirs")),
    ]);
    let rig = rig.restart().await;
    assert_eq!(rig.get(dir.node, "b.gif").await.unwrap(), b"ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_removed_takes_nothing_of_the_other_drive_with_it() {
    let rig = Rig::new().await;
    let (link, _) = rig.drive.link("linked", &[]);
    rig.sync.round().await.unwrap();
    let dir = rig.vfs.lookup(NodeId::ROOT, "linked").await.unwrap().node;
    assert_eq!(names(&rig, dir).await, [""; 0]);
    rig.vfs.rmdir(NodeId::ROOT, "linked").await.unwrap();
    rig.drive.calls();
    rig.drain().await;
    assert_eq!(rig.drive.calls(), [format!("delete {link}")]);
    rig.drive_has(&[("shared/", None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_wrote_just_before_a_rename_or_a_time_of_ours_is_seen() {
    for rename in [true, false] {
        let rig = Rig::new().await;
        rig.drive.put(ROOT, "a.gif", b"old");
        rig.sync.round().await.unwrap();
        assert_eq!(rig.get(NodeId::ROOT, "a.gif").await.unwrap(), b"old");
        rig.drive.put(ROOT, "a.gif", b"their new");
        change_meanwhile(&rig, rename).await;
        rig.drain().await;
        rig.sync.round().await.unwrap();
        let name = if rename { "b.gif" } else { "a.gif" };
        assert_eq!(rig.get(NodeId::ROOT, name).await.unwrap(), b"their new");
        rig.drive_has(&[(name, Some(b"their new"))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_wrote_before_a_rename_is_kept_beside_what_was_written_here() {
    for rename in [true, false] {
        let rig = Rig::new().await;
        rig.drive.put(ROOT, "a.gif", b"old");
        rig.sync.round().await.unwrap();
        assert_eq!(rig.get(NodeId::ROOT, "a.gif").await.unwrap(), b"old");
        rig.drive.put(ROOT, "a.gif", b"their new");
        change_meanwhile(&rig, rename).await;
        rig.drain().await;
        let name = if rename { "b.gif" } else { "a.gif" };
        rig.put(NodeId::ROOT, name, b"our new").await;
        rig.drain().await;
        rig.sync.round().await.unwrap();
        let mut there: Vec<_> = rig
            .drive
            .dump()
            .into_iter()
            .map(|it| it.1.unwrap())
            .collect();
        there.sort();
        assert_eq!(there, [b"our new".to_vec(), b"their new".to_vec()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_client_has_written_is_not_replaced_by_a_rename() {
    let rig = Rig::new().await;
    rig.drive.put(ROOT, "a.gif", b"ours");
    rig.drive.put(ROOT, "b.gif", b"old");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["a.gif", "b.gif"]);
    rig.drive.put(ROOT, "b.gif", b"their new");
    change_meanwhile(&rig, true).await;
    for _ in 0..4 {
        rig.outbox.retry(None);
        rig.drain().await;
    }
    let dump = rig.drive.dump();
    let beside = dump.iter().find(|(name, _)| name != "b.gif").unwrap();
    assert_eq!(beside.1.as_deref(), Some(&b"ours"[..]));
    assert!(beside.0.starts_with("b (conflict "), "{}", beside.0);
    let theirs = ("b.gif".to_owned(), Some(b"their new".to_vec()));
    assert_eq!((dump.len(), dump.contains(&theirs)), (2, true));
    assert_eq!(rig.get(NodeId::ROOT, "b.gif").await.unwrap(), b"their new");
}

/// Something that is told to the drive without looking at the content.
async fn change_meanwhile(rig: &Rig, rename: bool) {
    if rename {
        let (root, plain) = (NodeId::ROOT, RenameFlags::default());
        let renamed = rig.vfs.rename(root, "a.gif", root, "b.gif", plain);
        renamed.await.unwrap();
    } else {
        let node = rig.vfs.lookup(NodeId::ROOT, "a.gif").await.unwrap().node;
        let day = SystemTime::UNIX_EPOCH + Duration::from_hours(24);
        let times = SetAttr {
            mtime: Some(day),
            ..SetAttr::default()
        };
        rig.vfs.set_attr(node, times, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_404_of_an_item_that_has_news_is_not_its_end() {
    let rig = Rig::new().await;
    let item = rig.drive.put(ROOT, "a.gif", b"a");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["a.gif"]);
    let put_off = || {
        let late = [(item.clone(), News::Changed)];
        rig.vfs.ledger().books().tree.still_late(late);
    };
    rig.drive.set(Quirk::NoItems);
    put_off();
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["a.gif"]);
    rig.drive.clear(Quirk::NoItems);
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["a.gif"]);
    // Twice, with the time between that a new item may take to be found.
    rig.drive.set(Quirk::NoItems);
    put_off();
    rig.sync.round().await.unwrap();
    rig.vfs.ledger().books().tree.age(Duration::from_mins(3));
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_into_which_somebody_has_just_moved_a_known_file_is_not_deleted_with_it() {
    let rig = Rig::new().await;
    let dir = rig.drive.mkdir(ROOT, "dir");
    let pic = rig.drive.put(ROOT, "a.gif", b"theirs");
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["a.gif", "dir"]);
    let here = rig.vfs.lookup(NodeId::ROOT, "dir").await.unwrap().node;
    assert_eq!(names(&rig, here).await, [""; 0]);
    rig.drive.shift(&pic, dir.as_str(), "b.gif");
    rig.vfs.rmdir(NodeId::ROOT, "dir").await.unwrap();
    rig.drain().await;
    rig.drive_has(&[("dir/", None), ("dir/b.gif", Some(b"theirs"))]);
    rig.sync.round().await.unwrap();
    assert_eq!(names(&rig, NodeId::ROOT).await, ["dir"], "it is back");
}
