//! How things stand, as one report for people and programs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::auth::{AuthState, Authenticator, Standing};
use crate::graph::{Graph, Traffic};
use crate::graph::{Push, PushStatus};
use crate::mount::Mode;
use crate::sync::{Sync, SyncStatus};
use crate::vfs::{Status, Vfs};

/// How things stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub since: u64,
    /// Where and how it is mounted; `None` when it serves the origin only.
    pub mount: Option<MountReport>,
    /// Address of the origin, where there is one.
    pub origin: Option<String>,
    /// Which drive.
    pub drive: DriveReport,
    /// Whether somebody is signed in.
    pub sign_in: SignIn,
    /// How remote changes are followed.
    pub remote: SyncStatus,
    /// Whether the drive tells of them by itself.
    pub push: PushStatus,
    /// What was asked of the service, and how much of its budget that is.
    #[serde(default)]
    pub traffic: Traffic,
    /// Why the mount is not what it should be, if so.
    pub degraded: Option<String>,
    /// Local changes and the cache.
    #[serde(flatten)]
    pub local: Status,
}

/// Where and how it is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountReport {
    /// The directory.
    pub point: PathBuf,
    /// How cached files are read.
    pub mode: Mode,
}

/// Which drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveReport {
    /// Its id.
    pub id: String,
    /// Its kind, and whose it is.
    pub owner: String,
    /// The folder that is mounted.
    pub root: String,
    /// All of its space in bytes, as far as it is told.
    pub space_total: u64,
    /// What is left of it.
    pub space_free: u64,
}

/// How sign-in stands; all times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    /// Whether somebody is signed in, and what to do where not.
    #[serde(flatten)]
    pub state: AuthState,
    /// Since when it stands so.
    pub since: u64,
    /// Until when the access token is good. It is renewed before.
    pub access_until: Option<u64>,
    /// When the sign-in was last used; that keeps it alive.
    pub refreshed: Option<u64>,
    /// When it ends, if it is not used before.
    pub lasts_until: Option<u64>,
    /// What a person should know before that.
    pub warning: Option<String>,
}

/// Where a report comes from.
pub struct Facts {
    /// The use cases.
    pub vfs: Arc<Vfs>,
    /// Changes that come from it.
    pub sync: Arc<Sync>,
    /// Whether the drive tells of them by itself.
    pub push: Arc<Push>,
    /// Sign-in.
    pub auth: Arc<Authenticator>,
    /// The drive's client.
    pub graph: Arc<Graph>,
    /// Where it is mounted.
    pub mount: Option<MountReport>,
    /// Where the origin listens.
    pub origin: Option<String>,
    /// Id and owner of the drive, and the folder of it.
    pub drive: (String, String, String),
    /// When the daemon started.
    pub started: SystemTime,
}

impl Facts {
    /// How things stand at present.
    #[must_use]
    pub fn report(&self) -> Report {
        let space = self.vfs.space();
        let (id, owner, root) = self.drive.clone();
        let remote = self.sync.status();
        let sign_in = SignIn::from(self.auth.standing(SystemTime::now()));
        let local = self.vfs.status();
        Report {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: seconds(self.started),
            mount: self.mount.clone(),
            origin: self.origin.clone(),
            drive: DriveReport {
                id,
                owner,
                root,
                space_total: space.total,
                space_free: space.free,
            },
            traffic: self.graph.traffic(),
            degraded: degraded(&sign_in, &remote, &local),
            sign_in,
            remote,
            push: self.push.status(),
            local,
        }
    }

    /// Sends what is pending, and looks for remote changes, before their time.
    pub fn hurry(&self) {
        self.vfs.ledger().wake.notify_one();
        self.sync.wake.notify_one();
    }
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("mount", &self.mount)
            .finish_non_exhaustive()
    }
}

