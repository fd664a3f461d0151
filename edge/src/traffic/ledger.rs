//! The book of traffic: a row a day.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{ToSpan, Zoned};
use parking_lot::Mutex;
use redb::{Database, ReadableTable, TableDefinition};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Amounts, Counters};

const DAYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("days");
const TOTAL: TableDefinition<'_, (), &[u8]> = TableDefinition::new("total");

/// Days shown: what the original nodes show.
const SHOWN: i32 = 14;

/// How often the counters are written down: what a kill loses.
const EVERY: Duration = Duration::from_secs(10);

/// One day's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Day {
    /// In the machine's time zone.
    pub date: String,
    /// What went through.
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// Why the book could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database beneath failed.
    #[error("the traffic figures cannot be read or written")]
    Database(#[source] Box<redb::Error>),
    /// A row that cannot be read.
    #[error("a row of the traffic figures cannot be read")]
    Row(#[source] serde_json::Error),
    /// The thread that did it was lost.
    #[error("the traffic figures were not written")]
    Lost,
}

impl LedgerError {
    fn of(error: impl Into<redb::Error>) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// The book.
pub struct Ledger {
    path: std::path::PathBuf,
    counters: Arc<Counters>,
    // One writer at a time; `None` after a failure, until it can be opened again.
    database: Mutex<Option<Database>>,
}

impl Ledger {
    /// Opens the book, or begins it. A damaged one is put aside: figures are no reason not to serve.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(path: &Path, counters: Arc<Counters>) -> Result<Self, LedgerError> {
        let database = open(path).or_else(|error| {
            tracing::warn!(%error, "the traffic figures are damaged and begun anew");
            let _ = std::fs::rename(path, path.with_extension("damaged"));
            open(path)
        })?;
        Ok(Self { path: path.to_owned(), counters, database: Mutex::new(Some(database)) })
    }

    /// Writes the counters down every few seconds until `stop`, and once more then.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let last = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            let ledger = Arc::clone(&self);
            let written = tokio::task::spawn_blocking(move || ledger.note(today())).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(error = &error as &dyn std::error::Error, "traffic is not noted");
            }
            if last {
                return;
            }
        }
    }

    /// The last fourteen days, newest first, days without traffic too.
    ///
    /// # Errors
    /// The book fails.
    pub async fn days(self: &Arc<Self>) -> Result<Vec<Day>, LedgerError> {
        let ledger = Arc::clone(self);
        let read = move || {
            let today = today();
            ledger.note(today)?;
            ledger.read(today)
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| LedgerError::Lost)?
    }

    /// All there ever was.
    ///
    /// # Errors
    /// The book fails.
    pub async fn total(self: &Arc<Self>) -> Result<Amounts, LedgerError> {
        let ledger = Arc::clone(self);
        let read = move || {
            ledger.note(today())?;
            ledger.with(|database| {
                let txn = redb::ReadableDatabase::begin_read(database).map_err(LedgerError::of)?;
                get_total(&txn.open_table(TOTAL).map_err(LedgerError::of)?)
            })
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| LedgerError::Lost)?
    }

    /// Adds what was counted to a day and to the total.
    fn note(&self, day: Date) -> Result<(), LedgerError> {
        let counted = self.counters.take();
        if counted == Amounts::default() {
            return Ok(());
        }
        let noted = self.with(|database| add(database, day, counted));
        if noted.is_err() {
            self.counters.put_back(counted);
        }
        noted
    }

    fn read(&self, today: Date) -> Result<Vec<Day>, LedgerError> {
        self.with(|database| {
            let txn = redb::ReadableDatabase::begin_read(database).map_err(LedgerError::of)?;
            let days = txn.open_table(DAYS).map_err(LedgerError::of)?;
            (0..SHOWN)
                .map(|back| {
                    let date = today.saturating_sub(back.days()).to_string();
                    let amounts = get_day(&days, &date)?;
                    Ok(Day { date, amounts })
                })
                .collect()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let mut guard = self.database.lock();
        let database = match guard.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let done = work(&database);
        if done.is_ok() {
            // After a failed write it has to be opened anew: then it is dropped here.
            *guard = Some(database);
        }
        done
    }
}

fn open(path: &Path) -> Result<Database, LedgerError> {
    // A few kilobytes of rows: the smallest cache will do.
    let database =
        Database::builder().set_cache_size(256 * 1024).create(path).map_err(LedgerError::of)?;
    let txn = database.begin_write().map_err(LedgerError::of)?;
    txn.open_table(DAYS).map_err(LedgerError::of)?;
    txn.open_table(TOTAL).map_err(LedgerError::of)?;
    txn.commit().map_err(LedgerError::of)?;
    Ok(database)
}

fn add(database: &Database, day: Date, counted: Amounts) -> Result<(), LedgerError> {
    let txn = database.begin_write().map_err(LedgerError::of)?;
    {
        let mut days = txn.open_table(DAYS).map_err(LedgerError::of)?;
        let date = day.to_string();
        let row = serde_json::to_vec(&get_day(&days, &date)?.plus(counted));
        days.insert(date.as_str(), row.map_err(LedgerError::Row)?.as_slice())
            .map_err(LedgerError::of)?;
        let mut total = txn.open_table(TOTAL).map_err(LedgerError::of)?;
        let row = serde_json::to_vec(&get_total(&total)?.plus(counted));
        total.insert((), row.map_err(LedgerError::Row)?.as_slice()).map_err(LedgerError::of)?;
    }
    txn.commit().map_err(LedgerError::of)
}

fn get_day(
    days: &impl ReadableTable<&'static str, &'static [u8]>,
    date: &str,
) -> Result<Amounts, LedgerError> {
    let row = days.get(date).map_err(LedgerError::of)?;
    row.map_or(Ok(Amounts::default()), |row| {
        serde_json::from_slice(row.value()).map_err(LedgerError::Row)
    })
}

fn get_total(total: &impl ReadableTable<(), &'static [u8]>) -> Result<Amounts, LedgerError> {
    let row = total.get(()).map_err(LedgerError::of)?;
    row.map_or(Ok(Amounts::default()), |row| {
        serde_json::from_slice(row.value()).map_err(LedgerError::Row)
    })
}

fn today() -> Date {
    Zoned::now().date()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Date {
        text.parse().expect("a date")
    }

    #[test]
    fn fourteen_days_come_newest_first_and_outlive_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("traffic.redb");
        let counters = Arc::new(Counters::default());
        let ledger = Ledger::open(&path, Arc::clone(&counters)).expect("open");
        counters.went_out(5);
        ledger.note(day("2026-02-28")).expect("noted");
        counters.went_out(7);
        counters.came_in(3);
        ledger.note(day("2026-03-01")).expect("noted");
        counters.went_out(1);
        ledger.note(day("2026-03-01")).expect("noted");
        drop(ledger);

        let ledger = Ledger::open(&path, counters).expect("open again");
        let days = ledger.read(day("2026-03-01")).expect("read");
        assert_eq!(days.len(), 14);
        assert_eq!((days[0].date.as_str(), days[0].amounts.traffic_out), ("2026-03-01", 8));
        assert_eq!(days[0].amounts.traffic_in, 3);
        assert_eq!((days[1].date.as_str(), days[1].amounts.traffic_out), ("2026-02-28", 5));
        assert_eq!((days[13].date.as_str(), days[13].amounts.traffic_out), ("2026-02-16", 0));
    }

    #[test]
    fn a_book_that_cannot_be_read_is_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("traffic.redb");
        std::fs::write(&path, b"this is no database, and long enough to look at").expect("write");
        let ledger = Ledger::open(&path, Arc::default()).expect("begun anew");
        assert_eq!(ledger.read(day("2026-03-01")).expect("read")[0].amounts, Amounts::default());
    }
}
