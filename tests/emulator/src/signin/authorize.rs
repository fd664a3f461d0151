//! The page where a person signs in, and the redirect back to the client.

use std::{collections::HashMap, time::Duration};

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use url::Url;

use super::{
    escape,
    grants::{Code, Pending},
    html,
};
use crate::{clock, ids, refusal, refusal::Refusal, world::World};

/// An authorization code lives so long.
const CODE_LIFE: Duration = Duration::from_mins(10);

type Fields = HashMap<String, String>;

/// `GET …/authorize`: redirects at once or shows the page, as the settings say.
pub(crate) fn page(world: &World, tenant: &str, query: &Fields) -> Result<Response, Refusal> {
    let get = |name: &str| {
        query
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    };
    let (Some(client), Some(redirect)) = (get("client_id"), get("redirect_uri")) else {
        return Ok(refused(
            900_144,
            "The request must contain client_id and redirect_uri.",
        ));
    };
    if !redirect_allowed(world, client, redirect) {
        return Ok(refused(
            50011,
            "The redirect URI specified in the request does not match the redirect URIs \
             configured for the application.",
        ));
    }
    let state = get("state").map(str::to_owned);
    if get("response_type") != Some("code") {
        return back(
            redirect,
            state.as_ref(),
            &[("error", "unsupported_response_type")],
        );
    }
    let Some(scope) = get("scope") else {
        return back(redirect, state.as_ref(), &[("error", "invalid_request")]);
    };
    let challenge = get("code_challenge").map(|text| {
        (
            text.to_owned(),
            get("code_challenge_method") == Some("S256"),
        )
    });
    let pending = Pending {
        code: Code {
            client: client.to_owned(),
            redirect: redirect.to_owned(),
            scope: scope.to_owned(),
            challenge,
            expires: clock::after(world.now(), CODE_LIFE),
            used: false,
        },
        state,
    };
    if world.state().settings.auto_approve {
        return approve(world, pending);
    }
    if get("prompt") == Some("none") {
        return back(
            redirect,
            pending.state.as_ref(),
            &[("error", "interaction_required")],
        );
    }
    let id = ids::secret(24);
    world.state().grants.pending.insert(id.clone(), pending);
    Ok(html(
        200,
        &format!(
            "<h1>Let this app access your files?</h1><p>{}</p>\
             <form method=post action=\"/{}/oauth2/v2.0/authorize\">\
             <input type=hidden name=request value=\"{id}\">\
             <button name=decision value=approve>Accept</button>\
             <button name=decision value=decline>Cancel</button></form>",
            escape(client),
            escape(tenant),
        ),
    ))
}

/// `POST …/authorize`: the person's click.
pub(crate) fn decide(world: &World, form: &Fields) -> Result<Response, Refusal> {
    let pending = form
        .get("request")
        .and_then(|id| world.state().grants.pending.remove(id))
        .ok_or_else(|| Refusal::invalid("There is no such request for approval."))?;
    if form.get("decision").map(String::as_str) == Some("approve") {
        return approve(world, pending);
    }
    let error = [
        ("error", "access_denied"),
        (
            "error_description",
            "The user declined to consent to access the app",
        ),
    ];
    back(&pending.code.redirect, pending.state.as_ref(), &error)
}

fn approve(world: &World, pending: Pending) -> Result<Response, Refusal> {
    let value = format!("M.C5_{}", ids::secret(48));
    let Pending { code, state } = pending;
    let redirect = code.redirect.clone();
    world.state().grants.codes.insert(value.clone(), code);
    back(&redirect, state.as_ref(), &[("code", &value)])
}

/// Sends the browser back to the client.
fn back(
    redirect: &str,
    state: Option<&String>,
    fields: &[(&str, &str)],
) -> Result<Response, Refusal> {
    // Parsing gives a URI without a path its slash, as the service does.
    let mut url = Url::parse(redirect).map_err(|_| Refusal::invalid("A bad redirect URI."))?;
    url.query_pairs_mut().extend_pairs(fields);
    if let Some(state) = state {
        url.query_pairs_mut().append_pair("state", state);
    }
    let mut response = refusal::empty_reply(StatusCode::FOUND);
    let location =
        HeaderValue::try_from(url.as_str()).map_err(|_| Refusal::invalid("A bad redirect URI."))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// An error that must not be sent to an unverified redirect: the person sees it.
fn refused(number: u32, message: &str) -> Response {
    html(
        400,
        &format!("<h1>Sign in</h1><p>AADSTS{number}: {message}</p>"),
    )
}

/// Whether a redirect matches one that is registered: for localhost the port is ignored, the path
/// is not and is case-sensitive; plain http is for the loopback alone.
fn redirect_allowed(world: &World, client: &str, redirect: &str) -> bool {
    let public = ["http://localhost".to_owned()];
    let registered = world
        .clients
        .iter()
        .find(|known| known.id == client)
        .map_or(&public[..], |known| &known.redirects);
    let Ok(asked) = Url::parse(redirect) else {
        return false;
    };
    let local = asked.host_str() == Some("localhost");
    if asked.fragment().is_some() || (asked.scheme() != "https" && asked.scheme() != "http") {
        return false;
    }
    registered
        .iter()
        .filter_map(|text| Url::parse(text).ok())
        .any(|known| {
            known.scheme() == asked.scheme()
                && known.host_str() == asked.host_str()
                && known.path() == asked.path()
                && (local || known.port_or_known_default() == asked.port_or_known_default())
                && (asked.scheme() == "https" || local || asked.host_str() == Some("127.0.0.1"))
        })
}
