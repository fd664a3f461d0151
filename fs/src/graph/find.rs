//! Which drive, and which folder of it: `graph-api.md` section 1.3.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use reqwest::Method;

use super::address::{drive, normal, segment};
use super::client::{Graph, GraphConfig, Wire};
use super::notes::Notes;
use super::pieces::Speed;
use super::urls::Urls;
use super::wire::{SELECT, WireDrive, WireItem};
use super::young::Young;
use crate::auth::Authenticator;
use crate::ports::{Drive, DriveError, Quota};
use crate::tree::{DriveId, Item, ItemFacet, ItemId};

/// What kind of drive it is (section 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DriveKind {
    /// Of a Microsoft account.
    Personal,
    /// `OneDrive` for work or school.
    Business,
    /// A `SharePoint` library.
    DocumentLibrary,
}

impl DriveKind {
    fn of(text: Option<&str>) -> Self {
        match text {
            Some("personal") => Self::Personal,
            Some("documentLibrary") => Self::DocumentLibrary,
            _ => Self::Business,
        }
    }

    /// Whether a change of metadata makes a version that counts against the space (trap T17).
    #[must_use]
    pub fn has_versions(self) -> bool {
        self != Self::Personal
    }
}

/// A drive, as found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FoundDrive {
    /// Its id, in the form that URLs take.
    pub id: DriveId,
    /// Its kind.
    pub kind: DriveKind,
    /// Whose it is, for messages.
    #[serde(default)]
    pub owner: Option<String>,
    /// Its space, when told.
    #[serde(skip)]
    pub quota: Option<Quota>,
}

impl Graph {
    /// A client of a drive that is known already; asks nothing.
    ///
    /// # Errors
    /// The certificates cannot be read, or TLS cannot be set up.
    pub fn of(
        config: &GraphConfig,
        auth: Arc<Authenticator>,
        found: &FoundDrive,
    ) -> Result<Self, reqwest::Error> {
        let wire = Wire::new(config, auth)?;
        let state_dir = config.state_dir.as_deref();
        Ok(Self {
            base: format!("{}/v1.0", config.graph_url.trim_end_matches('/')),
            drive: found.id.clone(),
            kind: found.kind,
            urls: Arc::new(Urls::new()),
            notes: Notes::open(state_dir, &found.id, SystemTime::now()),
            speed: Arc::new(Speed::new(wire.up.lowest())),
            young: Arc::new(Young::new()),
            odata: Arc::new(AtomicBool::new(config.china)),
            wire,
        })
    }

    /// Finds the drive: the one of this id, else that of `user` (for app-only sign-in), else the
    /// signed-in person's own.
    ///
    /// # Errors
    /// The drive cannot be asked, or there is none.
    pub async fn find(
        config: &GraphConfig,
        auth: Arc<Authenticator>,
        drive_id: &str,
        user: &str,
    ) -> Result<FoundDrive, DriveError> {
        let wire = Wire::new(config, auth).map_err(|error| DriveError::Refused {
            code: "tls".into(),
            message: crate::auth::plain(error),
        })?;
        let path = match (drive_id, user) {
            ("", "") => "/me/drive".to_owned(),
            ("", user) => format!("/users/{}/drive", segment(user)),
            (id, _) => drive(&DriveId::new(id)),
        };
        let url = format!("{}/v1.0{path}", config.graph_url.trim_end_matches('/'));
        let told: WireDrive = wire
            .ask(Method::GET, &url, |request| request)
            .await?
            .json("the drive")?;
        let kind = DriveKind::of(told.kind.as_deref());
        let owner = told.owner.as_ref().and_then(|owner| {
            let name = &owner["user"];
            name["email"]
                .as_str()
                .or(name["displayName"].as_str())
                .map(str::to_owned)
        });
        let quota = told.quota.as_ref().and_then(super::wire::WireQuota::told);
        // Personal drives tell their id with its leading zero dropped (trap T12). The form that was
        // asked for is one that is known to work.
        let id = match (drive_id, kind) {
            ("", DriveKind::Personal) => normal(&told.id),
            ("", _) => DriveId::new(told.id),
            (asked, _) => DriveId::new(asked),
        };
        Ok(FoundDrive {
            id,
            kind,
            owner,
            quota,
        })
    }

    /// The folder at a path from the drive's root, made where it is absent.
    ///
    /// # Errors
    /// The drive cannot be asked, refuses, or has a file in the way.
    pub async fn ensure_root(&self, path: &str) -> Result<Item, DriveError> {
        let url = format!("{}/root?$select={SELECT}", self.url(&drive(&self.drive)));
        let reply = self.wire.ask(Method::GET, &url, |request| request).await?;
        let top: WireItem = reply.json("the drive's root")?;
        let id = ItemId::new(top.id.as_str());
        let mut at = self.keep(top, &id);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let next = match self.child(&at.id, name).await {
                Err(DriveError::NotFound) => match self.create_folder(&at.id, name).await {
                    Err(DriveError::NameTaken) => self.child(&at.id, name).await?,
                    other => other?,
                },
                other => other?,
            };
            if next.facet != ItemFacet::Folder {
                return Err(DriveError::Refused {
                    code: "notAFolder".into(),
                    message: format!("`{name}` of `{path}` is not a folder on the drive"),
                });
            }
            at = next;
        }
        Ok(at)
    }
}
