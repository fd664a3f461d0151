//! The drive's operations, as the port asks for them.

use std::collections::HashMap;
use std::ops::Range;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::IF_MATCH;
use serde_json::{Value, json};

use super::address::{child, drive, item, quoted};
use super::client::Graph;
use super::send::unavailable;
use super::wire::{DOWNLOAD_URL, SELECT, WireDrive, WireItem, WirePage, stamp};
use crate::ports::{
    DeltaFrom, DeltaLink, DeltaNext, DeltaPage, Download, Drive, DriveError, Quota, Update, Upload,
};
use crate::tree::{ETag, Fold, Item, ItemId};

/// Items a page: what rclone asks of all kinds of drives, and works (section 5.1).
const PAGE: usize = 1000;

/// Pages of one listing: a folder of 100,000 items makes the service itself fail (trap T35).
const PAGES: usize = 2000;

impl Graph {
    /// An item from a reply, its pre-authenticated URL put by for the next read.
    pub(super) fn keep(&self, wire: WireItem) -> Item {
        let id = ItemId::new(wire.id.as_str());
        match &wire.download_url {
            Some(url) => self.urls.put(id, url.clone()),
            // An older one may lead to older bytes.
            None => self.urls.forget(&id),
        }
        wire.into()
    }

    async fn page(&self, url: &str) -> Result<WirePage, DriveError> {
        self.wire
            .ask(Method::GET, url, |request| request)
            .await?
            .json("a page of items")
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
        let path = item(&self.drive, id);
        let url = format!("{}?$select={SELECT},{DOWNLOAD_URL}", self.url(&path));
        let reply = self
            .wire
            .ask(Method::GET, &url, |request| request)
            .await
            .map_err(gone)?;
        Ok(self.keep(reply.json("the item")?))
    }

    async fn child(&self, folder: &ItemId, name: &str) -> Result<Item, DriveError> {
        let path = child(&self.drive, folder, name);
        let url = format!(
            "{}?$select={SELECT},{DOWNLOAD_URL}",
            self.url(path.trim_end_matches(':'))
        );
        let reply = self.wire.ask(Method::GET, &url, |request| request).await?;
        let found = self.keep(reply.json("the item")?);
        if found.id == *folder {
            // Some clouds give the folder itself for whatever name (trap T19).
            let children = self.children(folder).await?;
            let held = children.into_iter().find(|item| is_called(item, name));
            return held.ok_or(DriveError::NotFound);
        }
        if is_called(&found, name) {
            Ok(found)
        } else {
            Err(DriveError::NotFound)
        }
    }

    async fn children(&self, folder: &ItemId) -> Result<Vec<Item>, DriveError> {
        let path = item(&self.drive, folder);
        let mut next = Some(format!(
            "{}/children?$top={PAGE}&$select={SELECT},{DOWNLOAD_URL}",
            self.url(&path)
        ));
        let mut order = Vec::new();
        let mut items: HashMap<ItemId, Item> = HashMap::new();
        let mut pages = 0;
        while let Some(url) = next {
            pages += 1;
            let page = self.page(&url).await?;
            if pages > PAGES || page.next.as_ref() == Some(&url) {
                return Err(unavailable("a listing does not end"));
            }
            for wire in page.value {
                // What the service shows of running uploads (trap T45).
                if wire
                    .name
                    .as_deref()
                    .is_some_and(|name| name.starts_with("~tmp"))
                {
                    continue;
                }
                let item = self.keep(wire);
                if items.insert(item.id.clone(), item.clone()).is_none() {
                    order.push(item.id);
                }
            }
            next = page.next;
            if let Some(link) = &next {
                self.own_link(link)?;
            }
        }
        Ok(order
            .into_iter()
            .filter_map(|id| items.remove(&id))
            .collect())
    }

    async fn create_folder(&self, parent: &ItemId, name: &str) -> Result<Item, DriveError> {
        let url = self.url(&format!("{}/children", item(&self.drive, parent)));
        let body = json!({
            "name": name,
            "folder": {},
            "@microsoft.graph.conflictBehavior": "fail",
        });
        let reply = self
            .wire
            .ask(Method::POST, &url, |request| request.json(&body))
            .await?;
        match reply.json("the folder") {
            Ok(made) => Ok(self.keep(made)),
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
        let path = item(&self.drive, id);
        let mut body = json!({});
        if let Some((parent, name)) = &update.place {
            body["parentReference"] = json!({ "id": parent.as_str() });
            body["name"] = Value::from(name.as_str());
        }
        if update.replace {
            body["@microsoft.graph.conflictBehavior"] = Value::from("replace");
        }
        if let Some(modified) = update.modified {
            body["fileSystemInfo"] = json!({ "lastModifiedDateTime": stamp(modified) });
        }
        let reply = self
            .wire
            .ask(Method::PATCH, &self.url(&path), |request| {
                let request = request.json(&body);
                match &update.held {
                    Some(held) => request.header(IF_MATCH, quoted(held.as_str())),
                    None => request,
                }
            })
            .await
            .map_err(gone)?;
        match reply.json("the changed item") {
            Ok(changed) => Ok(self.keep(changed)),
            Err(_) => self.item(id).await,
        }
    }

    async fn delete(&self, id: &ItemId, held: Option<&ETag>) -> Result<(), DriveError> {
        let url = self.url(&item(&self.drive, id));
        let deleted = self
            .wire
            .ask(Method::DELETE, &url, |request| match held {
                Some(held) => request.header(IF_MATCH, quoted(held.as_str())),
                None => request,
            })
            .await;
        self.urls.forget(id);
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
        let page = match self.page(&url).await {
            Err(DriveError::Refused { message, .. }) if resumed && is_old_link(&message) => {
                return Err(DriveError::Resync {
                    start: None,
                    keep_local: false,
                });
            }
            other => other?,
        };
        let next = match (page.next, page.delta) {
            (Some(next), _) => DeltaNext::Page(DeltaLink(next)),
            (None, Some(delta)) => DeltaNext::Round(DeltaLink(delta)),
            (None, None) => {
                return Err(unavailable("a page of changes does not say how to go on"));
            }
        };
        let items: Vec<Item> = page.value.into_iter().map(|wire| self.keep(wire)).collect();
        Ok(DeltaPage { items, next })
    }

    async fn quota(&self) -> Result<Option<Quota>, DriveError> {
        let url = format!("{}?$select=id,quota", self.url(&drive(&self.drive)));
        let reply = self.wire.ask(Method::GET, &url, |request| request).await?;
        let told: WireDrive = reply.json("the drive")?;
        Ok(told.quota.and_then(|quota| quota.told()))
    }
}

/// Said of an item and not of a link, 410 means that it is gone for ever (section 8.4).
fn gone(error: DriveError) -> DriveError {
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
