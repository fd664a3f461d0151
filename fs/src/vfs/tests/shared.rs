//! Two clients write the same files, while requests of ours are under way and may be lost. Whatever
//! either wrote is there in the end, once, unless the one who replaced it had it before him.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::memory_drive::Fate;
use super::model::{Model, Step, listing, perform};
use super::overlap::{quiet, still};
use super::*;

/// One thing that happens. Places are numbers of names in the root.
#[derive(Clone, Debug)]
enum Event {
    /// An application writes a whole file.
    Put(usize),
    /// An application deletes.
    Unlink(usize),
    /// An application renames, perhaps over another.
    Rename(usize, usize),
    /// Another client writes a whole file.
    TheirPut(usize),
    /// Another client deletes.
    TheirDelete(usize),
    /// Another client renames to a name that is free on the drive.
    TheirRename(usize, usize),
    /// The drive tells of changes.
    Round,
    /// One of the requests that wait goes on.
    Let(usize, Fate),
}

const NAMES: [&str; 3] = ["a", "b", "d"];

fn event() -> impl Strategy<Value = Event> {
    let place = || 0..NAMES.len();
    let fate = prop_oneof![
        3 => Just(Fate::Answer),
        2 => Just(Fate::Late),
        1 => Just(Fate::LoseReply),
        1 => Just(Fate::LoseRequest),
    ];
    prop_oneof![
        6 => place().prop_map(Event::Put),
        1 => place().prop_map(Event::Unlink),
        2 => (place(), place()).prop_map(|(from, to)| Event::Rename(from, to)),
        5 => place().prop_map(Event::TheirPut),
        1 => place().prop_map(Event::TheirDelete),
        1 => (place(), place()).prop_map(|(from, to)| Event::TheirRename(from, to)),
        4 => Just(Event::Round),
        10 => (0..4_usize, fate).prop_map(|(which, fate)| Event::Let(which, fate)),
    ]
}

/// Contents, each written once.
#[derive(Default)]
struct Writings {
    written: u32,
    /// What somebody replaced or deleted who had it before him.
    replaced: BTreeSet<Vec<u8>>,
    all: BTreeSet<Vec<u8>>,
    /// What another client gave another name, perhaps before its writer heard that it is there:
    /// then it is sent twice.
    carried: BTreeSet<Vec<u8>>,
}

impl Writings {
    fn next(&mut self, by: &str) -> Vec<u8> {
        self.written += 1;
        let bytes = format!("{by} {}", self.written).into_bytes();
        self.all.insert(bytes.clone());
        bytes
    }

    fn replace(&mut self, there: &Model, name: &str) {
        self.replaced
            .extend(there.get(name).and_then(Option::as_ref).cloned());
    }
}

/// What can be read here. What another client has deleted, or written since we heard of it, cannot.
async fn here(rig: &Rig) -> Model {
    let mut model = Model::new();
    for entry in rig.vfs.list(NodeId::ROOT).await.expect("it is listed") {
        let Ok(handle) = rig.vfs.open(entry.attr.node, READ).await else {
            continue;
        };
        if let Ok(bytes) = rig.vfs.read(handle, 0, 1 << 10).await {
            model.insert(entry.name, Some(bytes.to_vec()));
        }
        rig.vfs.release(handle).await;
    }
    model
}

fn on_drive(rig: &Rig) -> Model {
    rig.drive.dump().into_iter().collect()
}

async fn happen(rig: &Rig, writings: &mut Writings, event: &Event) {
    match *event {
        Event::Put(at) => {
            writings.replace(&here(rig).await, NAMES[at]);
            let step = Step::Put(at, writings.next("ours"));
            perform(rig, &step).await.expect("a write");
        }
        Event::Unlink(at) => {
            let before = here(rig).await;
            if perform(rig, &Step::Unlink(at)).await.is_ok() {
                writings.replace(&before, NAMES[at]);
            }
        }
        Event::Rename(from, to) => {
            let before = here(rig).await;
            if perform(rig, &Step::Rename(from, to)).await.is_ok() && from != to {
                writings.replace(&before, NAMES[to]);
            }
        }
        Event::TheirPut(at) => {
            writings.replace(&on_drive(rig), NAMES[at]);
            let bytes = writings.next("theirs");
            rig.drive.put(ROOT, NAMES[at], &bytes);
            let over = format!(" over {}", NAMES[at]);
            if rig.drive.waiting().iter().any(|it| it.ends_with(&over)) {
                // Between the look and the move: no request makes a move conditional (trap T21).
                writings.replaced.insert(bytes);
            }
        }
        Event::TheirDelete(at) => {
            if let Some(item) = rig.drive.find(NAMES[at]) {
                writings.replace(&on_drive(rig), NAMES[at]);
                rig.drive.remove(&item);
            }
        }
        Event::TheirRename(from, to) => {
            let found = (rig.drive.find(NAMES[from]), rig.drive.find(NAMES[to]));
            if let (Some(item), None) = found {
                let there = on_drive(rig).remove(NAMES[from]);
                writings.carried.extend(there.flatten());
                rig.drive.shift(&item, ROOT, NAMES[to]);
            }
        }
        Event::Round => {
            rig.sync.round().await.expect("the drive is in memory");
        }
        Event::Let(which, fate) => rig.drive.decide(which, fate),
    }
}

