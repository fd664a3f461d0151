//! The name of what was asked.
//!
//! Faults, holds, counts and the log all select by it, so it is stable and the same for every
//! spelling of an address.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One operation of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// `GET /me`.
    Me,
    /// A drive: `/me/drive`, `/drives/{d}`, `/users/{u}/drive`.
    Drive,
    /// A drive with `$select=quota`.
    Quota,
    /// A collection of drives.
    Drives,
    /// A site, for those who look for a library.
    Site,
    /// One item, the root included, by id or path.
    Item,
    /// The children of a folder.
    Children,
    /// `POST …/children`.
    CreateFolder,
    /// `PUT …/content`.
    PutContent,
    /// `POST …/createUploadSession`.
    CreateSession,
    /// `PUT` with a `sourceUrl`: the late commit of a personal drive.
    CommitSource,
    /// `PATCH` of an item: rename, move, times.
    Patch,
    /// `DELETE` of an item.
    Delete,
    /// `POST …/permanentDelete`.
    PermanentDelete,
    /// `POST …/restore`.
    Restore,
    /// `POST …/copy`.
    Copy,
    /// `GET …/versions`.
    Versions,
    /// `GET …/versions/{v}/content`.
    VersionContent,
    /// `GET …/content`: the redirect.
    Content,
    /// Delta.
    Delta,
    /// `POST /$batch` itself; its members are counted under their own names.
    Batch,
    /// The request for a notification address.
    SocketIo,
    /// The notification socket.
    Socket,
    /// A fragment: `PUT` to an upload URL.
    Fragment,
    /// The state of an upload session.
    SessionStatus,
    /// The end of an upload session.
    SessionCancel,
    /// `POST` to an upload URL: the late commit of a business drive.
    SessionCommit,
    /// The bytes of a file, from a pre-authenticated URL.
    Download,
    /// The progress of a copy.
    Monitor,
    /// The page where a person signs in.
    Authorize,
    /// The token endpoint.
    Token,
    /// The device code endpoint.
    Devicecode,
    /// The page where a person types a device code.
    Deviceauth,
    /// Anything else.
    Unknown,
}

impl Route {
    /// The name as it stands in JSON and in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Me => "me",
            Self::Drive => "drive",
            Self::Quota => "quota",
            Self::Drives => "drives",
            Self::Site => "site",
            Self::Item => "item",
            Self::Children => "children",
            Self::CreateFolder => "create_folder",
            Self::PutContent => "put_content",
            Self::CreateSession => "create_session",
            Self::CommitSource => "commit_source",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::PermanentDelete => "permanent_delete",
            Self::Restore => "restore",
            Self::Copy => "copy",
            Self::Versions => "versions",
            Self::VersionContent => "version_content",
            Self::Content => "content",
            Self::Delta => "delta",
            Self::Batch => "batch",
            Self::SocketIo => "socket_io",
            Self::Socket => "socket",
            Self::Fragment => "fragment",
            Self::SessionStatus => "session_status",
            Self::SessionCancel => "session_cancel",
            Self::SessionCommit => "session_commit",
            Self::Download => "download",
            Self::Monitor => "monitor",
            Self::Authorize => "authorize",
            Self::Token => "token",
            Self::Devicecode => "devicecode",
            Self::Deviceauth => "deviceauth",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
