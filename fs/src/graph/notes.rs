//! Upload sessions, remembered over restarts.
//!
//! A session outlives the process that opened it, and holds its name on business drives (trap
//! T11): so its URL is written down before the first fragment goes, readable by nobody else. A
//! note is for one content, whose bytes never change, at one place. The URL is a secret: it
//! stands in the file and in the requests, and nowhere else.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::wire::stamp;
use crate::ports::{Upload, UploadTarget};
use crate::tree::{ContentId, DriveId};

/// The file, in the state directory.
const FILE: &str = "upload-sessions.json";

/// The right in the URL ends 24 hours after it was made, whatever else is told (trap T10). An hour
/// less, so that what is resumed has time to end.
const LIFE: Duration = Duration::from_hours(23);

/// Sessions that are remembered: many times what is under way at once, at about 1 KiB each. The
/// oldest are forgotten first; the service ends them by itself.
const MOST: usize = 256;

/// A session that was opened.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    content: ContentId,
    target: String,
    size: u64,
    modified: Option<String>,
    /// In seconds since 1970.
    opened: u64,
    pub(super) url: String,
}

impl Note {
    pub(super) fn of(upload: &Upload, url: String, now: SystemTime) -> Self {
        Self {
            content: upload.content,
            target: key(&upload.target),
            size: upload.size,
            modified: upload.modified.map(stamp),
            opened: seconds(now),
            url,
        }
    }

    /// Whether the session was opened for just this.
    fn is_of(&self, upload: &Upload) -> bool {
        self.content == upload.content
            && self.target == key(&upload.target)
            && self.size == upload.size
            && self.modified == upload.modified.map(stamp)
    }

    /// Whether the session stands in the way of this, or will not be used any more.
    fn is_superseded_by(&self, upload: &Upload) -> bool {
        let related = self.content == upload.content || self.target == key(&upload.target);
        related && !self.is_of(upload)
    }

