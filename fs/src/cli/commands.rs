//! What can be typed: commands, flags, help.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use super::NAME;
use super::login::Choice;
use crate::settings::{SPEC, Settings};

/// The id of `--config`, here and in the commands.
pub(super) const CONFIG: &str = "config";

/// Every command; also for completions and the manual.
pub(super) fn all() -> Command {
    Command::new(NAME)
        .about("Mounts a OneDrive folder, with a write-back cache that survives power cuts")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new(CONFIG)
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help(format!("The settings file [default: {}]", SPEC.file)),
        )
        .after_help(
            "Examples:\n  \
             tuyunfs config example > /etc/tuyun/tuyunfs.toml\n  \
             tuyunfs login\n  \
             tuyunfs mount --mount.point /mnt/onedrive --mount.uid www\n  \
             tuyunfs status --watch\n\n\
             In /etc/fstab:\n  \
             onedrive:/share/mount /mnt/onedrive tuyunfs config=/etc/tuyun/tuyunfs.toml,_netdev,nofail 0 0",
        )
        .subcommands([
            login(),
            mount(),
            unmount(),
            status(),
            flush(),
            retry(),
            export(),
            discard(),
            deletions(),
            config(),
            completions(),
            man(),
        ])
}

/// `--config` and a flag for each setting.
fn with_settings(command: Command) -> Command {
    SPEC.attach::<Settings>(command)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn login() -> Command {
    with_settings(
        Command::new("login")
            .about("Sign in, and keep the token")
            .arg(flag("device", "Type a code on any device with a browser").conflicts_with_all(["browser", "rclone"]))
            .arg(flag("browser", "Sign in with a browser on this machine").conflicts_with("rclone"))
            .arg(
                Arg::new("rclone")
                    .long("rclone")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .help("Take the token of an rclone.conf, or a token's JSON"),
            )
            .after_help(
                "Examples:\n  tuyunfs login --device\n  tuyunfs login --rclone ~/.config/rclone/rclone.conf",
            ),
    )
}

/// How the person wants to sign in.
pub(super) fn choice(matches: &ArgMatches) -> Choice {
    if let Some(file) = matches.get_one::<PathBuf>("rclone") {
        Choice::Rclone(file.clone())
    } else if matches.get_flag("device") {
        Choice::Device
    } else if matches.get_flag("browser") {
        Choice::Browser
    } else {
        Choice::Auto
    }
}

fn mount() -> Command {
    with_settings(
        Command::new("mount")
            .about("Mount the folder and serve it, in the foreground, until SIGTERM or Ctrl-C")
            .arg(
                Arg::new("dir")
                    .value_name("DIR")
                    .help("The mount point, in place of mount.point"),
            )
            .arg(flag(
                "origin-only",
                "Serve the pictures over HTTP without mounting anything",
            ))
            // Mount helpers of other programs pass it; ours always stays.
            .arg(flag("foreground", "Stay in the foreground, as always").hide(true))
            .after_help("Example:\n  tuyunfs mount --config /etc/tuyun/tuyunfs.toml /mnt/onedrive"),
    )
}

fn unmount() -> Command {
    with_settings(
        Command::new("unmount")
            .about("Unmount, and end the daemon; what is pending goes on at the next start")
            .arg(
                Arg::new("dir")
                    .value_name("DIR")
                    .help("The mount point, in place of mount.point"),
            )
            .arg(flag(
                "stale",
                "Only take away what a dead daemon left behind",
            ))
            .after_help("Example, before a start:\n  tuyunfs unmount --stale /mnt/onedrive"),
    )
}

fn status() -> Command {
    with_settings(
        Command::new("status")
            .about("Say how things stand: pending, parked, cache, sign-in")
            .arg(flag("json", "As JSON, for programs"))
            .arg(flag("watch", "Again every second")),
    )
}

fn flush() -> Command {
    with_settings(
        Command::new("flush")
            .about("Send what is pending now")
            .arg(flag("wait", "Until the drive has everything"))
            .after_help("Example, before a machine is moved:\n  tuyunfs flush --wait"),
    )
}

fn retry() -> Command {
    with_settings(
        Command::new("retry")
            .about("Try again what the drive has refused")
            .arg(
                Arg::new("path")
                    .value_name("PATH")
                    .help("Only this one, as `tuyunfs status` shows it"),
            ),
    )
}

fn export() -> Command {
    with_settings(
        Command::new("export")
            .about("Copy out a file that the drive refuses")
            .arg(
                Arg::new("path")
                    .value_name("PATH")
                    .required(true)
                    .help("As `tuyunfs status` shows it"),
            )
            .arg(
                Arg::new("file")
                    .value_name("FILE")
                    .required(true)
                    .help("Where to, a file that does not exist yet"),
            ),
    )
}

fn discard() -> Command {
    with_settings(
        Command::new("discard")
            .about("Give up a change that the drive refuses: what the drive has counts")
            .arg(
                Arg::new("path")
                    .value_name("PATH")
                    .required(true)
                    .help("As `tuyunfs status` shows it"),
            )
            .arg(flag(
                "yes",
                "Do it; without, it only says what would be lost",
            ))
            .after_help("`tuyunfs export` copies it out first."),
    )
}

fn deletions() -> Command {
    with_settings(
        Command::new("deletions")
            .about("Show or decide what the drive says is gone, when that is suspiciously much")
            .arg(flag("accept", "Remove it here too").conflicts_with("restore"))
            .arg(flag("restore", "Send again what is here"))
            .after_help(
                "More removals at once than drive.delete_guard are held back until you decide.",
            ),
    )
}

fn config() -> Command {
    Command::new("config")
        .about("Check or explain the settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(
            Command::new("check").about("Say whether the settings can be used"),
        ))
        .subcommand(Command::new("example").about("Print a commented settings file"))
}

fn completions() -> Command {
    Command::new("completions")
        .about("Print what a shell needs to complete commands")
        .arg(
            Arg::new("shell")
                .required(true)
                .value_parser(value_parser!(Shell)),
        )
        .after_help("Example:\n  tuyunfs completions bash > /etc/bash_completion.d/tuyunfs")
}

fn man() -> Command {
    Command::new("man")
        .about("Print the manual page")
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Write the pages of all commands there"),
        )
        .after_help("Example:\n  tuyunfs man | man -l -")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        all().debug_assert();
    }

    #[test]
    fn each_way_to_sign_in_has_its_flag() {
        let choice = |flags: &[&str]| {
            let line = [&["tuyunfs", "login"], flags].concat();
            let matches = all().try_get_matches_from(line).unwrap();
            choice(matches.subcommand().unwrap().1)
        };
        assert_eq!(choice(&[]), Choice::Auto);
        assert_eq!(choice(&["--device"]), Choice::Device);
        assert_eq!(choice(&["--browser"]), Choice::Browser);
        assert_eq!(
            choice(&["--rclone", "a.conf"]),
            Choice::Rclone("a.conf".into())
        );
        let both = all().try_get_matches_from(["tuyunfs", "login", "--device", "--browser"]);
        assert_eq!(both.unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_settings_file_may_be_named_before_and_behind_the_command() {
        for line in [
            ["tuyunfs", "--config", "a.toml", "status"],
            ["tuyunfs", "status", "--config", "a.toml"],
        ] {
            let matches = all().try_get_matches_from(line).unwrap();
            let own = matches.subcommand().unwrap().1;
            let given = super::super::given(&matches, own).unwrap();
            assert_eq!(given.file, Some("a.toml".into()));
        }
    }
}
