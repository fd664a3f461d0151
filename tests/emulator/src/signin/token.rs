//! The token endpoint: one function a grant type.

use std::{collections::HashMap, time::Duration};

use axum::response::Response;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{assertion, device, error::oauth};
use crate::{
    clock,
    refusal::{Refusal, json_reply},
    world::World,
};

type Fields = HashMap<String, String>;

/// `POST …/token`.
pub(crate) fn exchange(world: &World, tenant: &str, form: &Fields) -> Result<Response, Refusal> {
    let now = world.now();
    let grant = form.get("grant_type").map_or("", String::as_str);
    authenticate(world, tenant, form, grant, now)?;
    let reply = match grant {
        "authorization_code" => by_code(world, form, now)?,
        "refresh_token" => by_refresh(world, form, now)?,
        "client_credentials" => by_credentials(world, tenant, form, now)?,
        "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => {
            device::poll(world, form)?
        }
        _ => {
            let message = "The app requested an unsupported grant type.";
            return Err(oauth(400, "unsupported_grant_type", 70003, message, now));
        }
    };
    let mut response = json_reply(StatusCode::OK, &reply);
    response.headers_mut().insert(
        http::header::CACHE_CONTROL,
        http::HeaderValue::from_static("no-store, no-cache"),
    );
    Ok(response)
}

/// A public client sends no secret; a confidential one sends its own, or a signed statement.
fn authenticate(
    world: &World,
    tenant: &str,
    form: &Fields,
    grant: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(id) = form.get("client_id").filter(|id| !id.is_empty()) else {
        let message = "The request body must contain the following parameter: 'client_id'.";
        return Err(oauth(400, "invalid_request", 900_144, message, now));
    };
    let known = world.clients.iter().find(|client| client.id == *id);
    let certificate = known.and_then(|client| client.certificate.as_deref());
    if let Some(certificate) = certificate.filter(|_| form.contains_key("client_assertion")) {
        let expected = assertion::Expected {
            certificate,
            client: id,
            audience: &format!("{}/{tenant}/oauth2/v2.0/token", world.links().login),
            now,
        };
        let refused = |what: &str| {
            let message = format!("The client assertion is refused. {what}");
            oauth(401, "invalid_client", 700_027, &message, now)
        };
        let statement = assertion::check(form, &expected).map_err(refused)?;
        if !world.state().grants.statements.insert(statement) {
            return Err(refused("It was used before."));
        }
        return Ok(());
    }
    let expected = known.and_then(|client| client.secret.as_deref());
    let sent = form
        .get("client_secret")
        .map(String::as_str)
        .filter(|text| !text.is_empty());
    match (expected, sent) {
        (Some(expected), Some(sent)) if expected == sent => Ok(()),
        (Some(_), Some(_)) => Err(oauth(
            401,
            "invalid_client",
            7_000_215,
            "Invalid client secret provided.",
            now,
        )),
        // The device flow is for public use of any client that allows it.
        (Some(_), None) if grant.ends_with("device_code") => Ok(()),
        (Some(_), None) => Err(oauth(
            401,
            "invalid_client",
            7_000_218,
            "The request body must contain the following parameter: 'client_assertion' or \
             'client_secret'.",
            now,
        )),
        (None, Some(_)) => Err(oauth(
            401,
            "invalid_client",
            700_025,
            "Client is public so neither 'client_assertion' nor 'client_secret' should be \
             presented.",
            now,
        )),
        (None, None) if grant == "client_credentials" => Err(oauth(
            401,
            "invalid_client",
            7_000_216,
            "A secret is required.",
            now,
        )),
        (None, None) => Ok(()),
    }
}

fn by_code(world: &World, form: &Fields, now: Timestamp) -> Result<Value, Refusal> {
    let invalid = |number, message| oauth(400, "invalid_grant", number, message, now);
    let mut state = world.state();
    let settings = state.settings.clone();
    let code = form
        .get("code")
        .and_then(|code| state.grants.codes.get_mut(code))
        .ok_or_else(|| invalid(70000, "The provided value for the code is not valid."))?;
    if code.used {
        return Err(invalid(
            54005,
            "OAuth2 Authorization code was already redeemed.",
        ));
    }
    if now >= code.expires {
        return Err(invalid(
            70008,
            "The provided authorization code has expired.",
        ));
    }
    if form.get("client_id") != Some(&code.client) {
        return Err(invalid(70000, "The code was issued to another client."));
    }
    if form.get("redirect_uri") != Some(&code.redirect) {
        return Err(invalid(
            70000,
            "The redirect_uri does not match the one of the authorization request.",
        ));
    }
    if let Some((challenge, hashed)) = &code.challenge {
        let verifier = form.get("code_verifier").map_or("", String::as_str);
        let shown = if *hashed {
            URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
        } else {
            verifier.to_owned()
        };
        let fits = (43..=128).contains(&verifier.len())
            && verifier
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
        if !fits || shown != *challenge {
            return Err(invalid(
                501_481,
                "The Code_Verifier does not match the code_challenge supplied in the \
                 authorization request.",
            ));
        }
    }
    code.used = true;
    let code = code.clone();
    Ok(state.grants.give(&code.client, &code.scope, &settings, now))
}

fn by_refresh(world: &World, form: &Fields, now: Timestamp) -> Result<Value, Refusal> {
    let invalid = |number, message| oauth(400, "invalid_grant", number, message, now);
    let mut state = world.state();
    let settings = state.settings.clone();
    let held = form
        .get("refresh_token")
        .and_then(|token| state.grants.refresh.get_mut(token))
        .ok_or_else(|| invalid(70000, "Provided grant is invalid or malformed."))?;
    if form.get("client_id") != Some(&held.client) {
        return Err(invalid(70000, "The grant was issued to another client."));
    }
    if held.revoked {
        return Err(invalid(
            50173,
            "The provided grant has expired due to it being revoked, a fresh auth token is needed.",
        ));
    }
    if now >= held.expires {
        return Err(invalid(
            700_082,
            "The refresh token has expired due to inactivity.",
        ));
    }
    // Use keeps a token alive, and a new one does not end the old.
    held.expires = clock::after(now, Duration::from_secs(settings.refresh_token_seconds));
    let held = held.clone();
    let mut scope = form
        .get("scope")
        .filter(|scope| !scope.trim().is_empty())
        .map_or_else(|| held.scope.clone(), |scope| scope.trim().to_owned());
    if settings.rotate_refresh_tokens {
        if !scope.split(' ').any(|each| each == "offline_access") {
            scope.push_str(" offline_access");
        }
        return Ok(state.grants.give(&held.client, &scope, &settings, now));
    }
    Ok(state.grants.give_access(&scope, false, &settings, now))
}

fn by_credentials(
    world: &World,
    tenant: &str,
    form: &Fields,
    now: Timestamp,
) -> Result<Value, Refusal> {
    if matches!(tenant, "common" | "organizations" | "consumers") {
        let message = "Application is not configured to use the /common endpoint with this grant.";
        return Err(oauth(400, "invalid_scope", 9_001_023, message, now));
    }
    let scope = form.get("scope").map_or("", String::as_str);
    if !scope.ends_with("/.default") {
        let message = "The provided value for the scope is not valid.";
        return Err(oauth(400, "invalid_scope", 70011, message, now));
    }
    let mut state = world.state();
    let settings = state.settings.clone();
    Ok(state.grants.give_access(scope, true, &settings, now))
}