async fn agree(events: Vec<Event>) {
    let (rig, mut writings) = (Rig::new().await, Writings::default());
    rig.sync.round().await.expect("the drive is in memory");
    assert_eq!(listing(&rig).await, Model::new());
    rig.drive.shut_gate();
    let stop = CancellationToken::new();
    let sending = tokio::spawn(rig.outbox.clone().run(stop.clone()));
    for event in &events {
        happen(&rig, &mut writings, event).await;
        still(&rig).await;
    }
    rig.drive.open_gate();
    quiet(&rig).await;
    rig.sync.round().await.expect("the drive is in memory");
    quiet(&rig).await;
    // As the next round does with folders that are due.
    let due = {
        let books = rig.vfs.ledger().books();
        let root = books.tree.node(NodeId::ROOT).expect("the root stays");
        root.listed_at.is_none()
    };
    if due {
        let compared = rig.vfs.compare(NodeId::ROOT, rig.drive.clone(), false);
        compared.await.expect("the drive is in memory");
        quiet(&rig).await;
    }
    stop.cancel();
    sending.await.expect("it ends");
    let there = on_drive(&rig);
    assert_eq!(listing(&rig).await, there, "here, and on the drive");
    let mut held = BTreeSet::new();
    for (name, bytes) in &there {
        let bytes = bytes.clone().expect("there are only files");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(
            writings.carried.contains(&bytes) | held.insert(bytes),
            "{name} is another copy of {text:?}: {there:?}"
        );
    }
    let lost: Vec<_> = writings.all.difference(&writings.replaced).collect();
    let lost: Vec<_> = lost.into_iter().filter(|it| !held.contains(*it)).collect();
    let lost: Vec<_> = lost.iter().map(|it| String::from_utf8_lossy(it)).collect();
    assert!(lost.is_empty(), "{lost:?} is lost: {there:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_either_of_two_writers_has_written_is_kept_once(
        events in prop::collection::vec(event(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(agree(events));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_closes_does_not_seal_what_a_writer_is_in_the_middle_of() {
    let rig = Rig::new().await;
    let (attr, writer) = rig
        .vfs
        .create(NodeId::ROOT, "a", 0o644, WRITE, false)
        .await
        .unwrap();
    rig.vfs
        .write(writer, 0, Bytes::from_static(b"half"))
        .await
        .unwrap();
    assert_eq!(rig.get(NodeId::ROOT, "a").await.unwrap(), b"half");
    let longer = SetAttr {
        size: Some(9),
        ..SetAttr::default()
    };
    rig.vfs
        .set_attr(attr.node, longer, Some(writer))
        .await
        .unwrap();
    rig.vfs.quiesce(Duration::from_secs(10)).await;
    rig.drain().await;
    rig.drive_has(&[]);
    rig.vfs.flush(writer).await.unwrap();
    rig.vfs.release(writer).await;
    rig.drain().await;
    rig.drive_has(&[("a", Some(b"half\0\0\0\0\0"))]);
    let calls = rig.drive.calls();
    assert_eq!(calls.last().map(String::as_str), Some("create a"));
    assert_eq!(calls.iter().filter(|it| it.ends_with(" a")).count(), 1);
}

#[tokio::test]
async fn a_close_that_arrives_late_does_not_seal_what_the_next_writer_has_just_cut() {
    let rig = Rig::new().await;
    let id = rig.put(NodeId::ROOT, "a", b"one").await;
    let late = rig.vfs.open(id, WRITE).await.unwrap();
    let write = rig.vfs.write(late, 0, Bytes::from_static(b"two"));
    write.await.unwrap();
    let cut = OpenMode {
        truncate: true,
        ..WRITE
    };
    let file = rig.vfs.handle(late).unwrap().file.clone();
    let busy = file.gate.lock().await;
    let mut next = std::pin::pin!(rig.vfs.open(id, cut));
    tokio::select! {
        biased;
        _ = &mut next => panic!("the file is not to be cut while somebody else is at it"),
        () = std::future::ready(()) => {}
    }
    rig.vfs.release(late).await;
    tokio::task::yield_now().await; // the close comes to the gate, behind the open
    drop(busy);
    let next = next.await.unwrap();
    rig.vfs.quiesce(Duration::from_secs(10)).await;
    let held = rig.vfs.ledger().books().node(id).unwrap().held.clone();
    assert_eq!(held.unwrap().size, 3, "what was closed before");
    let write = rig.vfs.write(next, 0, Bytes::from_static(b"three"));
    write.await.unwrap();
    rig.vfs.flush(next).await.unwrap();
    rig.vfs.release(next).await;
    let held = rig.vfs.ledger().books().node(id).unwrap().held.clone();
    assert_eq!(held.unwrap().size, 5);
}
