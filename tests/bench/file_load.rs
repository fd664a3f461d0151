//! What applications do with files, as so many of them at once, and how long one takes.
//!
//! `file-load WHAT DIR COUNT CLIENTS BYTES [--fsync]` prints microseconds for each file or block. Files have
//! names of their own for each client; nothing but `unlink` deletes, since a disk that has just deleted thousands
//! of files makes new ones slowly.
//!
//! | what | done COUNT times |
//! |---|---|
//! | `write` | create, write BYTES, fsync if asked for, close |
//! | `read` | open, read to the end, close |
//! | `stat` | stat by name |
//! | `unlink` | unlink, and if asked for fsync of the folder |
//! | `list` | list the folder with attributes; COUNT is how many entries it has |
//! | `stream-write` | one file a client, of COUNT blocks of BYTES |
//! | `stream-read` | the same, read |
//! | `random-read` | a block of BYTES anywhere in the client's file |

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const USAGE: &str = "usage: file-load WHAT DIR COUNT CLIENTS BYTES [--fsync]";

struct Work {
    what: String,
    dir: PathBuf,
    count: usize,
    clients: usize,
    bytes: Vec<u8>,
    fsync: bool,
}

fn main() -> anyhow::Result<()> {
    let work = Work::from_arguments()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..work.clients)
            .map(|client| {
                let work = &work;
                scope.spawn(move || work.run(client))
            })
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().unwrap_or_else(|_| bail!("a client panicked")))
    })?;
    let nanos = began.elapsed().as_nanos() / u128::try_from(work.count)?;
    println!("{}.{:03}", nanos / 1000, nanos % 1000);
    Ok(())
}

impl Work {
    fn from_arguments() -> anyhow::Result<Self> {
        let given: Vec<String> = std::env::args().skip(1).collect();
        let (given, fsync) = match given.split_last() {
            Some((last, rest)) if last == "--fsync" => (rest, true),
            _ => (given.as_slice(), false),
        };
        let [what, dir, count, clients, bytes] = given else {
            bail!(USAGE);
        };
        let (clients, bytes): (usize, usize) = (clients.parse()?, bytes.parse()?);
        ensure!(clients > 0, USAGE);
        let count = count.parse::<usize>()? / clients * clients;
        ensure!(count > 0, USAGE);
        Ok(Self {
            what: what.clone(),
            dir: dir.into(),
            count,
            clients,
            bytes: (0..=250).cycle().take(bytes).collect(),
            fsync,
        })
    }

    fn run(&self, client: usize) -> anyhow::Result<()> {
        let done = match self.what.as_str() {
            "write" => self.each(client, |path| self.write(path)),
            "read" => {
                let mut bytes = Vec::with_capacity(self.bytes.len());
                self.each(client, |path| {
                    bytes.clear();
                    File::open(path)?.read_to_end(&mut bytes)?;
                    ensure!(bytes.len() == self.bytes.len(), "{} bytes", bytes.len());
                    Ok(())
                })
            }
            "stat" => self.each(client, |path| Ok(fs::metadata(path).map(drop)?)),
            "unlink" => self.each(client, |path| self.unlink(path)),
            "list" => self.list(),
            "stream-write" => self.stream_write(client),
            "stream-read" => self.stream_read(client),
            "random-read" => self.random_read(client),
            _ => bail!(USAGE),
        };
        done.with_context(|| format!("{} in {}", self.what, self.dir.display()))
    }

    /// The files of one client.
    fn each(
        &self,
        client: usize,
        mut act: impl FnMut(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for n in 0..self.count / self.clients {
            let path = self.dir.join(format!("{client}-{n}.jpg"));
            act(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(&self.bytes)?;
        if self.fsync {
            file.sync_all()?;
        }
        Ok(()) // and closed
    }

    fn unlink(&self, path: &Path) -> anyhow::Result<()> {
        fs::remove_file(path)?;
        if self.fsync {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    fn list(&self) -> anyhow::Result<()> {
        let mut seen = 0;
        for entry in fs::read_dir(&self.dir)? {
            entry?.metadata()?;
            seen += 1;
        }
        ensure!(seen == self.count, "{seen} entries, and not {}", self.count);
        Ok(())
    }

    fn stream(&self, client: usize) -> PathBuf {
        self.dir.join(format!("stream-{client}.bin"))
    }

    fn stream_write(&self, client: usize) -> anyhow::Result<()> {
        let mut file = File::create(self.stream(client))?;
        for _ in 0..self.count / self.clients {
            file.write_all(&self.bytes)?;
        }
        if self.fsync {
            file.sync_all()?;
        }
        Ok(())
    }

    fn stream_read(&self, client: usize) -> anyhow::Result<()> {
        let mut file = File::open(self.stream(client))?;
        let mut block = vec![0; self.bytes.len()];
        for _ in 0..self.count / self.clients {
            file.read_exact(&mut block)?;
        }
        Ok(())
    }

    fn random_read(&self, client: usize) -> anyhow::Result<()> {
        let file = OpenOptions::new().read(true).open(self.stream(client))?;
        let size = self.bytes.len() as u64;
        let blocks = file.metadata()?.len() / size;
        ensure!(blocks > 0, "the file is shorter than a block");
        let mut dice = StdRng::seed_from_u64(client as u64);
        let mut block = vec![0; self.bytes.len()];
        for _ in 0..self.count / self.clients {
            file.read_exact_at(&mut block, dice.random_range(0..blocks) * size)?;
        }
        Ok(())
    }
}
