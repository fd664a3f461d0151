//! What a refusal of the token endpoint means: `graph-api.md` section 2.6.

use std::io;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A person has to sign in again.
    #[error("{0}")]
    SignIn(String),
    /// The registration or the settings are wrong; signing in again would not help.
    #[error("{0}")]
    Configuration(String),
    /// The service cannot be reached or has trouble of its own: the token is as good as before.
    #[error("the sign-in service does not answer: {0}")]
    Unavailable(String),
    /// Our own disk.
    #[error("cannot keep the token")]
    Store(#[source] io::Error),
}

/// Numbers that stand for trouble of the service's own, whatever `error` says.
const TRANSIENT: &[u32] = &[50033, 90006, 90024, 90033, 90055, 50196];

/// Judges a refusal by its `error`; the number in its text is for messages, and for the few
/// troubles that hide behind a wrong `error`.
pub(super) fn judge(error: &str, description: &str) -> TokenError {
    let number = number(description);
    let text = first_line(description);
    let named = if text.is_empty() {
        error.to_owned()
    } else {
        text.to_owned()
    };
    if number.is_some_and(|number| TRANSIENT.contains(&number)) {
        return TokenError::Unavailable(named);
    }
    match error {
        "invalid_grant"
        | "interaction_required"
        | "login_required"
        | "consent_required"
        | "account_selection_required"
        | "access_denied"
        | "authorization_declined"
        | "expired_token"
        | "bad_verification_code" => TokenError::SignIn(advised(number, named)),
        "invalid_client"
        | "unauthorized_client"
        | "invalid_scope"
        | "invalid_request"
        | "invalid_resource"
        | "unsupported_grant_type"
        | "unsupported_response_type" => TokenError::Configuration(advised(number, named)),
        // temporarily_unavailable, server_error, and what nobody has heard of: only what is known
        // to be about the token may end it (trap T25).
        _ => TokenError::Unavailable(named),
    }
}

/// `AADSTS700082: …` → 700082.
fn number(description: &str) -> Option<u32> {
    let rest = &description[description.find("AADSTS")? + 6..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// What follows the first line are trace ids, which help nobody here.
fn first_line(description: &str) -> &str {
    let line = description.lines().next().unwrap_or_default();
    line.split(" Trace ID:").next().unwrap_or(line).trim()
}

fn advised(number: Option<u32>, text: String) -> String {
    let advice = match number {
        Some(7_000_222) => {
            "the client secret has expired: make a new one and put it into drive.client_secret_file"
        }
        Some(7_000_215) => "the client secret is wrong: check drive.client_secret_file",
        Some(7_000_218) => {
            "the app is registered as `Web`: register it as `Mobile and desktop applications`, or give its secret"
        }
        Some(700_025) => "a public client has no secret: empty drive.client_secret_file",
        Some(700_016) => {
            "no such app in this tenant or cloud: check drive.client_id, drive.tenant and drive.cloud"
        }
        Some(90_002) => "no such tenant: check drive.tenant",
        Some(90_038) => "the account lives in another cloud: check drive.cloud",
        Some(70_000) => {
            "the token was issued to another app: check drive.client_id, or run `tuyunfs login`"
        }
        _ => return text,
    };
    format!("{text} ({advice})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &str, description: &str) -> &'static str {
        match judge(error, description) {
            TokenError::SignIn(_) => "sign in",
            TokenError::Configuration(_) => "configuration",
            TokenError::Unavailable(_) => "unavailable",
            TokenError::Store(_) => "store",
        }
    }

    #[test]
    fn only_what_the_service_says_of_the_grant_asks_for_a_person() {
        assert_eq!(
            kind("invalid_grant", "AADSTS700082: expired\r\nTrace ID: x"),
            "sign in"
        );
        assert_eq!(kind("interaction_required", "AADSTS50076: MFA"), "sign in");
        assert_eq!(
            kind("invalid_client", "AADSTS7000222: expired secret"),
            "configuration"
        );
        assert_eq!(kind("server_error", ""), "unavailable");
        assert_eq!(kind("something_new", "AADSTS999999: odd"), "unavailable");
        assert_eq!(kind("authorization_declined", ""), "sign in");
        assert_eq!(
            kind("invalid_grant", "AADSTS90033: transient"),
            "unavailable"
        );
    }

    #[test]
    fn messages_keep_the_number_and_lose_the_trace() {
        let error = judge(
            "invalid_grant",
            "AADSTS50173: revoked.\r\nTrace ID: 1\r\nTimestamp: 2",
        );
        assert_eq!(error.to_string(), "AADSTS50173: revoked.");
    }
}
