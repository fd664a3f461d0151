//! The drive's operations, as the port asks for them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::json;

use super::address::{Form, and, child, drive, item, quoted};
use super::classify::Verdict;
use super::client::Graph;
use super::lanes::Load;
use super::send::{Repeat, Trouble, unavailable};
use super::tries::Tries;
use super::wire::{DOWNLOAD_URL, SELECT, WireDrive, WireItem, WirePage};
use crate::ports::{
    DeltaFrom, DeltaLink, DeltaNext, DeltaPage, Download, Drive, DriveError, Quota, Update, Upload,
};
use crate::tree::{DriveId, ETag, Fold, Item, ItemId};

/// Items a page: what rclone asks of all kinds of drives, and works (section 5.1); then fewer, for
/// a folder that is too large for that (trap T35).
const PAGES_OF: [usize; 3] = [1000, 200, 50];

/// The last of these.
const SMALLEST_PAGE: usize = 50;

/// Without this, some accounts leave out what people added to their drive (trap T29).
const SHORTCUTS: &str = "Include-Feature=AddToOneDrive";

/// Pages of one listing: a folder of 100,000 items makes the service itself fail.
const PAGES: usize = 2000;

impl Graph {
    /// An item from a reply, its pre-authenticated URL put by for the next read. What comes from
    /// another drive, as the item near it does, is told by that drive's ids.
    pub(super) fn keep(&self, wire: WireItem, near: &ItemId) -> Item {
        let url = wire.download_url.clone();
        let mut item = Item::from(wire);
        if let Some((other, _)) = near.elsewhere() {
            let other = DriveId::new(other);
            item.id = ItemId::in_drive(&other, item.id.as_str());
            item.parent = item
                .parent
                .map(|parent| ItemId::in_drive(&other, parent.as_str()));
        }
        match url {
            Some(url) => self.urls.put(item.id.clone(), url),
            // An older one may lead to older bytes.
            None => self.urls.forget(&item.id),
        }
        item
    }

    async fn page(&self, url: &str) -> Result<WirePage, Trouble> {
        let asked = self.wire.send(
            Repeat::Knowingly,
            Load::Small,
            Method::GET,
            url,
            |request| request.header("prefer", SHORTCUTS),
        );
        Ok(asked.await?.json("a page of items")?)
    }

    /// The same page, again where it failed; the first of a folder with fewer items a page each
    /// time: what the service cannot gather within its own time fails however often it is asked
    /// (trap T35).
    async fn page_of(&self, path: &str, link: Option<&str>) -> Result<WirePage, DriveError> {
        let mut tries = Tries::new();
        let mut sizes = PAGES_OF.iter();
        let mut size = sizes.next();
        loop {
            let url = match (link, size) {
                (Some(link), _) => link.to_owned(),
                (None, size) => {
                    let size = size.unwrap_or(&SMALLEST_PAGE);
                    and(format!("{path}?$top={size}"), &select())
                }
            };
            let what = match self.page(&url).await {
                Ok(page) => return Ok(page),
                Err(Trouble::Known(error)) => return Err(error),
                Err(Trouble::Unclear(what)) => what,
            };
            size = sizes.next();
            let gate = self.wire.gate(&url);
            self.wire
                .wait(&gate, Verdict::Again(what), &mut tries)
                .await?;
        }
    }

    /// A page of changes.
    async fn page_again(&self, url: &str) -> Result<WirePage, DriveError> {
        let asked = self.wire.ask(Method::GET, url, |request| {
            request.header("prefer", SHORTCUTS)
        });
        asked.await?.json("a page of changes")
    }

    /// A child, found by listing its folder.
    async fn listed(&self, folder: &ItemId, name: &str) -> Result<Item, DriveError> {
        let children = self.children(folder).await?;
        let held = children.into_iter().find(|item| is_called(item, name));
        held.ok_or(DriveError::NotFound)
    }

