//! How far the feed was followed, over restarts.
//!
//! A small file beside the cache: the number of the last event that was carried out, and up to which
//! moment what was fetched is in doubt. It is replaced as a whole. Lost or damaged, it costs one
//! question for each picture.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::Moment;

/// The longest number of an event that is believed, in bytes.
const LONGEST_ID: usize = 200;

/// How far it was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The number of the last event.
    pub(super) id: String,
    /// What was fetched up to then has to be asked about.
    pub(super) doubt: Moment,
}

/// The file, and what it ought to say.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    known: Option<Known>,
    written: Option<Known>,
}

impl Mark {
    /// Reads the file; one that cannot be read says nothing.
    pub(super) fn open(path: PathBuf) -> Self {
        let known: Option<Known> = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .filter(|known: &Known| known.id.len() <= LONGEST_ID);
        Self {
            path,
            written: known.clone(),
            known,
        }
    }

    /// How far it was followed, if that is known.
    pub(super) fn read(&self) -> Option<Known> {
        self.known.clone()
    }

    /// It was followed up to here.
    pub(super) fn set(&mut self, id: String, doubt: Moment) {
        if id.len() <= LONGEST_ID {
            self.known = Some(Known { id, doubt });
        }
    }

    /// Writes it down, if there is something new.
    ///
    /// # Errors
    /// As the disk has them.
    pub(super) async fn write(&mut self) -> io::Result<()> {
        let Some(known) = self.known.clone().filter(|_| self.known != self.written) else {
            return Ok(());
        };
        let (path, text) = (self.path.clone(), serde_json::to_vec(&known)?);
        tokio::task::spawn_blocking(move || replace(&path, &text)).await??;
        self.written = Some(known);
        Ok(())
    }
}

/// Not synced: after a power cut an older number is told again from, and an empty file is none.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    fs::write(&aside, text)?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_read_again_and_damage_says_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("changes.json");
        let mut mark = Mark::open(path.clone());
        assert_eq!(mark.read(), None);
        mark.write().await.expect("nothing to write");
        assert!(!path.exists());
        mark.set("17".into(), Moment(5));
        mark.write().await.expect("written");
        let expected = Known {
            id: "17".into(),
            doubt: Moment(5),
        };
        assert_eq!(Mark::open(path.clone()).read(), Some(expected));
        fs::write(&path, "{\"id\":").expect("damaged");
        assert_eq!(Mark::open(path).read(), None);
    }
}
