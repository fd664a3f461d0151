//! The log: events with fields, to the journal when systemd holds our standard error, else to
//! standard error as text or JSON.
//!
//! `TUYUN_LOG` (or `RUST_LOG`) says what is logged, in the syntax of `tracing`'s filters, for
//! example `info,tuyun_jump=debug,access=info`. `TUYUN_LOG_FORMAT=json` prints JSON lines.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

/// What is logged unless somebody says otherwise. The access log is a line for each picture served
/// and would fill a small machine's disk, so it has to be asked for with `info,access=info`.
const DEFAULT_FILTER: &str = "info,access=warn";

/// How lines on standard error look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Format {
    /// What `TUYUN_LOG_FORMAT` asks for.
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var("TUYUN_LOG_FORMAT").as_deref() {
            Ok("json") => Self::Json,
            _ => Self::Text,
        }
    }
}

/// Starts the log of this process. A second call, as tests make it, changes nothing.
pub fn init(format: Format) {
    let asked = ["TUYUN_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let (filter, mistake) = match asked.as_deref().map(EnvFilter::try_new) {
        None => (EnvFilter::new(DEFAULT_FILTER), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    if tracing_subscriber::registry()
        .with(output(format))
        .with(filter)
        .try_init()
        .is_err()
    {
        return;
    }
    if let Some(error) = mistake {
        tracing::warn!(%error, "TUYUN_LOG cannot be understood, logging `{DEFAULT_FILTER}`");
    }
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(target: "panic", "{panic}");
    }));
}

fn output(format: Format) -> Box<dyn Layer<Registry> + Send + Sync> {
    if stderr_is_the_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        return Box::new(journal);
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Json => Box::new(lines.json()),
        Format::Text => Box::new(lines.with_ansi(std::io::stderr().is_terminal())),
    }
}

/// systemd names the device and inode of the socket it gave us. The variable alone proves nothing:
/// children inherit it while their standard error may be a file.
fn stderr_is_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|meta| named == format!("{}:{}", meta.st_dev, meta.st_ino))
}
