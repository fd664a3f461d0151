//! A token from rclone: a section of `rclone.conf`, or the bare JSON of its `token` line
//! (`graph-api.md` section 2.7).

use std::time::SystemTime;

use secrecy::SecretString;
use serde::Deserialize;

use super::{AuthConfig, StoredToken};

/// rclone's name for the cloud of a login authority; of any other, nothing is known.
fn region_of(login_url: &str) -> Option<&'static str> {
    match login_url.trim_end_matches('/') {
        "https://login.microsoftonline.com" => Some("global"),
        "https://login.microsoftonline.us" => Some("us"),
        "https://login.chinacloudapi.cn" | "https://login.partner.microsoftonline.cn" => Some("cn"),
        _ => None,
    }
}

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
    /// A section for the application itself.
    #[error(
        "the section signs in as an application (client_credentials): put its client_id, tenant and secret into the settings, with drive.flow = \"app\"; there is no token to import"
    )]
    AppOnly,
    /// A section for another cloud than the settings'.
    #[error("the section is for the cloud `{0}`: set drive.cloud to it first")]
    OtherCloud(String),
    /// rclone's own application.
    #[error(
        "this token belongs to rclone's own application, whose secret is rclone's; no other program can renew it: run `tuyunfs login` with a client id of your own"
    )]
    RclonesOwn,
}

/// What was found.
#[derive(Debug)]
pub struct Imported {
    /// The token, to be renewed before it is used.
    pub token: StoredToken,
    /// The drive that rclone used.
    pub drive_id: Option<String>,
}

#[derive(Deserialize)]
struct WireToken {
    #[serde(default, alias = "RefreshToken")]
    refresh_token: String,
}

/// Reads an rclone section or a bare token. A section tells which application it belongs to; a
/// bare token does not, and is taken to belong to that of the settings.
///
/// The access token is left out: renewing at once shows whether the token can be renewed.
///
/// # Errors
/// See [`ImportError`].
pub fn import_rclone(
    text: &str,
    config: &AuthConfig,
    now: SystemTime,
) -> Result<Imported, ImportError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        if config.client_id.is_empty() {
            return Err(ImportError::RclonesOwn);
        }
        let refresh_token = refresh_token(text)?;
        let token = StoredToken {
            login_url: String::new(),
            tenant: config.tenant.clone(),
            client_id: config.client_id.clone(),
            client_secret: None, // that of the settings, where there is one
            scope: String::new(),
            refresh_token,
            access_token: SecretString::default(),
            expires_at: SystemTime::UNIX_EPOCH,
            refreshed_at: now,
            told_end: None,
        };
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
    if section.value("client_credentials") == Some("true") {
        return Err(ImportError::AppOnly);
    }
    let region = section.value("region").unwrap_or("global");
    if region_of(&config.login_url).is_some_and(|ours| ours != region) {
        return Err(ImportError::OtherCloud(region.to_owned()));
    }
    // Blank means rclone's own, whatever the settings say: no other can renew it (trap T24).
    let client_id = section.value("client_id").ok_or(ImportError::RclonesOwn)?;
    let json = section.value("token").ok_or(ImportError::NoToken)?;
    let token = StoredToken {
        login_url: String::new(),
        tenant: section.value("tenant").unwrap_or(&config.tenant).to_owned(),
        client_id: client_id.to_owned(),
        client_secret: section
            .value("client_secret")
            .map(|it| SecretString::from(it.to_owned())),
        // What rclone asked for is granted; more would need a consent that nobody gave.
        scope: section
            .value("access_scopes")
            .unwrap_or_default()
            .to_owned(),
        refresh_token: refresh_token(json)?,
        access_token: SecretString::default(),
        expires_at: SystemTime::UNIX_EPOCH,
        refreshed_at: now,
        told_end: None,
    };
    Ok(Imported {
        token,
        drive_id: section.value("drive_id").map(str::to_owned),
    })
}

fn refresh_token(json: &str) -> Result<SecretString, ImportError> {
    let wire: WireToken = serde_json::from_str(json).map_err(|_| ImportError::BadToken)?;
    if wire.refresh_token.is_empty() {
        return Err(ImportError::NoToken);
    }
    Ok(wire.refresh_token.into())
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
    use secrecy::ExposeSecret;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const CONF: &str = "# made by a wizard\n[other]\ntype = s3\n\n[pics]\ntype = onedrive\n\
        client_id = app\nclient_secret = hush\ndrive_id = b!x\ntenant = contoso\n\
        token = {\"access_token\":\"a\",\"refresh_token\":\"r\",\
        \"expiry\":\"2026-01-02T15:04:05.123456789+01:00\"}\n";

    fn config(client_id: &str) -> AuthConfig {
        AuthConfig {
            login_url: "https://login.microsoftonline.com".into(),
            tenant: "common".into(),
            client_id: client_id.into(),
            ..AuthConfig::default()
        }
    }

    fn refused(text: &str, client_id: &str) -> String {
        import_rclone(text, &config(client_id), NOW)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_section_brings_its_application_and_drive_along() {
        let found = import_rclone(CONF, &config("another"), NOW).unwrap();
        let token = found.token;
        assert_eq!(
            (token.client_id.as_str(), token.tenant.as_str()),
            ("app", "contoso")
        );
        assert_eq!(token.client_secret.unwrap().expose_secret(), "hush");
        assert_eq!(token.refresh_token.expose_secret(), "r");
        assert_eq!(token.expires_at, NOW, "it is renewed before it is used");
        assert_eq!(found.drive_id.as_deref(), Some("b!x"));
    }

    #[test]
    fn what_cannot_be_used_says_why_and_what_to_do() {
        let encrypted = "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nxyz";
        assert!(refused(encrypted, "").contains("rclone config show"));
        assert!(refused("[a]\ntype = s3\n", "").contains("no section"));
        assert!(refused("{\"refresh_token\":\"r\"}", "").contains("tuyunfs login"));
        assert!(refused("{\"refresh", "app").contains("cannot be read"));
        assert!(refused("{}", "app").contains("no token"));
        let two = format!("{CONF}{}", CONF.replace("[pics]", "[more]"));
        assert!(refused(&two, "").contains("pics, more"));
        assert!(refused(&format!("{CONF}region = cn\n"), "").contains("`cn`"));
        assert!(refused(&format!("{CONF}client_credentials = true\n"), "").contains("flow"));
        let mut china = config("");
        china.login_url = "https://login.chinacloudapi.cn".into();
        let error = import_rclone(CONF, &china, NOW).unwrap_err().to_string();
        assert!(error.contains("`global`"), "{error}");
        let own = format!("{CONF}region = cn\n");
        assert!(import_rclone(&own, &china, NOW).is_ok());
    }

    #[test]
    fn a_token_of_rclones_own_application_is_refused_whatever_the_settings_say() {
        for blank in ["", "client_id =\n"] {
            let own = CONF.replace("client_id = app\n", blank);
            assert!(refused(&own, "mine").contains("tuyunfs login"));
        }
    }

    #[test]
    fn a_bare_token_belongs_to_the_application_of_the_settings() {
        for json in [
            "{\"refresh_token\":\"r\"}",
            "\u{feff}{\"RefreshToken\":\"r\"}\n",
        ] {
            let found = import_rclone(json, &config("mine"), NOW).unwrap();
            assert_eq!(found.token.client_id, "mine");
            assert_eq!(found.token.refresh_token.expose_secret(), "r");
        }
    }
}
