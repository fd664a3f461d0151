//! The index, on a real file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::change::STEP;
use super::super::freshness::Lifetime;
use super::super::key::Scope;
use super::super::record::{BodyId, Head, Moment};
use super::*;
use tuyun_protocol::ImagePath;

struct Bench {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a directory");
    Bench {
        path: dir.path().join("index.redb"),
        _dir: dir,
    }
}

fn record(body: u64, size: u64, used: u64) -> Record {
    let head = Head {
        content_type: "image/png".into(),
        etag: Some("\"a\"".into()),
        last_modified: None,
        cache_control: None,
        made: Moment(0),
        lifetime: Lifetime {
            fresh_secs: 1,
            ..Lifetime::default()
        },
    };
    Record {
        body: BodyId(body),
        size,
        sum: 0,
        used: Moment(used),
        uses: 0,
        head,
    }
}

fn put(key: &str, record: Record) -> Change {
    Change::Put {
        key: Key::from_index(key),
        record,
        doomed: Arc::new(AtomicBool::new(false)),
    }
}

fn apply(index: &Index, change: Change) -> Outcome {
    index.apply(&[change]).expect("applied").remove(0)
}

fn gone(outcome: &Outcome) -> Vec<&str> {
    outcome.gone.iter().map(|(key, _)| key.as_str()).collect()
}

#[test]
fn a_crawler_pushes_out_its_own_finds_and_not_what_people_look_at() {
    let bench = bench();
    let (index, _) = Index::open(&bench.path).expect("open");
    for n in 0..10 {
        apply(&index, put(&format!("hot/{n}"), record(n, 10, 1_000)));
    }
    let again = (0..10)
        .map(|n| (Key::from_index(&format!("hot/{n}")), Moment(2_000)))
        .collect();
    apply(&index, Change::Touch(again));
    let found: Vec<Change> = (100..600)
        .map(|n| put(&format!("scanned/{n}"), record(n, 10, 3_000 + n)))
        .collect();
    index.apply(&found).expect("applied");
    let outcome = apply(&index, Change::Evict { bytes: 4_900 });
    assert_eq!(outcome.bytes, 4_900);
    for n in 0..10 {
        let key = Key::from_index(&format!("hot/{n}"));
        assert!(index.get(&key).expect("read").is_some(), "hot/{n} is gone");
    }
    // The oldest of the finds went first.
    let last = Key::from_index("scanned/599");
    assert!(index.get(&last).expect("read").is_some());
    // By age they go as they were used, however often that was.
    let since = Moment(2_001);
    assert_eq!(apply(&index, Change::Unused { since }).gone.len(), 10);
}

#[test]
fn entries_and_sums_outlive_a_restart_and_each_start_is_counted() {
    let bench = bench();
    let (index, first) = Index::open(&bench.path).expect("open");
    apply(&index, put("a", record(1, 10, 5)));
    apply(&index, put("b", record(2, 20, 5)));
    drop(index);
    let (index, second) = Index::open(&bench.path).expect("open again");
    assert_eq!((first, second), (1, 2));
    assert_eq!(
        index.get(&Key::from_index("a")).expect("get"),
        Some(record(1, 10, 5))
    );
    assert_eq!((index.bytes(), index.entries()), (30, 2));
}

#[test]
fn a_newer_body_replaces_the_older_and_frees_it() {
    let bench = bench();
    let (index, _) = Index::open(&bench.path).expect("open");
    apply(&index, put("a", record(1, 10, 5)));
    let outcome = apply(&index, put("a", record(2, 30, 6)));
    assert_eq!(outcome.gone, vec![(Key::from_index("a"), BodyId(1))]);
    assert_eq!((index.bytes(), index.entries()), (30, 1));
}

#[test]
fn what_was_purged_while_it_came_does_not_go_in() {
    let bench = bench();
    let (index, _) = Index::open(&bench.path).expect("open");
    let doomed = Arc::new(AtomicBool::new(true));
    let change = Change::Put {
        key: Key::from_index("a"),
        record: record(1, 10, 5),
        doomed,
    };
    assert!(!apply(&index, change).done);
    assert_eq!(index.get(&Key::from_index("a")).expect("get"), None);
}

#[test]
fn a_renewal_or_removal_of_another_version_changes_nothing() {
    let bench = bench();
    let (index, _) = Index::open(&bench.path).expect("open");
    apply(&index, put("a", record(2, 10, 5)));
    let key = Key::from_index("a");
    let head = Head {
        made: Moment(99),
        ..record(1, 10, 5).head
    };
    assert!(
        !apply(
            &index,
            Change::Renew {
                key: key.clone(),
                body: BodyId(1),
                head: head.clone()
            }
        )
        .done
    );
    assert!(
        !apply(
            &index,
            Change::Remove {
                key: key.clone(),
                body: BodyId(1)
            }
        )
        .done
    );
    assert!(
        apply(
            &index,
            Change::Renew {
                key: key.clone(),
                body: BodyId(2),
                head
            }
        )
        .done
    );
    assert_eq!(
        index.get(&key).expect("get").expect("held").head.made,
        Moment(99)
    );
}