    fn has_ended(&self, now: SystemTime) -> bool {
        seconds(now).saturating_sub(self.opened) > LIFE.as_secs()
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn key(target: &UploadTarget) -> String {
    match target {
        UploadTarget::New { parent, name } => format!("{parent}:/{name}"),
        UploadTarget::Replace { id, .. } => id.to_string(),
    }
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct File {
    drive: DriveId,
    sessions: Vec<Note>,
}

/// The notes of one drive.
#[derive(Clone)]
pub(super) struct Notes(Arc<Inner>);

struct Inner {
    /// Without one, sessions are remembered until the process ends.
    path: Option<PathBuf>,
    drive: DriveId,
    held: Mutex<Vec<Note>>,
    /// One writer at a time; taken before `held`.
    writing: Mutex<()>,
}

impl Notes {
    /// Reads the notes of a state directory. What cannot be read is forgotten: such sessions end
    /// by themselves.
    pub(super) fn open(state_dir: Option<&Path>, drive: &DriveId, now: SystemTime) -> Self {
        let path = state_dir.map(|dir| dir.join(FILE));
        let mut held = Vec::new();
        if let Some(path) = &path {
            match read(path) {
                Ok(file) if file.drive == *drive => held = file.sessions,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    // Without the parser's own words, which may quote a URL.
                    let kind = error.kind();
                    tracing::warn!(%kind, "cannot read which uploads were under way; they begin anew");
                }
            }
        }
        held.retain(|note| !note.has_ended(now));
        Self(Arc::new(Inner {
            path,
            drive: drive.clone(),
            held: Mutex::new(held),
            writing: Mutex::new(()),
        }))
    }

    /// The session that was opened for just this, if it may live.
    pub(super) fn find(&self, upload: &Upload, now: SystemTime) -> Option<Note> {
        let held = self.0.held.lock();
        let found = held.iter().find(|note| note.is_of(upload));
        found.filter(|note| !note.has_ended(now)).cloned()
    }

    /// Sessions that stand in the way of this one, taken out of the notes.
    pub(super) fn take_superseded(&self, upload: &Upload) -> Vec<Note> {
        let mut held = self.0.held.lock();
        held.extract_if(.., |note| note.is_superseded_by(upload))
            .collect()
    }

    /// Writes a session down, until the disk says so. A disk that does not is no reason not to
    /// send.
    pub(super) async fn put(&self, note: Note, now: SystemTime) {
        {
            let mut held = self.0.held.lock();
            held.retain(|other| !other.has_ended(now));
            if held.len() >= MOST {
                held.remove(0);
            }
            held.push(note);
        }
        self.write(true).await;
    }

    /// The session is over.
    pub(super) async fn forget(&self, url: &str) {
        self.0.held.lock().retain(|note| note.url != url);
        // When this is lost, a look at the session says that it is gone.
        self.write(false).await;
    }

    async fn write(&self, durably: bool) {
        let inner = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || inner.write(durably)).await;
        if let Err(error) = written
            .map_err(io::Error::other)
            .and_then(|written| written)
        {
            tracing::warn!(%error, "cannot write down which uploads are under way");
        }
    }
}

impl Inner {
    fn write(&self, durably: bool) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let _one = self.writing.lock();
        let file = File {
            drive: self.drive.clone(),
            sessions: self.held.lock().clone(),
        };
        let dir = path.parent().unwrap_or(Path::new("."));
        // Made with mode 0600, and renamed over the old one when it is whole.
        let mut aside = tempfile::NamedTempFile::new_in(dir)?;
        aside.write_all(&serde_json::to_vec(&file)?)?;
        if durably {
            aside.as_file().sync_all()?;
        }
        aside.persist(path).map_err(|failed| failed.error)?;
        if durably {
            std::fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<File> {
    let text = std::fs::read(path)?;
    serde_json::from_slice(&text).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::tree::ItemId;

    fn upload(content: u64, name: &str) -> Upload {
        Upload {
            target: UploadTarget::New {
                parent: ItemId::new("01P"),
                name: name.into(),
            },
            content: ContentId(content),
            file: Arc::new(tempfile::tempfile().unwrap()),
            size: 10,
            modified: None,
        }
    }

    fn note(content: u64, name: &str, now: SystemTime) -> Note {
        let url = format!("https://storage.test/{content}?tempauth=secret");
        Note::of(&upload(content, name), url, now)
    }

    #[tokio::test]
    async fn a_session_is_found_again_after_a_restart_and_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (now, drive) = (SystemTime::now(), DriveId::new("b!1"));
        let open = |drive: &DriveId, now| Notes::open(Some(dir.path()), drive, now);
        open(&drive, now).put(note(1, "a", now), now).await;
        let mode = std::fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let again = open(&drive, now);
        assert!(again.find(&upload(1, "a"), now).is_some());
        assert!(again.find(&upload(2, "a"), now).is_none(), "other bytes");
        assert!(again.find(&upload(1, "b"), now).is_none(), "another place");
        assert!(
            open(&DriveId::new("b!2"), now)
                .find(&upload(1, "a"), now)
                .is_none()
        );
        let tomorrow = now + Duration::from_hours(24);
        assert!(again.find(&upload(1, "a"), tomorrow).is_none());
        again.forget("https://storage.test/1?tempauth=secret").await;
        assert!(open(&drive, now).find(&upload(1, "a"), now).is_none());
    }

    #[tokio::test]
    async fn what_stands_in_the_way_is_taken_out_and_the_rest_stays() {
        let now = SystemTime::now();
        let notes = Notes::open(None, &DriveId::new("b!1"), now);
        for (content, name) in [(1, "a"), (2, "b"), (3, "c")] {
            notes.put(note(content, name, now), now).await;
        }
        assert!(notes.take_superseded(&upload(1, "a")).is_empty(), "its own");
        assert!(notes.take_superseded(&upload(9, "a")) == [note(1, "a", now)]);
        assert!(notes.take_superseded(&upload(2, "moved")) == [note(2, "b", now)]);
        assert!(notes.find(&upload(3, "c"), now).is_some());
    }

    #[tokio::test]
    async fn notes_are_bounded_and_a_damaged_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"{\"drive\":").unwrap();
        let now = SystemTime::now();
        let notes = Notes::open(Some(dir.path()), &DriveId::new("b!1"), now);
        for content in 0..=MOST as u64 {
            notes
                .0
                .held
                .lock()
                .push(note(content, &content.to_string(), now));
        }
        notes.put(note(9999, "last", now), now).await;
        assert!(notes.0.held.lock().len() <= MOST + 1);
        assert!(notes.find(&upload(9999, "last"), now).is_some());
    }
}
