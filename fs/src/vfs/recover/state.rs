//! The files of the state, opened: the journal, the contents, and what a damaged journal still tells.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::StartError;
use super::salvage::Salvage;
use crate::content::Disk;
use crate::content::store::Store;
use crate::outbox::journal::{
    CHANGES, Contents, Durability, Journal, JournalError, Recovered, rows_of_changes,
};
use crate::tree::{ContentId, recovered_name};

/// The state, open.
pub(super) struct State {
    pub(super) store: Arc<Store>,
    pub(super) journal: Journal,
    pub(super) recovered: Recovered,
    /// What a damaged journal still tells.
    pub(super) salvage: Salvage,
    /// The folder for it, where there was one.
    pub(super) folder: Option<String>,
    /// What a person should know.
    pub(super) report: Vec<String>,
}

impl State {
    /// Opens it, or makes it. A damaged journal is put aside, and a new one begun.
    ///
    /// # Errors
    /// Another daemon uses it, a newer one wrote it, or the disk refuses.
    pub(super) fn open(
        state_dir: &Path,
        disk: &Arc<dyn Disk>,
        durability: Durability,
        now: SystemTime,
    ) -> Result<Self, StartError> {
        let failed = |what| StartError::of(state_dir, what);
        make_private(state_dir).map_err(failed("make it"))?;
        // The journal first: its lock keeps a second daemon away from everything else, and a newer one's files are
        // none of ours.
        let contents: Arc<LateStore> = Arc::default();
        let path = state_dir.join("journal.redb");
        let open = || Journal::open(&path, durability, contents.clone(), disk.clone());
        let opened = match open() {
            Err(JournalError::Damaged { why, .. }) => Err(why),
            other => Ok(other?),
        };
        let store =
            Arc::new(Store::open(state_dir, disk.clone()).map_err(failed("open the contents"))?);
        let _ = contents.0.set(store.clone());
        let mut report = Vec::new();
        let (salvage, folder, (journal, recovered)) = match opened {
            Err(why) => {
                let why = format!("the journal was damaged: {why}");
                let aside = |path: &Path| -> std::io::Result<(PathBuf, Vec<u8>)> {
                    let kept = store.quarantine_file(path, &why)?;
                    let bytes = std::fs::read(&kept)?;
                    Ok((kept, bytes))
                };
                // What it lacks builds on what it had, and is no use to the next one.
                let noted = match aside(&state_dir.join(CHANGES)) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                    other => other.map_err(failed("put the log of changes aside"))?.1,
                };
                let (kept, mut rows) =
                    aside(&path).map_err(failed("put the damaged journal aside"))?;
                report.push(format!(
                    "{why}. It is in {} now, and what the drive has is looked up there again",
                    kept.display()
                ));
                rows.extend(rows_of_changes(&noted));
                (Salvage::of(&rows), Some(recovered_name(now)), open()?)
            }
            Ok(opened) => (Salvage::default(), None, opened),
        };
        Ok(Self {
            store,
            journal,
            recovered,
            salvage,
            folder,
            report,
        })
    }
}

/// The store, once it is open: the journal is opened before it.
#[derive(Default)]
struct LateStore(OnceLock<Arc<Store>>);

impl Contents for LateStore {
    fn make_durable(&self, contents: &[ContentId]) -> Vec<(ContentId, io::Error)> {
        match self.0.get() {
            Some(store) => store.make_durable(contents),
            None => Vec::new(), // nothing can have been sealed without it
        }
    }

    fn remove(&self, content: ContentId) {
        if let Some(store) = self.0.get() {
            store.remove(content);
        }
    }
}

fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}
