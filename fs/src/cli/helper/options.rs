//! What mount(8) passes on: source, directory, and the options of fstab (`ecosystem.md` 2.1).
//!
//! Options are settings by their names; those of `[mount]` may leave out the table. Words that
//! mount(8), systemd and libfuse add for themselves are no business of ours, and those of rclone
//! are translated, so that a line of fstab can be carried over.

use std::ffi::OsString;
use std::path::PathBuf;

use toml::{Table, Value};

use crate::settings::Settings;

/// What is to be mounted, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) source: String,
    pub(super) point: String,
    /// Settings by name, the later ones outweighing the earlier.
    pub(super) settings: Vec<(String, String)>,
    pub(super) config: Option<PathBuf>,
    /// For the daemon's process.
    pub(super) environment: Vec<(String, String)>,
    /// What a person should know, and need not do.
    pub(super) notes: Vec<String>,
    pub(super) fake: bool,
    pub(super) verbose: bool,
    pub(super) foreground: bool,
}

/// What is wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misuse {
    #[error("usage: mount.tuyunfs onedrive:/share/mount DIR [-sfnv] [-o OPTIONS]")]
    Usage,
    #[error("`{0}` is no source; write onedrive:/share/mount, or none to take drive.root")]
    Source(String),
    #[error("unknown option `{0}`; settings are given by their names, as in mount.uid=www")]
    Unknown(String),
    #[error("option `{0}` needs a value")]
    NoValue(String),
    #[error("option `{0}` is not text")]
    NotText(String),
    #[error(
        "`{0}` is refused: it would let anybody read the token on its way; trust a certificate of your own with drive.ca_file=FILE, and check this machine's clock"
    )]
    Unsafe(String),
}

/// Words that mount(8), systemd and libfuse leave in the options. `default_permissions` is always
/// on. `dev` and `suid` are what libfuse's helper adds for root; both stay off.
const NOISE: &[&str] = &[
    "rw",
    "_netdev",
    "nofail",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "group",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "lazytime",
    "nolazytime",
    "diratime",
    "nodiratime",
    "sync",
    "async",
    "dirsync",
    "defaults",
    "silent",
    "loud",
    "default_permissions",
];

/// rclone's names for settings of ours.
const TRANSLATED: &[(&str, &str)] = &[
    ("allow_non_empty", "mount.nonempty"),
    ("vfs_cache_max_size", "cache.max_size"),
    ("vfs_cache_max_age", "cache.max_age"),
    ("vfs_cache_min_free_space", "cache.min_free"),
    ("vfs_write_back", "writeback.settle"),
    ("poll_interval", "drive.poll"),
    ("transfers", "writeback.uploads"),
    ("cache_max_size", "cache.max_size"),
    ("cache_max_age", "cache.max_age"),
    ("cache_min_free", "cache.min_free"),
];

/// rclone's names for what is always so here, or not needed.
const NEEDLESS: &[&str] = &[
    "copy_links",
    "no_gzip_encoding",
    "vfs_cache_mode",
    "attr_timeout",
    "dir_cache_time",
    "buffer_size",
    "vfs_read_chunk_size",
    "vfs_read_chunk_size_limit",
    "vfs_read_ahead",
    "daemon",
    "tpslimit",
    "log_file",
    "cache_dir",
];

pub(super) fn parse(arguments: &[OsString]) -> Result<Wish, Misuse> {
    let mut wish = Wish::default();
    let mut places = Vec::new();
    let mut options = Vec::new();
    let mut sloppy = false;
    let mut rest = arguments.iter().map(|argument| {
        argument
            .to_str()
            .ok_or_else(|| Misuse::NotText(argument.to_string_lossy().into_owned()))
    });
    while let Some(argument) = rest.next() {
        let argument = argument?;
        match argument.strip_prefix('-') {
            Some("-foreground") => wish.foreground = true,
            Some(letters) if !letters.is_empty() && !letters.starts_with('-') => {
                let mut letters = letters.chars();
                while let Some(letter) = letters.next() {
                    match letter {
                        's' => sloppy = true,
                        'f' => wish.fake = true,
                        'v' => wish.verbose = true,
                        'n' => {}
                        // The type and the namespace are mount(8)'s own business.
                        'o' | 't' | 'N' => {
                            let attached: String = letters.by_ref().collect();
                            let value = if attached.is_empty() {
                                rest.next().ok_or(Misuse::Usage)??.to_owned()
                            } else {
                                attached
                            };
                            if letter == 'o' {
                                options.extend(split(&value));
                            }
                        }
                        _ => return Err(Misuse::Usage),
                    }
                }
            }
            Some(_) => return Err(Misuse::Usage),
            None => places.push(argument.to_owned()),
        }
    }
    let Ok([source, point]) = <[String; 2]>::try_from(places) else {
        return Err(Misuse::Usage);
    };
    let keys = Keys::new();
    for option in options {
        match take(&mut wish, &keys, &option) {
            Err(Misuse::Unknown(_)) if sloppy => {}
            other => other?,
        }
    }
    wish.settings
        .extend(root_of(&source)?.map(|root| ("drive.root".into(), root.into())));
    wish.settings.push(("mount.point".into(), point.clone()));
    (wish.source, wish.point) = (source, point);
    Ok(wish)
}

