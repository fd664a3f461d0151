//! A picture comes: shown to the readers, written aside, verified, and stored if it may be.
//!
//! Storing is a service to the next visitor, never a condition for serving this one. When the disk
//! fails, what is in the file already stays readable and the rest passes through memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt as _;
use xxhash_rust::xxh3::Xxh3;

use super::super::change::Change;
use super::super::disk::Aside;
use super::super::record::{Moment, Record};
use super::super::source::{Incoming, Source};
use super::super::verify::Verifier;
use super::{Coming, Stage, Work};

/// Pieces taken at once when they are there already: fewer trips to the thread that writes.
const TOGETHER: usize = 16;

/// Takes a picture to its end.
pub(super) async fn keep<S: Source>(work: &Work<S>, incoming: Incoming, held: Option<&Record>) {
    let Incoming {
        head,
        keep,
        length,
        pieces,
    } = incoming;
    let store = &work.fills.store;
    let fits = length.is_none_or(|length| store.budget().admits(length));
    let mut file = if keep && fits {
        begin(work).await
    } else {
        None
    };
    if !keep {
        // The origin forbids what it once allowed: what is held from then goes, too.
        work.drop_held(held).await;
    }
    if file.is_none() {
        work.unlist();
    }
    let coming = Coming {
        head: head.clone(),
        length,
        kept: file.is_some(),
    };
    work.fill
        .stage
        .send_replace(Stage::Coming(Arc::new(coming)));

    let mut verifier = Verifier::new(head.etag.as_deref(), length);
    let mut sum = Xxh3::new();
    let mut pieces = pieces.ready_chunks(TOGETHER);
    while let Some(batch) = pieces.next().await {
        let at = verifier.seen();
        let mut good = Vec::with_capacity(batch.len());
        for piece in batch {
            match piece {
                Ok(piece) => good.push(piece),
                Err(error) => {
                    return give_up(work, &error);
                }
            }
        }
        for piece in &good {
            work.fills.counters.came_in(piece.len() as u64);
            sum.update(piece);
            if let Err(error) = verifier.take(piece) {
                return give_up(work, &error);
            }
        }
        if file.is_some() && !store.budget().admits(verifier.seen()) {
            file = None;
        }
        if let Some(aside) = file.take() {
            file = write(work, aside, at, &good).await;
            if file.is_some() {
                work.fill.spool.filed(verifier.seen(), verifier.showable());
                continue;
            }
        }
        // Shown piece by piece: the window waits for the readers after each.
        work.unlist();
        let mut shown = at;
        for piece in good {
            shown += piece.len() as u64;
            let readable = shown.min(verifier.showable());
            if work.fill.spool.pass(piece, readable).await.is_err() {
                return; // nobody is there, and nothing is kept
            }
        }
    }
    match verifier.finish() {
        Ok(size) => {
            work.fill.spool.finish(size);
            if let Some(aside) = file {
                let used = Moment::now();
                let record = Record {
                    body: aside.id(),
                    size,
                    sum: sum.digest(),
                    used,
                    uses: 0,
                    head,
                };
                seal(work, aside, record).await;
            }
        }
        Err(error) => give_up(work, &error),
    }
}

fn give_up<S: Source>(work: &Work<S>, error: &(dyn std::error::Error + 'static)) {
    work.unlist();
    work.fill.spool.cut();
    tracing::warn!(
        path = work.key.as_str(),
        error,
        "a picture came incomplete and is not kept"
    );
}

/// A file aside that the readers read along, or none if the disk has none to give.
async fn begin<S: Source>(work: &Work<S>) -> Option<Aside> {
    let store = Arc::clone(&work.fills.store);
    let begun = tokio::task::spawn_blocking(move || {
        let aside = store.begin()?;
        let reader = aside.reader()?;
        Ok::<_, io::Error>((aside, reader))
    });
    match begun
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
    {
        Ok((aside, reader)) => {
            work.fill.spool.keep_in(reader);
            Some(aside)
        }
        Err(error) => {
            work.fills.store.not_kept(&error);
            None
        }
    }
}

/// Writes on; gives the file back if the disk took it all.
async fn write<S: Source>(
    work: &Work<S>,
    aside: Aside,
    at: u64,
    pieces: &[Bytes],
) -> Option<Aside> {
    let pieces = pieces.to_vec();
    let written = tokio::task::spawn_blocking(move || {
        let mut at = at;
        for piece in &pieces {
            aside.write(at, piece)?;
            at += piece.len() as u64;
        }
        Ok::<_, io::Error>(aside)
    });
    match written
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
    {
        Ok(aside) => Some(aside),
        Err(error) => {
            work.fills.store.not_kept(&error);
            None
        }
    }
}

async fn seal<S: Source>(work: &Work<S>, aside: Aside, record: Record) {
    if work.fill.doomed.load(Ordering::Acquire) {
        return;
    }
    let store = &work.fills.store;
    let sealed = tokio::task::spawn_blocking(move || aside.seal()).await;
    let body = match sealed.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
        Ok(body) => body,
        Err(error) => return store.not_kept(&error),
    };
    let doomed = Arc::clone(&work.fill.doomed);
    let change = Change::Put {
        key: work.key.clone(),
        record,
        doomed,
    };
    match store.commit(change).await {
        Ok(outcome) if outcome.done => return store.kept(),
        Ok(_) => {} // purged meanwhile
        Err(error) => store.not_kept(&error),
    }
    // Sealed, but no entry stands for it: it must not lie about until the next start.
    let disk = Arc::clone(store.disk());
    let removed = tokio::task::spawn_blocking(move || disk.remove(body)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%body, %error, "a body cannot be deleted; the next start tries again");
    }
}
