//! Who is the operator: whoever brings the token, or the cookie that the page got for it.
//!
//! The cookie says until when it counts and proves it with the token, so that every jump behind one
//! name knows it without asking another. It is `HttpOnly` and `SameSite=Strict`; what changes something
//! has to be JSON besides, which no form of another site can send.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tuyun_chassis::http::{Bearer, Client, Denied, Problem};
use tuyun_protocol::Token;

use super::Shared;
use super::update::short_body;

/// How long somebody stays signed in: a working day.
const LIFE: Duration = Duration::from_hours(12);

const COOKIE: &str = "tuyun_jump";

/// Knows the operator.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    bearer: Bearer,
    token: Option<Token>,
    /// Whether the cookie may travel over TLS only.
    secure: bool,
}

/// Why nothing is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locked {
    /// It is not the operator.
    Denied(Denied),
    /// It may be a form of another site.
    Form,
}

impl IntoResponse for Locked {
    fn into_response(self) -> Response {
        match self {
            Self::Denied(denied) => denied.into_response(),
            Self::Form => {
                let kind = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                Problem::of(kind, "Changes have to be application/json.").response()
            }
        }
    }
}

impl Operator {
    /// Knows whoever has this token; without one, nobody.
    pub(crate) fn new(token: Option<Token>, secure: bool) -> Self {
        let secret = token.as_ref().map(|token| token.expose().into());
        Self {
            bearer: Bearer::new(secret.into_iter().collect()),
            token,
            secure,
        }
    }

    /// Lets the operator in, or says why not.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match self.bearer.check(headers) {
            Err(Denied::Stranger) if self.is_signed_in(headers, now()) => Ok(()),
            outcome => outcome,
        }
    }

    /// The same for what changes something.
    pub(super) fn check_change(&self, headers: &HeaderMap) -> Result<(), Locked> {
        if self.bearer.check(headers).is_ok() {
            return Ok(());
        }
        self.check(headers).map_err(Locked::Denied)?;
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("application/json")) {
            return Ok(());
        }
        Err(Locked::Form)
    }

    fn is_signed_in(&self, headers: &HeaderMap, now: u64) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter();
        let mut pairs = cookies
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let Some(token) = &self.token else {
            return false;
        };
        pairs.any(|(name, value)| name == COOKIE && proves(token, value, now))
    }

    fn cookie(&self, value: &str, life: Duration) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let life = life.as_secs();
        let text =
            format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life}{secure}");
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// What the cookie holds: until when, and the proof.
fn value(token: &Token, until: u64) -> String {
    use std::fmt::Write as _;
    let mut mac = Hmac::<Sha256>::new_from_slice(token.expose().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(format!("tuyun-jump operator\n{until}").as_bytes());
    let mut value = format!("{until}.");
    for byte in mac.finalize().into_bytes() {
        // Writing to a String cannot fail.
        let _ = write!(value, "{byte:02x}");
    }
    value
}

fn proves(token: &Token, shown: &str, now: u64) -> bool {
    let until = shown.split('.').next().and_then(|until| until.parse().ok());
    let Some(until) = until.filter(|until| now < *until) else {
        return false;
    };
    value(token, until)
        .as_bytes()
        .ct_eq(shown.as_bytes())
        .into()
}

/// `POST /_api/session`: signs in with `token`, from a form or as JSON.
pub(super) async fn sign_in(
    State(shared): State<Arc<Shared>>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // Guessing is as slow as lying about nodes.
    if let Err(many) = shared.updates.check(client) {
        return Problem::from(many).response();
    }
    let operator = &shared.operator;
    let Some(token) = &operator.token else {
        return Denied::Closed.into_response();
    };
    let body = match short_body(body).await {
        Ok(body) => body,
        Err(problem) => return problem.response(),
    };
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let is_form = kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let said = if is_form {
        let mut pairs = url::form_urlencoded::parse(&body);
        pairs
            .find(|(name, _)| name == "token")
            .map(|(_, value)| value.into_owned())
    } else {
        let fields: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        fields.and_then(|fields| Some(fields.get("token")?.as_str()?.to_owned()))
    };
    if !said.is_some_and(|said| operator.bearer.opens(said.trim())) {
        tracing::warn!(client = %client.0, "somebody tried to sign in with a wrong token");
        if is_form {
            return Redirect::to("/?wrong").into_response();
        }
        return Problem::of(
            StatusCode::UNAUTHORIZED,
            "That is not the operator's token.",
        )
        .response();
    }
    let cookie = operator.cookie(&value(token, now() + LIFE.as_secs()), LIFE);
    let cookie = [(header::SET_COOKIE, cookie)];
    if is_form {
        return (cookie, Redirect::to("/")).into_response();
    }
    (cookie, Json(json!({ "code": 0, "msg": "ok" }))).into_response()
}

/// `DELETE /_api/session`: signs out.
pub(super) async fn sign_out(State(shared): State<Arc<Shared>>) -> Response {
    let cookie = [(
        header::SET_COOKIE,
        shared.operator.cookie("", Duration::ZERO),
    )];
    (cookie, Json(json!({ "code": 0, "msg": "ok" }))).into_response()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn brings(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(cookie).unwrap())])
    }

    #[test]
    fn a_cookie_counts_until_its_end_and_for_its_token_only() {
        let token = Token::new("secret");
        let operator = Operator::new(Some(token.clone()), true);
        let good = value(&token, NOW + 10);
        let sent = brings(&format!("theme=dark; {COOKIE}={good}"));
        assert!(operator.is_signed_in(&sent, NOW));
        assert!(!operator.is_signed_in(&sent, NOW + 10));
        let longer = good.replace(&(NOW + 10).to_string(), &(NOW + 99).to_string());
        for wrong in [
            longer,
            value(&Token::new("other"), NOW + 10),
            good[..good.len() - 1].to_owned(),
            "x".to_owned(),
        ] {
            let sent = brings(&format!("{COOKIE}={wrong}"));
            assert!(!operator.is_signed_in(&sent, NOW), "{wrong}");
        }
        let nobody = Operator::new(None, true);
        assert!(!nobody.is_signed_in(&sent, NOW));
        assert_eq!(nobody.check(&sent), Err(Denied::Closed));
    }

    #[test]
    fn what_changes_something_by_cookie_has_to_be_json() {
        let token = Token::new("secret");
        let operator = Operator::new(Some(token.clone()), false);
        let mut headers = brings(&format!("{COOKIE}={}", value(&token, now() + 10)));
        assert_eq!(operator.check_change(&headers), Err(Locked::Form));
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        assert_eq!(operator.check_change(&headers), Err(Locked::Form));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        assert!(operator.check_change(&headers).is_ok());
    }
}