/// The folder that a source names; `None`: the one of the settings.
fn root_of(source: &str) -> Result<Option<&str>, Misuse> {
    match source {
        "none" | "onedrive" | "onedrive:" | "tuyunfs" => Ok(None),
        _ => match source.strip_prefix("onedrive:") {
            Some(root) if root.starts_with('/') => Ok(Some(root)),
            _ => Err(Misuse::Source(source.to_owned())),
        },
    }
}

fn take(wish: &mut Wish, keys: &Keys, option: &str) -> Result<(), Misuse> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let unknown = || Misuse::Unknown(option.to_owned());
    let value_of = || {
        value
            .map(str::to_owned)
            .ok_or_else(|| Misuse::NoValue(name.to_owned()))
    };
    let prefixed = ["x-", "X-", "comment="]
        .iter()
        .any(|prefix| option.starts_with(prefix));
    if option.is_empty() || prefixed || NOISE.contains(&option) {
        return Ok(());
    }
    if let Some(variable) = name.strip_prefix("env.") {
        wish.environment.push((variable.to_owned(), value_of()?));
        return Ok(());
    }
    let plain = name.replace('-', "_");
    match plain.as_str() {
        "config" => wish.config = Some(value_of()?.into()),
        "ro" if value.is_none() => wish
            .settings
            .push(("mount.read_only".into(), "true".into())),
        "no_check_certificate" => return Err(Misuse::Unsafe(name.to_owned())),
        needless if NEEDLESS.contains(&needless) => {
            wish.notes
                .push(format!("option `{name}` is not needed here, and ignored"));
        }
        _ => {
            let (key, is_switch) = keys.find(&plain).ok_or_else(unknown)?;
            let value = match value {
                None if is_switch => "true".to_owned(),
                _ => value_of()?,
            };
            wish.settings.push((key, value));
        }
    }
    Ok(())
}

/// At commas; a backslash keeps the one behind it.
fn split(options: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut characters = options.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&',') => {
                characters.next();
                all.last_mut().into_iter().for_each(|last| last.push(','));
            }
            ',' => all.push(String::new()),
            other => all.last_mut().into_iter().for_each(|last| last.push(other)),
        }
    }
    all
}

/// All settings by name, and whether each is a switch.
struct Keys(Vec<(String, bool)>);

impl Keys {
    fn new() -> Self {
        let mut keys = Vec::new();
        // The loader reads its keys off the default in the same way, and says so if it cannot.
        for (name, value) in Table::try_from(Settings::default()).unwrap_or_default() {
            match value {
                Value::Table(table) => keys.extend(
                    table
                        .into_iter()
                        .map(|(key, value)| (format!("{name}.{key}"), value.is_bool())),
                ),
                value => keys.push((name, value.is_bool())),
            }
        }
        Self(keys)
    }

