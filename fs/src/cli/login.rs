//! `tuyunfs login`: gets a token, stores it, and says which drive it opens.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tuyun_chassis::exit::{Code, Failure};

use crate::auth::{
    AuthConfig, ImportError, Prompt, StoredToken, TokenError, TokenStore, import_rclone, renewed,
    sign_in_browser, sign_in_device,
};
use crate::daemon;
use crate::graph::{DriveKind, FoundDrive, Graph};
use crate::settings::Settings;

/// How to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// In a browser where there is a screen, else by a code.
    Auto,
    /// By a code that is typed on another device.
    Device,
    /// In a browser on this machine.
    Browser,
    /// With a token from rclone.
    Rclone(PathBuf),
}

const REGISTER: &str = "register an app at portal.azure.com (App registrations; platform `Mobile and \
     desktop applications` with the redirect http://localhost; `Allow public client flows` on) and \
     put its application id into drive.client_id";

/// Signs in and stores the token.
///
/// # Errors
/// Refused, not possible with these settings, or the service cannot be reached.
pub async fn run(settings: &Settings, choice: &Choice) -> Result<(), Failure> {
    let config = daemon::auth_config(settings)?;
    if config.app_only {
        return show_drive(settings).await;
    }
    let token = match choice {
        Choice::Rclone(file) => import(&config, file).await?,
        Choice::Device => by_person(&config, true).await?,
        Choice::Browser => by_person(&config, false).await?,
        Choice::Auto => by_person(&config, !has_screen()).await?,
    };
    store(settings, &token)?;
    show_drive(settings).await
}

/// Over SSH a browser would open on the wrong machine.
fn has_screen() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    (set("DISPLAY") || set("WAYLAND_DISPLAY")) && !set("SSH_CONNECTION")
}

async fn by_person(config: &AuthConfig, device: bool) -> Result<StoredToken, Failure> {
    if config.client_id.is_empty() {
        return Err(Failure::new(
            Code::Config,
            "drive.client_id is empty: signing in needs an app of your own",
        )
        .hint(format!(
            "{REGISTER}; or, where rclone has an app of your own, take that along with `tuyunfs login --rclone FILE`"
        )));
    }
    let tell = |prompt| match prompt {
        Prompt::Device { url, code } => {
            eprintln!("Open  {url}  on any device, type the code  {code}  and sign in.");
            eprintln!("在任意设备上打开  {url}  ，输入代码  {code}  并登录。");
        }
        Prompt::Browser { url } => {
            eprintln!(
                "Open this address in a browser on this machine and sign in / 请在本机浏览器中打开并登录:"
            );
            eprintln!("{url}");
        }
    };
    let signed = if device {
        sign_in_device(config, tell).await
    } else {
        sign_in_browser(config, tell).await
    };
    signed.map_err(|error| {
        let hint = format!("check the app: {REGISTER}");
        refused("not signed in", &error, &hint)
    })
}

/// A sign-in that came to nothing; `hint` is for when the registration is at fault.
fn refused(what: impl Into<String>, error: &TokenError, hint: &str) -> Failure {
    let (code, hint) = match error {
        TokenError::SignIn(_) => (Code::Permission, "run `tuyunfs login` again"),
        TokenError::Configuration(_) => (Code::Config, hint),
        TokenError::Unavailable(_) => (Code::Unavailable, "check the network, and drive.login_url"),
        TokenError::Store(_) => (Code::Failure, "try again"),
    };
    Failure::new(code, what).because(error).hint(hint)
}

async fn import(config: &AuthConfig, file: &Path) -> Result<StoredToken, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(Code::Usage, format!("cannot read {name}"))
            .because(&error)
            .hint("name rclone's configuration; `rclone config file` tells where it is")
    })?;
    let found = import_rclone(&text, config, SystemTime::now()).map_err(|error| {
        let code = match error {
            ImportError::RclonesOwn | ImportError::NoToken => Code::Permission,
            ImportError::Encrypted
            | ImportError::NoRemote
            | ImportError::Several(_)
            | ImportError::AppOnly
            | ImportError::OtherCloud(_)
            | ImportError::BadToken => Code::Config,
        };
        let failure = Failure::new(code, format!("cannot take the token from {name}"));
        match error {
            ImportError::RclonesOwn => failure.because(&error).hint(REGISTER),
            _ => failure.because(&error),
        }
    })?;
    if let Some(drive) = found.drive_id {
        eprintln!(
            "rclone used the drive {drive}; set drive.drive_id to it if it is not the account's own"
        );
    }
    // Renewed at once: whether the application may do that shows now, and not in an hour.
    renewed(config, Some(&found.token)).await.map_err(|error| {
        refused(
            format!("the token of {name} cannot be used"),
            &error,
            "check client_id and client_secret of the section, or sign in anew with `tuyunfs login`",
        )
    })
}

fn store(settings: &Settings, token: &StoredToken) -> Result<(), Failure> {
    let dir = &settings.state_dir;
    let failed = |error: std::io::Error| {
        Failure::new(
            Code::Config,
            format!("cannot keep the token in {}", dir.display()),
        )
        .because(&error)
        .hint("check state_dir, and run this as the user that mounts")
    };
    make_private(dir).map_err(failed)?;
    TokenStore::in_dir(dir).save(token).map_err(failed)
}

fn make_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Uses the token once, so that a wrong one is found now and not at the first picture.
async fn show_drive(settings: &Settings) -> Result<(), Failure> {
    let auth = daemon::authenticator(settings)?;
    let config = daemon::graph_config(settings)?;
    let drive = &settings.drive;
    let found = Graph::find(&config, auth, &drive.drive_id, &drive.user)
        .await
        .map_err(|error| {
            daemon::explain(
                "the token is stored, and the drive cannot be opened",
                &error,
            )
        })?;
    print(&found, &drive.root);
    Ok(())
}

fn print(found: &FoundDrive, root: &str) {
    let kind = match found.kind {
        DriveKind::Personal => "personal OneDrive",
        DriveKind::Business => "OneDrive for work or school",
        DriveKind::DocumentLibrary => "SharePoint library",
    };
    let owner = found.owner.as_deref().unwrap_or("an unnamed owner");
    println!("signed in: {kind} of {owner}");
    println!("drive:     {}", found.id);
    if let Some(quota) = found.quota {
        let gib = |bytes: u64| bytes / (1 << 30);
        println!(
            "space:     {} GiB free of {} GiB",
            gib(quota.remaining),
            gib(quota.total)
        );
    }
    println!("folder:    {root}");
    if std::io::stdout().is_terminal() {
        println!("next:      tuyunfs mount");
    }
}
