//! What was given out: access tokens, refresh tokens, codes.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{clock, ids, refusal::Refusal, settings::Settings};

/// Who a request speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// No user: the app itself.
    pub(crate) app_only: bool,
    /// May change things.
    pub(crate) writes: bool,
}

/// A code of the authorization flow.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) client: String,
    pub(crate) redirect: String,
    pub(crate) scope: String,
    pub(crate) challenge: Option<(String, bool)>,
    pub(crate) expires: Timestamp,
    pub(crate) used: bool,
}

/// A sign-in that waits for a person's click.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) code: Code,
    pub(crate) state: Option<String>,
}

/// A device code.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) client: String,
    pub(crate) scope: String,
    pub(crate) user_code: String,
    pub(crate) expires: Timestamp,
    pub(crate) decision: Option<bool>,
    pub(crate) polls: u32,
    pub(crate) polled: Option<Timestamp>,
    pub(crate) used: bool,
}

/// A refresh token.
#[derive(Debug, Clone)]
pub(crate) struct Refresh {
    pub(crate) client: String,
    pub(crate) scope: String,
    pub(crate) expires: Timestamp,
    pub(crate) revoked: bool,
}

#[derive(Debug, Clone)]
struct Access {
    who: Who,
    expires: Timestamp,
}

/// Everything that was given out. Grows with the sign-ins of one emulator's life.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    access: HashMap<String, Access>,
    pub(crate) refresh: HashMap<String, Refresh>,
    pub(crate) codes: HashMap<String, Code>,
    pub(crate) pending: HashMap<String, Pending>,
    /// The ids of the signed statements that were taken: none is taken twice.
    pub(crate) statements: HashSet<String>,
    /// By device code.
    pub(crate) devices: HashMap<String, Device>,
}

impl Grants {
    /// Who an `Authorization` header speaks for.
    pub(crate) fn who(&self, header: Option<&str>, now: Timestamp) -> Result<Who, Refusal> {
        let token = header
            .and_then(|header| header.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| Refusal::unauthenticated("Access token is empty."))?;
        let access = self
            .access
            .get(token)
            .ok_or_else(|| Refusal::unauthenticated("CompactToken validation failed."))?;
        if now >= access.expires {
            return Err(Refusal::unauthenticated(
                "Lifetime validation failed, the token is expired.",
            ));
        }
        Ok(access.who.clone())
    }

    /// Gives an access token for a user, and a refresh token where the scope asks for one.
    pub(crate) fn give(
        &mut self,
        client: &str,
        scope: &str,
        settings: &Settings,
        now: Timestamp,
    ) -> Value {
        let mut reply = self.give_access(scope, false, settings, now);
        if has(scope, "offline_access") {
            let token = format!("M.C5{}", ids::secret(80));
            self.refresh.insert(
                token.clone(),
                Refresh {
                    client: client.to_owned(),
                    scope: scope.to_owned(),
                    expires: clock::after(now, Duration::from_secs(settings.refresh_token_seconds)),
                    revoked: false,
                },
            );
            reply["refresh_token"] = token.into();
        }
        if has(scope, "openid") {
            reply["id_token"] = id_token(client, now).into();
        }
        reply
    }

    /// Gives an access token alone.
    pub(crate) fn give_access(
        &mut self,
        scope: &str,
        app_only: bool,
        settings: &Settings,
        now: Timestamp,
    ) -> Value {
        let token = format!("EwB{}", ids::secret(120));
        let life = settings.access_token_seconds;
        let granted: Vec<&str> = scope
            .split(' ')
            .filter(|scope| !matches!(*scope, "" | "offline_access" | "openid" | "profile"))
            .collect();
        let writes = app_only
            || granted.iter().any(|scope| {
                let name = scope.rsplit('/').next().unwrap_or(scope);
                name.starts_with("Files.ReadWrite")
                    || name.starts_with("Sites.ReadWrite")
                    || name == ".default"
            });
        self.access.insert(
            token.clone(),
            Access {
                who: Who { app_only, writes },
                expires: clock::after(now, Duration::from_secs(life)),
            },
        );
        let mut reply = json!({
            "token_type": "Bearer",
            "expires_in": life,
            "ext_expires_in": life,
            "access_token": token,
        });
        if !app_only {
            reply["scope"] = granted.join(" ").into();
        }
        reply
    }

    pub(crate) fn expire_access(&mut self, now: Timestamp) {
        for access in self.access.values_mut() {
            access.expires = access.expires.min(now);
        }
    }

    pub(crate) fn revoke_refresh(&mut self) {
        for refresh in self.refresh.values_mut() {
            refresh.revoked = true;
        }
    }

    /// Decides a device code by what the person types; whether there was one waiting.
    pub(crate) fn decide_device(&mut self, user_code: &str, approve: bool, now: Timestamp) -> bool {
        let typed = user_code.trim().to_uppercase();
        let device = self
            .devices
            .values_mut()
            .find(|device| device.user_code == typed && now < device.expires);
        match device {
            Some(device) => {
                device.decision = Some(approve);
                true
            }
            None => false,
        }
    }
}

fn has(scope: &str, name: &str) -> bool {
    scope.split(' ').any(|each| each == name)
}

/// A token of identity, unsigned: nobody is to trust an emulator.
fn id_token(client: &str, now: Timestamp) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "typ": "JWT", "alg": "none" });
    let claims = json!({
        "aud": client,
        "sub": crate::render::USER_ID,
        "name": crate::render::USER_NAME,
        "preferred_username": crate::render::USER_MAIL,
        "iat": now.as_second(),
        "exp": now.as_second() + 3600,
    });
    format!("{}.{}.", encode(&header), encode(&claims))
}
