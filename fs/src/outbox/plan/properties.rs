//! The planner against a drive in plain values, under random work: what it sends is never refused,
//! nothing of it is lost on the way, and in the end the drive has what the tree has.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::tests::{Free, at, hash, item, tree};
use super::*;
use crate::tree::{Item, ItemFacet, NameError, Scope, Terms};

/// A drive that keeps names, and is as strict as OneDrive.
struct MiniDrive {
    items: BTreeMap<ItemId, Entry>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    parent: ItemId,
    name: String,
    folder: bool,
    bytes: Option<u64>,
}

fn root() -> ItemId {
    ItemId::new("R")
}

impl MiniDrive {
    fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            next: 0,
        }
    }

    fn at(&self, parent: &ItemId, name: &str) -> Option<&ItemId> {
        let same = |entry: &Entry| entry.parent == *parent && entry.name == name;
        let mut all = self.items.iter().filter(|(_, entry)| same(entry));
        all.next().map(|(id, _)| id)
    }

    fn check_place(&self, parent: &ItemId, name: &str) {
        let folder = self.items.get(parent).is_some_and(|entry| entry.folder);
        assert!(folder || *parent == root(), "{parent} is no folder");
        let holder = self.at(parent, name);
        assert_eq!(holder, None, "{parent}/{name} is taken");
    }

    fn is_within(&self, inner: &ItemId, outer: &ItemId) -> bool {
        let mut at = inner;
        loop {
            if at == outer {
                return true;
            }
            let Some(entry) = self.items.get(at) else {
                return false;
            };
            at = &entry.parent;
        }
    }

    fn make(&mut self, entry: Entry) -> ItemId {
        self.check_place(&entry.parent, &entry.name);
        self.next += 1;
        let id = ItemId::new(format!("I{}", self.next));
        self.items.insert(id.clone(), entry);
        id
    }

    fn shown(&self, id: &ItemId) -> Item {
        let entry = &self.items[id];
        let facet = if entry.folder {
            ItemFacet::Folder
        } else {
            ItemFacet::File {
                hash: entry.bytes.map(hash),
                malware: false,
            }
        };
        item(id.as_str(), entry.parent.as_str(), &entry.name, facet)
    }

    fn path<'a>(&'a self, mut at: &'a ItemId) -> String {
        let mut names = Vec::new();
        while let Some(entry) = self.items.get(at) {
            names.push(entry.name.as_str());
            at = &entry.parent;
        }
        names.reverse();
        names.join("/")
    }

    /// All paths, with what is there.
    fn paths(&self) -> BTreeMap<String, Option<u64>> {
        let all = self.items.iter();
        all.map(|(id, entry)| (self.path(id), entry.bytes))
            .collect()
    }
}

/// What is under way keeps others off.
struct Busy<'a>(&'a HashSet<Subject>);

impl Holds for Busy<'_> {
    fn busy(&self, subject: &Subject) -> bool {
        self.0.contains(subject)
    }
    fn entering(&self, folder: &ItemId) -> bool {
        let into = |subject: &Subject| matches!(subject, Subject::Name(dir, _) if dir == folder);
        self.0.iter().any(into)
    }
    fn until(&self, subject: &Subject) -> Option<SystemTime> {
        Free.until(subject)
    }
    fn full_until(&self) -> Option<SystemTime> {
        Free.full_until()
    }
}