    /// Links come from the service and carry the token: only its own host gets them (section 5.1).
    fn own_link(&self, link: &str) -> Result<(), DriveError> {
        let host = self.base.trim_end_matches("/v1.0");
        if link
            .strip_prefix(host)
            .is_some_and(|rest| rest.starts_with('/'))
        {
            return Ok(());
        }
        Err(DriveError::Refused {
            code: "foreignLink".into(),
            message: "the service named another host to go on at; nothing was sent there".into(),
        })
    }
}

#[async_trait]
impl Drive for Graph {
    async fn item(&self, id: &ItemId) -> Result<Item, DriveError> {
        let url = and(self.url(&item(&self.drive, id)), &select());
        let asked = self.young.insist(id, || async {
            let asked = self.wire.ask(Method::GET, &url, |request| request);
            asked.await.map_err(gone)
        });
        Ok(self.keep(asked.await?.json("the item")?, id))
    }

    async fn child(&self, folder: &ItemId, name: &str) -> Result<Item, DriveError> {
        if self.form() == Form::OData {
            return self.listed(folder, name).await;
        }
        let path = child(Form::Colon, &self.drive, folder, name, "");
        let url = and(self.url(&path), &select());
        let reply = self.wire.ask(Method::GET, &url, |request| request).await?;
        let found = self.keep(reply.json("the item")?, folder);
        if found.id == *folder {
            // Some clouds give the folder itself for whatever name (trap T19): so does this one.
            self.odata.store(true, Ordering::Relaxed);
            return self.listed(folder, name).await;
        }
        let elsewhere = found.parent.as_ref().is_some_and(|parent| parent != folder);
        if is_called(&found, name) && !elsewhere {
            Ok(found)
        } else {
            Err(DriveError::NotFound)
        }
    }

    async fn children(&self, folder: &ItemId) -> Result<Vec<Item>, DriveError> {
        let path = self.url(&format!("{}/children", item(&self.drive, folder)));
        let mut link: Option<String> = None;
        let mut order = Vec::new();
        let mut items: HashMap<ItemId, Item> = HashMap::new();
        for _ in 0..PAGES {
            let page = self
                .young
                .insist(folder, || self.page_of(&path, link.as_deref()))
                .await?;
            for wire in page.value.into_iter().filter(|wire| !is_upload(wire)) {
                let item = self.keep(wire, folder);
                if items.insert(item.id.clone(), item.clone()).is_none() {
                    order.push(item.id);
                }
            }
            match page.next {
                None => {
                    return Ok(order
                        .into_iter()
                        .filter_map(|id| items.remove(&id))
                        .collect());
                }
                Some(next) if Some(&next) == link.as_ref() => break,
                Some(next) => {
                    self.own_link(&next)?;
                    link = Some(next);
                }
            }
        }
        Err(unavailable("a listing does not end"))
    }

    async fn create_folder(&self, parent: &ItemId, name: &str) -> Result<Item, DriveError> {
        let url = self.url(&format!("{}/children", item(&self.drive, parent)));
        let body = json!({
            "name": name,
            "folder": {},
            "@microsoft.graph.conflictBehavior": "fail",
        });
        let asked = self.young.insist(parent, || {
            self.wire
                .ask(Method::POST, &url, |request| request.json(&body))
        });
        let reply = asked.await?;
        match reply.json("the folder") {
            Ok(made) => {
                let made = self.keep(made, parent);
                self.young.note(&made.id);
                Ok(made)
            }
            // Some replies are empty though it took effect.
            Err(_) => self.child(parent, name).await,
        }
    }

    async fn folder_at(&self, path: &str) -> Result<Item, DriveError> {
        self.ensure_root(path).await
    }

    async fn upload(&self, upload: Upload) -> Result<Item, DriveError> {
        self.upload_file(upload).await
    }

    async fn update(&self, id: &ItemId, update: Update) -> Result<Item, DriveError> {
        self.change(id, &update).await
    }

