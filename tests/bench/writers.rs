//! Writes files of one size, as so many programs at once, and says how long a file takes.
//!
//! `writers DIR FILES WRITERS BYTES [--fsync]` prints microseconds a file. What is timed is
//! create, write, fsync if asked for, and close; nothing is deleted, since a disk that has just deleted
//! thousands of files makes new ones slowly.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};

struct Work {
    dir: PathBuf,
    files: usize,
    writers: usize,
    bytes: Vec<u8>,
    fsync: bool,
}

fn main() -> anyhow::Result<()> {
    let work = Work::from_arguments()?;
    std::fs::create_dir(&work.dir)
        .with_context(|| format!("cannot make {}", work.dir.display()))?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..work.writers)
            .map(|writer| {
                let work = &work;
                scope.spawn(move || work.write(writer))
            })
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().unwrap_or_else(|_| bail!("a writer panicked")))
    })?;
    let each = began.elapsed() / u32::try_from(work.files)?;
    println!("{}", each.as_nanos() / 1000);
    Ok(())
}

impl Work {
    fn from_arguments() -> anyhow::Result<Self> {
        let given: Vec<String> = std::env::args().skip(1).collect();
        let (given, fsync) = match given.split_last() {
            Some((last, rest)) if last == "--fsync" => (rest, true),
            _ => (given.as_slice(), false),
        };
        let [dir, files, writers, bytes] = given else {
            bail!("usage: writers DIR FILES WRITERS BYTES [--fsync]");
        };
        let writers: usize = writers.parse()?;
        let files: usize = files.parse::<usize>()? / writers * writers;
        let bytes: usize = bytes.parse()?;
        Ok(Self {
            dir: dir.into(),
            files,
            writers,
            bytes: (0..=250).cycle().take(bytes).collect(),
            fsync,
        })
    }

    fn write(&self, writer: usize) -> anyhow::Result<()> {
        for n in 0..self.files / self.writers {
            self.write_one(&self.dir.join(format!("{writer}-{n}.jpg")))?;
        }
        Ok(())
    }

    fn write_one(&self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", path.display());
        let mut file = File::create(path).with_context(failed)?;
        file.write_all(&self.bytes).with_context(failed)?;
        if self.fsync {
            file.sync_all().with_context(failed)?;
        }
        Ok(()) // and closed
    }
}
