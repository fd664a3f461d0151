//! The order of steps, in plain values.

use super::*;
use crate::content::QuickXor;
use crate::tree::{
    ContentId, ETag, Generation, Held, Item, ItemFacet, Place, QuickXorHash, Scope, Sent, Stored,
    Terms,
};

const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

pub(super) struct Free;

impl Holds for Free {
    fn busy(&self, _: &Subject) -> bool {
        false
    }
    fn entering(&self, _: &ItemId) -> bool {
        false
    }
    fn until(&self, _: &Subject) -> Option<SystemTime> {
        None
    }
    fn full_until(&self) -> Option<SystemTime> {
        None
    }
}

pub(super) fn item(id: &str, parent: &str, name: &str, facet: ItemFacet) -> Item {
    Item {
        id: ItemId::new(id),
        parent: Some(ItemId::new(parent)),
        name: Some(name.to_owned()),
        facet,
        size: 3,
        etag: Some(ETag::new(format!("{id}-1"))),
        ctag: None,
        modified: None,
        created: None,
    }
}

fn file() -> ItemFacet {
    ItemFacet::File {
        hash: None,
        malware: false,
    }
}

/// A root that the drive has, with these children.
pub(super) fn tree(children: &[Item]) -> Tree {
    let mut tree = Tree::load(Stored::default(), "host".into(), at(0));
    tree.edit(NodeId::ROOT, at(0), |root| {
        root.baseline = Some(Baseline {
            item: ItemId::new("R"),
            parent: ItemId::new("above"),
            name: "mount".into(),
            etag: None,
            ctag: None,
            size: 0,
            hash: None,
            generation: Generation(0),
        });
    });
    tree.apply(
        children,
        Scope::Listing(NodeId::ROOT),
        Terms::plain(&|_| false),
        at(0),
    );
    tree
}

pub(super) fn hash(content: u64) -> QuickXorHash {
    let mut hasher = QuickXor::new();
    hasher.update(&content.to_le_bytes());
    hasher.finish()
}

pub(super) fn seal(tree: &mut Tree, id: NodeId, content: u64, now: SystemTime) {
    tree.edit(id, now, |node| {
        node.generation = node.generation.next();
        node.ctime = now;
        node.held = Some(Held {
            content: ContentId(content),
            generation: node.generation,
            size: 3,
            hash: Some(hash(content)),
        });
    });
}

fn steps(tree: &Tree, now: SystemTime) -> Vec<Step> {
    plan(tree, &Free, SETTLE, false, 100, now).steps
}

