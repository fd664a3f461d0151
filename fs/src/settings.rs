//! The settings of `tuyunfs`, as `tuyunfs.toml`, flags and variables spell them.
//!
//! The type is the list of keys and defaults. What follows from a key (the cloud's addresses, the
//! owner's number, the modes of a umask) is worked out here once, so that nobody further in reads
//! text. [`load`] gives settings that can be used, or says which key cannot and what to do.

mod check;
mod mode;
mod owner;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tuyun_chassis::settings::{Given, Loaded, Period, SettingsError, Size, Spec};

pub use self::mode::Mode;
pub use crate::graph::Timetable;
pub use crate::outbox::journal::Durability;

/// Where the settings come from.
pub const SPEC: Spec = Spec {
    prefix: "TUYUNFS",
    file: "/etc/tuyun/tuyunfs.toml",
};

/// The commented file that `tuyunfs config example` prints.
pub const EXAMPLE: &str = include_str!("../example.toml");

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Journal, token and contents.
    pub state_dir: PathBuf,
    /// Which drive, and who asks.
    pub drive: Drive,
    /// Where and how it is mounted.
    pub mount: Mount,
    /// What confirmed contents may take of the disk.
    pub cache: Cache,
    /// When changes are safe, and when they are sent.
    pub writeback: Writeback,
    /// The pictures over HTTP.
    pub origin: Origin,
    /// The operator's socket and listener.
    pub control: Control,
}

/// Which drive, and who asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drive {
    /// Sets the next three, where they are left at their defaults.
    pub cloud: Cloud,
    /// Where to sign in.
    pub login_url: String,
    /// Where the drive is.
    pub graph_url: String,
    /// Whether remote changes are asked for by delta.
    pub delta: Delta,
    /// More trusted certificates, PEM.
    pub ca_file: String,
    /// The tenant to sign in at.
    pub tenant: String,
    /// The registered application; empty: the one that the token was issued to.
    pub client_id: String,
    /// The application's secret, for those that have one.
    pub client_secret_file: String,
    /// In place of a secret: the certificate that is registered with the application, PEM.
    pub client_certificate_file: String,
    /// Its key, PEM.
    pub client_key_file: String,
    /// Who signs in.
    pub flow: Flow,
    /// With `flow = "app"`: whose drive.
    pub user: String,
    /// Which drive; empty: found.
    pub drive_id: String,
    /// The folder that is mounted; made when absent.
    pub root: String,
    /// Time between looks for remote changes.
    pub poll: Period,
    /// Whether to let the drive tell of changes as they happen.
    pub push: Push,
    /// If the drive says that more files than this are gone at once, a person is asked; 0: never.
    pub delete_guard: usize,
    /// Bytes a second that may go up, by time of day; empty: no limit.
    pub upload_limit: Timetable,
    /// Bytes a second that may come down, by time of day; empty: no limit.
    pub download_limit: Timetable,
}

impl Drive {
    /// The guard against sudden mass deletions, if there is to be one.
    #[must_use]
    pub fn delete_guard(&self) -> Option<usize> {
        (self.delete_guard > 0).then_some(self.delete_guard)
    }
}

/// Where the service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cloud {
    /// The worldwide service.
    #[default]
    Global,
    /// United States government.
    Us,
    /// United States, Department of Defense.
    UsDod,
    /// China, run by 21Vianet.
    Cn,
}

/// How remote changes are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delta {
    /// By delta, where the drive has it.
    #[default]
    Auto,
    /// By listing.
    Off,
}

/// Whether the drive tells of changes as they happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Push {
    /// Where the account offers it.
    #[default]
    Auto,
    /// Never: changes are found by polling alone.
    Off,
}

/// Who signs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// A person, once, by `tuyunfs login`.
    #[default]
    User,
    /// The application itself, by its secret or its certificate.
    App,
}

