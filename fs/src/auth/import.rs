//! A token from rclone: a section of `rclone.conf`, or the bare JSON of its `token` line
//! (`graph-api.md` section 2.7).

use std::time::SystemTime;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::StoredToken;

/// Why a token cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Encrypted by rclone.
    #[error(
        "the file is encrypted: `rclone config show` prints it in the clear; save that to a file that only you can read, and import it"
    )]
    Encrypted,
    /// No such section, or several to choose from.
    #[error("the file has no section of type `onedrive`")]
    NoRemote,
    /// Several to choose from.
    #[error(
        "the file has several sections of type `onedrive` ({0}): leave the one that you mean in a file of its own"
    )]
    Several(String),
    /// A section without a token.
    #[error("the section has no token: run `rclone config reconnect`, or `tuyunfs login`")]
    NoToken,
    /// A token that cannot be read.
    #[error("the token cannot be read: it is not the JSON that rclone writes")]
    BadToken,
    /// rclone's own application.
    #[error(
        "this token belongs to rclone's own application, whose secret is rclone's; no other program can renew it: run `tuyunfs login` with a client id of your own"
    )]
    RclonesOwn,
}

/// What was found.
#[derive(Debug)]
pub struct Imported {
    /// The token; its access token is not used.
    pub token: StoredToken,
    /// The drive that rclone used.
    pub drive_id: Option<String>,
}

#[derive(Deserialize)]
struct WireToken {
    #[serde(alias = "RefreshToken")]
    refresh_token: String,
    #[serde(default, alias = "AccessToken")]
    access_token: String,
    #[serde(default, alias = "Expiry")]
    expiry: Option<String>,
}

/// Reads an rclone section or a bare token. `client_id`, `secret` and `tenant` are what the
/// settings say: a bare token does not tell which application it belongs to.
///
/// # Errors
/// See [`ImportError`].
pub fn import_rclone(
    text: &str,
    client_id: &str,
    secret: Option<SecretString>,
    tenant: &str,
    now: SystemTime,
) -> Result<Imported, ImportError> {
    let text = text.trim();
    if text.starts_with('{') {
        if client_id.is_empty() {
            return Err(ImportError::RclonesOwn);
        }
        let token = token(text, client_id.to_owned(), secret, tenant.to_owned(), now)?;
        return Ok(Imported {
            token,
            drive_id: None,
        });
    }
    if text
        .lines()
        .any(|line| line.starts_with("RCLONE_ENCRYPT_V0:"))
    {
        return Err(ImportError::Encrypted);
    }
    let remotes = sections(text);
    let section = match remotes.as_slice() {
        [] => return Err(ImportError::NoRemote),
        [one] => one,
        several => {
            let names: Vec<&str> = several.iter().map(|section| section.name).collect();
            return Err(ImportError::Several(names.join(", ")));
        }
    };
    let id = match section.value("client_id") {
        Some(id) => id.to_owned(),
        None if !client_id.is_empty() => client_id.to_owned(),
        None => return Err(ImportError::RclonesOwn),
    };
    let secret = section
        .value("client_secret")
        .map(|s| SecretString::from(s.to_owned()))
        .or(secret);
    let tenant = section.value("tenant").unwrap_or(tenant).to_owned();
    let json = section.value("token").ok_or(ImportError::NoToken)?;
    let token = token(json, id, secret, tenant, now)?;
    Ok(Imported {
        token,
        drive_id: section.value("drive_id").map(str::to_owned),
    })
}

fn token(
    json: &str,
    client_id: String,
    client_secret: Option<SecretString>,
    tenant: String,
    now: SystemTime,
) -> Result<StoredToken, ImportError> {
    let wire: WireToken = serde_json::from_str(json).map_err(|_| ImportError::BadToken)?;
    if wire.refresh_token.is_empty() {
        return Err(ImportError::NoToken);
    }
    let expiry: Option<Timestamp> = wire.expiry.and_then(|text| text.parse().ok());
    Ok(StoredToken {
        client_id,
        client_secret,
        tenant,
        refresh_token: wire.refresh_token.into(),
        access_token: wire.access_token.into(),
        expires_at: expiry.map_or(SystemTime::UNIX_EPOCH, Into::into),
        refreshed_at: now,
    })
}

struct Section<'a> {
    name: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl Section<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(held, _)| *held == key)?;
        Some(*value).filter(|value| !value.is_empty())
    }
}

/// The sections of type `onedrive`.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut all: Vec<Section<'_>> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            all.push(Section {
                name,
                pairs: Vec::new(),
            });
        } else if let (Some(section), Some((key, value))) = (all.last_mut(), line.split_once('=')) {
            section.pairs.push((key.trim(), value.trim()));
        }
    }
    all.retain(|section| section.value("type") == Some("onedrive"));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::time::Duration;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const CONF: &str = "[other]\ntype = s3\n\n[pics]\ntype = onedrive\nclient_id = app\n\
        client_secret = hush\ndrive_id = b!x\ntoken = {\"access_token\":\"a\",\"refresh_token\":\"r\",\
        \"expiry\":\"2026-01-02T15:04:05.123456789+01:00\"}\n";

    #[test]
    fn a_section_brings_its_application_and_drive_along() {
        let found = import_rclone(CONF, "", None, "common", NOW).unwrap();
        assert_eq!(found.token.client_id, "app");
        assert_eq!(found.token.client_secret.unwrap().expose_secret(), "hush");
        assert_eq!(found.token.refresh_token.expose_secret(), "r");
        assert_eq!(found.drive_id.as_deref(), Some("b!x"));
        let whole = found
            .token
            .expires_at
            .duration_since(NOW)
            .unwrap()
            .as_secs();
        assert_eq!(
            Duration::from_secs(whole),
            Duration::from_secs(1_767_362_645)
        );
    }

    #[test]
    fn what_cannot_be_used_says_why_and_what_to_do() {
        let import = |text: &str, id: &str| {
            import_rclone(text, id, None, "common", NOW)
                .unwrap_err()
                .to_string()
        };
        assert!(import("RCLONE_ENCRYPT_V0:\nxyz", "").contains("rclone config show"));
        assert!(import("[a]\ntype = s3\n", "").contains("no section"));
        let own = CONF.replace("client_id = app\n", "");
        assert!(import(&own, "").contains("tuyunfs login"));
        assert!(import("{\"refresh_token\":\"r\"}", "").contains("tuyunfs login"));
        assert!(import("{\"refresh", "app").contains("cannot be read"));
        let two = format!("{CONF}{}", CONF.replace("[pics]", "[more]"));
        assert!(import(&two, "").contains("pics, more"));
    }

    #[test]
    fn a_bare_token_belongs_to_the_application_of_the_settings() {
        let found = import_rclone("{\"refresh_token\":\"r\"}", "mine", None, "t", NOW).unwrap();
        assert_eq!(
            (found.token.client_id.as_str(), found.token.tenant.as_str()),
            ("mine", "t")
        );
        assert_eq!(found.token.expires_at, NOW);
    }
}