/// One thing that happens. Places are numbers, taken modulo what there is.
#[derive(Clone, Debug)]
enum Event {
    Mkdir(usize, usize),
    Write(usize, usize),
    Rename(usize, usize, usize),
    Exchange(usize, usize),
    Remove(usize),
    /// The planner is asked, and what it says is sent.
    Plan,
    /// One of the requests under way takes effect and is answered.
    Answer(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let any = || 0..64_usize;
    let name = || 0..NAMES.len();
    prop_oneof![
        2 => (any(), name()).prop_map(|(dir, name)| Event::Mkdir(dir, name)),
        2 => (any(), name()).prop_map(|(dir, name)| Event::Write(dir, name)),
        6 => (any(), any(), name()).prop_map(|(what, dir, name)| Event::Rename(what, dir, name)),
        1 => (any(), any()).prop_map(|(one, other)| Event::Exchange(one, other)),
        2 => any().prop_map(Event::Remove),
        2 => Just(Event::Plan),
        3 => any().prop_map(Event::Answer),
    ]
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

struct World {
    tree: Tree,
    drive: MiniDrive,
    busy: HashSet<Subject>,
    under_way: Vec<Step>,
    written: u64,
    seconds: u64,
}

impl World {
    fn new() -> Self {
        Self {
            tree: tree(&[]),
            drive: MiniDrive::new(),
            busy: HashSet::new(),
            under_way: Vec::new(),
            written: 0,
            seconds: 0,
        }
    }

    fn now(&self) -> SystemTime {
        at(self.seconds)
    }

    fn nodes(&self, wanted: impl Fn(&Node) -> bool) -> Vec<NodeId> {
        let linked = |node: &&Node| node.place.is_some() && node.id != NodeId::ROOT;
        let all = self.tree.nodes().filter(linked).filter(|node| wanted(node));
        let mut all: Vec<NodeId> = all.map(|node| node.id).collect();
        all.sort();
        all
    }

    fn dir(&self, which: usize) -> NodeId {
        let mut all = self.nodes(|node| node.kind == Kind::Directory);
        all.push(NodeId::ROOT);
        all[which % all.len()]
    }

    fn any(&self, which: usize) -> Option<(NodeId, String)> {
        let all = self.nodes(|_| true);
        let id = *all.get(which % all.len().max(1))?;
        let place = self.tree.node(id)?.place.clone()?;
        Some((place.parent, place.name))
    }

    fn happen(&mut self, event: &Event) {
        self.seconds += 1;
        let now = self.now();
        match *event {
            Event::Mkdir(dir, name) => {
                let dir = self.dir(dir);
                let made = self.tree.create(dir, NAMES[name], Kind::Directory, now);
                drop(made.map(|id| self.tree.apply(&[], Scope::Listing(id), plain(), now)));
            }
            Event::Write(dir, name) => {
                let dir = self.dir(dir);
                let there = self.tree.child(dir, NAMES[name]).cloned();
                let id = match there {
                    Some(there) if there.kind == Kind::File => Ok(there.id),
                    Some(_) => Err(NameError::Exists),
                    None => self.tree.create(dir, NAMES[name], Kind::File, now),
                };
                if let Ok(id) = id {
                    self.written += 1;
                    super::tests::seal(&mut self.tree, id, self.written, now);
                }
            }
            Event::Rename(what, dir, name) => {
                if let Some((from, was)) = self.any(what) {
                    let to = (self.dir(dir), NAMES[name]);
                    drop(self.tree.rename((from, &was), to, |_| false, now));
                }
            }
            Event::Exchange(one, other) => {
                let (one, other) = (self.any(one), self.any(other));
                if let (Some(one), Some(other)) = (one, other) {
                    let ends = ((one.0, &*one.1), (other.0, &*other.1));
                    drop(self.tree.exchange(ends.0, ends.1, now));
                }
            }
            Event::Remove(what) => {
                if let Some((dir, name)) = self.any(what)
                    && self.tree.unlink(dir, &name, false, now).is_err()
                {
                    drop(self.tree.rmdir(dir, &name, now));
                }
            }
            Event::Plan => drop(self.plan()),
            Event::Answer(which) if !self.under_way.is_empty() => {
                self.answer(which % self.under_way.len());
            }
            Event::Answer(_) => {}
        }
    }

    /// Asks the planner, and sends what it says. How many steps that were.
    fn plan(&mut self) -> usize {
        let now = self.now() + Duration::from_secs(9);
        let settle = Duration::from_secs(1);
        let plan = plan(&self.tree, &Busy(&self.busy), settle, true, 100, now);
        for step in &plan.steps {
            self.busy.extend(step.subjects());
            if let Step::CreateFolder { node, .. } | Step::Create { node, .. } = step {
                self.tree.attempt(*node, now);
            }
            if let Step::Replace { node, .. } = step {
                self.tree.begun(*node);
            }
        }
        let count = plan.steps.len();
        self.under_way.extend(plan.steps);
        count
    }

    fn answer(&mut self, which: usize) {
        let step = self.under_way.swap_remove(which);
        for subject in step.subjects() {
            self.busy.remove(&subject);
        }
        let now = self.now();
        match &step {
            Step::CreateFolder { parent, name, .. } => self.made(&step, parent, name, None),
            Step::Create {
                parent, name, held, ..
            } => self.made(&step, parent, name, Some(held.content.0)),
            Step::Replace {
                node, item, held, ..
            } => {
                let entry = self.drive.items.get_mut(item).expect("it is there");
                entry.bytes = Some(held.content.0);
                self.confirm(&item.clone(), *node, &step);
                self.tree.ended(*node);
            }
            Step::Move {
                node,
                item,
                parent,
                name,
                over,
                ..
            } => {
                if let Some(over) = over {
                    assert_eq!(self.drive.at(parent, name), Some(over));
                    self.drive.items.remove(over);
                    self.tree.set_grave(over.clone(), None);
                }
                self.drive.check_place(parent, name);
                assert!(
                    !self.drive.is_within(parent, item),
                    "{item} into itself: {parent}"
                );
                let entry = self.drive.items.get_mut(item).expect("it is there");
                (entry.parent, entry.name) = (parent.clone(), name.clone());
                self.confirm(item, *node, &step);
            }
            Step::SetTime { .. } => {}
            Step::Seek { grave } => {
                // As the outbox does: it looks under the name.
                let found = self.drive.at(&grave.parent, &grave.name).cloned();
                let found = found.map(|id| self.drive.shown(&id));
                match found.map(|item| (self.tree.is_sought(grave, &item), item)) {
                    Some((Some(true), item)) => self.tree.found(&grave.item, &item, now),
                    _ => self.tree.set_grave(grave.item.clone(), None),
                }
            }
            Step::Delete { item, .. } => {
                let within = self.drive.items.values().find(|it| it.parent == *item);
                assert!(within.is_none(), "{item} is deleted with {within:?}");
                self.drive.items.remove(item).expect("it is there");
                self.tree.set_grave(item.clone(), None);
                self.tree.note_deleted(item, now);
            }
        }
    }

    fn made(&mut self, step: &Step, parent: &ItemId, name: &str, bytes: Option<u64>) {
        let id = self.drive.make(Entry {
            parent: parent.clone(),
            name: name.to_owned(),
            folder: bytes.is_none(),
            bytes,
        });
        let Subject::Node(node) = step.subject() else {
            unreachable!("something is made for a node");
        };
        self.confirm(&id, node, step);
        self.tree.ended(node);
    }

    fn confirm(&mut self, id: &ItemId, node: NodeId, step: &Step) {
        let shown = self.drive.shown(id);
        self.tree.confirm(&shown, node, sent(step), self.now());
    }

    /// Sends all there is, answers in any order, and compares.
    fn finish(&mut self, order: &[usize]) {
        let mut order = order.iter().cycle();
        let mut turns = 0;
        loop {
            self.seconds += 1;
            let fresh = self.plan();
            if fresh == 0 && self.under_way.is_empty() {
                break;
            }
            let which = order.next().expect("it goes round") % self.under_way.len();
            self.answer(which);
            turns += 1;
            assert!(
                turns < 2000,
                "it goes round and round: {:?}",
                self.under_way
            );
        }
        let here: BTreeMap<String, Option<u64>> = self
            .nodes(|node| node.kind == Kind::Directory || node.held.is_some())
            .into_iter()
            .map(|id| {
                let node = self.tree.node(id).expect("it was just there");
                let bytes = node.held.as_ref().map(|held| held.content.0);
                (self.tree.path(id).expect("it is linked"), bytes)
            })
            .collect();
        assert_eq!(self.drive.paths(), here);
        assert_eq!(self.tree.pending().count(), 0);
        assert_eq!(self.tree.graves().count(), 0);
    }
}

fn plain() -> Terms<'static> {
    Terms::plain(&|_| false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_here_reaches_the_drive_without_a_refusal(
        events in proptest::collection::vec(event(), 1..80),
        order in proptest::collection::vec(0..64_usize, 8),
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.finish(&order);
    }
}
