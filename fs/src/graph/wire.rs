//! Items as JSON, read leniently: unknown members are ignored, missing ones are unknown
//! (`graph-api.md` section 3).

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;

use super::address::normal;
use crate::content::hash::from_base64;
use crate::ports::Quota;
use crate::tree::{CTag, ETag, Item, ItemFacet, ItemId};

/// The members that are asked for.
pub(super) const SELECT: &str = "id,name,size,eTag,cTag,createdDateTime,lastModifiedDateTime,\
    fileSystemInfo,parentReference,file,folder,package,remoteItem,deleted,root,malware,bundle";

/// The member that holds the pre-authenticated URL.
pub(super) const DOWNLOAD_URL: &str = "@microsoft.graph.downloadUrl";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireItem {
    pub(super) id: String,
    pub(super) name: Option<String>,
    size: Option<i64>,
    e_tag: Option<String>,
    c_tag: Option<String>,
    created_date_time: Option<String>,
    last_modified_date_time: Option<String>,
    file_system_info: Option<WireTimes>,
    parent_reference: Option<WireParent>,
    file: Option<WireFile>,
    folder: Option<serde::de::IgnoredAny>,
    package: Option<serde::de::IgnoredAny>,
    remote_item: Option<WireRemote>,
    bundle: Option<serde::de::IgnoredAny>,
    deleted: Option<serde::de::IgnoredAny>,
    malware: Option<serde::de::IgnoredAny>,
    #[serde(rename = "@microsoft.graph.downloadUrl")]
    pub(super) download_url: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTimes {
    created_date_time: Option<String>,
    last_modified_date_time: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireParent {
    id: Option<String>,
    drive_id: Option<String>,
}

/// What a shortcut leads to.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRemote {
    id: Option<String>,
    folder: Option<serde::de::IgnoredAny>,
    parent_reference: Option<WireParent>,
}

impl WireRemote {
    /// One that does not say where it leads is shown as what it is: nothing that we know.
    fn facet(self) -> ItemFacet {
        let drive = self.parent_reference.and_then(|parent| parent.drive_id);
        match (drive, self.id) {
            (Some(drive), Some(item)) => ItemFacet::Shortcut {
                drive: normal(&drive),
                item: ItemId::new(item),
                folder: self.folder.is_some(),
            },
            _ => ItemFacet::Other,
        }
    }
}

#[derive(Debug, Deserialize)]
struct WireFile {
    hashes: Option<WireHashes>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireHashes {
    quick_xor_hash: Option<String>,
}

/// A page of items.
#[derive(Debug, Deserialize)]
pub(super) struct WirePage {
    #[serde(default)]
    pub(super) value: Vec<WireItem>,
    #[serde(rename = "@odata.nextLink")]
    pub(super) next: Option<String>,
    #[serde(rename = "@odata.deltaLink")]
    pub(super) delta: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireDrive {
    pub(super) id: String,
    #[serde(rename = "driveType")]
    pub(super) kind: Option<String>,
    pub(super) owner: Option<serde_json::Value>,
    pub(super) quota: Option<WireQuota>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireQuota {
    total: Option<i64>,
    remaining: Option<i64>,
}

impl WireQuota {
    /// Zeros, or nothing, mean that the service does not tell (trap T43); what is left may be told
    /// as negative.
    pub(super) fn told(&self) -> Option<Quota> {
        let total = u64::try_from(self.total?).ok().filter(|total| *total > 0)?;
        let remaining = u64::try_from(self.remaining?).unwrap_or(0);
        Some(Quota {
            total,
            remaining: remaining.min(total),
        })
    }
}

impl From<WireItem> for Item {
    fn from(wire: WireItem) -> Self {
        // Packages and shortcuts may carry `file` or `folder` as well: asked first (section 3.1).
        let facet = if wire.deleted.is_some() {
            ItemFacet::Deleted
        } else if let Some(remote) = wire.remote_item {
            remote.facet()
        } else if wire.package.is_some() || wire.bundle.is_some() {
            ItemFacet::Other
        } else if let Some(file) = wire.file {
            let hash = file.hashes.and_then(|hashes| hashes.quick_xor_hash);
            ItemFacet::File {
                hash: hash.and_then(|text| from_base64(&text)),
                malware: wire.malware.is_some(),
            }
        } else if wire.folder.is_some() {
            ItemFacet::Folder
        } else {
            ItemFacet::Other
        };
        let times = wire.file_system_info;
        let (modified, created) = times
            .map(|times| (times.last_modified_date_time, times.created_date_time))
            .unwrap_or_default();
        Self {
            id: ItemId::new(wire.id),
            parent: wire
                .parent_reference
                .and_then(|parent| parent.id)
                .map(ItemId::new),
            name: wire.name,
            facet,
            size: wire
                .size
                .and_then(|size| u64::try_from(size).ok())
                .unwrap_or(0),
            etag: wire.e_tag.map(ETag::new),
            ctag: wire.c_tag.map(CTag::new),
            modified: time(modified.or(wire.last_modified_date_time)),
            created: time(created.or(wire.created_date_time)),
        }
    }
}

/// A time; what is missing, odd, or the year 1 of a tombstone is unknown (section 3.1).
fn time(text: Option<String>) -> Option<SystemTime> {
    let at: Timestamp = text?.parse().ok()?;
    (at > Timestamp::UNIX_EPOCH).then(|| at.into())
}

/// A time as the service takes it: whole seconds, which is what most kinds keep (section 3.5).
pub(super) fn stamp(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn item(json: &str) -> Item {
        serde_json::from_str::<WireItem>(json).unwrap().into()
    }

    #[test]
    fn a_file_is_read_with_its_hash_and_times() {
        let item = item(
            r#"{"id":"01F","name":"a.jpg","size":5,"eTag":"\"{G},1\"","file":{"hashes":
            {"quickXorHash":"YQAAAAAAAAAAAAAAAQAAAAAAAAA="}},"parentReference":{"id":"01P"},
            "fileSystemInfo":{"lastModifiedDateTime":"2026-02-18T08:00:00.25Z"},"unheard":{}}"#,
        );
        assert!(matches!(
            item.facet,
            ItemFacet::File {
                hash: Some(_),
                malware: false
            }
        ));
        assert_eq!((item.size, item.parent), (5, Some(ItemId::new("01P"))));
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_771_401_600_250);
        assert_eq!(item.modified, Some(at));
        assert_eq!(stamp(at), "2026-02-18T08:00:00Z");
    }

    #[test]
    fn a_tombstone_may_lack_everything_but_its_id() {
        let item = item(
            r#"{"id":"01F","deleted":{},"fileSystemInfo":
            {"lastModifiedDateTime":"0001-01-01T00:00:00Z"}}"#,
        );
        assert_eq!(
            (item.facet, item.name, item.modified),
            (ItemFacet::Deleted, None, None)
        );
    }

    #[test]
    fn a_notebook_is_neither_file_nor_folder() {
        let item = item(r#"{"id":"1","name":"N","package":{"type":"oneNote"},"folder":{}}"#);
        assert_eq!(item.facet, ItemFacet::Other);
    }

    #[test]
    fn a_shortcut_says_which_item_of_which_drive_it_leads_to() {
        let shortcut = item(
            r#"{"id":"1","name":"S","folder":{},"remoteItem":{"id":"F!7","folder":{},
            "parentReference":{"driveId":"ABCDEF012345678"}}}"#,
        );
        let leads_to = ItemFacet::Shortcut {
            drive: crate::tree::DriveId::new("0abcdef012345678"),
            item: ItemId::new("F!7"),
            folder: true,
        };
        assert_eq!(shortcut.facet, leads_to);
        let blind = item(r#"{"id":"1","name":"S","folder":{},"remoteItem":{}}"#);
        assert_eq!(blind.facet, ItemFacet::Other);
    }

    #[test]
    fn a_quota_of_zeros_is_unknown_and_a_negative_rest_is_none() {
        let told = |json: &str| serde_json::from_str::<WireQuota>(json).unwrap().told();
        assert_eq!(told(r#"{"total":0,"remaining":0}"#), None);
        assert_eq!(
            told(r#"{"total":10,"remaining":-3}"#),
            Some(Quota {
                total: 10,
                remaining: 0
            })
        );
    }
}
