//! An emulator that runs, as a test holds it.
//!
//! Dropping it stops the listeners and removes the temporary files. Methods here act on the drive
//! that the profile is about, as another client of the same drive would.

use std::{net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use axum_server::Handle;
use tokio::sync::oneshot;

use crate::{
    act,
    certs::Certificates,
    faults::Fault,
    log::Entry,
    options::Options,
    profile::Profile,
    route::Route,
    serve,
    settings::Settings,
    store::Mark,
    world::{Links, Moment, World},
};

pub use crate::act::{Node, NodeKind, TokenPair, VersionInfo};

/// Starts emulators.
#[derive(Debug, Clone, Copy)]
pub struct Emulator;

impl Emulator {
    /// Starts on the present tokio runtime.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound, or temporary files or certificates cannot be made.
    // Async so that it can only be called where there is a runtime to serve on.
    #[expect(
        clippy::unused_async,
        reason = "the listeners need the caller's runtime"
    )]
    pub async fn start(options: Options) -> anyhow::Result<Running> {
        Running::on_this_runtime(&options)
    }

    /// Starts on a runtime and threads of its own: for tests that block, in a mount for instance.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), or when no thread can be started.
    pub fn launch(options: Options) -> anyhow::Result<Running> {
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("graph-emulator")
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let thread = std::thread::Builder::new()
            .name("graph-emulator".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let running = Running::on_this_runtime(&options);
                    // Without a receiver the caller is gone, and so is the sender of `stopped`.
                    let _ = ready.send(running);
                    let _ = stopped.await;
                });
                // Requests that are held must not keep the caller waiting.
                runtime.shutdown_timeout(Duration::from_millis(100));
            })
            .context("cannot start a thread")?;
        let mut running = started
            .recv()
            .context("the emulator's thread ended early")??;
        running.thread = Some((stop, thread));
        Ok(running)
    }
}

/// A running emulator.
#[derive(Debug)]
pub struct Running {
    world: Arc<World>,
    links: Links,
    control: String,
    ca_pem: Option<String>,
    handles: Vec<Handle<SocketAddr>>,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.world.stop.cancel();
        self.world.gates.release_all();
        for handle in &self.handles {
            handle.shutdown();
        }
        if let Some((stop, thread)) = self.thread.take() {
            // An error means that the thread has ended already.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

/// Addresses and trust.
impl Running {
    fn on_this_runtime(options: &Options) -> anyhow::Result<Self> {
        let world = World::new(
            options.profile,
            options.settings.clone(),
            options.clients.clone(),
        )
        .context("cannot make a temporary directory")?;
        let world = Arc::new(world);
        let certificates = options.tls.then(Certificates::make).transpose()?;
        if let (Some(path), Some(certificates)) = (&options.ca_out, &certificates) {
            std::fs::write(path, &certificates.ca_pem)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let listening = serve::listen(&world, options, certificates.as_ref())?;
        Ok(Self {
            world,
            links: listening.links,
            control: listening.control,
            ca_pem: certificates.map(|certificates| certificates.ca_pem),
            handles: listening.handles,
            thread: None,
        })
    }

    /// Base of the sign-in host, without a slash at the end.
    #[must_use]
    pub fn login_url(&self) -> &str {
        &self.links.login
    }

    /// Base of the API host, without `/v1.0`.
    #[must_use]
    pub fn graph_url(&self) -> &str {
        &self.links.graph
    }

    /// Base of the storage host.
    #[must_use]
    pub fn storage_url(&self) -> &str {
        &self.links.storage
    }

    /// Base of the control interface.
    #[must_use]
    pub fn control_url(&self) -> &str {
        &self.control
    }

    /// The authority's certificate, when TLS is on.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Which OneDrive this is.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.world.profile
    }

    /// The id of the drive that the profile is about.
    #[must_use]
    pub fn drive_id(&self) -> String {
        self.world.state().drives[act::MAIN].id.clone()
    }
}

/// Acting as another client of the same drive. Paths are decoded, from the drive's root, with or
/// without a slash in front.
impl Running {
    /// Puts a file, with its folders where they are missing.
    ///
    /// # Errors
    ///
    /// What the service would answer, in words.
    pub fn put_file(&self, path: &str, bytes: impl AsRef<[u8]>) -> anyhow::Result<Node> {
        act::put_file(&self.world, path, bytes.as_ref())
    }

    /// Makes a folder and those above it where they are missing.
    ///
    /// # Errors
    ///
    /// What the service would answer, in words.
    pub fn make_folder(&self, path: &str) -> anyhow::Result<Node> {
        act::make_folder(&self.world, path)
    }

    /// Gives an item a new name in its folder.
    ///
    /// # Errors
    ///
    /// What the service would answer, in words.
    pub fn rename(&self, path: &str, name: &str) -> anyhow::Result<Node> {
        act::relocate(&self.world, path, None, Some(name))
    }

    /// Moves an item into another folder, under its own name.
    ///
    /// # Errors
    ///
    /// What the service would answer, in words.
    pub fn move_into(&self, path: &str, folder: &str) -> anyhow::Result<Node> {
        act::relocate(&self.world, path, Some(folder), None)
    }

    /// Deletes an item and all below it.
    ///
    /// # Errors
    ///
    /// What the service would answer, in words.
    pub fn delete(&self, path: &str) -> anyhow::Result<()> {
        act::delete(&self.world, path)
    }

    /// Marks an item as infected, locked or a vault, or as nothing special.
    ///
    /// # Errors
    ///
    /// When there is no such item.
    pub fn mark(&self, path: &str, mark: Option<Mark>) -> anyhow::Result<()> {
        act::mark(&self.world, path, mark)
    }

    /// Makes a notebook: neither file nor folder.
    ///
    /// # Errors
    ///
    /// What the service would answer, in words.
    pub fn make_package(&self, path: &str) -> anyhow::Result<Node> {
        act::make_package(&self.world, path)
    }

    /// Every item of the drive but its root, by path.
    #[must_use]
    pub fn tree(&self) -> Vec<Node> {
        act::tree(&self.world)
    }

    /// How many files there are, without describing each.
    #[must_use]
    pub fn file_count(&self) -> usize {
        act::file_count(&self.world)
    }

    /// The item at a path, its stored names compared exactly.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<Node> {
        act::node(&self.world, path)
    }

    /// The bytes of a file.
    #[must_use]
    pub fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        act::read_file(&self.world, path)
    }

