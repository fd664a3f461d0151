//! Values that are well formed and still cannot work: which key, why, and what to do.

use std::time::Duration;

use tuyun_chassis::http::TlsFiles;
use tuyun_chassis::settings::SettingsError;
use url::{Host, Url};

use super::{Cloud, Drive, Flow, Mount, Origin, Settings, Writeback};

/// More uploads at a time than this only earn throttling: the service allows some thousand
/// requests in five minutes (`graph-api.md` 9).
const MOST_UPLOADS: usize = 64;

/// A shorter wait than this fails whenever a connection has to be made first.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// More often than this the service answers with throttling.
const SHORTEST_POLL: Duration = Duration::from_secs(1);

pub(super) fn check(settings: &Settings) -> Result<(), SettingsError> {
    if !settings.state_dir.is_absolute() {
        let given = settings.state_dir.display();
        return wrong(
            "state_dir",
            format!("`{given}` is not an absolute path"),
            "write the whole path, like \"/var/lib/tuyun\"",
        );
    }
    if settings.control.socket.as_os_str().is_empty() {
        return wrong(
            "control.socket",
            "is empty",
            "write a path, like \"/run/tuyun/control.sock\"",
        );
    }
    check_drive(&settings.drive)?;
    check_mount(&settings.mount)?;
    check_writeback(&settings.writeback)?;
    check_origin(&settings.origin)
}

fn check_drive(drive: &Drive) -> Result<(), SettingsError> {
    for (key, text) in [
        ("drive.login_url", &drive.login_url),
        ("drive.graph_url", &drive.graph_url),
    ] {
        check_address(key, text)?;
    }
    let odd = drive.root.split('/').skip(1).any(|part| {
        part.is_empty() || part == "." || part == ".." || part.contains(char::is_control)
    });
    if !drive.root.starts_with('/') || (odd && drive.root != "/") {
        return wrong(
            "drive.root",
            format!("`{}` is not a folder's path on the drive", drive.root),
            "write it from the drive's top, without a slash at its end, like \"/share/mount\"",
        );
    }
    if drive.poll.get() < SHORTEST_POLL {
        return wrong(
            "drive.poll",
            "is too short",
            "give \"1s\" or more; \"10s\" is usual",
        );
    }
    check_credential(drive)?;
    if drive.cloud != Cloud::Global && drive.tenant == "consumers" {
        return wrong(
            "drive.tenant",
            "`consumers` are personal accounts, which only the cloud `global` has",
            "name the tenant, or \"common\"",
        );
    }
    if drive.flow == Flow::App {
        if drive.client_id.is_empty() {
            return wrong(
                "drive.client_id",
                "is needed with flow = \"app\"",
                "give the application's (client) id",
            );
        }
        if drive.client_secret_file.is_empty() && drive.client_certificate_file.is_empty() {
            return wrong(
                "drive.client_secret_file",
                "or drive.client_certificate_file is needed with flow = \"app\"",
                "name the file of the application's secret, or those of its certificate and key",
            );
        }
        if drive.user.is_empty() && drive.drive_id.is_empty() {
            return wrong(
                "drive.user",
                "is needed with flow = \"app\": an application has no drive of its own",
                "give the person's sign-in name, or set drive.drive_id",
            );
        }
        if matches!(
            drive.tenant.as_str(),
            "common" | "consumers" | "organizations" | ""
        ) {
            return wrong(
                "drive.tenant",
                format!(
                    "`{}` names no tenant, and flow = \"app\" needs one",
                    drive.tenant
                ),
                "give the tenant's id or its domain",
            );
        }
    }
    Ok(())
}

/// An application proves itself in one way.
fn check_credential(drive: &Drive) -> Result<(), SettingsError> {
    let Drive {
        client_secret_file: secret,
        client_certificate_file: certificate,
        client_key_file: key,
        ..
    } = drive;
    if certificate.is_empty() != key.is_empty() {
        let (missing, given) = if key.is_empty() {
            ("drive.client_key_file", "drive.client_certificate_file")
        } else {
            ("drive.client_certificate_file", "drive.client_key_file")
        };
        return wrong(
            missing,
            format!("is needed with {given}"),
            "give both files, or neither",
        );
    }
    if !secret.is_empty() && !certificate.is_empty() {
        return wrong(
            "drive.client_secret_file",
            "is given, and drive.client_certificate_file, too",
            "leave one of them empty: the certificate is the safer",
        );
    }
    Ok(())
}

/// Tokens go there, so it is https, or it never leaves this machine.
fn check_address(key: &str, text: &str) -> Result<(), SettingsError> {
    let advice = "write it like \"https://graph.microsoft.com\", or remove the line";
    let Ok(url) = Url::parse(text) else {
        return wrong(key, format!("`{text}` is not an address"), advice);
    };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return wrong(key, format!("`{text}` names no host"), advice),
    };
    if url.scheme() == "https" || (url.scheme() == "http" && loopback) {
        return Ok(());
    }
    wrong(
        key,
        "a token may not travel unencrypted to another machine",
        "write https:// there",
    )
}

fn check_mount(mount: &Mount) -> Result<(), SettingsError> {
    mount.modes()?;
    mount.owner()?;
    if mount.timeout.get() < SHORTEST_TIMEOUT {
        return wrong(
            "mount.timeout",
            "is too short",
            "give \"1s\" or more; \"30s\" is usual",
        );
    }
    Ok(())
}

fn check_writeback(writeback: &Writeback) -> Result<(), SettingsError> {
    if !(1..=MOST_UPLOADS).contains(&writeback.uploads) {
        return wrong(
            "writeback.uploads",
            format!("{} is out of range", writeback.uploads),
            format!("give a number from 1 to {MOST_UPLOADS}; 8 is usual"),
        );
    }
    Ok(())
}

fn check_origin(origin: &Origin) -> Result<(), SettingsError> {
    let prefix = origin.prefix();
    let odd = prefix.split('/').skip(1).any(|part| {
        part.is_empty()
            || part == "."
            || part == ".."
            || part.contains(|c: char| c.is_control() || c == '\\')
    });
    if odd || (!prefix.is_empty() && !prefix.starts_with('/')) {
        return wrong(
            "origin.prefix",
            format!("`{}` is not the beginning of a path", origin.prefix),
            "write it like \"/mount\", or \"/\" for none",
        );
    }
    if matches!(prefix.split('/').nth(1), Some("_api" | "api")) {
        return wrong(
            "origin.prefix",
            format!("`{prefix}` is where the origin's own interface is"),
            "choose another, like \"/mount\"",
        );
    }
    if http::HeaderValue::from_str(&origin.cache_control).is_err() {
        return wrong(
            "origin.cache_control",
            "cannot be sent as a header",
            "write it like \"public, max-age=86400\"",
        );
    }
    if !origin.redirect_above.is_empty() {
        return wrong(
            "origin.redirect_above",
            "redirects to the drive are not offered by this version",
            "leave it empty: large files are streamed while they are fetched",
        );
    }
    if let Err(problem) = TlsFiles::from_settings(&origin.tls_cert, &origin.tls_key) {
        return wrong(
            "origin.tls_cert",
            problem,
            "give both origin.tls_cert and origin.tls_key, or neither",
        );
    }
    Ok(())
}

fn wrong<T>(
    key: &str,
    problem: impl Into<String>,
    advice: impl Into<String>,
) -> Result<T, SettingsError> {
    Err(SettingsError::unusable(key, problem, advice))
}
