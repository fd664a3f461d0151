//! Fills over a scripted origin and a real disk.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::eviction::Budget;
use super::super::freshness::Lifetime;
use super::super::source::{BrokeOff, Incoming};
use super::super::store::Content;
use super::*;

type Tap = mpsc::Sender<Result<Bytes, BrokeOff>>;

/// Answers in the order they were written down, counting.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Result<Fetched, FetchError>>>>,
    asked: Arc<AtomicUsize>,
}

impl Source for Script {
    async fn fetch(&self, _: &ImagePath, _: Option<&Head>) -> Result<Fetched, FetchError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answers
            .lock()
            .pop_front()
            .unwrap_or(Err(FetchError::Busy))
    }
}

struct Bench {
    fills: Arc<Fills<Script>>,
    store: Arc<Store>,
    script: Script,
    stop: CancellationToken,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(max_bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let budget = Budget {
            max_bytes,
            max_age: Duration::from_hours(1),
        };
        let (store, committer) = Store::open(dir.path(), budget, 0).expect("open");
        let stop = CancellationToken::new();
        tokio::spawn(committer.run(stop.clone()));
        let script = Script::default();
        let fills = Arc::new(Fills::new(
            script.clone(),
            Arc::clone(&store),
            Arc::new(Absent::new()),
            Arc::default(),
        ));
        Self {
            fills,
            store,
            script,
            stop,
            dir,
        }
    }

    /// The next fetch is answered with a picture whose body comes through the tap.
    fn picture(&self, length: Option<u64>, keep: bool) -> Tap {
        let (tap, pieces) = mpsc::channel(64);
        let pieces = Box::pin(futures_util::stream::unfold(pieces, |mut pieces| async {
            pieces.recv().await.map(|piece| (piece, pieces))
        }));
        let head = Head {
            content_type: "image/png".into(),
            etag: Some("\"v1\"".into()),
            last_modified: None,
            cache_control: None,
            made: Moment::now(),
            lifetime: Lifetime {
                fresh_secs: 600,
                ..Lifetime::default()
            },
        };
        let incoming = Incoming {
            head,
            keep,
            length,
            pieces,
        };
        self.script
            .answers
            .lock()
            .push_back(Ok(Fetched::Picture(incoming)));
        tap
    }

    fn join(&self) -> Ticket {
        self.fills
            .join(&ImagePath::parse("a.png").expect("a path"), &key(), None)
    }

    /// Waits for the fills, and gives what the store has then.
    async fn settled(&self) -> Option<Vec<u8>> {
        self.fills.drain().await;
        let stored = self.store.lookup(&key(), Moment::now()).await?;
        match stored.content {
            Content::Memory(bytes) => Some(bytes.to_vec()),
            Content::File(file) => {
                let mut bytes = vec![0; usize::try_from(stored.record.size).expect("small")];
                std::os::unix::fs::FileExt::read_exact_at(&*file, &mut bytes, 0).expect("read");
                Some(bytes)
            }
        }
    }

