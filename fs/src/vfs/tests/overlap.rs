//! Random work while requests are under way: each request waits until the test says what becomes
//! of it, so that applications go on between a request, its effect and its reply. Requests get lost
//! and replies do. In the end the drive has just what a plain map has, and no copy more.

use std::fmt::Write as _;
use std::time::Instant;

use proptest::prelude::*;

use super::memory_drive::{Fate, Quirk};
use super::model::{Model, PLACES, Step, apply, listing, perform};
use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// An application, or a round of delta.
    Do(Step),
    /// One of the requests that wait goes on.
    Let(usize, Fate),
}

fn event() -> impl Strategy<Value = Event> {
    let place = || 0..PLACES.len();
    let bytes = || prop::collection::vec(any::<u8>(), 0..4);
    let fate = prop_oneof![
        3 => Just(Fate::Answer),
        2 => Just(Fate::Late),
        1 => Just(Fate::LoseReply),
        1 => Just(Fate::LoseRequest),
    ];
    let step = prop_oneof![
        6 => (place(), bytes()).prop_map(|(at, bytes)| Step::Put(at, bytes)),
        3 => place().prop_map(Step::Unlink),
        3 => place().prop_map(Step::Mkdir),
        1 => place().prop_map(Step::Rmdir),
        6 => (place(), place()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (place(), place()).prop_map(|(from, to)| Step::Exchange(from, to)),
        2 => Just(Step::Round),
    ];
    prop_oneof![
        3 => step.prop_map(Event::Do),
        2 => (0..4_usize, fate).prop_map(|(which, fate)| Event::Let(which, fate)),
    ]
}

/// Nothing of this takes long; past it something hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until all that is under way waits at the gate.
pub(super) async fn still(rig: &Rig) {
    rig.outbox.resume();
    rig.outbox.retry(None);
    let end = Instant::now() + PATIENCE;
    let mut calm = 0;
    while calm < 3 {
        assert!(Instant::now() < end, "{}", left(rig));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let waits = rig.drive.waiting().len() == rig.outbox.sending();
        calm = if waits { calm + 1 } else { 0 };
    }
}

/// Waits until nothing is left to send, once the gate is open.
pub(super) async fn quiet(rig: &Rig) {
    let end = Instant::now() + PATIENCE;
    while !rig.outbox.is_drained() || rig.vfs.status().seeking > 0 {
        assert!(Instant::now() < end, "{}", left(rig));
        still(rig).await;
        rig.sync.round().await.expect("the drive is in memory");
        rig.give_up_seeking();
    }
}

/// What is not sent yet, for whoever looks into a failure.
fn left(rig: &Rig) -> String {
    let books = rig.vfs.ledger().books();
    let mut text = format!("{:?}", rig.drive.waiting());
    for node in books.tree.pending() {
        let base = node.baseline.as_ref().map(|base| (&base.item, &base.name));
        let (id, kind, place) = (node.id, node.kind, &node.place);
        let _ = write!(text, "\n{id} {kind:?} {place:?} {base:?}");
    }
    for grave in books.tree.graves() {
        let _ = write!(text, "\n{grave:?}");
    }
    text
}

async fn agree(events: Vec<Event>, slow_looks: bool) {
    let (rig, mut model) = (Rig::new().await, Model::new());
    rig.sync.round().await.expect("the drive is in memory");
    if slow_looks {
        rig.drive.set(Quirk::SlowLooks);
    }
    rig.drive.shut_gate();
    let stop = CancellationToken::new();
    let sending = tokio::spawn(rig.outbox.clone().run(stop.clone()));
    for event in &events {
        match event {
            Event::Do(step) => {
                let before = model.clone();
                let allowed = apply(&mut model, step);
                let done = perform(&rig, step).await;
                assert_eq!(done.is_ok(), allowed, "{step:?} on {before:?}: {done:?}");
                assert_eq!(listing(&rig).await, model, "after {step:?} on {before:?}");
            }
            Event::Let(which, fate) => rig.drive.decide(*which, *fate),
        }
        still(&rig).await;
        assert_eq!(
            listing(&rig).await,
            model,
            "after {event:?} was carried out"
        );
    }
    rig.drive.open_gate();
    quiet(&rig).await;
    stop.cancel();
    sending.await.expect("it ends");
    let dump: Model = rig
        .drive
        .dump()
        .into_iter()
        .map(|(path, bytes)| (path.trim_end_matches('/').to_owned(), bytes))
        .collect();
    assert_eq!(dump, model, "what the drive has");
    rig.sync.round().await.expect("the drive is in memory");
    assert_eq!(listing(&rig).await, model, "after the drive told of it all");
}

/// The gate holds what is sent, and answers what waits first.
async fn in_order(fates: &[Fate], steps: &[Step]) {
    let fates = fates.iter().map(|fate| Event::Let(0, *fate));
    let steps = steps.iter().cloned().map(Event::Do);
    // The first request waits when the rest of the work begins.
    let mut events: Vec<Event> = steps.collect();
    events.extend(fates);
    agree(events, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_file_was_renamed_meanwhile_makes_no_conflict_copy() {
    let (a, b) = (0, 1);
    for fate in [Fate::Answer, Fate::Late, Fate::LoseReply, Fate::LoseRequest] {
        let put = |at, text: &[u8]| Step::Put(at, text.to_vec());
        let steps = [put(a, b"one"), Step::Rename(a, b), put(a, b"two")];
        in_order(&[fate, Fate::LoseReply], &steps).await;
        let steps = [put(a, b"one"), put(b, b"two"), Step::Exchange(a, b)];
        in_order(&[fate, Fate::LoseReply], &steps).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_overtakes_the_reply_of_a_create_leaves_nothing() {
    for fate in [Fate::Answer, Fate::Late, Fate::LoseReply, Fate::LoseRequest] {
        in_order(
            &[fate, fate],
            &[Step::Put(0, b"one".to_vec()), Step::Unlink(0)],
        )
        .await;
        in_order(&[fate, fate], &[Step::Mkdir(2), Step::Rmdir(2)]).await;
    }
}

/// Waits until just these requests are at the gate.
async fn gate_has(rig: &Rig, expected: &[&str]) {
    let end = Instant::now() + PATIENCE;
    while rig.drive.waiting() != expected {
        assert!(Instant::now() < end, "{}", left(rig));
        still(rig).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_arrives_late_does_not_undo_the_rename_that_came_meanwhile() {
    let rig = Rig::new().await;
    rig.sync.round().await.expect("the drive is in memory");
    listing(&rig).await;
    rig.drive.set(Quirk::SlowLooks);
    rig.drive.shut_gate();
    let stop = CancellationToken::new();
    let sending = tokio::spawn(rig.outbox.clone().run(stop.clone()));
    let root = NodeId::ROOT;
    rig.vfs.mkdir(root, "a", 0o755).await.expect("a folder");
    gate_has(&rig, &["mkdir a"]).await;
    let flags = RenameFlags::default();
    let renamed = rig.vfs.rename(root, "a", root, "b", flags).await;
    renamed.expect("a rename");
    rig.drive.decide(0, Fate::Late);
    gate_has(&rig, &["reply of mkdir a"]).await;
    // By the time of the look it has another tag than the reply says.
    rig.drive.retag(&rig.drive.find("a").expect("it is made"));
    rig.drive.decide(0, Fate::Answer);
    for _ in 0..6 {
        still(&rig).await;
        // What changes goes first, and looks come late.
        let waiting = rig.drive.waiting();
        let change = waiting.iter().position(|it| !it.starts_with("look"));
        rig.drive.decide(change.unwrap_or(0), Fate::Answer);
        still(&rig).await;
        assert!(rig.vfs.lookup(root, "b").await.is_ok(), "{waiting:?}");
    }
    rig.drive.open_gate();
    rig.outbox.retry(None);
    quiet(&rig).await;
    stop.cancel();
    sending.await.expect("it ends");
    rig.drive_has(&[("b/", None)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn work_that_overtakes_requests_leaves_the_drive_as_a_map_would_be(
        events in prop::collection::vec(event(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(agree(events, false));
    }

    #[test]
    fn what_is_seen_late_undoes_nothing(events in prop::collection::vec(event(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(agree(events, true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_of_a_file_that_is_deleted_is_pending_until_the_drive_has_it_no_more() {
    let rig = Rig::new().await;
    rig.sync.round().await.expect("the drive is in memory");
    rig.put(NodeId::ROOT, "a.gif", b"one").await;
    rig.drive.shut_gate();
    let stop = CancellationToken::new();
    let sending = tokio::spawn(rig.outbox.clone().run(stop.clone()));
    still(&rig).await;
    assert_eq!(rig.drive.waiting().len(), 1);
    rig.vfs.unlink(NodeId::ROOT, "a.gif").await.expect("a file");
    let status = rig.vfs.status();
    assert_eq!((status.pending, status.seeking), (1, 0));
    assert!(!rig.outbox.is_drained(), "the drive is about to get it");
    rig.drive.open_gate();
    quiet(&rig).await;
    stop.cancel();
    sending.await.expect("it ends");
    assert_eq!(rig.vfs.status().pending, 0);
    rig.drive_has(&[]);
}