    async fn delete(&self, id: &ItemId, held: Option<&ETag>) -> Result<(), DriveError> {
        let url = self.url(&item(&self.drive, id));
        let url = &url;
        let send = |held: Option<ETag>| async move {
            let asked = self.wire.ask(Method::DELETE, url, |request| match &held {
                Some(held) => request.header(IF_MATCH, quoted(held.as_str())),
                None => request,
            });
            asked.await
        };
        let mut deleted = self.young.insist(id, || send(held.cloned())).await;
        // Some accounts answer 412 with the right tag, too (trap T18).
        if let (Err(DriveError::Conflict), Some(held)) = (&deleted, held)
            && self.stands_at(id, held).await?
        {
            deleted = send(None).await;
        }
        self.urls.forget(id);
        self.young.forget(id);
        match deleted.map_err(gone) {
            Ok(_) | Err(DriveError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, id: &ItemId, range: Range<u64>) -> Result<Download, DriveError> {
        self.fetch(id, range).await
    }

    async fn delta(&self, from: DeltaFrom) -> Result<DeltaPage, DriveError> {
        let root = format!("{}/root/delta", self.url(&drive(&self.drive)));
        let resumed = matches!(from, DeltaFrom::Link(_));
        let url = match from {
            DeltaFrom::Now => format!("{root}?token=latest"),
            DeltaFrom::Start => root,
            DeltaFrom::Link(link) => {
                self.own_link(&link.0)?;
                link.0
            }
        };
        let page = match self.page_again(&url).await {
            Err(DriveError::Refused { message, .. }) if resumed && is_old_link(&message) => {
                return Err(DriveError::Resync {
                    start: None,
                    keep_local: false,
                });
            }
            other => other?,
        };
        let next = match (page.next, page.delta) {
            // Begun anew without it, or the round never ends (trap T33).
            (Some(next), _) if next == url => return Err(unavailable("the changes do not end")),
            (Some(next), _) => DeltaNext::Page(DeltaLink(next)),
            (None, Some(delta)) => DeltaNext::Round(DeltaLink(delta)),
            (None, None) => {
                return Err(unavailable("a page of changes does not say how to go on"));
            }
        };
        let root = ItemId::new("root");
        let told = page.value.into_iter().filter(|wire| !is_upload(wire));
        let items: Vec<Item> = told.map(|wire| self.keep(wire, &root)).collect();
        Ok(DeltaPage { items, next })
    }

    async fn quota(&self) -> Result<Option<Quota>, DriveError> {
        let url = format!("{}?$select=id,quota", self.url(&drive(&self.drive)));
        let reply = self.wire.ask(Method::GET, &url, |request| request).await?;
        let told: WireDrive = reply.json("the drive")?;
        Ok(told.quota.and_then(|quota| quota.told()))
    }
}

/// What the service shows of running uploads (trap T45).
fn is_upload(wire: &WireItem) -> bool {
    let name = wire.name.as_deref();
    name.is_some_and(|name| name.starts_with("~tmp"))
}

fn select() -> String {
    format!("$select={SELECT},{DOWNLOAD_URL}")
}

/// Said of an item and not of a link, 410 means that it is gone for ever (section 8.4).
pub(super) fn gone(error: DriveError) -> DriveError {
    match error {
        DriveError::Resync { .. } => DriveError::NotFound,
        other => other,
    }
}

/// The name that the drive takes for the same is the one that was asked for.
fn is_called(item: &Item, name: &str) -> bool {
    item.name
        .as_deref()
        .is_some_and(|held| Fold::of(held) == Fold::of(name))
}

/// A 400 that means the same as 410 (section 5.2).
fn is_old_link(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("token") && (message.contains("invalid") || message.contains("expired"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_the_service_cannot_read_is_one_that_is_too_old() {
        assert!(is_old_link("The provided sync Token is invalid."));
        assert!(!is_old_link("The name is invalid."));
    }
}