#[test]
fn the_least_recently_used_goes_first_and_no_more_than_asked() {
    let bench = bench();
    let (index, _) = Index::open(&bench.path).expect("open");
    for (n, key) in ["c", "a", "b"].iter().enumerate() {
        apply(&index, put(key, record(n as u64, 10, 100 + n as u64)));
    }
    apply(
        &index,
        Change::Touch(vec![(Key::from_index("c"), Moment(500))]),
    );
    assert_eq!(
        gone(&apply(&index, Change::Evict { bytes: 11 })),
        vec!["a", "b"]
    );
    assert_eq!((index.bytes(), index.entries()), (10, 1));
}

#[test]
fn an_entry_used_at_the_horizon_stays() {
    let bench = bench();
    let (index, _) = Index::open(&bench.path).expect("open");
    apply(&index, put("old", record(1, 10, 99)));
    apply(&index, put("edge", record(2, 10, 100)));
    assert_eq!(
        gone(&apply(&index, Change::Unused { since: Moment(100) })),
        vec!["old"]
    );
}

#[test]
fn a_purge_takes_what_it_means_and_no_neighbour() {
    let bench = bench();
    let (index, _) = Index::open(&bench.path).expect("open");
    for (n, key) in ["a/b-2", "a/b", "a/b\0w=640", "a/b/c", "a/bc"]
        .iter()
        .enumerate()
    {
        apply(&index, put(key, record(n as u64, 1, 1)));
    }
    let path = ImagePath::parse("a/b").expect("a path");
    let picture = apply(&index, Change::Purge(Scope::Picture(path.clone())));
    assert_eq!(gone(&picture), vec!["a/b", "a/b\0w=640"]);
    assert_eq!(
        gone(&apply(&index, Change::Purge(Scope::Below(path)))),
        vec!["a/b/c"]
    );
    assert_eq!(
        gone(&apply(&index, Change::Purge(Scope::All))),
        vec!["a/b-2", "a/bc"]
    );
    assert_eq!((index.bytes(), index.entries()), (0, 0));
}

#[test]
fn a_large_purge_goes_in_steps() {
    let bench = bench();
    let (index, _) = Index::open(&bench.path).expect("open");
    let all: Vec<Change> = (0..=STEP as u64)
        .map(|n| put(&format!("{n:05}"), record(n, 1, 1)))
        .collect();
    index.apply(&all).expect("applied");
    let first = apply(&index, Change::Purge(Scope::All));
    assert_eq!((first.gone.len(), first.more), (STEP, true));
    let second = apply(&index, Change::Purge(Scope::All));
    assert_eq!((second.gone.len(), second.more), (1, false));
}

#[test]
fn an_index_in_use_says_so() {
    let bench = bench();
    let (_index, _) = Index::open(&bench.path).expect("open");
    assert!(Index::open(&bench.path).err().expect("refused").is_in_use());
}

/// A disk in memory that can be full. What was written stays, as on a real one.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<parking_lot::Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn range(offset: u64, len: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(offset).expect("small");
        start..start + len
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.copy_from_slice(&self.bytes.lock()[Self::range(offset, out.len())]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.bytes
            .lock()
            .resize(usize::try_from(len).expect("small"), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.bytes.lock()[Self::range(offset, data.len())].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_costs_only_what_was_to_be_written_then() {
    let disk = Disk::default();
    let backend = disk.clone();
    let open = move || {
        Database::builder()
            .create_with_backend(backend.clone())
            .map_err(IndexError::of)
    };
    let (index, _) = Index::over(Box::new(open)).expect("open");
    apply(&index, put("before", record(1, 10, 5)));

    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(index.apply(&[put("meanwhile", record(2, 10, 5))]).is_err());
    }
    disk.full.store(false, Ordering::SeqCst);

    apply(&index, put("after", record(3, 10, 5)));
    let held = |key| {
        index
            .get(&Key::from_index(key))
            .expect("get")
            .map(|record| record.body)
    };
    assert_eq!(held("before"), Some(BodyId(1)));
    assert_eq!(held("meanwhile"), None);
    assert_eq!(held("after"), Some(BodyId(3)));
    assert_eq!((index.bytes(), index.entries()), (20, 2));
}
