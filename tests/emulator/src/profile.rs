//! Which OneDrive is this?
//!
//! The service has several back ends behind one API, and they differ in tags, times, hashes and
//! refusals. A profile names one of them; its switches say how it behaves. Nothing here changes at
//! run time: what a test may turn is in `settings`.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A kind of drive, as the service runs them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// OneDrive of a Microsoft account, on its original back end.
    PersonalClassic,
    /// The same, moved onto the SharePoint back end.
    PersonalMigrated,
    /// OneDrive for work or school.
    #[default]
    Business,
    /// A SharePoint site's document library, beside the signed-in user's own drive.
    Library,
    /// OneDrive for work or school in the cloud run by 21Vianet.
    China,
}

/// How eTags and cTags are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagForm {
    /// Opaque text without quotes, which a conditional header has to add.
    Bare,
    /// `"{GUID},n"`, quotes included.
    Guid,
}

/// Which folders carry a cTag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderTag {
    /// Every folder, the root too.
    All,
    /// Every folder but the root.
    NotRoot,
    /// No folder.
    None,
}

/// The answer to delta on a folder that is not the root, or on any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeltaReach {
    /// The root and every folder.
    Anywhere,
    /// The root alone; elsewhere 501.
    RootOnly,
    /// Nowhere: 400.
    Nowhere,
}

/// How one back end behaves where they differ (section 12 of the behaviour reference).
// Each flag is one independent row of that table; folding them would hide the table.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a table of independent switches"
)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Switches {
    pub(crate) drive_type: &'static str,
    /// A Microsoft account: ids, hosts and recycle bin differ from work accounts.
    pub(crate) personal: bool,
    pub(crate) tags: TagForm,
    pub(crate) folder_ctag: FolderTag,
    /// Milliseconds in times; otherwise whole seconds.
    pub(crate) millis: bool,
    pub(crate) sha1: bool,
    pub(crate) sha256: bool,
    pub(crate) delta: DeltaReach,
    /// `token=<time>` starts a delta from then.
    pub(crate) time_tokens: bool,
    /// Tombstones keep the item's name.
    pub(crate) tombstone_names: bool,
    /// Tombstones of a deleted folder's contents are listed as well.
    pub(crate) tombstone_descendants: bool,
    /// Delta lists the ancestors of each change.
    pub(crate) ancestors: bool,
    /// Delta leaves the cTag out.
    pub(crate) delta_hides_ctag: bool,
    /// A second upload session for a name is refused while one lives.
    pub(crate) one_session_per_name: bool,
    /// A metadata PATCH of a file adds a version, and versions count against the quota.
    pub(crate) version_per_patch: bool,
    /// `items/{id}:/path` answers with the base item, whatever the path.
    pub(crate) colon_is_base: bool,
    pub(crate) permanent_delete: bool,
    pub(crate) restore: bool,
    /// A late commit is a PUT with `sourceUrl`; otherwise a POST to the upload URL.
    pub(crate) commit_by_source: bool,
}

const CLASSIC: Switches = Switches {
    drive_type: "personal",
    personal: true,
    tags: TagForm::Bare,
    folder_ctag: FolderTag::All,
    millis: true,
    sha1: true,
    sha256: true,
    delta: DeltaReach::Anywhere,
    time_tokens: false,
    tombstone_names: true,
    tombstone_descendants: true,
    ancestors: false,
    delta_hides_ctag: false,
    one_session_per_name: false,
    version_per_patch: false,
    colon_is_base: false,
    permanent_delete: false,
    restore: true,
    commit_by_source: true,
};

const BUSINESS: Switches = Switches {
    drive_type: "business",
    personal: false,
    tags: TagForm::Guid,
    folder_ctag: FolderTag::None,
    millis: false,
    sha1: false,
    sha256: false,
    delta: DeltaReach::RootOnly,
    time_tokens: true,
    tombstone_names: false,
    tombstone_descendants: false,
    ancestors: true,
    delta_hides_ctag: true,
    one_session_per_name: true,
    version_per_patch: true,
    colon_is_base: false,
    permanent_delete: true,
    restore: false,
    commit_by_source: false,
};

impl Profile {
    /// Every profile, for tests that run on each.
    pub const ALL: [Self; 5] = [
        Self::PersonalClassic,
        Self::PersonalMigrated,
        Self::Business,
        Self::Library,
        Self::China,
    ];

    /// The switches of the drive that this profile is about.
    pub(crate) fn switches(self) -> Switches {
        match self {
            Self::PersonalClassic => CLASSIC,
            Self::PersonalMigrated => Switches {
                tags: TagForm::Guid,
                folder_ctag: FolderTag::NotRoot,
                millis: false,
                sha1: false,
                one_session_per_name: true,
                ..CLASSIC
            },
            Self::Business => BUSINESS,
            Self::Library => Switches {
                drive_type: "documentLibrary",
                ..BUSINESS
            },
            Self::China => Switches {
                delta: DeltaReach::Nowhere,
                time_tokens: false,
                colon_is_base: true,
                ..BUSINESS
            },
        }
    }

    /// The switches of the signed-in user's own drive: beside a library, that is another drive.
    pub(crate) fn own_switches(self) -> Switches {
        match self {
            Self::Library => BUSINESS,
            other => other.switches(),
        }
    }

    /// The host names under which the service is known in public.
    pub(crate) fn hosts(self) -> PublicHosts {
        match self {
            Self::PersonalClassic => PublicHosts {
                storage: "public.dm.files.1drv.com",
                ..GLOBAL
            },
            Self::PersonalMigrated => PublicHosts {
                storage: "my.microsoftpersonalcontent.com",
                ..GLOBAL
            },
            Self::Business | Self::Library => GLOBAL,
            Self::China => PublicHosts {
                login: "login.chinacloudapi.cn",
                graph: "microsoftgraph.chinacloudapi.cn",
                storage: "contoso-my.sharepoint.cn",
            },
        }
    }
}

/// The public names of the three hosts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicHosts {
    pub(crate) login: &'static str,
    pub(crate) graph: &'static str,
    pub(crate) storage: &'static str,
}

const GLOBAL: PublicHosts = PublicHosts {
    login: "login.microsoftonline.com",
    graph: "graph.microsoft.com",
    storage: "contoso-my.sharepoint.com",
};
