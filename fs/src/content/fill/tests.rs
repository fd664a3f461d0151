//! A drive that does as it is told, and what a fill makes of it.

mod drive;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use futures_util::future::join_all;
use proptest::prelude::*;

use self::drive::{Act, Scripted};
use super::*;

const KIB: usize = 1024;

struct Bench {
    _dir: tempfile::TempDir,
    store: Store,
    drive: Arc<Scripted>,
    fill: Arc<Fill>,
}

/// A fill of an item that says `size`, from this drive.
fn bench(drive: &Arc<Scripted>, size: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(crate::content::Host)).unwrap();
    let fill = Fill::start(&store, drive.clone(), ItemId::new("item"), size as u64).unwrap();
    Bench {
        _dir: dir,
        store,
        drive: Arc::clone(drive),
        fill,
    }
}

impl Bench {
    fn read(
        &self,
        offset: usize,
        len: usize,
    ) -> Pin<Box<impl Future<Output = Result<Bytes, FillError>> + Send + use<'_>>> {
        Box::pin(self.fill.read(offset as u64, len, &mut ReadAhead::new()))
    }

    /// Whether each file on the disk is a fill.
    fn fills(&self) -> Vec<bool> {
        self.store
            .list()
            .unwrap()
            .iter()
            .map(|found| found.fill)
            .collect()
    }
}

/// Polls a future once.
async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// Lets other tasks run until this is so.
async fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it never came to be so"
        );
        tokio::task::yield_now().await;
    }
}

fn is_drive(error: &FillError) -> bool {
    matches!(error, FillError::Drive(_))
}

#[tokio::test]
async fn a_hundred_readers_of_one_missing_chunk_make_one_fetch() {
    let drive = Scripted::new(64 * KIB, [Act::Stall(0)]);
    let bench = bench(&drive, 64 * KIB);
    let mut readers = join_all((0..100).map(|_| bench.read(4096, 4096)));
    assert!(once(&mut readers).await.is_pending());
    drive.open_gate();
    for read in readers.await {
        assert_eq!(read.unwrap(), drive.content[4096..8192]);
    }
    assert_eq!(drive.requests(), [(0, 64 * KIB as u64)]);
}

#[tokio::test]
async fn a_reader_that_gives_up_takes_nothing_from_the_others() {
    let drive = Scripted::new(64 * KIB, [Act::Stall(0)]);
    let bench = bench(&drive, 64 * KIB);
    let mut first = bench.read(0, 4096);
    assert!(once(&mut first).await.is_pending());
    until(|| drive.requests().len() == 1).await;
    let mut second = bench.read(0, 4096);
    assert!(once(&mut second).await.is_pending());
    drop(first);
    drive.open_gate();
    assert_eq!(second.await.unwrap(), drive.content[..4096]);
    assert_eq!(drive.requests().len(), 1);
}

#[tokio::test]
async fn a_failed_fetch_fails_all_who_wait_and_the_next_read_tries_again() {
    let drive = Scripted::new(64 * KIB, [Act::Refuse]);
    let bench = bench(&drive, 64 * KIB);
    for read in join_all((0..10).map(|_| bench.read(0, 4096))).await {
        assert!(is_drive(&read.unwrap_err()));
    }
    assert_eq!(drive.requests().len(), 1);
    assert_eq!(bench.read(0, 4096).await.unwrap(), drive.content[..4096]);
    assert_eq!(drive.requests().len(), 2);
}

#[tokio::test]
async fn what_came_before_a_failure_is_not_fetched_again() {
    let drive = Scripted::new(64 * KIB, [Act::Cut(10_000), Act::End(5_000)]);
    let bench = bench(&drive, 64 * KIB);
    // The first pages are here, so their reader is served; another's are not.
    assert_eq!(bench.read(0, 4096).await.unwrap(), drive.content[..4096]);
    until(|| bench.fill.held_bytes() == 10_000).await;
    until(|| bench.fill.work.state.lock().running.is_empty()).await;
    assert!(is_drive(&bench.fill.complete().await.unwrap_err()));
    assert_eq!(bench.fills(), [true]);
    bench.fill.complete().await.unwrap();
    let size = 64 * KIB as u64;
    assert_eq!(
        drive.requests(),
        [(0, size), (10_000, size), (15_000, size)]
    );
    assert_eq!(bench.fills(), [false]);
}

