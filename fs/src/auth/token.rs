//! The token, and where it rests: one file, nobody else's to read, replaced as a whole.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// A token with all that is needed to renew it.
#[derive(Clone)]
pub struct StoredToken {
    /// The application that it was issued to: it can be renewed by no other.
    pub client_id: String,
    /// That application's secret, when it came with an imported token.
    pub client_secret: Option<SecretString>,
    /// The login authority that issued it, without a slash at the end; empty: the settings' one.
    pub login_url: String,
    /// The tenant that it was issued by.
    pub tenant: String,
    /// What was asked for, and is asked for again; empty: whatever was granted.
    pub scope: String,
    /// Renews the access token.
    pub refresh_token: SecretString,
    /// Opens the drive.
    pub access_token: SecretString,
    /// Until when it does.
    pub expires_at: SystemTime,
    /// When the refresh token was last used: it dies after 90 days without use.
    pub refreshed_at: SystemTime,
    /// When it dies even if it is used, where that was told.
    pub told_end: Option<SystemTime>,
}

impl std::fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredToken")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// The file's form. Kept apart, so that nothing else can write secrets down by accident.
#[derive(Serialize, Deserialize)]
struct Row {
    client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    #[serde(default)]
    login_url: String,
    #[serde(default = "common")]
    tenant: String,
    #[serde(default)]
    scope: String,
    refresh_token: String,
    #[serde(default)]
    access_token: String,
    expires_at: u64,
    #[serde(default)]
    refreshed_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told_end: Option<u64>,
}

fn common() -> String {
    "common".to_owned()
}

/// Tells whether a file is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, i64, i64);

/// The file that holds the token.
#[derive(Clone, Debug)]
pub struct TokenStore {
    path: PathBuf,
}

impl TokenStore {
    /// The token's file in a state directory.
    #[must_use]
    pub fn in_dir(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("token.json"),
        }
    }

    /// Its path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token; `None` when nobody has signed in yet.
    ///
    /// # Errors
    /// The file cannot be read, or is no token.
    pub fn load(&self) -> io::Result<Option<StoredToken>> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let row: Row = serde_json::from_str(&text).map_err(|error| {
            // Without serde's own text, which may quote what it read.
            let at = format!("line {}, column {}", error.line(), error.column());
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is no token (see {at})"),
            )
        })?;
        Ok(Some(StoredToken {
            client_id: row.client_id,
            client_secret: row.client_secret.map(SecretString::from),
            login_url: row.login_url,
            tenant: row.tenant,
            scope: row.scope,
            refresh_token: row.refresh_token.into(),
            access_token: row.access_token.into(),
            expires_at: at(row.expires_at),
            refreshed_at: at(row.refreshed_at),
            told_end: row.told_end.map(at),
        }))
    }

    /// Replaces the token: written aside, synced, renamed, so that a crash leaves one of the two.
    /// It belongs to whom the directory belongs to: root may sign in for a daemon that is not root.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, token: &StoredToken) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let row = Row {
            client_id: token.client_id.clone(),
            client_secret: token
                .client_secret
                .as_ref()
                .map(|s| s.expose_secret().to_owned()),
            login_url: token.login_url.clone(),
            tenant: token.tenant.clone(),
            scope: token.scope.clone(),
            refresh_token: token.refresh_token.expose_secret().to_owned(),
            access_token: token.access_token.expose_secret().to_owned(),
            expires_at: seconds(token.expires_at),
            refreshed_at: seconds(token.refreshed_at),
            told_end: token.told_end.map(seconds),
        };
        let mut aside = tempfile::NamedTempFile::new_in(dir)?;
        aside
            .as_file()
            .set_permissions(Permissions::from_mode(0o600))?;
        let owner = std::fs::metadata(dir)?;
        let made = aside.as_file().metadata()?;
        if (owner.uid(), owner.gid()) != (made.uid(), made.gid())
            && rustix::process::geteuid().is_root()
        {
            std::os::unix::fs::fchown(aside.as_file(), Some(owner.uid()), Some(owner.gid()))?;
        }
        serde_json::to_writer(&mut aside, &row)?;
        aside.flush()?;
        aside.as_file().sync_all()?;
        aside.persist(&self.path).map_err(|error| error.error)?;
        File::open(dir)?.sync_all()
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        identity(&self.path)
    }
}

/// Which file there is; `None` when there is none, or none that may be looked at.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Identity(meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(1 << 40))
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
pub(super) fn example(refresh: &str) -> StoredToken {
    StoredToken {
        client_id: "app".into(),
        client_secret: None,
        login_url: "https://login.test".into(),
        tenant: "common".into(),
        scope: "Files.ReadWrite.All".into(),
        refresh_token: refresh.to_owned().into(),
        access_token: "access".to_owned().into(),
        expires_at: at(200_000),
        refreshed_at: at(100_000),
        told_end: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_nobody_elses_to_read_and_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::in_dir(dir.path());
        assert!(store.load().unwrap().is_none());
        store.save(&example("one")).unwrap();
        let first = store.identity();
        store.save(&example("two")).unwrap();
        assert_ne!(store.identity(), first);
        let mode = std::fs::metadata(store.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let held = store.load().unwrap().unwrap();
        assert_eq!(held.refresh_token.expose_secret(), "two");
        assert_eq!(held.expires_at, at(200_000));
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left aside"
        );
    }

    #[test]
    fn what_is_no_token_is_an_error_that_quotes_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::in_dir(dir.path());
        std::fs::write(store.path(), r#"{"refresh_token": "secret", "x"#).unwrap();
        let error = store.load().unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        assert!(!format!("{:?}", example("secret")).contains("secret"));
    }
}
