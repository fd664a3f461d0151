//! From settings to a drive: which one, and which folder of it.
//!
//! Once found, both are remembered: every later start mounts and serves without asking anybody
//! (invariant 8).

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tuyun_chassis::exit::{Code, Failure};

use crate::auth::{AuthConfig, Authenticator, Credential, TokenStore};
use crate::graph::{FoundDrive, Graph, GraphConfig};
use crate::ports::DriveError;
use crate::settings::{Cloud, Flow, Settings};
use crate::tree::{Baseline, Generation, Item, NodeId};
use crate::vfs::Recovery;

/// The fact that remembers the drive.
const DRIVE_FACT: &str = "drive";

/// What a state directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Belongs {
    graph_url: String,
    drive_id: String,
    user: String,
    root: String,
    found: FoundDrive,
}

/// How to sign in, as the settings say.
///
/// # Errors
/// A file that they name cannot be read.
pub fn auth_config(settings: &Settings) -> Result<AuthConfig, Failure> {
    let drive = &settings.drive;
    let credential = if !drive.client_secret_file.is_empty() {
        Credential::SecretFile(drive.client_secret_file.as_str().into())
    } else if !drive.client_certificate_file.is_empty() {
        Credential::Certificate {
            certificate: drive.client_certificate_file.as_str().into(),
            key: drive.client_key_file.as_str().into(),
        }
    } else {
        Credential::None
    };
    credential.check().map_err(|error| {
        Failure::new(Code::Config, "the application cannot prove itself")
            .because(&error)
            .hint(
                "put the file right, or check the setting; only its user has to be able to read it",
            )
    })?;
    Ok(AuthConfig {
        login_url: drive.login_url.clone(),
        resource: drive.resource().to_owned(),
        tenant: drive.tenant.clone(),
        client_id: drive.client_id.clone(),
        credential,
        app_only: drive.flow == Flow::App,
        ca_pem: ca(settings)?,
    })
}

/// How to reach the drive, as the settings say.
///
/// # Errors
/// A file that they name cannot be read.
pub fn graph_config(settings: &Settings) -> Result<GraphConfig, Failure> {
    Ok(GraphConfig {
        graph_url: settings.drive.graph_url.clone(),
        ca_pem: ca(settings)?,
        state_dir: Some(settings.state_dir.clone()),
        china: settings.drive.cloud == Cloud::Cn,
        upload_limit: settings.drive.upload_limit.clone(),
        download_limit: settings.drive.download_limit.clone(),
    })
}

fn ca(settings: &Settings) -> Result<Option<Vec<u8>>, Failure> {
    let path = &settings.drive.ca_file;
    if path.is_empty() {
        return Ok(None);
    }
    let unusable = |what: &str| {
        Failure::new(
            Code::Config,
            format!("setting `drive.ca_file`: {path} {what}"),
        )
        .hint("name a file with certificates in PEM, or remove the line")
    };
    let pem = std::fs::read(path).map_err(|error| unusable("cannot be read").because(&error))?;
    let begin = b"-----BEGIN CERTIFICATE-----";
    if !pem.windows(begin.len()).any(|here| here == begin) {
        return Err(unusable("holds no certificate in PEM form"));
    }
    Ok(Some(pem))
}

/// An authenticator of what is stored.
///
/// # Errors
/// The token's file, or one that the settings name, cannot be read.
pub fn authenticator(settings: &Settings) -> Result<Arc<Authenticator>, Failure> {
    let store = TokenStore::in_dir(&settings.state_dir);
    let path = store.path().display().to_string();
    Authenticator::new(auth_config(settings)?, store).map_err(|error| {
        Failure::new(Code::Permission, format!("cannot use the token {path}"))
            .because(&error)
            .hint("run `tuyunfs login`, which writes a new one")
    })
}