    /// By its whole name, as one of `[mount]`, or by rclone's name.
    fn find(&self, name: &str) -> Option<(String, bool)> {
        let translated = TRANSLATED.iter().find(|(rclones, _)| *rclones == name);
        let candidates = [name.to_owned(), format!("mount.{name}")];
        candidates
            .iter()
            .map(String::as_str)
            .chain(translated.map(|(_, ours)| *ours))
            .find_map(|key| self.0.iter().find(|(known, _)| known == key))
            .filter(|(key, _)| key != "mount.point") // the directory is given as such
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(line: &str) -> Result<Wish, Misuse> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&arguments)
    }

    fn settings(options: &str) -> Vec<(String, String)> {
        let mut wish = wish(&format!("none /mnt -o {options}")).unwrap();
        assert_eq!(
            wish.settings.pop(),
            Some(("mount.point".into(), "/mnt".into()))
        );
        wish.settings
    }

    fn one(key: &str, value: &str) -> Vec<(String, String)> {
        vec![(key.into(), value.into())]
    }

    #[test]
    fn what_fstab_says_is_understood() {
        let wish = wish(
            "onedrive:/share/mount /mnt -n -sv -o rw,config=/etc/t.toml,allow_other,uid=www,_netdev,nofail",
        )
        .unwrap();
        assert_eq!(wish.source, "onedrive:/share/mount");
        assert_eq!(wish.config, Some("/etc/t.toml".into()));
        assert!(wish.verbose && !wish.fake && !wish.foreground);
        let expected = [
            ("mount.allow_other", "true"),
            ("mount.uid", "www"),
            ("drive.root", "/share/mount"),
            ("mount.point", "/mnt"),
        ];
        let found: Vec<_> = wish
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn options_are_settings_by_their_names() {
        for (option, key, value) in [
            ("umask=022", "mount.umask", "022"),
            ("file-mode=0600", "mount.file_mode", "0600"),
            ("nonempty", "mount.nonempty", "true"),
            ("allow_other=false", "mount.allow_other", "false"),
            ("ro", "mount.read_only", "true"),
            ("cache.max_size=2GiB", "cache.max_size", "2GiB"),
            ("drive.client-id=abc", "drive.client_id", "abc"),
            ("state_dir=/srv/t", "state_dir", "/srv/t"),
            ("allow-non-empty", "mount.nonempty", "true"),
            ("vfs-cache-max-age=240h", "cache.max_age", "240h"),
            ("state_dir=/a\\,b", "state_dir", "/a,b"),
        ] {
            assert_eq!(settings(option), one(key, value), "{option}");
        }
    }

    #[test]
    fn words_of_others_are_no_business_of_ours() {
        let noise = "rw,_netdev,nofail,auto,noauto,user,users,owner,dev,nodev,suid,nosuid,exec,\
            noexec,relatime,noatime,defaults,x-systemd.automount,comment=hello,default_permissions,";
        assert_eq!(settings(noise), []);
    }

    #[test]
    fn what_rclone_needs_and_we_do_not_is_noted() {
        let wish = wish("none /mnt -o vfs-cache-mode=full,copy-links").unwrap();
        assert_eq!(wish.notes.len(), 2);
        assert_eq!(wish.settings.len(), 1);
    }

    #[test]
    fn variables_are_for_the_daemon() {
        let wish = wish("none /mnt -o env.HTTPS_PROXY=http://proxy:3128").unwrap();
        assert_eq!(wish.environment, one("HTTPS_PROXY", "http://proxy:3128"));
    }

    #[test]
    fn an_unknown_option_is_an_error_unless_sloppy() {
        assert_eq!(
            wish("none /mnt -o color=red"),
            Err(Misuse::Unknown("color=red".into()))
        );
        assert!(wish("none /mnt -s -o color=red").is_ok());
        assert!(wish("none /mnt -o color=red -s").is_ok());
        assert_eq!(
            wish("none /mnt -o point=/x"),
            Err(Misuse::Unknown("point=/x".into()))
        );
    }

    #[test]
    fn wrong_calls_are_told_what_is_right() {
        for line in [
            "none",
            "none /mnt /other",
            "none /mnt -o",
            "none /mnt -z",
            "none /mnt --bold",
        ] {
            assert_eq!(wish(line), Err(Misuse::Usage), "{line}");
        }
        assert!(matches!(wish("gdrive:/x /mnt"), Err(Misuse::Source(_))));
        assert!(matches!(wish("onedrive:x /mnt"), Err(Misuse::Source(_))));
        assert_eq!(wish("none /mnt -o uid"), Err(Misuse::NoValue("uid".into())));
        assert!(matches!(
            wish("none /mnt -o no-check-certificate"),
            Err(Misuse::Unsafe(_))
        ));
    }

    #[test]
    fn a_fake_mount_and_the_daemons_own_call_are_known() {
        assert!(wish("none /mnt -f").unwrap().fake);
        assert!(wish("none /mnt -oro --foreground").unwrap().foreground);
        assert_eq!(wish("none /mnt -t tuyunfs -oro").unwrap().settings.len(), 2);
    }
}
