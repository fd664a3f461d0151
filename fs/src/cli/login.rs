//! `tuyunfs login`: gets a token, stores it, and says which drive it opens.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tuyun_chassis::exit::{Code, Failure};

use crate::auth::{
    AuthConfig, AuthState, Authenticator, ImportError, Prompt, StoredToken, TokenError, TokenStore,
    import_rclone, renewed, sign_in_browser, sign_in_device,
};
use crate::control::client::report;
use crate::control::{Order, Report};
use crate::daemon;
use crate::graph::{DriveKind, FoundDrive, Graph};
use crate::ports::DriveError;
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
    let running = running(settings).await;
    if config.app_only {
        let found = find(settings, daemon::authenticator(settings)?).await;
        tell(settings).await;
        let found = found.map_err(|error| daemon::explain("cannot open the drive", &error))?;
        print(&found, &settings.drive.root);
        return Ok(());
    }
    let claims = running.as_ref().and_then(claims);
    let token = match choice {
        Choice::Rclone(file) => import(&config, file).await?,
        Choice::Device => by_person(&config, claims, true).await?,
        Choice::Browser => by_person(&config, claims, false).await?,
        Choice::Auto => by_person(&config, claims, !has_screen()).await?,
    };
    let trial = TokenStore::in_dir(&settings.state_dir);
    let trial = Authenticator::holding(config, trial, token.clone());
    let trial = trial.map_err(|error| refused("cannot look at the stored token", &error, ""))?;
    let found = find(settings, trial).await;
    if let (Ok(found), Some(running)) = (&found, &running) {
        same_drive(found, running)?;
    }
    store(settings, &token)?;
    tell(settings).await;
    let found = found.map_err(|error| {
        daemon::explain(
            "the token is stored, and the drive cannot be opened",
            &error,
        )
    })?;
    print(&found, &settings.drive.root);
    Ok(())
}

/// What the daemon of these settings says of itself, where one runs.
async fn running(settings: &Settings) -> Option<Report> {
    let socket = settings.control.socket.clone();
    let asking = tokio::task::spawn_blocking(move || report(&socket, &Order::Status).ok());
    asking.await.ok().flatten()
}

/// A running daemon goes on at once; it would notice the new token in a while, too.
async fn tell(settings: &Settings) {
    let socket = settings.control.socket.clone();
    let telling = tokio::task::spawn_blocking(move || report(&socket, &Order::SignIn));
    match telling.await {
        Ok(Ok(report)) if report.sign_in.state == AuthState::SignedIn => {
            eprintln!("the running mount goes on with it");
        }
        Ok(Ok(report)) => {
            if let Some(why) = report.sign_in.state.to_do() {
                eprintln!("the running mount says: {why}");
            }
        }
        // None runs, or it may not be asked by this user.
        Ok(Err(_)) | Err(_) => {}
    }
}

/// What the drive wants a person to show in addition.
fn claims(running: &Report) -> Option<&str> {
    match &running.sign_in.state {
        AuthState::SignInNeeded { claims, .. } => claims.as_deref(),
        AuthState::SignedIn | AuthState::Unreachable { .. } | AuthState::Misconfigured { .. } => {
            None
        }
    }
}

/// Another person's token would leave the mount without its drive.
fn same_drive(found: &FoundDrive, running: &Report) -> Result<(), Failure> {
    // Personal drives tell their id in changing case, and with or without a zero in front.
    let (theirs, ours) = (found.id.to_string(), running.drive.id.as_str());
    let plain = |id: &str| id.trim_start_matches('0').to_ascii_lowercase();
    if plain(&theirs) == plain(ours) {
        return Ok(());
    }
    let whose = found.owner.as_deref().unwrap_or("another account");
    Err(Failure::new(
        Code::Config,
        format!(
            "this is the drive of {whose}, and the running mount is of {}; the token was not stored",
            running.drive.owner
        ),
    )
    .hint("sign in as the account that is mounted, or use another state_dir for this one"))
}

/// Over SSH a browser would open on the wrong machine.
fn has_screen() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    (set("DISPLAY") || set("WAYLAND_DISPLAY")) && !set("SSH_CONNECTION")
}

async fn by_person(
    config: &AuthConfig,
    claims: Option<&str>,
    device: bool,
) -> Result<StoredToken, Failure> {
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
        sign_in_device(config, claims, tell).await
    } else {
        sign_in_browser(config, claims, tell).await
    };
    signed.map_err(|error| {
        let hint = format!("check the app: {REGISTER}");
        refused("not signed in", &error, &hint)
    })
}

/// A sign-in that came to nothing; `hint` is for when the registration is at fault.
fn refused(what: impl Into<String>, error: &TokenError, hint: &str) -> Failure {
    let (code, hint) = match error {
        TokenError::SignIn { .. } => (Code::Permission, "run `tuyunfs login` again"),
        TokenError::Configuration(_) => (Code::Config, hint),
        TokenError::Unavailable { .. } => {
            (Code::Unavailable, "check the network, and drive.login_url")
        }
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
    renewed(config, Some(&found.token), None).await.map_err(|error| {
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
async fn find(settings: &Settings, auth: Arc<Authenticator>) -> Result<FoundDrive, DriveError> {
    let config = daemon::graph_config(settings).map_err(|failure| DriveError::Refused {
        code: "settings".into(),
        message: failure.to_string(),
    })?;
    let drive = &settings.drive;
    Graph::find(&config, auth, &drive.drive_id, &drive.user).await
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