/// The drive that the recovered state belongs to; found, and its folder made, at the first start.
///
/// # Errors
/// The state belongs to another drive; or nobody has signed in, or the drive cannot be reached,
/// at the very first start.
pub(super) async fn connect(
    settings: &Settings,
    auth: Arc<Authenticator>,
    recovery: &Recovery,
) -> Result<(Graph, FoundDrive), Failure> {
    let config = graph_config(settings)?;
    let drive = &settings.drive;
    let tls = |error: reqwest::Error| {
        Failure::new(Code::Config, "cannot set up TLS for the drive")
            .because(&error.without_url())
            .hint("check drive.ca_file")
    };
    if let Some(held) = recovery.fact::<Belongs>(DRIVE_FACT) {
        let named = (&drive.graph_url, &drive.drive_id, &drive.user, &drive.root);
        if named != (&held.graph_url, &held.drive_id, &held.user, &held.root) {
            let what = format!(
                "{} holds the state of another mount: `{}` at {}",
                settings.state_dir.display(),
                held.root,
                held.graph_url
            );
            return Err(Failure::new(Code::Config, what).hint(
                "set another state_dir for the other drive or root, or put drive.root, \
                 drive.drive_id, drive.user and drive.graph_url back as they were",
            ));
        }
        let graph = Graph::of(&config, auth, &held.found).map_err(tls)?;
        return Ok((graph, held.found));
    }
    if !auth.has_token() {
        let why = auth.state().to_do().unwrap_or_default();
        return Err(Failure::new(
            Code::Permission,
            format!("no token in {}: {why}", settings.state_dir.display()),
        )
        .hint("run `tuyunfs login` with the same --config, then start again"));
    }
    let found = Graph::find(&config, auth.clone(), &drive.drive_id, &drive.user)
        .await
        .map_err(|error| explain("cannot find the drive", &error))?;
    let graph = Graph::of(&config, auth, &found).map_err(tls)?;
    let root = graph.ensure_root(&drive.root).await.map_err(|error| {
        explain(
            &format!("cannot open `{}` on the drive", drive.root),
            &error,
        )
    })?;
    let belongs = Belongs {
        graph_url: drive.graph_url.clone(),
        drive_id: drive.drive_id.clone(),
        user: drive.user.clone(),
        root: drive.root.clone(),
        found: found.clone(),
    };
    remember(recovery, &root, &belongs).await?;
    Ok((graph, found))
}

async fn remember(recovery: &Recovery, root: &Item, belongs: &Belongs) -> Result<(), Failure> {
    let now = SystemTime::now();
    let ((), ticket) = recovery.ledger.change_with(|books| {
        books.tree.edit(NodeId::ROOT, now, |node| {
            node.baseline = Some(Baseline {
                item: root.id.clone(),
                // The drive's own root has no folder above it.
                parent: root.parent.clone().unwrap_or_else(|| root.id.clone()),
                name: root.name.clone().unwrap_or_default(),
                etag: None,
                ctag: None,
                size: 0,
                hash: None,
                generation: Generation(0),
            });
        });
        let mut batch = crate::tree::Batch::default();
        batch.fact(DRIVE_FACT, Some(belongs));
        ((), batch)
    });
    ticket.durable().await.map_err(|error| {
        Failure::new(Code::Unavailable, "cannot write down which drive this is").because(&error)
    })
}

/// A drive's error as the end of a command.
#[must_use]
pub fn explain(what: &str, error: &DriveError) -> Failure {
    let (code, hint) = match error {
        DriveError::SignIn(_) => (Code::Permission, "run `tuyunfs login`"),
        DriveError::Unavailable { .. } => (
            Code::Unavailable,
            "check the network, and drive.graph_url; then try again",
        ),
        DriveError::NotFound => (
            Code::Config,
            "the account may have no OneDrive, or it is still being made: open it once in a \
             browser, and check drive.drive_id and drive.user",
        ),
        DriveError::Refused { .. } | DriveError::NotSupported(_) | DriveError::NameTaken => (
            Code::Config,
            "check drive.root, drive.drive_id and the app's permissions",
        ),
        DriveError::Conflict
        | DriveError::Locked(_)
        | DriveError::QuotaFull
        | DriveError::Resync { .. }
        | DriveError::Disk(_) => (Code::TryAgain, "try again in a minute"),
    };
    Failure::new(code, what).because(error).hint(hint)
}
