//! Names, places and times of items: one PATCH, and what to do when its reply is in doubt.
//!
//! The service goes on with the move of a large folder after its own gateway gave up (trap T35):
//! a reply in doubt is settled by looking at the item, and never by repeating blindly.

use std::time::{Duration, SystemTime};

use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::{Value, json};

use super::address::{item, quoted};
use super::client::Graph;
use super::lanes::Load;
use super::operations::gone;
use super::send::{Repeat, Trouble, unavailable};
use super::tries::Tries;
use super::wire::stamp;
use crate::ports::{Drive, DriveError, Update};
use crate::tree::{Item, ItemId};

/// Looks at an item whose change is in doubt, with 1, 2 and 4 seconds between them: longer moves
/// are for the outbox, which waits without holding anything.
const LOOKS: u32 = 3;

impl Graph {
    pub(super) async fn change(&self, id: &ItemId, update: &Update) -> Result<Item, DriveError> {
        let body = body(id, update)?;
        let url = self.url(&item(&self.drive, id));
        let mut tries = Tries::new();
        let mut held = update.held.as_ref();
        loop {
            let sent = self.young.insist(id, || async {
                let sent = self.wire.send(
                    Repeat::Knowingly,
                    Load::Small,
                    Method::PATCH,
                    &url,
                    |request| {
                        let request = request.json(&body);
                        match held {
                            Some(held) => request.header(IF_MATCH, quoted(held.as_str())),
                            None => request,
                        }
                    },
                );
                match sent.await {
                    Ok(reply) => Ok(Ok(reply)),
                    Err(Trouble::Known(error)) => Err(gone(error)),
                    Err(Trouble::Unclear(what)) => Ok(Err(what)),
                }
            });
            let sent = match (sent.await, held) {
                // Some accounts answer 412 with the right tag, too (trap T18).
                (Err(DriveError::Conflict), Some(tag)) if self.stands_at(id, tag).await? => {
                    held = None;
                    continue;
                }
                (sent, _) => sent?,
            };
            let what = match sent {
                Ok(reply) => {
                    return match reply.json("the changed item") {
                        Ok(changed) => Ok(self.keep(changed, id)),
                        Err(_) => self.item(id).await,
                    };
                }
                Err(what) => what,
            };
            for look in 0..LOOKS {
                let found = self.item(id).await?;
                if took_effect(&found, update) {
                    tracing::debug!(item = %id, "the change had taken effect without a reply");
                    return Ok(found);
                }
                // Nothing moves that takes time: no reason to look again.
                if update.place.is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1 << look)).await;
            }
            if tries.spent() {
                return Err(unavailable(what));
            }
        }
    }
}

fn body(id: &ItemId, update: &Update) -> Result<Value, DriveError> {
    let mut body = json!({});
    if let Some((parent, name)) = &update.place {
        let (from, to) = (id.elsewhere(), parent.elsewhere());
        if from.map(|(drive, _)| drive) != to.map(|(drive, _)| drive) {
            return Err(DriveError::Refused {
                code: "otherDrive".into(),
                message: "an item cannot be moved to another drive".into(),
            });
        }
        let parent = to.map_or(parent.as_str(), |(_, parent)| parent);
        body["parentReference"] = json!({ "id": parent });
        body["name"] = Value::from(name.as_str());
    }
    if update.replace {
        body["@microsoft.graph.conflictBehavior"] = Value::from("replace");
    }
    if let Some(modified) = update.modified {
        body["fileSystemInfo"] = json!({ "lastModifiedDateTime": stamp(modified) });
    }
    Ok(body)
}

/// Whether an item is as it was to be. Times are compared in whole seconds, which is what most
/// kinds of drives keep (trap T42).
fn took_effect(found: &Item, update: &Update) -> bool {
    let placed = update.place.as_ref().is_none_or(|(parent, name)| {
        found.parent.as_ref() == Some(parent) && found.name.as_deref() == Some(name)
    });
    let timed = update
        .modified
        .is_none_or(|at| found.modified.map(seconds) == Some(seconds(at)));
    placed && timed
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