#[tokio::test]
async fn a_reader_waits_for_just_its_bytes() {
    let drive = Scripted::new(64 * KIB, [Act::Stall(8192)]);
    let bench = bench(&drive, 64 * KIB);
    assert_eq!(
        bench.read(4000, 100).await.unwrap(),
        drive.content[4000..4100]
    );
    let mut waiting = bench.read(8000, 1000);
    assert!(once(&mut waiting).await.is_pending());
    // What is here is ready at once, even while the drive is silent.
    match once(&mut bench.read(0, 4096)).await {
        Poll::Ready(read) => assert_eq!(read.unwrap(), drive.content[..4096]),
        Poll::Pending => panic!("waits for what is here"),
    }
    drive.open_gate();
    assert_eq!(waiting.await.unwrap(), drive.content[8000..9000]);
}

#[tokio::test]
async fn reads_at_the_end_are_short_and_beyond_it_empty() {
    let drive = Scripted::new(5000, []);
    let bench = bench(&drive, 5000);
    assert_eq!(bench.read(4000, 4096).await.unwrap(), drive.content[4000..]);
    assert_eq!(bench.read(5000, 4096).await.unwrap(), "");
    assert_eq!(bench.read(usize::MAX, 4096).await.unwrap(), "");
}

#[tokio::test]
async fn a_small_content_is_completed_by_one_request() {
    let drive = Scripted::new(100_000, [Act::Stall(99_000)]);
    let bench = bench(&drive, 100_000);
    let mut completing = Box::pin(bench.fill.complete());
    assert!(once(&mut completing).await.is_pending());
    until(|| bench.fill.held_bytes() == 99_000).await;
    assert_eq!(bench.fills(), [true]);
    assert!(bench.fill.is_complete().is_none());
    drive.open_gate();
    let blob = completing.await.unwrap();
    assert_eq!(drive.requests(), [(0, 100_000)]);
    assert_eq!(blob.read_at(0, 200_000).unwrap(), drive.content);
    assert_eq!(bench.fills(), [false]);
    assert!(Arc::ptr_eq(&blob, &bench.store.load(blob.id()).unwrap()));
    assert!(Arc::ptr_eq(&blob, &bench.fill.complete().await.unwrap()));
    assert_eq!(bench.read(5, 5).await.unwrap(), drive.content[5..10]);
    assert_eq!(drive.requests().len(), 1);
}

#[tokio::test]
async fn a_content_that_was_read_to_the_end_completes_by_itself() {
    let drive = Scripted::new(9000, []);
    let bench = bench(&drive, 9000);
    bench.read(0, 9000).await.unwrap();
    until(|| bench.fill.is_complete().is_some()).await;
    assert_eq!(bench.fills(), [false]);
}

