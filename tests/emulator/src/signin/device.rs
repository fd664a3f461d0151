//! The device flow: a code here, a person elsewhere.

use std::{collections::HashMap, time::Duration};

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{error::oauth, escape, grants::Device, html};
use crate::{
    clock, ids,
    refusal::{Refusal, json_reply},
    world::World,
};

type Fields = HashMap<String, String>;

/// `POST …/devicecode`.
pub(crate) fn begin(world: &World, form: &Fields) -> Result<Response, Refusal> {
    let now = world.now();
    let (Some(client), Some(scope)) = (form.get("client_id"), form.get("scope")) else {
        let message = "The request body must contain client_id and scope.";
        return Err(oauth(400, "invalid_request", 900_144, message, now));
    };
    let (device_code, user_code) = (format!("GAQ{}", ids::secret(120)), ids::user_code());
    let verification = format!("{}/common/oauth2/deviceauth", world.links().login);
    let mut state = world.state();
    let life = state.settings.device_code_seconds;
    let interval = state.settings.device_interval_seconds;
    state.grants.devices.insert(
        device_code.clone(),
        Device {
            client: client.clone(),
            scope: scope.clone(),
            user_code: user_code.clone(),
            expires: clock::after(now, Duration::from_secs(life)),
            decision: None,
            polls: 0,
            polled: None,
            used: false,
        },
    );
    let reply = json!({
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": verification,
        "expires_in": life,
        "interval": interval,
        "message": format!(
            "To sign in, use a web browser to open the page {verification} and enter the code \
             {user_code} to authenticate."
        ),
    });
    Ok(json_reply(StatusCode::OK, &reply))
}

/// One poll of the token endpoint.
pub(crate) fn poll(world: &World, form: &Fields) -> Result<Value, Refusal> {
    let now = world.now();
    let mut state = world.state();
    let settings = state.settings.clone();
    let unknown = || {
        oauth(
            400,
            "bad_verification_code",
            70018,
            "Invalid verification code.",
            now,
        )
    };
    let code = form.get("device_code").ok_or_else(unknown)?;
    let device = state
        .grants
        .devices
        .get_mut(code)
        .filter(|device| form.get("client_id") == Some(&device.client) && !device.used)
        .ok_or_else(unknown)?;
    if now >= device.expires {
        return Err(oauth(
            400,
            "expired_token",
            70020,
            "The device code has expired.",
            now,
        ));
    }
    device.polls += 1;
    let interval = Duration::from_secs(settings.device_interval_seconds);
    let early = device
        .polled
        .is_some_and(|before| now < clock::after(before, interval));
    device.polled = Some(now);
    if settings.device_slow_down && early {
        return Err(oauth(
            400,
            "slow_down",
            70016,
            "The client polls too often.",
            now,
        ));
    }
    if device.decision.is_none()
        && settings.device_approved_at_poll > 0
        && device.polls >= settings.device_approved_at_poll
    {
        device.decision = Some(true);
    }
    match device.decision {
        None => Err(oauth(
            400,
            "authorization_pending",
            70016,
            "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
            now,
        )),
        Some(false) => Err(oauth(
            400,
            "authorization_declined",
            70017,
            "The user declined.",
            now,
        )),
        Some(true) => {
            device.used = true;
            let (client, scope) = (device.client.clone(), device.scope.clone());
            Ok(state.grants.give(&client, &scope, &settings, now))
        }
    }
}

/// The page where the code is typed.
pub(crate) fn page(query: &Fields) -> Response {
    let typed = query
        .get("otc")
        .map(|code| escape(code))
        .unwrap_or_default();
    html(
        200,
        &format!(
            "<h1>Enter code</h1><form method=post>\
             <input name=otc value=\"{typed}\">\
             <button name=decision value=approve>Accept</button>\
             <button name=decision value=decline>Cancel</button></form>"
        ),
    )
}

/// The person's click.
pub(crate) fn decide(world: &World, form: &Fields) -> Result<Response, Refusal> {
    let now = world.now();
    let approve = form.get("decision").map(String::as_str) != Some("decline");
    let code = form.get("otc").map_or("", String::as_str);
    if world.state().grants.decide_device(code, approve, now) {
        return Ok(html(
            200,
            "<h1>Done</h1><p>You may now close this window.</p>",
        ));
    }
    Err(Refusal::invalid("That code did not work."))
}
