//! Files that are read again when they change: tokens, keys, tables of ranges.
//!
//! Readers take the value without a lock. A file that has become unusable changes nothing: what was
//! read before stays, and the log says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

/// How often files are looked at: whoever edits one waits a moment, and a `stat` costs nothing.
const LOOK: Duration = Duration::from_secs(2);

/// A value from a file.
pub type Fresh<T> = Arc<ArcSwap<T>>;

/// Follows files.
#[derive(Default)]
pub struct Follower(Vec<Followed>);

struct Followed {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    /// Reads the file and puts its value in its place, or says what is wrong.
    take: Box<dyn Fn() -> Result<(), String> + Send>,
}

impl Follower {
    /// Reads a file now, and again whenever it changes.
    ///
    /// # Errors
    /// As `read` has it, now; later it is only said.
    pub fn add<T, E>(
        &mut self,
        path: &Path,
        read: impl Fn(&Path) -> Result<T, E> + Send + 'static,
    ) -> Result<Fresh<T>, E>
    where
        T: Send + Sync + 'static,
        E: std::fmt::Display,
    {
        let seen = state(path);
        let fresh = Arc::new(ArcSwap::from_pointee(read(path)?));
        let (place, file) = (Arc::clone(&fresh), path.to_owned());
        let take = move || {
            let value = read(&file).map_err(|error| error.to_string())?;
            place.store(Arc::new(value));
            Ok(())
        };
        self.0.push(Followed {
            path: path.to_owned(),
            seen,
            take: Box::new(take),
        });
        Ok(fresh)
    }

    /// Looks at the files until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            // A database of places has some megabytes: not on a thread that visitors wait for.
            let looking = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looking.await {
                Ok(follower) => self = follower,
                Err(_) => return,
            }
        }
    }

    fn look(&mut self) {
        for file in &mut self.0 {
            let now = state(&file.path);
            if now == file.seen || now.is_none() {
                continue;
            }
            file.seen = now;
            let path = file.path.display();
            match (file.take)() {
                Ok(()) => tracing::info!(%path, "took the file anew"),
                Err(error) => {
                    tracing::warn!(%path, error, "cannot use the file as it is now; going on with what it was");
                }
            }
        }
    }
}

fn state(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> Result<u32, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| "not a number".to_owned())
    }

    #[test]
    fn a_changed_file_is_taken_and_an_unusable_one_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1").unwrap();
        let mut follower = Follower::default();
        let fresh = follower.add(file.path(), number).unwrap();
        for (text, expected) in [("22", 22), ("odd", 22), ("4444", 4444)] {
            std::fs::write(file.path(), text).unwrap();
            follower.look();
            assert_eq!(**fresh.load(), expected, "after {text}");
        }
        let absent = Path::new("/nonexistent/number");
        assert!(follower.add(absent, number).is_err());
    }
}
