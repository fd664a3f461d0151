//! Closes the node to visitors while its traffic is used up.
//!
//! Once a second the amounts are looked at, so that what goes over a cap is what a line carries in a
//! second. The node leaves its jumps then and is not ready, so that visitors are sent elsewhere; whoever
//! still comes is told when to come again. With the next day, or month, it is open again by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::Date;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tuyun_chassis::http::Problem;
use tuyun_chassis::http::control::Readiness;

use super::{Caps, Counters, Ledger, LedgerError, Sent, Span};

/// How often the amounts are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The part of the node that is not ready while its traffic is used up.
const PART: &str = "traffic";

/// Knows whether there is traffic left.
pub struct Meter {
    caps: Caps,
    counters: Arc<Counters>,
    ledger: Arc<Ledger>,
    readiness: Readiness,
    base: Mutex<Option<Base>>,
    /// Whether anything is used up, for hits, which have no time for a lock.
    shut: AtomicBool,
    used_up: watch::Sender<Option<Span>>,
}

/// What had gone out of a day and its month when the counter stood at `counted`.
#[derive(Clone, Copy, Debug)]
struct Base {
    date: Date,
    sent: Sent,
    counted: u64,
}

impl Base {
    /// The same on another day, as far as it is known without the book.
    fn on(self, today: Date, counted: u64) -> Self {
        let same_month = self.date.first_of_month() == today.first_of_month();
        let month = self.sent.month + (counted - self.counted);
        Self {
            date: today,
            sent: Sent {
                day: 0,
                month: if same_month { month } else { 0 },
            },
            counted,
        }
    }
}

impl Meter {
    /// A meter that has not looked yet.
    #[must_use]
    pub fn new(
        caps: Caps,
        counters: Arc<Counters>,
        ledger: Arc<Ledger>,
        readiness: Readiness,
    ) -> Self {
        Self {
            caps,
            counters,
            ledger,
            readiness,
            base: Mutex::default(),
            shut: AtomicBool::new(false),
            used_up: watch::Sender::new(None),
        }
    }

    /// Whether visitors are turned away.
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    /// What is used up, and each time that changes.
    pub fn used_up(&self) -> watch::Receiver<Option<Span>> {
        self.used_up.subscribe()
    }

    /// What a visitor is told while it is shut.
    pub fn refusal(&self, now: &Zoned) -> Option<Problem> {
        let span = (*self.used_up.borrow())?;
        let text = format!(
            "This node has sent what it may in a {}; another one, or the origin, has the picture.",
            span.name()
        );
        Some(Problem::unavailable(text, span.left(now)))
    }