/// Where and how it is mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mount {
    /// The directory.
    pub point: String,
    /// Other users than the mounting one may look in.
    pub allow_other: bool,
    /// Owner shown: name or number; empty: the owner of the mount point's directory.
    #[serde(deserialize_with = "owner::name_or_number")]
    pub uid: String,
    /// Group shown: name or number; empty: that of the mount point's directory.
    #[serde(deserialize_with = "owner::name_or_number")]
    pub gid: String,
    /// What `stat` shows of `chmod` and `chown`.
    pub permissions: Permissions,
    /// Permission bits of files.
    pub file_mode: Mode,
    /// Permission bits of folders.
    pub dir_mode: Mode,
    /// Bits taken away from 0666 and 0777; when given, in place of the two above.
    pub umask: String,
    /// Whether the kernel reads cached files by itself.
    pub passthrough: Passthrough,
    /// The longest that a call may wait for the network.
    pub timeout: Period,
    /// Mount over a directory that is not empty.
    pub nonempty: bool,
    /// Refuse every change.
    pub read_only: bool,
}

/// What `stat` shows of `chmod` and `chown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permissions {
    /// Owner and modes as set here; changes succeed and are remembered, not shown.
    #[default]
    Fixed,
    /// As applications left them.
    Posix,
}

/// Whether the kernel reads cached files by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Passthrough {
    /// Where it can be had. This version always goes through the daemon, and `status` says so.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What confirmed contents may take of the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// In all.
    pub max_size: Size,
    /// Since their last use.
    pub max_age: Period,
    /// What is left free for others.
    pub min_free: Size,
}

/// When changes are safe, and when they are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Writeback {
    /// From when on a change survives a power cut.
    pub durability: Durability,
    /// Quiet time before an upload starts.
    pub settle: Period,
    /// How many at a time.
    pub uploads: usize,
    /// How long a stop may wait for uploads that are under way.
    pub grace: Period,
}

/// The pictures over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Origin {
    /// Address and port; empty: none.
    pub listen: String,
    /// What stands for the mount's root in paths.
    pub prefix: String,
    /// Larger files that are not cached are answered by a redirect to the drive; empty: none are.
    pub redirect_above: String,
    /// How long others may keep a picture.
    pub cache_control: String,
    /// Certificate chain, PEM.
    pub tls_cert: String,
    /// Its key, PEM.
    pub tls_key: String,
    /// Tokens that open `/_api/`, one a line.
    pub tokens_file: String,
}

/// The operator's socket and listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// The socket behind `status`, `flush`, `retry` and `unmount`.
    pub socket: PathBuf,
    /// Address and port of health and metrics; empty: none.
    pub metrics: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/tuyun".into(),
            drive: Drive::default(),
            mount: Mount::default(),
            cache: Cache::default(),
            writeback: Writeback::default(),
            origin: Origin::default(),
            control: Control::default(),
        }
    }
}

impl Default for Drive {
    fn default() -> Self {
        let (login_url, graph_url) = Cloud::Global.addresses();
        Self {
            cloud: Cloud::Global,
            login_url: login_url.into(),
            graph_url: graph_url.into(),
            delta: Delta::Auto,
            ca_file: String::new(),
            tenant: "common".into(),
            client_id: String::new(),
            client_secret_file: String::new(),
            client_certificate_file: String::new(),
            client_key_file: String::new(),
            flow: Flow::User,
            user: String::new(),
            drive_id: String::new(),
            root: "/share/mount".into(),
            poll: Period::seconds(10),
            push: Push::Auto,
            // What another OneDrive client takes for a big delete, too: an evening's tidying up
            // stays below, a script run wild does not.
            delete_guard: 1000,
            upload_limit: Timetable::default(),
            download_limit: Timetable::default(),
        }
    }
}

impl Default for Mount {
    fn default() -> Self {
        Self {
            point: String::new(),
            allow_other: true,
            uid: String::new(),
            gid: String::new(),
            permissions: Permissions::Fixed,
            file_mode: Mode::FILE,
            dir_mode: Mode::DIRECTORY,
            umask: String::new(),
            passthrough: Passthrough::Auto,
            timeout: Period::seconds(30),
            nonempty: false,
            read_only: false,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            max_size: Size::gibibytes(1),
            max_age: Period::seconds(240 * 3600),
            min_free: Size::gibibytes(1),
        }
    }
}

