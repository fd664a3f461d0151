//! The broom: keeps the store within its budget, behind everyone's back.
//!
//! Runs twice a minute and whenever a fill has exceeded the budget. Its first round also removes
//! bodies that no entry stands for, which a kill between rename and commit leaves behind.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::change::Change;
use super::record::{BodyId, Moment};
use super::store::{ChangeError, Store};

/// How often uses are written down and ages looked at. Half a minute of uses is what a kill loses.
const EVERY: Duration = Duration::from_secs(30);

/// Folders of bodies.
const FOLDERS: std::ops::RangeInclusive<u8> = 0..=u8::MAX;

/// Sweeps until `stop`; the last round only writes the uses down.
pub(super) async fn sweep(store: Arc<Store>, stop: CancellationToken) {
    let looking = tokio::task::spawn_blocking({
        let (store, stop) = (Arc::clone(&store), stop.clone());
        move || remove_strays(&store, &stop)
    });
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = store.crowded.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(error) = round(&store).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a sweep of the cache failed"
            );
            // A disk that fails is not asked again at once, however crowded it is.
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
    // It looks at `stop` for each folder; a panic in it has been printed.
    let _ = looking.await;
    if let Err(error) = store.note_uses().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the last uses were not written"
        );
    }
}

async fn round(store: &Store) -> Result<(), ChangeError> {
    store.note_uses().await?;
    let since = store.budget().horizon(Moment::now());
    while store.commit(Change::Unused { since }).await?.more {}
    let excess = store.budget().excess(store.index().bytes());
    let mut freed = 0;
    while freed < excess {
        let outcome = store
            .commit(Change::Evict {
                bytes: excess - freed,
            })
            .await?;
        if !outcome.done {
            break;
        }
        freed += outcome.bytes;
    }
    Ok(())
}

/// Deletes bodies of earlier runs that no entry stands for. Those of this run are left alone:
/// their entries may be on their way.
fn remove_strays(store: &Store, stop: &CancellationToken) {
    let mut known: Option<Vec<u64>> = None;
    for folder in FOLDERS {
        if stop.is_cancelled() {
            return;
        }
        let found = match store.disk().earlier(folder) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(folder, %error, "a folder of the cache cannot be read");
                continue;
            }
        };
        if found.is_empty() {
            continue;
        }
        let known = match &known {
            Some(known) => known,
            None => match store.index().bodies() {
                Ok(bodies) => known.insert(bodies),
                // Nothing is known, so nothing is known to be nobody's.
                Err(_) => return,
            },
        };
        let strays = found
            .into_iter()
            .filter(|BodyId(id)| known.binary_search(id).is_err());
        for stray in strays {
            tracing::debug!(body = %stray, "a body that no entry stands for is deleted");
            if let Err(error) = store.disk().remove(stray) {
                tracing::warn!(body = %stray, %error, "a stray body cannot be deleted");
            }
        }
    }
}