    /// The versions of a file, newest first; none where there is no such file.
    #[must_use]
    pub fn versions(&self, path: &str) -> Vec<VersionInfo> {
        act::versions(&self.world, path)
    }

    /// Upload sessions that are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.world.state().sessions.count(self.world.now())
    }
}

/// What was asked.
impl Running {
    /// The requests since the last reset, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Entry> {
        self.world.log.entries()
    }

    /// Requests of a route since the last reset, those that are still held included.
    #[must_use]
    pub fn count(&self, route: Route) -> u64 {
        self.world.log.arrived(route)
    }

    /// Requests of a route that came to their end since the last reset.
    #[must_use]
    pub fn completed(&self, route: Route) -> u64 {
        self.world.log.completed(route)
    }

    /// All requests to the three hosts since the last reset.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.world.log.total()
    }

    /// Begins counting and logging anew.
    pub fn reset_log(&self) {
        self.world.log.reset();
    }

    /// Waits until the condition holds, looking whenever something happened; whether it did in
    /// time.
    pub async fn wait_until(&self, within: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        self.world.pulse.until(within, || holds(self)).await
    }

    /// The same for a thread that may block.
    #[must_use]
    pub fn block_until(&self, within: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        self.world.pulse.block_until(within, || holds(self))
    }

    /// Waits until so many requests of a route have arrived since the last reset.
    pub async fn wait_for(&self, route: Route, times: u64, within: Duration) -> bool {
        self.wait_until(within, |running| running.count(route) >= times)
            .await
    }
}

/// What goes wrong, and when.
impl Running {
    /// Sets a fault, behind those that are set.
    pub fn inject(&self, fault: Fault) {
        self.world.faults.lock().add(fault);
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.world.faults.lock().clear();
    }

    /// The faults that are not spent.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.world.faults.lock().list()
    }

    /// Holds requests of a route before they take effect, until released.
    pub fn hold(&self, route: Route) {
        self.world.gates.hold(route, Moment::Before);
    }

    /// Holds replies of a route after the effect, until released.
    pub fn hold_reply(&self, route: Route) {
        self.world.gates.hold(route, Moment::Reply);
    }

    /// Lets a route go on.
    pub fn release(&self, route: Route) {
        self.world.gates.release(route);
    }

    /// Changes the settings from now on.
    pub fn adjust(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.world.state().settings);
        self.world.pulse.beat();
    }

    /// The settings as they are.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.world.settings()
    }

    /// Lets the service's time pass: tokens, sessions and URLs grow old.
    pub fn advance(&self, by: Duration) {
        self.world.clock.advance(by);
    }

    /// Sets how far the service's clock is ahead of ours, in milliseconds.
    pub fn set_skew(&self, millis: i64) {
        self.world.clock.set_skew(millis);
    }

    /// Every delta token given so far is too old from now on: 410.
    pub fn expire_deltas(&self) {
        for drive in &mut self.world.state().drives {
            drive.epoch += 1;
        }
    }

    /// Every download URL given so far is refused from now on.
    pub fn expire_download_urls(&self) {
        self.world.state().url_epoch += 1;
    }

    /// Every open upload session is gone.
    pub fn expire_sessions(&self) {
        self.world.state().sessions.expire_all();
    }
}

/// Sign-in.
impl Running {
    /// Gives tokens for a client id without any sign-in.
    #[must_use]
    pub fn issue_token(&self, client_id: &str) -> TokenPair {
        act::issue_token(&self.world, client_id)
    }

    /// Approves or declines a device code by what the person would type; whether it was waiting.
    #[must_use]
    pub fn decide_device(&self, user_code: &str, approve: bool) -> bool {
        let now = self.world.now();
        self.world
            .state()
            .grants
            .decide_device(user_code, approve, now)
    }

    /// Device codes that wait for a person.
    #[must_use]
    pub fn waiting_devices(&self) -> Vec<String> {
        act::waiting_devices(&self.world)
    }

    /// Every access token given so far has expired.
    pub fn expire_tokens(&self) {
        let now = self.world.now();
        self.world.state().grants.expire_access(now);
    }

    /// Every refresh token given so far is revoked.
    pub fn revoke_refresh_tokens(&self) {
        self.world.state().grants.revoke_refresh();
    }
}