fn summary(steps: &[Step]) -> Vec<String> {
    let mut all: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Seek { grave } => format!("seek {}/{}", grave.parent, grave.name),
            Step::CreateFolder { parent, name, .. } => format!("mkdir {parent}/{name}"),
            Step::Create { parent, name, .. } => format!("create {parent}/{name}"),
            Step::Replace { item, .. } => format!("replace {item}"),
            Step::Move {
                item,
                parent,
                name,
                over,
                ..
            } => {
                format!(
                    "move {item} {parent}/{name} over {:?}",
                    over.as_ref().map(ItemId::as_str)
                )
            }
            Step::SetTime { item, .. } => format!("time {item}"),
            Step::Delete { item, .. } => format!("delete {item}"),
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_child_waits_for_its_parent_and_a_content_for_quiet() {
    let mut tree = tree(&[]);
    let dir = tree
        .create(NodeId::ROOT, "2026", Kind::Directory, at(0))
        .unwrap();
    let pic = tree.create(dir, "a.gif", Kind::File, at(0)).unwrap();
    assert_eq!(
        summary(&steps(&tree, at(0))),
        ["mkdir R/2026"],
        "an unsealed file is not sent"
    );
    seal(&mut tree, pic, 7, at(1));
    assert_eq!(summary(&steps(&tree, at(9))), ["mkdir R/2026"]);
    tree.confirm(
        &item("D", "R", "2026", ItemFacet::Folder),
        dir,
        Sent::Place,
        at(1),
    );
    let plan = plan(&tree, &Free, SETTLE, false, 100, at(1));
    assert_eq!((plan.steps, plan.wake), (Vec::new(), Some(at(2))));
    assert_eq!(summary(&steps(&tree, at(2))), ["create D/a.gif"]);
}

#[test]
fn created_and_deleted_before_an_upload_sends_nothing() {
    let mut tree = tree(&[]);
    let pic = tree.create(NodeId::ROOT, "a", Kind::File, at(0)).unwrap();
    seal(&mut tree, pic, 7, at(0));
    tree.unlink(NodeId::ROOT, "a", false, at(0)).unwrap();
    assert_eq!(steps(&tree, at(9)), []);
    assert_eq!(tree.batch().garbage, [ContentId(7)]);
}

#[test]
fn a_temporary_file_renamed_over_a_target_is_new_content_of_the_targets_item() {
    let mut tree = tree(&[item("T", "R", "pic", file())]);
    let tmp = tree.create(NodeId::ROOT, "tmp", Kind::File, at(0)).unwrap();
    seal(&mut tree, tmp, 7, at(0));
    tree.rename(
        (NodeId::ROOT, "tmp"),
        (NodeId::ROOT, "pic"),
        |_| false,
        at(0),
    )
    .unwrap();
    assert_eq!(summary(&steps(&tree, at(9))), ["replace T"]);
    assert_eq!(tree.graves().count(), 0);
}

#[test]
fn a_temporary_file_that_was_uploaded_leaves_the_drive_when_it_becomes_the_target() {
    let mut tree = tree(&[item("T", "R", "pic", file())]);
    let tmp = tree.create(NodeId::ROOT, "tmp", Kind::File, at(0)).unwrap();
    seal(&mut tree, tmp, 7, at(0));
    let made = item("X", "R", "tmp", file());
    tree.confirm(&made, tmp, Sent::Content(Generation(1)), at(0));
    assert_eq!(steps(&tree, at(9)), [], "in step with the drive");
    tree.rename(
        (NodeId::ROOT, "tmp"),
        (NodeId::ROOT, "pic"),
        |_| false,
        at(10),
    )
    .unwrap();
    assert_eq!(summary(&steps(&tree, at(19))), ["delete X", "replace T"]);
}

#[test]
fn a_file_that_is_not_here_is_moved_over_its_target_in_one_request() {
    let mut tree = tree(&[item("A", "R", "a", file()), item("B", "R", "b", file())]);
    tree.rename((NodeId::ROOT, "a"), (NodeId::ROOT, "b"), |_| false, at(0))
        .unwrap();
    assert_eq!(
        summary(&steps(&tree, at(9))),
        ["move A R/b over Some(\"B\")"]
    );
}

#[test]
fn a_move_to_where_a_request_may_have_left_something_waits_for_its_end_and_replaces_nothing() {
    let mut tree = tree(&[item("A", "R", "a", file())]);
    let gone = tree.create(NodeId::ROOT, "b", Kind::File, at(0)).unwrap();
    seal(&mut tree, gone, 7, at(0));
    tree.attempt(gone, at(1));
    tree.unlink(NodeId::ROOT, "b", false, at(2)).unwrap();
    tree.rename((NodeId::ROOT, "a"), (NodeId::ROOT, "b"), |_| false, at(3))
        .unwrap();
    assert_eq!(steps(&tree, at(9)), [], "its reply tells more than a look");
    tree.ended(gone);
    assert_eq!(summary(&steps(&tree, at(9))), ["move A R/b over None"]);
}

#[test]
fn a_name_is_vacated_before_it_is_reused() {
    let mut tree = tree(&[item("A", "R", "a", file())]);
    tree.rename((NodeId::ROOT, "a"), (NodeId::ROOT, "old"), |_| false, at(0))
        .unwrap();
    let new = tree.create(NodeId::ROOT, "a", Kind::File, at(0)).unwrap();
    seal(&mut tree, new, 7, at(0));
    assert_eq!(summary(&steps(&tree, at(9))), ["move A R/old over None"]);
    let a = tree.by_item(&ItemId::new("A")).unwrap().id;
    tree.confirm(&item("A", "R", "old", file()), a, Sent::Place, at(9));
    assert_eq!(summary(&steps(&tree, at(9))), ["create R/a"]);
}

#[test]
fn a_swap_goes_through_a_name_of_its_own() {
    let mut tree = tree(&[item("A", "R", "a", file()), item("B", "R", "b", file())]);
    tree.exchange((NodeId::ROOT, "a"), (NodeId::ROOT, "b"), at(0))
        .unwrap();
    let a = tree.by_item(&ItemId::new("A")).unwrap().id;
    let aside = ".tuyun-aside-A".to_owned();
    assert_eq!(
        summary(&steps(&tree, at(9))),
        [format!("move A R/{aside} over None")]
    );
    tree.confirm(&item("A", "R", &aside, file()), a, Sent::Place, at(9));
    assert_eq!(summary(&steps(&tree, at(9))), ["move B R/a over None"]);
    let b = tree.by_item(&ItemId::new("B")).unwrap().id;
    tree.confirm(&item("B", "R", "a", file()), b, Sent::Place, at(9));
    assert_eq!(summary(&steps(&tree, at(9))), ["move A R/b over None"]);
}

#[test]
fn a_folder_that_moves_into_the_new_holder_of_its_name_steps_aside_first() {
    let mut tree = tree(&[item("E", "R", "e", ItemFacet::Folder)]);
    tree.rename((NodeId::ROOT, "e"), (NodeId::ROOT, "d"), |_| false, at(0))
        .unwrap();
    let new = tree
        .create(NodeId::ROOT, "e", Kind::Directory, at(0))
        .unwrap();
    tree.rename((NodeId::ROOT, "d"), (new, "a"), |_| false, at(0))
        .unwrap();
    let old = tree.by_item(&ItemId::new("E")).unwrap().id;
    let aside = ".tuyun-aside-E".to_owned();
    assert_eq!(
        summary(&steps(&tree, at(9))),
        [format!("move E R/{aside} over None")]
    );
    tree.confirm(
        &item("E", "R", &aside, ItemFacet::Folder),
        old,
        Sent::Place,
        at(9),
    );
    assert_eq!(summary(&steps(&tree, at(9))), ["mkdir R/e"]);
    tree.confirm(
        &item("N", "R", "e", ItemFacet::Folder),
        new,
        Sent::Place,
        at(9),
    );
    assert_eq!(summary(&steps(&tree, at(9))), ["move E N/a over None"]);
}

#[test]
fn what_leaves_a_deleted_folder_for_a_new_one_of_its_name_steps_aside_first() {
    let mut tree = tree(&[item("D", "R", "d", ItemFacet::Folder)]);
    let dir = tree.child(NodeId::ROOT, "d").unwrap().id;
    tree.apply(
        &[item("F", "D", "f", file())],
        Scope::Listing(dir),
        Terms::plain(&|_| false),
        at(0),
    );
    tree.rename((dir, "f"), (NodeId::ROOT, "f"), |_| false, at(0))
        .unwrap();
    tree.rmdir(NodeId::ROOT, "d", at(0)).unwrap();
    let new = tree
        .create(NodeId::ROOT, "d", Kind::Directory, at(0))
        .unwrap();
    tree.rename((NodeId::ROOT, "f"), (new, "f"), |_| false, at(0))
        .unwrap();
    let pic = tree.by_item(&ItemId::new("F")).unwrap().id;
    let aside = ".tuyun-aside-F".to_owned();
    assert_eq!(
        summary(&steps(&tree, at(9))),
        [format!("move F R/{aside} over None")]
    );
    tree.confirm(&item("F", "R", &aside, file()), pic, Sent::Place, at(9));
    assert_eq!(summary(&steps(&tree, at(9))), ["delete D"]);
    tree.set_grave(ItemId::new("D"), None);
    assert_eq!(summary(&steps(&tree, at(9))), ["mkdir R/d"]);
    tree.confirm(
        &item("N", "R", "d", ItemFacet::Folder),
        new,
        Sent::Place,
        at(9),
    );
    assert_eq!(summary(&steps(&tree, at(9))), ["move F N/f over None"]);
}

fn folder(id: &str, parent: &str, name: &str) -> Item {
    item(id, parent, name, ItemFacet::Folder)
}

/// A tree that knows `/one/two`, both folders.
fn nested() -> (Tree, NodeId, NodeId) {
    let mut tree = tree(&[folder("A", "R", "one")]);
    let one = tree.by_item(&ItemId::new("A")).unwrap().id;
    let within = [folder("B", "A", "two")];
    let terms = || Terms::plain(&|_| false);
    tree.apply(&within, Scope::Listing(one), terms(), at(0));
    let two = tree.by_item(&ItemId::new("B")).unwrap().id;
    tree.apply(&[], Scope::Listing(two), terms(), at(0));
    (tree, one, two)
}

#[test]
fn a_folder_waits_for_what_it_goes_into_to_leave_it() {
    let (mut tree, one, two) = nested();
    tree.rename((one, "two"), (NodeId::ROOT, "two"), |_| false, at(0))
        .unwrap();
    tree.rename((NodeId::ROOT, "one"), (two, "one"), |_| false, at(0))
        .unwrap();
    assert_eq!(summary(&steps(&tree, at(9))), ["move B R/two over None"]);
    tree.confirm(&folder("B", "R", "two"), two, Sent::Place, at(9));
    assert_eq!(summary(&steps(&tree, at(9))), ["move A B/one over None"]);
}

#[test]
fn two_folders_that_another_client_turns_inside_out_follow_in_one_round() {
    let (mut tree, one, two) = nested();
    // As they may come: the inner one last.
    let news = [folder("A", "B", "one"), folder("B", "R", "two")];
    let terms = Terms::plain(&|_| false);
    tree.apply(&news, Scope::Round, terms, at(1));
    assert_eq!(tree.path(one).as_deref(), Some("two/one"));
    assert_eq!(tree.path(two).as_deref(), Some("two"));
    assert_eq!(steps(&tree, at(9)), []);
}

#[test]
fn a_folder_that_another_client_moves_into_what_we_move_into_it_comes_back() {
    let mut tree = tree(&[folder("A", "R", "one"), folder("B", "R", "two")]);
    let [one, two] = ["A", "B"].map(|id| tree.by_item(&ItemId::new(id)).unwrap().id);
    for dir in [one, two] {
        tree.apply(&[], Scope::Listing(dir), Terms::plain(&|_| false), at(0));
    }
    tree.rename((NodeId::ROOT, "one"), (two, "one"), |_| false, at(1))
        .unwrap();
    let news = [folder("B", "A", "two")];
    tree.apply(&news, Scope::Round, Terms::plain(&|_| false), at(2));
    assert_eq!(tree.path(one).as_deref(), Some("two/one"), "ours wins");
    assert_eq!(summary(&steps(&tree, at(9))), ["move B R/two over None"]);
    tree.confirm(&folder("B", "R", "two"), two, Sent::Place, at(9));
    assert_eq!(summary(&steps(&tree, at(9))), ["move A B/one over None"]);
}

#[test]
fn a_folder_is_deleted_after_everything_that_leaves_it() {
    let mut tree = tree(&[item("D", "R", "d", ItemFacet::Folder)]);
    let dir = tree.child(NodeId::ROOT, "d").unwrap().id;
    let inside = [item("F", "D", "f", file()), item("G", "D", "g", file())];
    tree.apply(
        &inside,
        Scope::Listing(dir),
        Terms::plain(&|_| false),
        at(0),
    );
    tree.unlink(dir, "f", false, at(0)).unwrap();
    tree.rename((dir, "g"), (NodeId::ROOT, "g"), |_| false, at(0))
        .unwrap();
    tree.rmdir(NodeId::ROOT, "d", at(0)).unwrap();
    assert_eq!(
        summary(&steps(&tree, at(9))),
        ["delete F", "move G R/g over None"]
    );
    tree.set_grave(ItemId::new("F"), None);
    assert_eq!(summary(&steps(&tree, at(9))), ["move G R/g over None"]);
    let g = tree.by_item(&ItemId::new("G")).unwrap().id;
    tree.confirm(&item("G", "R", "g", file()), g, Sent::Place, at(9));
    assert_eq!(summary(&steps(&tree, at(9))), ["delete D"]);
}

/// A request is under way that puts something into the folder `D`.
struct Entering;

impl Holds for Entering {
    fn busy(&self, _: &Subject) -> bool {
        false
    }
    fn entering(&self, folder: &ItemId) -> bool {
        folder.as_str() == "D"
    }
    fn until(&self, _: &Subject) -> Option<SystemTime> {
        None
    }
    fn full_until(&self) -> Option<SystemTime> {
        None
    }
}

#[test]
fn a_folder_is_not_deleted_while_something_is_on_its_way_into_it() {
    let mut tree = tree(&[folder("D", "R", "dir")]);
    let dir = tree.by_item(&ItemId::new("D")).unwrap().id;
    tree.apply(&[], Scope::Listing(dir), Terms::plain(&|_| false), at(0));
    tree.rmdir(NodeId::ROOT, "dir", at(0)).unwrap();
    let waits = plan(&tree, &Entering, SETTLE, false, 100, at(9));
    assert_eq!(waits.steps, []);
    assert_eq!(summary(&steps(&tree, at(9))), ["delete D"]);
}

#[test]
fn a_folder_with_a_thousand_pending_children_is_renamed_in_one_step() {
    let mut tree = tree(&[item("D", "R", "d", ItemFacet::Folder)]);
    let dir = tree.child(NodeId::ROOT, "d").unwrap().id;
    tree.apply(&[], Scope::Listing(dir), Terms::plain(&|_| false), at(0));
    for n in 0..1000 {
        let id = tree
            .create(dir, &format!("{n}"), Kind::File, at(5))
            .unwrap();
        seal(&mut tree, id, n, at(5));
    }
    tree.rename((NodeId::ROOT, "d"), (NodeId::ROOT, "e"), |_| false, at(5))
        .unwrap();
    assert_eq!(
        summary(&plan(&tree, &Free, SETTLE, false, 1, at(6)).steps).len(),
        1
    );
    let moves = plan(&tree, &Free, SETTLE, false, 2000, at(6)).steps;
    let moves = moves
        .iter()
        .filter(|step| matches!(step, Step::Move { .. }))
        .count();
    assert_eq!(moves, 1);
}

#[test]
fn a_create_that_ends_after_its_file_was_deleted_leaves_a_deletion() {
    let mut tree = tree(&[]);
    let pic = tree.create(NodeId::ROOT, "a", Kind::File, at(0)).unwrap();
    seal(&mut tree, pic, 7, at(0));
    tree.unlink(NodeId::ROOT, "a", false, at(2)).unwrap();
    tree.confirm(
        &item("X", "R", "a", file()),
        pic,
        Sent::Content(Generation(1)),
        at(3),
    );
    assert_eq!(summary(&steps(&tree, at(9))), ["delete X"]);
}

#[test]
fn what_is_parked_waits_and_the_rest_runs_on() {
    let mut tree = tree(&[]);
    for (n, name) in ["a", "b"].iter().enumerate() {
        let id = tree.create(NodeId::ROOT, name, Kind::File, at(0)).unwrap();
        seal(&mut tree, id, n as u64, at(0));
    }
    let a = tree.child(NodeId::ROOT, "a").unwrap().id;
    tree.edit(a, at(0), |node| {
        node.parked = Some(crate::tree::Parked {
            why: "no".into(),
            since: at(0),
        });
    });
    assert_eq!(summary(&steps(&tree, at(9))), ["create R/b"]);
}

#[test]
fn a_clock_that_was_set_back_does_not_hold_uploads() {
    let mut tree = tree(&[]);
    let id = tree
        .create(NodeId::ROOT, "a", Kind::File, at(5000))
        .unwrap();
    seal(&mut tree, id, 1, at(5000));
    assert_eq!(summary(&steps(&tree, at(0))), ["create R/a"]);
}

#[test]
fn the_tree_reads_back_from_its_rows() {
    let mut tree = tree(&[item("A", "R", "a", file()), item("B", "R", "b", file())]);
    let id = tree.create(NodeId::ROOT, "new", Kind::File, at(0)).unwrap();
    seal(&mut tree, id, 1, at(0));
    tree.rename((NodeId::ROOT, "a"), (NodeId::ROOT, "z"), |_| false, at(0))
        .unwrap();
    tree.unlink(NodeId::ROOT, "b", false, at(0)).unwrap();
    let batch = tree.batch();
    let stored = Stored {
        nodes: batch
            .nodes
            .iter()
            .filter_map(|(_, row)| crate::tree::decode(row.as_ref()?).unwrap())
            .collect(),
        graves: batch
            .graves
            .iter()
            .filter_map(|(_, row)| crate::tree::decode(row.as_ref()?).unwrap())
            .collect(),
    };
    let again = Tree::load(stored, "host".into(), at(1));
    assert_eq!(
        summary(&steps(&again, at(9))),
        summary(&steps(&tree, at(9)))
    );
    assert_eq!(
        summary(&steps(&again, at(9))),
        ["create R/new", "delete B", "move A R/z over None"]
    );
    let place = Place {
        parent: NodeId::ROOT,
        name: "new".into(),
    };
    assert_eq!(again.node(id).unwrap().place, Some(place));
}

/// Counts what is asked of it.
#[derive(Default)]
struct Counting(std::cell::Cell<usize>);

impl Holds for Counting {
    fn busy(&self, _: &Subject) -> bool {
        self.0.set(self.0.get() + 1);
        false
    }
    fn entering(&self, _: &ItemId) -> bool {
        false
    }
    fn until(&self, _: &Subject) -> Option<SystemTime> {
        None
    }
    fn full_until(&self) -> Option<SystemTime> {
        None
    }
}

#[test]
fn thousands_that_were_just_written_are_not_looked_at_one_by_one() {
    let mut tree = tree(&[]);
    for n in 0..1000 {
        let pic = tree
            .create(NodeId::ROOT, &format!("{n}.gif"), Kind::File, at(n))
            .unwrap();
        seal(&mut tree, pic, n, at(n));
    }
    tree.create(NodeId::ROOT, "2026", Kind::Directory, at(999))
        .unwrap();
    let looks = Counting::default();
    let now = at(5) + Duration::from_millis(500);
    let plan = plan(&tree, &looks, SETTLE, false, 100, now);
    assert_eq!(
        summary(&plan.steps),
        [
            "create R/0.gif",
            "create R/1.gif",
            "create R/2.gif",
            "create R/3.gif",
            "create R/4.gif",
            "mkdir R/2026"
        ]
    );
    assert_eq!(plan.wake, Some(at(6)));
    // What is due, and the first that is not.
    assert!(looks.0.get() < 50, "{} looks", looks.0.get());
}

/// Until the end of the first second the drive is full.
struct Full;

impl Holds for Full {
    fn busy(&self, _: &Subject) -> bool {
        false
    }
    fn entering(&self, _: &ItemId) -> bool {
        false
    }
    fn until(&self, _: &Subject) -> Option<SystemTime> {
        None
    }
    fn full_until(&self) -> Option<SystemTime> {
        Some(at(12))
    }
}

#[test]
fn while_the_drive_is_full_only_what_takes_space_waits() {
    let mut tree = tree(&[
        item("A", "R", "a.gif", file()),
        item("B", "R", "b.gif", file()),
    ]);
    let pic = tree
        .create(NodeId::ROOT, "new.gif", Kind::File, at(0))
        .unwrap();
    seal(&mut tree, pic, 7, at(0));
    tree.create(NodeId::ROOT, "2026", Kind::Directory, at(0))
        .unwrap();
    tree.unlink(NodeId::ROOT, "a.gif", false, at(0)).unwrap();
    let (from, to) = ((NodeId::ROOT, "b.gif"), (NodeId::ROOT, "c.gif"));
    tree.rename(from, to, |_| false, at(0)).unwrap();
    let full = plan(&tree, &Full, SETTLE, false, 100, at(10));
    assert_eq!(
        summary(&full.steps),
        ["delete A", "mkdir R/2026", "move B R/c.gif over None"]
    );
    assert_eq!(full.wake, Some(at(12)));
    let room = plan(&tree, &Full, SETTLE, false, 100, at(12));
    assert_eq!(summary(&room.steps)[0], "create R/new.gif");
}
