//! The work of a fill's tasks: carry one range from the drive to our disk, and, when that was the
//! last one, make a lasting content of the file.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{Attempt, FillError, Length, Phase, Work};
use crate::content::span::Span;
use crate::ports::DriveError;

impl Work {
    /// Fetches a range, for all who wait for it.
    pub(super) async fn fetch(self: Arc<Self>, attempt: Arc<Attempt>) {
        let span = attempt.span;
        let mut ending = Ending {
            work: &self,
            attempt,
            outcome: Err(lost("ended early")),
        };
        ending.outcome = self.carry(span).await;
        if let Err(error) = &ending.outcome {
            tracing::debug!(item = %self.item, ?span, %error, "fetch failed");
        }
        drop(ending);
        self.finish();
    }

    async fn carry(&self, span: Span) -> Result<(), FillError> {
        let _lane = self.lanes.acquire().await.map_err(|_| lost("given up"))?;
        let opening = self.drive.read(&self.item, span.start..span.end);
        let mut download = timeout(self.patience, opening)
            .await
            .map_err(|_| lost("not answered"))??;
        self.agree(download.total, download.version.as_deref())?;
        let span = span.before(download.total);
        let mut at = span.start;
        while let Some(bytes) = timeout(self.patience, download.bytes.next())
            .await
            .map_err(|_| lost("stalled"))?
        {
            let bytes = bytes?;
            let came = Span::at(at, bytes.len() as u64);
            if came.end > span.end {
                return Err(lost("longer than asked for"));
            }
            self.blob.write_at(at, &bytes)?;
            self.state.lock().held.insert(came);
            self.progress.notify_waiters();
            at = came.end;
        }
        if at < span.end {
            return Err(lost("cut short"));
        }
        Ok(())
    }

    /// Compares the length that a reply tells with the one that we go by, and its version with that of the
    /// pieces that are here (section 6 of `graph-api.md`). Before the first byte of
    /// the reply is kept: two versions must not mix in one file.
    fn agree(&self, total: u64, version: Option<&str>) -> Result<(), FillError> {
        let mut state = self.state.lock();
        if let Some(version) = version {
            let first = state.version.get_or_insert_with(|| version.to_owned());
            if *first != version {
                tracing::info!(item = %self.item, "the content was replaced while it was being fetched");
                return Err(FillError::Changed);
            }
        }
        if total != state.size {
            tracing::info!(
                item = %self.item, expected = state.size, told = total,
                "the content is not as long as its item says",
            );
            if state.length != Length::Open {
                state.length = Length::Contradicted;
                return Err(FillError::Changed);
            }
            state.size = total;
        }
        if state.length != Length::Contradicted {
            state.length = Length::Told;
        }
        Ok(())
    }

    /// Makes a lasting content of a file whose bytes are all here. What is under way, unless it is
    /// done, or bytes are missing.
    pub(super) fn finish(self: &Arc<Self>) -> Option<Arc<Attempt>> {
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Complete { .. } => None,
            Phase::Finishing(running) => Some(Arc::clone(running)),
            Phase::Filling if !state.is_full() => None,
            Phase::Filling => {
                let attempt = Attempt::at(Span::new(0, state.size));
                state.phase = Phase::Finishing(Arc::clone(&attempt));
                let (work, finishing) = (Arc::clone(self), Arc::clone(&attempt));
                tokio::task::spawn_blocking(move || work.make_lasting(&finishing));
                Some(attempt)
            }
        }
    }

    fn make_lasting(&self, attempt: &Attempt) {
        let outcome = self.blob.len().and_then(|length| {
            if length != attempt.span.end {
                return Err(io::Error::other(
                    "a fetched file is not as long as what was fetched",
                ));
            }
            self.blob.finish_fill()
        });
        let mut state = self.state.lock();
        state.phase = match outcome {
            Ok(()) => Phase::Complete { given: false },
            Err(_) => Phase::Filling,
        };
        // Set once: this attempt is this call's alone.
        let _ = attempt.outcome.set(outcome.map_err(FillError::from));
        drop(state);
        self.progress.notify_waiters();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        match self.state.get_mut().phase {
            Phase::Complete { given: true } => {}
            Phase::Complete { given: false } => self.store.remove(self.blob.id()),
            Phase::Filling | Phase::Finishing(_) => self.blob.discard_fill(),
        }
    }
}

/// Settles a fetch however it ends, so that nobody waits for one that is gone.
struct Ending<'a> {
    work: &'a Work,
    attempt: Arc<Attempt>,
    outcome: Result<(), FillError>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Ok(()));
        let mut state = self.work.state.lock();
        state
            .running
            .retain(|other| !Arc::ptr_eq(other, &self.attempt));
        // Set once: this attempt is this task's alone.
        let _ = self.attempt.outcome.set(outcome);
        drop(state);
        self.work.progress.notify_waiters();
    }
}

fn lost(how: &str) -> FillError {
    DriveError::Unavailable {
        what: format!("a download was {how}"),
        retry_after: None,
    }
    .into()
}
