//! `tuyunfs mount`: serves in the foreground. Supervisors and the mount helper build on it.

use std::time::Duration;

use tuyun_chassis::exit::{Code, Failure};
use tuyun_chassis::settings::Given;
use tuyun_chassis::stop::Stop;
use tuyun_chassis::{log, start};

use crate::serve::{self, Scope};
use crate::settings;

/// What blocking work may still take once everything else has stopped: a last file operation.
pub(super) const LAST_BREATH: Duration = Duration::from_secs(2);

pub(super) fn run(matches: &clap::ArgMatches, mut given: Given) -> Result<(), Failure> {
    if let Some(dir) = matches.get_one::<String>("dir") {
        given.flags.push(("mount.point".into(), dir.clone()));
    }
    serve(
        &given,
        Scope {
            origin_only: matches.get_flag("origin-only"),
        },
        || (),
    )
}

/// Serves until a signal; `ready` is called once everything is up.
pub(super) fn serve(
    given: &Given,
    scope: Scope,
    ready: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let loaded = settings::load(given)?;
    log::init(log::Format::from_environment());
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        settings = loaded
            .file
            .as_ref()
            .map(|file| tracing::field::display(file.display())),
        "tuyunfs starts"
    );
    start::install_crypto();
    start::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failure, "cannot start threads").because(&error))?;
    let served = runtime.block_on(async {
        let stop = Stop::listen().map_err(|error| {
            Failure::new(Code::Failure, "cannot listen to signals").because(&error)
        })?;
        serve::run(loaded.settings, scope, stop, ready).await
    });
    runtime.shutdown_timeout(LAST_BREATH);
    served
}