#[tokio::test]
async fn an_empty_content_is_complete_without_a_request() {
    let drive = Scripted::new(0, []);
    let bench = bench(&drive, 0);
    assert_eq!(bench.read(0, 10).await.unwrap(), "");
    assert!(bench.fill.complete().await.unwrap().is_empty().unwrap());
    assert_eq!(drive.requests(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_content_comes_in_pieces() {
    let size = 35 * KIB * KIB;
    let mut drive = Scripted::new(size, [Act::Refuse]);
    Arc::get_mut(&mut drive).unwrap().chunk = 64 * KIB;
    let bench = bench(&drive, size);
    // Until a reply has told the length, one request is out.
    assert!(is_drive(&bench.fill.complete().await.unwrap_err()));
    assert_eq!(drive.requests(), [(0, PIECE)]);
    let blob = bench.fill.complete().await.unwrap();
    let mut requests = drive.requests().split_off(1);
    requests.sort_unstable();
    assert_eq!(
        requests,
        [(0, PIECE), (PIECE, 2 * PIECE), (2 * PIECE, size as u64)]
    );
    assert!(blob.read_at(0, size).unwrap() == drive.content);
}

#[tokio::test]
async fn no_more_ranges_than_there_are_lanes_are_fetched_at_once() {
    let size = 16 * KIB * KIB;
    let drive = Scripted::new(size, [Act::Stall(0); 8]);
    let bench = bench(&drive, size);
    let mut readers = join_all((1..8).map(|n| bench.read(n * 2 * KIB * KIB, 4096)));
    assert!(once(&mut readers).await.is_pending());
    until(|| drive.requests().len() == LANES).await;
    // Nothing moves while the drive is silent: what could be asked for has been.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(drive.requests().len(), LANES);
    drive.open_gate();
    for (n, read) in (1..8).zip(readers.await) {
        assert_eq!(read.unwrap(), drive.content[n * 2 * KIB * KIB..][..4096]);
    }
    assert_eq!(drive.requests().len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_does_not_wait_for_those_who_want_the_whole() {
    let piece = usize::try_from(PIECE).unwrap();
    let all = Act::End(usize::MAX);
    let mut drive = Scripted::new(
        5 * piece,
        [all, Act::Stall(0), Act::Stall(0), Act::Stall(0)],
    );
    Arc::get_mut(&mut drive).unwrap().chunk = 64 * KIB;
    let bench = bench(&drive, 5 * piece);
    let fill = Arc::clone(&bench.fill);
    let completing = tokio::spawn(async move { fill.complete().await.map(|blob| blob.id()) });
    until(|| drive.requests().len() == LANES).await;
    let read = bench.read(4 * piece + 5, 100).await.unwrap();
    assert_eq!(read, drive.content[4 * piece + 5..][..100]);
    assert!(!completing.is_finished());
    drive.open_gate();
    let id = completing.await.unwrap().unwrap();
    assert!(bench.store.load(id).unwrap().read_at(0, 5 * piece).unwrap() == drive.content);
}

#[tokio::test]
async fn a_steady_reader_gets_the_right_bytes_by_few_requests() {
    let size = 4 * KIB * KIB;
    let drive = Scripted::new(size, []);
    let bench = bench(&drive, size);
    let mut ahead = ReadAhead::new();
    for at in (0..size).step_by(128 * KIB) {
        let read = bench
            .fill
            .read(at as u64, 128 * KIB, &mut ahead)
            .await
            .unwrap();
        assert_eq!(read, drive.content[at..at + 128 * KIB]);
    }
    let requests = drive.requests();
    assert!(requests.len() <= 8, "{requests:?}");
    assert_eq!(
        requests.iter().map(|(start, end)| end - start).sum::<u64>(),
        size as u64
    );
}

#[tokio::test]
async fn who_wants_the_whole_takes_it_as_long_as_it_is() {
    // Longer than the item says: the rest is asked for. Shorter: there is no more.
    for (said, asked) in [
        (6000, vec![(0, 6000), (6000, 9000)]),
        (9001, vec![(0, 9001)]),
    ] {
        let drive = Scripted::new(9000, []);
        let bench = bench(&drive, said);
        let blob = bench.fill.complete().await.unwrap();
        assert_eq!(blob.read_at(0, 20_000).unwrap(), drive.content);
        assert_eq!(bench.fill.size(), 9000);
        assert_eq!(bench.drive.requests(), asked);
    }
}

#[tokio::test]
async fn a_content_of_another_length_is_not_read_in_ranges() {
    for size in [9000, 300_000] {
        let drive = Scripted::new(size, []);
        let bench = bench(&drive, 200_000);
        let error = bench.read(0, 100).await.unwrap_err();
        assert!(matches!(error, FillError::Changed), "{error:?}");
        assert_eq!(bench.fill.held_bytes(), 0);
        // Nothing is here yet, so nothing can be mixed up.
        let blob = bench.fill.complete().await.unwrap();
        assert_eq!(blob.read_at(0, 300_000).unwrap(), drive.content);
    }
}

#[tokio::test]
async fn two_versions_of_one_length_do_not_mix_either() {
    let drive = Scripted::new(64 * KIB, [Act::Cut(8192)]);
    let bench = bench(&drive, 64 * KIB);
    *drive.version.lock() = Some("1".into());
    bench.read(0, 4096).await.unwrap();
    until(|| bench.fill.work.state.lock().running.is_empty()).await;
    *drive.version.lock() = Some("2".into());
    let error = bench.fill.complete().await.unwrap_err();
    assert!(matches!(error, FillError::Changed), "{error:?}");
}

#[tokio::test]
async fn two_versions_do_not_mix_in_one_file() {
    let drive = Scripted::new(64 * KIB, [Act::Cut(8192)]);
    let bench = bench(&drive, 64 * KIB);
    bench.read(0, 4096).await.unwrap();
    until(|| bench.fill.work.state.lock().running.is_empty()).await;
    // The same item, another version.
    let newer = Scripted::new(65 * KIB, []);
    let mut fill = bench.fill;
    let work = Arc::get_mut(&mut Arc::get_mut(&mut fill).unwrap().work).unwrap();
    work.drive = newer.clone();
    let error = fill.complete().await.unwrap_err();
    assert!(matches!(error, FillError::Changed), "{error:?}");
    assert_eq!(fill.held_bytes(), 8192);
    assert_eq!(newer.requests().len(), 1);
    let held = fill.read(0, 4096, &mut ReadAhead::new()).await.unwrap();
    assert_eq!(held, drive.content[..4096]);
}

#[tokio::test]
async fn bytes_beyond_the_range_are_refused() {
    let drive = Scripted::new(5500, [Act::Overrun]);
    let bench = bench(&drive, 5500);
    assert!(is_drive(&bench.fill.complete().await.unwrap_err()));
    assert_eq!(bench.fill.held_bytes(), 5000);
    let blob = bench.fill.complete().await.unwrap();
    assert_eq!(blob.read_at(0, 9999).unwrap(), drive.content);
}

#[tokio::test]
async fn a_drive_that_falls_silent_fails_the_fetch() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(crate::content::Host)).unwrap();
    let drive = Scripted::new(5500, [Act::Stall(1000)]);
    let patience = Duration::from_millis(10);
    let item = ItemId::new("item");
    let fill = Fill::start_with(&store, drive.clone(), item, 5500, patience).unwrap();
    assert!(is_drive(&fill.complete().await.unwrap_err()));
    assert_eq!(fill.held_bytes(), 1000);
    fill.complete().await.unwrap();
}

#[tokio::test]
async fn a_fill_that_is_dropped_gives_up_what_is_not_complete() {
    let drive = Scripted::new(64 * KIB, [Act::Stall(4096)]);
    let mut bench = bench(&drive, 64 * KIB);
    bench.read(0, 100).await.unwrap();
    assert_eq!(bench.fills(), [true]);
    bench.fill = Fill::start(&bench.store, drive.clone(), ItemId::new("other"), 0).unwrap();
    until(|| bench.store.list().unwrap().len() == 1).await;
}

#[tokio::test]
async fn a_complete_content_outlives_its_fill_only_if_somebody_knows_of_it() {
    for known in [false, true] {
        let drive = Scripted::new(5000, []);
        let bench = bench(&drive, 5000);
        bench.read(0, 5000).await.unwrap();
        until(|| bench.fills() == [false]).await;
        until(|| matches!(bench.fill.work.state.lock().phase, Phase::Complete { .. })).await;
        if known {
            bench.fill.is_complete().unwrap();
        }
        let Bench {
            _dir, store, fill, ..
        } = bench;
        drop(fill);
        until(|| store.list().unwrap().len() == usize::from(known)).await;
    }
}

#[tokio::test]
async fn a_file_that_lost_bytes_on_our_disk_does_not_become_a_content() {
    let drive = Scripted::new(9000, [Act::Stall(8000)]);
    let bench = bench(&drive, 9000);
    bench.read(0, 100).await.unwrap();
    until(|| bench.fill.held_bytes() == 8000).await;
    // Somebody appends to our file: it is not what was fetched any more.
    bench.fill.work.blob.write_at(9000, b"!").unwrap();
    drive.open_gate();
    let error = bench.fill.complete().await.unwrap_err();
    assert!(matches!(error, FillError::Disk(_)), "{error:?}");
    assert_eq!(bench.fills(), [true]);
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Refuse),
        (0usize..200_000).prop_map(Act::Cut),
        (0usize..200_000).prop_map(Act::End),
        Just(Act::Overrun),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_the_drive_does_a_read_is_right_or_an_error(
        acts in proptest::collection::vec(act(), 0..12),
        reads in proptest::collection::vec((0usize..700_000, 1usize..150_000, 0usize..3), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let size = 600_000;
            let drive = Scripted::new(size, acts.iter().copied());
            let bench = bench(&drive, size);
            let mut readers = [ReadAhead::new(); 3];
            let mut failures = 0;
            for (offset, len, reader) in reads {
                match bench.fill.read(offset as u64, len, &mut readers[reader]).await {
                    Ok(read) => {
                        assert_eq!(read, drive.content[offset.min(size)..(offset + len).min(size)]);
                    }
                    Err(_) => failures += 1,
                }
            }
            while let Err(error) = bench.fill.complete().await {
                assert!(is_drive(&error));
                failures += 1;
                assert!(failures <= acts.len(), "fails without a reason");
            }
            let blob = bench.fill.complete().await.unwrap();
            assert_eq!(blob.read_at(0, size).unwrap(), drive.content);
        });
    }
}