    /// Looks every second until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        if !self.caps.any() {
            return;
        }
        let mut readable = true;
        loop {
            let meter = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || meter.look(&Zoned::now())).await;
            let looked = looked.map_err(|_| LedgerError::Lost).flatten();
            if let (Err(error), true) = (&looked, readable) {
                let error = error as &(dyn std::error::Error + 'static);
                tracing::warn!(
                    error,
                    "the traffic figures cannot be read: only what this run has sent counts towards the caps"
                );
            }
            readable = looked.is_ok();
            let rest = tokio::time::sleep(EVERY);
            if stop.run_until_cancelled(rest).await.is_none() {
                return;
            }
        }
    }

    /// Compares what went out with the caps.
    ///
    /// # Errors
    /// The book cannot be read: what this run has sent itself counts all the same.
    fn look(&self, now: &Zoned) -> Result<(), LedgerError> {
        let (base, read) = self.base_of(now.date());
        let since = self.counters.read().traffic_out - base.counted;
        let used_up = self.caps.used_up(Sent {
            day: base.sent.day + since,
            month: base.sent.month + since,
        });
        let turned = self.used_up.send_if_modified(|known| {
            let turned = *known != used_up;
            *known = used_up;
            turned
        });
        self.shut.store(used_up.is_some(), Ordering::Relaxed);
        match used_up {
            Some(span) if turned => {
                let (span, left_s) = (span.name(), span.left(now).as_secs());
                self.readiness
                    .down(PART, format!("what may be sent in a {span} is used up"));
                tracing::warn!(span, left_s, "the traffic is used up: nobody is served");
            }
            None if turned => {
                self.readiness.up(PART);
                tracing::info!("there is traffic again: serving");
            }
            Some(_) | None => {}
        }
        read
    }

    /// What had gone out before; read once a day, and again where the book could not be read.
    fn base_of(&self, today: Date) -> (Base, Result<(), LedgerError>) {
        let mut base = self.base.lock();
        if let Some(base) = base.filter(|base| base.date == today) {
            return (base, Ok(()));
        }
        match self.ledger.sent(today) {
            Ok((sent, counted)) => {
                let read = Base {
                    date: today,
                    sent,
                    counted,
                };
                *base = Some(read);
                (read, Ok(()))
            }
            Err(error) => {
                let counted = self.counters.read().traffic_out;
                let known = match *base {
                    // Kept, so that the day goes on from there.
                    Some(before) => *base.insert(before.on(today, counted)),
                    None => Base {
                        date: today,
                        sent: Sent::default(),
                        counted: 0,
                    },
                };
                (known, Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        format!("{text}[Asia/Shanghai]").parse().expect("a time")
    }

    struct Rig {
        dir: tempfile::TempDir,
        counters: Arc<Counters>,
        ledger: Arc<Ledger>,
        readiness: Readiness,
        meter: Meter,
    }

    fn rig(dir: tempfile::TempDir, caps: Caps) -> Rig {
        let counters = Arc::new(Counters::default());
        let path = dir.path().join("traffic.redb");
        let ledger = Arc::new(Ledger::open(&path, Arc::clone(&counters)));
        let readiness = Readiness::new();
        let meter = Meter::new(
            caps,
            Arc::clone(&counters),
            Arc::clone(&ledger),
            readiness.clone(),
        );
        Rig {
            dir,
            counters,
            ledger,
            readiness,
            meter,
        }
    }

    const CAPS: Caps = Caps {
        per_day: Some(100),
        per_month: Some(250),
    };

    #[test]
    fn a_used_up_day_shuts_until_midnight_and_a_used_up_month_until_the_next() {
        let rig = rig(tempfile::tempdir().expect("a directory"), CAPS);
        let (evening, next) = (at("2026-03-30T23:59:30"), at("2026-03-31T00:00:00"));
        rig.meter.look(&evening).expect("read");
        assert!(!rig.meter.is_shut() && rig.meter.refusal(&evening).is_none());

        rig.counters.went_out(100);
        rig.meter.look(&evening).expect("read");
        assert!(rig.meter.is_shut() && !rig.readiness.is_ready());
        let refusal = rig.meter.refusal(&evening).expect("shut").response();
        assert_eq!(refusal.status(), 503);
        assert_eq!(refusal.headers()["retry-after"], "30");
        rig.ledger.note(evening.date()).expect("noted");

        rig.meter.look(&next).expect("read");
        assert!(!rig.meter.is_shut() && rig.readiness.is_ready());
        rig.counters.went_out(150);
        rig.meter.look(&next).expect("read");
        assert_eq!(*rig.meter.used_up().borrow(), Some(Span::Month));
        rig.ledger.note(next.date()).expect("noted");
        rig.meter.look(&at("2026-04-01T00:00:00")).expect("read");
        assert!(!rig.meter.is_shut());
    }

    #[test]
    fn a_restart_gives_no_new_traffic() {
        let before = rig(tempfile::tempdir().expect("a directory"), CAPS);
        let now = at("2026-03-30T12:00:00");
        before.counters.went_out(60);
        before.ledger.note(now.date()).expect("noted");
        let dir = before.dir;
        drop((before.meter, before.ledger));

        let after = rig(dir, CAPS);
        after.counters.went_out(39);
        after.meter.look(&now).expect("read");
        assert!(!after.meter.is_shut());
        after.counters.went_out(1);
        after.meter.look(&now).expect("read");
        assert!(after.meter.is_shut());
    }

    #[test]
    fn without_the_book_this_runs_own_traffic_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let counters = Arc::new(Counters::default());
        let nowhere = dir.path().join("missing/traffic.redb");
        let ledger = Arc::new(Ledger::open(&nowhere, Arc::clone(&counters)));
        let meter = Meter::new(CAPS, Arc::clone(&counters), ledger, Readiness::new());
        let now = at("2026-03-30T12:00:00");
        counters.went_out(100);
        assert!(meter.look(&now).is_err());
        assert!(meter.is_shut());
    }

    #[test]
    fn without_the_book_a_new_day_begins_with_nothing_and_keeps_its_months() {
        let rig = rig(tempfile::tempdir().expect("a directory"), CAPS);
        let (evening, next) = (at("2026-03-30T23:59:30"), at("2026-03-31T00:00:00"));
        rig.meter.look(&evening).expect("read");
        rig.counters.went_out(100);
        rig.meter.look(&evening).expect("read");
        let base = rig.meter.base.lock().expect("read before");
        let there = base.on(next.date(), 100);
        assert_eq!((there.sent.day, there.sent.month), (0, 100));
        let april = base.on(at("2026-04-01T00:00:00").date(), 100);
        assert_eq!((april.sent.day, april.sent.month), (0, 0));
    }
}