    fn files(&self) -> usize {
        let bodies = std::fs::read_dir(self.dir.path().join("bodies")).expect("folders");
        let folders = bodies.map(|folder| folder.expect("folder").path());
        let incoming = self.dir.path().join("incoming");
        folders
            .chain([incoming])
            .map(|dir| std::fs::read_dir(dir).expect("files").count())
            .sum()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn key() -> Key {
    Key::from_index("a.png")
}

async fn read(mut ticket: Ticket) -> Result<Vec<u8>, String> {
    match ticket.outcome().await {
        Stage::Coming(_) => {}
        other => return Err(format!("{other:?}")),
    }
    let mut seen = Vec::new();
    while let Some(piece) = ticket
        .reader
        .next()
        .await
        .map_err(|error| error.to_string())?
    {
        seen.extend_from_slice(&piece);
    }
    Ok(seen)
}

fn broke_off() -> BrokeOff {
    BrokeOff("reset".into())
}

#[tokio::test]
async fn two_hundred_readers_make_one_fetch_and_see_the_same_bytes() {
    let bench = Bench::new(1 << 20);
    let tap = bench.picture(Some(7), true);
    let readers: Vec<_> = (0..200).map(|_| tokio::spawn(read(bench.join()))).collect();
    tap.send(Ok(Bytes::from_static(b"pict")))
        .await
        .expect("taken");
    tap.send(Ok(Bytes::from_static(b"ure")))
        .await
        .expect("taken");
    drop(tap);
    for reader in readers {
        assert_eq!(reader.await.expect("task"), Ok(b"picture".to_vec()));
    }
    assert_eq!(bench.settled().await, Some(b"picture".to_vec()));
    assert_eq!(bench.script.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_fill_goes_on_when_its_only_reader_leaves() {
    let bench = Bench::new(1 << 20);
    let tap = bench.picture(Some(7), true);
    let mut ticket = bench.join();
    assert!(matches!(ticket.outcome().await, Stage::Coming(_)));
    drop(ticket);
    tap.send(Ok(Bytes::from_static(b"picture")))
        .await
        .expect("taken");
    drop(tap);
    assert_eq!(bench.settled().await, Some(b"picture".to_vec()));
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_nobody_whole_and_leaves_nothing() {
    let bench = Bench::new(1 << 20);
    let tap = bench.picture(None, true);
    let reader = tokio::spawn(read(bench.join()));
    tap.send(Ok(Bytes::from_static(b"pict")))
        .await
        .expect("taken");
    tap.send(Err(broke_off())).await.expect("taken");
    assert_eq!(
        reader.await.expect("task"),
        Err("the body broke off".into())
    );
    assert_eq!(bench.settled().await, None);
    assert_eq!(bench.files(), 0);
}

#[tokio::test]
async fn a_body_shorter_or_longer_than_announced_is_not_kept() {
    for length in [6, 8] {
        let bench = Bench::new(1 << 20);
        let tap = bench.picture(Some(length), true);
        let reader = tokio::spawn(read(bench.join()));
        tap.send(Ok(Bytes::from_static(b"picture")))
            .await
            .expect("taken");
        drop(tap);
        assert_eq!(
            reader.await.expect("task"),
            Err("the body broke off".into())
        );
        assert_eq!(bench.settled().await, None);
        assert_eq!(bench.files(), 0);
    }
}

#[tokio::test]
async fn what_must_not_be_kept_or_does_not_fit_is_served_all_the_same() {
    for (keep, max_bytes) in [(false, 1 << 20), (true, 5)] {
        let bench = Bench::new(max_bytes);
        let tap = bench.picture(None, keep);
        let reader = tokio::spawn(read(bench.join()));
        tap.send(Ok(Bytes::from_static(b"pic")))
            .await
            .expect("taken");
        tap.send(Ok(Bytes::from_static(b"ture")))
            .await
            .expect("taken");
        drop(tap);
        assert_eq!(reader.await.expect("task"), Ok(b"picture".to_vec()));
        assert_eq!(bench.settled().await, None);
        assert_eq!(bench.files(), 0);
    }
}

#[tokio::test]
async fn a_picture_purged_while_it_comes_is_served_but_not_kept() {
    let bench = Bench::new(1 << 20);
    let tap = bench.picture(Some(7), true);
    let reader = tokio::spawn(read(bench.join()));
    tap.send(Ok(Bytes::from_static(b"pict")))
        .await
        .expect("taken");
    bench.fills.doom(&Scope::All);
    bench.store.purge(&Scope::All).await.expect("purged");
    tap.send(Ok(Bytes::from_static(b"ure")))
        .await
        .expect("taken");
    drop(tap);
    assert_eq!(reader.await.expect("task"), Ok(b"picture".to_vec()));
    assert_eq!(bench.settled().await, None);
    assert_eq!(bench.files(), 0);
}

#[tokio::test]
async fn a_failure_reaches_all_who_wait_and_the_next_one_asks_again() {
    let bench = Bench::new(1 << 20);
    let mut first = bench.join();
    assert!(matches!(first.outcome().await, Stage::Failed(_)));
    let mut second = bench.join();
    assert!(!second.collapsed);
    assert!(matches!(second.outcome().await, Stage::Failed(_)));
    assert!(bench.fills.ailing());
}

#[tokio::test]
async fn a_reader_that_looked_too_early_finds_what_was_stored_meanwhile() {
    let bench = Bench::new(1 << 20);
    let tap = bench.picture(Some(7), true);
    let reader = tokio::spawn(read(bench.join()));
    tap.send(Ok(Bytes::from_static(b"picture")))
        .await
        .expect("taken");
    drop(tap);
    reader.await.expect("task").expect("whole");
    bench.fills.drain().await;
    // It had missed before the fill ended, and joins only now.
    let mut late = bench.join();
    assert!(matches!(late.outcome().await, Stage::Settled));
    assert_eq!(bench.script.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_a_fill_has_brought_is_not_read_from_it_again_once_it_is_too_old() {
    let bench = Bench::new(1 << 20);
    let _tap = bench.picture(Some(7), true);
    let mut first = bench.join();
    let Stage::Coming(coming) = first.outcome().await else {
        panic!("a picture comes")
    };
    let record = Record {
        body: super::super::record::BodyId(1),
        size: 7,
        sum: 0,
        used: Moment(0),
        uses: 0,
        head: coming.head.clone(),
    };
    let path = ImagePath::parse("a.png").expect("a path");
    assert!(bench.fills.join(&path, &key(), None).collapsed);
    let again = bench.fills.join(&path, &key(), Some(Arc::new(record)));
    assert!(!again.collapsed);
}