/// The worst first.
fn degraded(sign_in: &SignIn, remote: &SyncStatus, local: &Status) -> Option<String> {
    if let Some(why) = &local.journal_failing {
        return Some(format!("changes are refused: {why}"));
    }
    if let Some(what) = sign_in.state.to_do() {
        return Some(what);
    }
    if let Some(why) = &remote.trouble {
        return Some(format!("the drive cannot be reached: {why}"));
    }
    if local.withheld > 0 {
        return Some(format!(
            "the drive says that {} files and folders are gone at once, decide with `tuyunfs deletions`",
            local.withheld
        ));
    }
    local
        .paused
        .as_ref()
        .map(|why| format!("nothing is sent at present: {why}"))
}

impl From<Standing> for SignIn {
    fn from(standing: Standing) -> Self {
        Self {
            state: standing.state,
            since: seconds(standing.since),
            access_until: standing.access_until.map(seconds),
            refreshed: standing.refreshed.map(seconds),
            lasts_until: standing.lasts_until.map(seconds),
            warning: standing.warning,
        }
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
pub(crate) fn example() -> Report {
    use crate::graph::PushState;
    Report {
        version: "1.2.3".into(),
        pid: 4711,
        since: 1_700_000_000,
        mount: Some(MountReport {
            point: "/mnt/onedrive".into(),
            mode: Mode::Fallback,
        }),
        origin: Some("http://127.0.0.1:7200/mount".into()),
        drive: DriveReport {
            id: "b!1".into(),
            owner: "personal OneDrive of Ada".into(),
            root: "/share/mount".into(),
            space_total: 5 << 30,
            space_free: 4 << 30,
        },
        sign_in: SignIn {
            state: AuthState::SignedIn,
            since: 1_700_000_000,
            access_until: Some(1_700_003_600),
            refreshed: Some(1_700_000_000),
            lasts_until: Some(1_707_776_000),
            warning: None,
        },
        remote: SyncStatus {
            online: true,
            ..SyncStatus::default()
        },
        push: PushStatus {
            state: PushState::Connected,
            since: 1_700_000_000,
            notices: 7,
        },
        traffic: Traffic::default(),
        degraded: None,
        local: Status::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_what_it_wrote() {
        let mut report = example();
        report.sign_in.state = AuthState::SignInNeeded {
            why: "revoked".into(),
            claims: Some("{}".into()),
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["pending"], 0, "the local part is not nested");
        assert_eq!(value["mount"]["mode"], "fallback");
        assert_eq!(value["sign_in"]["state"], "sign_in_needed");
        assert_eq!(value["sign_in"]["why"], "revoked");
        assert_eq!(value["sign_in"]["since"], 1_700_000_000);
    }

    #[test]
    fn the_worst_trouble_is_told_first() {
        let mut remote = SyncStatus {
            trouble: Some("no route".into()),
            ..SyncStatus::default()
        };
        let mut local = Status {
            paused: Some("throttled".into()),
            ..Status::default()
        };
        let signed_in = example().sign_in;
        let mut needed = signed_in.clone();
        needed.state = AuthState::SignInNeeded {
            why: "revoked".into(),
            claims: None,
        };
        let mut wrong = signed_in.clone();
        wrong.state = AuthState::Misconfigured {
            why: "expired secret".into(),
        };
        let told = degraded(&wrong, &remote, &local).unwrap();
        assert!(
            told.contains("expired secret") && !told.contains("tuyunfs login"),
            "{told}"
        );
        let told = degraded(&needed, &remote, &local).unwrap();
        assert!(told.contains("tuyunfs login"), "{told}");
        let told = degraded(&signed_in, &remote, &local).unwrap();
        assert!(told.contains("no route"), "{told}");
        remote.trouble = None;
        let told = degraded(&signed_in, &remote, &local).unwrap();
        assert!(told.contains("throttled"), "{told}");
        local.paused = None;
        assert_eq!(degraded(&signed_in, &remote, &local), None);
        local.journal_failing = Some("disk full".into());
        assert!(
            degraded(&needed, &remote, &local)
                .unwrap()
                .contains("disk full")
        );
    }
}