impl Default for Writeback {
    fn default() -> Self {
        Self {
            durability: Durability::Close,
            settle: Period::seconds(1),
            uploads: 8,
            grace: Period::seconds(300),
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7200".into(),
            prefix: "/mount".into(),
            redirect_above: String::new(),
            cache_control: "public, max-age=86400, stale-if-error=864000".into(),
            tls_cert: String::new(),
            tls_key: String::new(),
            tokens_file: String::new(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: "/run/tuyun/control.sock".into(),
            metrics: "127.0.0.1:7201".into(),
        }
    }
}

/// Settings that can be used: read, completed by what follows from them, and checked.
///
/// # Errors
/// The file cannot be read, or a key cannot be used.
pub fn load(given: &Given) -> Result<Loaded<Settings>, SettingsError> {
    let mut loaded: Loaded<Settings> = SPEC.load_given(given)?;
    loaded.settings.drive.follow_cloud();
    check::check(&loaded.settings)?;
    Ok(loaded)
}

impl Cloud {
    /// Where to sign in, and where the drive is.
    fn addresses(self) -> (&'static str, &'static str) {
        match self {
            Self::Global => (
                "https://login.microsoftonline.com",
                "https://graph.microsoft.com",
            ),
            Self::Us => (
                "https://login.microsoftonline.us",
                "https://graph.microsoft.us",
            ),
            Self::UsDod => (
                "https://login.microsoftonline.us",
                "https://dod-graph.microsoft.us",
            ),
            Self::Cn => (
                "https://login.chinacloudapi.cn",
                "https://microsoftgraph.chinacloudapi.cn",
            ),
        }
    }
}

impl Drive {
    /// Graph as the scopes of the cloud name it. That a proxy stands before it changes nothing of
    /// that, and an address of another cloud's Graph says which cloud is meant.
    #[must_use]
    pub fn resource(&self) -> &'static str {
        let clouds = [Cloud::Global, Cloud::Us, Cloud::UsDod, Cloud::Cn];
        let graphs = clouds.map(|cloud| cloud.addresses().1);
        let known = graphs.into_iter().find(|graph| *graph == self.graph_url);
        known.unwrap_or(self.cloud.addresses().1)
    }

    /// Sets what the cloud implies. An address that differs from its default was given, and stays.
    fn follow_cloud(&mut self) {
        let (login_url, graph_url) = Cloud::Global.addresses();
        let (cloud_login, cloud_graph) = self.cloud.addresses();
        for (url, default, implied) in [
            (&mut self.login_url, login_url, cloud_login),
            (&mut self.graph_url, graph_url, cloud_graph),
        ] {
            if *url == default {
                implied.clone_into(url);
            }
            url.truncate(url.trim_end_matches('/').len());
        }
        if self.cloud == Cloud::Cn {
            self.delta = Delta::Off; // the service there has none
        }
    }
}

impl Mount {
    /// Permission bits of files and of folders.
    ///
    /// # Errors
    /// The umask is no umask.
    pub fn modes(&self) -> Result<(Mode, Mode), SettingsError> {
        if self.umask.is_empty() {
            return Ok((self.file_mode, self.dir_mode));
        }
        let umask: Mode = self.umask.parse().map_err(|problem: String| {
            SettingsError::unusable("mount.umask", problem, "write it like \"022\" or \"000\"")
        })?;
        Ok((umask.taken_from(0o666), umask.taken_from(0o777)))
    }

    /// Owner and group as numbers; `None`: those of the mount point's directory.
    ///
    /// # Errors
    /// Nobody here has that name.
    pub fn owner(&self) -> Result<(Option<u32>, Option<u32>), SettingsError> {
        let uid = owner::number(owner::Table::Users, &self.uid);
        let gid = owner::number(owner::Table::Groups, &self.gid);
        Ok((
            uid.map_err(|problem| owner::unusable("mount.uid", problem))?,
            gid.map_err(|problem| owner::unusable("mount.gid", problem))?,
        ))
    }
}

impl Origin {
    /// The prefix without a slash at its end: empty when the root stands for the mount's root.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.prefix.trim_end_matches('/')
    }
}

#[cfg(test)]
mod tests;
