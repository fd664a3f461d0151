//! The book of traffic: a row a day.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{ToSpan, Zoned};
use parking_lot::Mutex;
use redb::{AccessGuard, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Amounts, Counters, Sent};

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

    fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => crate::damage::is_damage(error),
            Self::Row(_) => true,
            Self::Lost => false,
        }
    }
}

/// The book.
pub struct Ledger {
    path: PathBuf,
    counters: Arc<Counters>,
    // One writer at a time, and nobody who holds it waits for the network.
    book: Mutex<Book>,
}

struct Book {
    /// `None` after a failure: it has to be opened anew then.
    database: Option<Database>,
    /// What the counters showed when they were last written down.
    noted: Amounts,
    /// All that was ever written down.
    total: Amounts,
}

impl Book {
    /// Takes the database out, opened if need be; whoever is done with it puts it back.
    fn database(&mut self, path: &Path) -> Result<Database, LedgerError> {
        if let Some(database) = self.database.take() {
            return Ok(database);
        }
        let (database, total) = open(path)?;
        self.total = total;
        Ok(database)
    }
}

impl Ledger {
    /// Opens the book, or begins it. Figures are no reason not to serve: a damaged book is put
    /// aside, and one that the disk does not give now is tried again at each note.
    #[must_use]
    pub fn open(path: &Path, counters: Arc<Counters>) -> Self {
        let opened = open(path).or_else(|error| {
            if error.is_damage() {
                let aside = path.with_extension("damaged");
                let aside_text = aside.display().to_string();
                tracing::warn!(%error, kept = aside_text, "the traffic figures are damaged and begun anew");
                let _ = std::fs::rename(path, aside);
                return open(path);
            }
            Err(error)
        });
        let (database, total) = match opened {
            Ok((database, total)) => (Some(database), total),
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(error, "the traffic figures cannot be opened yet");
                (None, Amounts::default())
            }
        };
        let book = Book {
            database,
            noted: counters.read(),
            total,
        };
        Self {
            path: path.to_owned(),
            counters,
            book: Mutex::new(book),
        }
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
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(error, "the traffic was not written down");
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
        let read = tokio::task::spawn_blocking(move || ledger.read(today())).await;
        read.map_err(|_| LedgerError::Lost)?
    }

    /// What had gone out of a day and its month when the counter of it stood at the second.
    ///
    /// # Errors
    /// The book fails.
    pub(super) fn sent(&self, today: Date) -> Result<(Sent, u64), LedgerError> {
        let mut book = self.book.lock();
        let (seen, noted) = (self.counters.read().traffic_out, book.noted.traffic_out);
        let database = book.database(&self.path)?;
        let sent = month(&database, today);
        book.database = Some(database);
        let Sent { day, month } = sent?;
        let fresh = seen - noted;
        let sent = Sent {
            day: day + fresh,
            month: month + fresh,
        };
        Ok((sent, seen))
    }

    /// All there ever was.
    #[must_use]
    pub fn total(&self) -> Amounts {
        let book = self.book.lock();
        book.total.plus(self.counters.read().since(book.noted))
    }

    /// Adds what was counted to a day and to the total.
    pub(super) fn note(&self, day: Date) -> Result<(), LedgerError> {
        let mut book = self.book.lock();
        let seen = self.counters.read();
        let counted = seen.since(book.noted);
        if counted == Amounts::default() {
            return Ok(());
        }
        let database = book.database(&self.path)?;
        let total = book.total.plus(counted);
        add(&database, day, counted, total)?;
        *book = Book {
            database: Some(database),
            noted: seen,
            total,
        };
        Ok(())
    }

    fn read(&self, today: Date) -> Result<Vec<Day>, LedgerError> {
        let mut book = self.book.lock();
        let fresh = self.counters.read().since(book.noted);
        let database = book.database(&self.path)?;
        let days = rows(&database, today, fresh);
        book.database = Some(database);
        days
    }
}

/// Opens the book without writing to it: figures can be read from a full disk as well.
fn open(path: &Path) -> Result<(Database, Amounts), LedgerError> {
    // A few kilobytes of rows: the smallest cache will do.
    let database = Database::builder()
        .set_cache_size(256 * 1024)
        .create(path)
        .map_err(LedgerError::of)?;
    let txn = database.begin_read().map_err(LedgerError::of)?;
    let total = match begun(txn.open_table(TOTAL))? {
        Some(total) => amounts(total.get(()).map_err(LedgerError::of)?)?,
        None => Amounts::default(),
    };
    drop(txn);
    Ok((database, total))
}

fn rows(database: &Database, today: Date, fresh: Amounts) -> Result<Vec<Day>, LedgerError> {
    let txn = database.begin_read().map_err(LedgerError::of)?;
    let days = begun(txn.open_table(DAYS))?;
    let day = |back: i32| {
        let date = today.saturating_sub(back.days()).to_string();
        let noted = match &days {
            Some(days) => amounts(days.get(date.as_str()).map_err(LedgerError::of)?)?,
            None => Amounts::default(),
        };
        let amounts = if back == 0 { noted.plus(fresh) } else { noted };
        Ok(Day { date, amounts })
    };
    (0..SHOWN).map(day).collect()
}

