//! Items and drives as JSON.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::{
    clock,
    settings::Settings,
    store::{Drive, Item, Kind, Mark},
    world::Links,
};

/// What stays as it is inside a path segment.
pub(crate) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Which form of an item is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As an item, in a listing or alone.
    Full,
    /// As a row of delta: without paths.
    Delta,
}

/// What rendering needs besides the item.
pub(crate) struct Scene<'a> {
    pub(crate) drive: &'a Drive,
    pub(crate) settings: &'a Settings,
    pub(crate) links: &'a Links,
    /// The signed part of a download URL, by item id.
    pub(crate) sign: &'a dyn Fn(&str) -> String,
}

/// The user that everything belongs to.
pub(crate) const USER_ID: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const USER_NAME: &str = "Ada";
pub(crate) const USER_MAIL: &str = "ada@contoso.com";
pub(crate) const SITE_ID: &str = "contoso.sharepoint.com,5a58bb09-1fba-41c1-8125-69da264370a0,9f2ec1da-0be4-4a74-9254-973f0add78fd";

impl Scene<'_> {
    /// An item with the chosen fields.
    pub(crate) fn item(&self, item: &Item, form: Form, select: Option<&[String]>) -> Value {
        let mut body = if item.is_live() {
            self.live(item, form)
        } else {
            self.tombstone(item)
        };
        let wanted = |name: &str| select.is_none_or(|names| names.iter().any(|n| n == name));
        let named = select.is_some_and(|names| {
            names
                .iter()
                .any(|n| n == DOWNLOAD_URL || n == "@content.downloadUrl")
        });
        let offered = select.is_none() && (form == Form::Full || self.drive.switches.personal);
        body.retain(|name, _| wanted(name) || (name == "deleted" && !item.is_live()));
        if item.is_live() && item.file().is_some() && item.mark.is_none() && (named || offered) {
            body.insert(DOWNLOAD_URL.to_owned(), self.download_url(item).into());
        }
        Value::Object(body)
    }

    fn live(&self, item: &Item, form: Form) -> Map<String, Value> {
        let switches = &self.drive.switches;
        let time = |time: Timestamp| clock::text(time, switches.millis);
        let by = json!({ "user": { "id": USER_ID, "displayName": USER_NAME, "email": USER_MAIL } });
        let mut body = object(json!({
            "id": item.id,
            "name": item.name,
            "size": item.size(),
            "eTag": item.etag(switches),
            "createdDateTime": time(item.created),
            "lastModifiedDateTime": time(item.modified),
            "createdBy": by,
            "lastModifiedBy": by,
            "parentReference": self.parent_reference(item, form),
            "fileSystemInfo": {
                "createdDateTime": time(item.stamps.created),
                "lastModifiedDateTime": time(item.stamps.modified),
            },
            "webUrl": format!("{}/{}", self.links.storage, encode_path(&self.drive.path(&item.id))),
        }));
        if let Some(ctag) = item.ctag(switches)
            && !(form == Form::Delta && switches.delta_hides_ctag)
        {
            body.insert("cTag".into(), ctag.into());
        }
        match &item.kind {
            Kind::Folder(folder) => {
                body.insert(
                    "folder".into(),
                    json!({ "childCount": folder.children.len() }),
                );
                if item.is_root() {
                    body.insert("root".into(), json!({}));
                }
            }
            Kind::File(file) => {
                let mut facet = object(json!({ "mimeType": mime(&item.name) }));
                // A file without bytes has no hashes.
                if !self.settings.hide_hashes && file.content.length() > 0 {
                    let mut hashes = object(json!({ "quickXorHash": file.content.quick() }));
                    hashes.extend(file.content.sha1().map(|h| ("sha1Hash".into(), h.into())));
                    hashes.extend(
                        file.content
                            .sha256()
                            .map(|h| ("sha256Hash".into(), h.into())),
                    );
                    facet.insert("hashes".into(), hashes.into());
                }
                body.insert("file".into(), facet.into());
                if item.mark == Some(Mark::Malware) {
                    body.insert("malware".into(), json!({}));
                }
            }
            Kind::Package => {
                body.insert("package".into(), json!({ "type": "oneNote" }));
            }
        }
        body
    }

    fn tombstone(&self, item: &Item) -> Map<String, Value> {
        let mut reference = object(json!({
            "driveId": self.drive_id(),
            "driveType": self.drive.switches.drive_type,
        }));
        reference.extend(
            item.parent
                .as_ref()
                .map(|id| ("id".into(), id.as_str().into())),
        );
        let mut body = object(json!({
            "id": item.id,
            "parentReference": reference,
            "deleted": { "state": "deleted" },
        }));
        if self.drive.switches.tombstone_names {
            body.insert("name".into(), item.name.as_str().into());
        } else {
            body.insert("size".into(), 0.into());
        }
        body
    }

    /// An item that was moved out of the folder that a delta is about.
    pub(crate) fn departed(&self, item: &Item) -> Value {
        Value::Object(self.tombstone(item))
    }

    fn parent_reference(&self, item: &Item, form: Form) -> Value {
        let mut reference = object(json!({
            "driveId": self.drive_id(),
            "driveType": self.drive.switches.drive_type,
        }));
        let Some(parent) = item
            .parent
            .as_ref()
            .and_then(|id| self.drive.remembered(id))
        else {
            return reference.into();
        };
        reference.insert("id".into(), parent.id.as_str().into());
        if form == Form::Full || self.settings.delta_tells_paths {
            let path = encode_path(&self.drive.path(&parent.id));
            let base = if self.drive.switches.personal {
                "/drive/root:".to_owned()
            } else {
                format!("/drives/{}/root:", self.drive.id)
            };
            let slash = if path.is_empty() { "" } else { "/" };
            reference.insert("path".into(), format!("{base}{slash}{path}").into());
            reference.insert("name".into(), parent.name.as_str().into());
        }
        if !self.drive.switches.personal {
            reference.insert("siteId".into(), SITE_ID.into());
        }
        reference.into()
    }

    /// The drive's id as items spell it.
    fn drive_id(&self) -> String {
        if self.settings.drive_id_quirk && self.drive.switches.personal {
            return self.drive.id.trim_start_matches('0').to_uppercase();
        }
        self.drive.id.clone()
    }

    pub(crate) fn download_url(&self, item: &Item) -> String {
        let auth = (self.sign)(&item.id);
        let storage = &self.links.storage;
        if self.drive.switches.personal && !self.drive.switches.on_sharepoint() {
            let name = utf8_percent_encode(&item.name, SEGMENT);
            return format!("{storage}/y4m/{name}?tempauth={auth}");
        }
        format!(
            "{storage}/personal/ada_contoso_com/_layouts/15/download.aspx?UniqueId={}\
             &Translate=false&tempauth={auth}&ApiVersion=2.0",
            item.guid.to_lowercase()
        )
    }

    /// The drive resource.
    pub(crate) fn drive(&self) -> Value {
        let switches = &self.drive.switches;
        json!({
            "id": self.drive.id,
            "driveType": switches.drive_type,
            "name": if switches.personal { "OneDrive" } else { "Documents" },
            "webUrl": format!("{}/personal/ada_contoso_com/Documents", self.links.storage),
            "owner": { "user": { "id": USER_ID, "displayName": USER_NAME } },
            "quota": self.quota(),
        })
    }

    fn quota(&self) -> Value {
        if self.settings.quota_zeros {
            return json!({ "total": 0, "used": 0, "remaining": 0, "deleted": 0, "state": "normal" });
        }
        let (total, used) = (self.settings.quota_total, self.drive.used);
        let left = total.saturating_sub(used);
        let state = match left {
            0 => "exceeded",
            left if left < total / 100 => "critical",
            left if left < total / 10 => "nearing",
            _ => "normal",
        };
        json!({ "total": total, "used": used, "remaining": left, "deleted": 0, "state": state })
    }
}

const DOWNLOAD_URL: &str = "@microsoft.graph.downloadUrl";

/// A decoded path with every segment percent-encoded.
pub(crate) fn encode_path(path: &str) -> String {
    let segments: Vec<String> = path
        .split('/')
        .map(|name| utf8_percent_encode(name, SEGMENT).to_string())
        .collect();
    segments.join("/")
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

pub(crate) fn mime(name: &str) -> &'static str {
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_lowercase());
    match extension.as_deref() {
        Some("txt") => "text/plain",
        Some("html") => "text/html",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("docx") => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        Some(_) | None => "application/octet-stream",
    }
}