/// What was noted of a day and of its month up to there.
fn month(database: &Database, today: Date) -> Result<Sent, LedgerError> {
    let txn = database.begin_read().map_err(LedgerError::of)?;
    let Some(days) = begun(txn.open_table(DAYS))? else {
        return Ok(Sent::default());
    };
    let mut sent = Sent::default();
    let mut at = today.first_of_month();
    while at <= today {
        let noted = days.get(at.to_string().as_str()).map_err(LedgerError::of)?;
        sent.day = amounts(noted)?.traffic_out;
        sent.month += sent.day;
        let Ok(next) = at.tomorrow() else { break };
        at = next;
    }
    Ok(sent)
}

/// A table that nothing was written to yet does not exist.
fn begun<T>(table: Result<T, TableError>) -> Result<Option<T>, LedgerError> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(LedgerError::of(error)),
    }
}

fn add(
    database: &Database,
    day: Date,
    counted: Amounts,
    total: Amounts,
) -> Result<(), LedgerError> {
    let txn = database.begin_write().map_err(LedgerError::of)?;
    {
        let mut days = txn.open_table(DAYS).map_err(LedgerError::of)?;
        let date = day.to_string();
        let noted = amounts(days.get(date.as_str()).map_err(LedgerError::of)?)?;
        let row = to_row(noted.plus(counted))?;
        days.insert(date.as_str(), row.as_slice())
            .map_err(LedgerError::of)?;
        let mut totals = txn.open_table(TOTAL).map_err(LedgerError::of)?;
        totals
            .insert((), to_row(total)?.as_slice())
            .map_err(LedgerError::of)?;
    }
    txn.commit().map_err(LedgerError::of)
}

fn to_row(amounts: Amounts) -> Result<Vec<u8>, LedgerError> {
    serde_json::to_vec(&amounts).map_err(LedgerError::Row)
}

fn amounts(row: Option<AccessGuard<'_, &'static [u8]>>) -> Result<Amounts, LedgerError> {
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
        let ledger = Ledger::open(&path, Arc::clone(&counters));
        counters.went_out(5);
        ledger.note(day("2026-02-28")).expect("noted");
        counters.went_out(7);
        counters.came_in(3);
        ledger.note(day("2026-03-01")).expect("noted");
        counters.went_out(1);
        ledger.note(day("2026-03-01")).expect("noted");
        drop(ledger);

        let ledger = Ledger::open(&path, Arc::default());
        assert_eq!(ledger.total().traffic_out, 13);
        let days = ledger.read(day("2026-03-01")).expect("read");
        assert_eq!(days.len(), 14);
        assert_eq!(
            (days[0].date.as_str(), days[0].amounts.traffic_out),
            ("2026-03-01", 8)
        );
        assert_eq!(days[0].amounts.traffic_in, 3);
        assert_eq!(
            (days[1].date.as_str(), days[1].amounts.traffic_out),
            ("2026-02-28", 5)
        );
        assert_eq!(
            (days[13].date.as_str(), days[13].amounts.traffic_out),
            ("2026-02-16", 0)
        );
    }

    #[test]
    fn figures_that_the_disk_does_not_give_at_the_start_are_still_there_afterwards() {
        let dir = tempfile::tempdir().expect("a directory");
        let (folder, away) = (dir.path().join("cache"), dir.path().join("away"));
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("traffic.redb");
        let counters = Arc::new(Counters::default());
        let ledger = Ledger::open(&path, Arc::clone(&counters));
        counters.went_out(5);
        ledger.note(day("2026-03-01")).expect("noted");
        drop(ledger);
        std::fs::rename(&folder, &away).expect("the disk goes");

        let counters = Arc::new(Counters::default());
        let ledger = Ledger::open(&path, Arc::clone(&counters));
        counters.went_out(7);
        assert!(ledger.note(day("2026-03-01")).is_err(), "there is no disk");
        std::fs::rename(&away, &folder).expect("the disk comes back");
        ledger.note(day("2026-03-01")).expect("noted");
        assert_eq!(ledger.total().traffic_out, 12);
        let days = ledger.read(day("2026-03-01")).expect("read");
        assert_eq!(days[0].amounts.traffic_out, 12);
    }

    #[test]
    fn a_book_that_cannot_be_read_is_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("traffic.redb");
        std::fs::write(&path, b"this is no database, and long enough to look at").expect("write");
        let ledger = Ledger::open(&path, Arc::default());
        assert_eq!(
            ledger.read(day("2026-03-01")).expect("read")[0].amounts,
            Amounts::default()
        );
    }
}
