//! What a refusal of the token endpoint means: `graph-api.md` section 2.6.

use std::io;
use std::time::Duration;

use serde::Deserialize;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A person has to sign in again.
    #[error("{why}")]
    SignIn {
        /// What the service said.
        why: String,
        /// What it wants the sign-in to show in addition, to be passed on as it came.
        claims: Option<String>,
    },
    /// The registration or the settings are wrong; signing in again would not help.
    #[error("{0}")]
    Configuration(String),
    /// The service cannot be reached or has trouble of its own: the token is as good as before.
    #[error("the sign-in service does not answer: {what}")]
    Unavailable {
        /// What failed.
        what: String,
        /// How long it wants to be left alone, when that was said.
        retry_after: Option<Duration>,
    },
    /// Our own disk.
    #[error("cannot keep the token")]
    Store(#[source] io::Error),
}

impl TokenError {
    /// A person has to sign in, by the usual way.
    pub(super) fn sign_in(why: impl Into<String>) -> Self {
        Self::SignIn {
            why: why.into(),
            claims: None,
        }
    }

    /// The service has trouble, of unknown length.
    pub(super) fn unavailable(what: impl Into<String>) -> Self {
        Self::Unavailable {
            what: what.into(),
            retry_after: None,
        }
    }
}

/// What the token endpoint says when it refuses. All but `error` is optional.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Refusal {
    pub(super) error: String,
    #[serde(default, rename = "error_description")]
    pub(super) description: String,
    #[serde(default)]
    pub(super) claims: Option<String>,
}

/// Numbers that stand for trouble of the service's own, whatever `error` says.
const TRANSIENT: &[u32] = &[50033, 90006, 90024, 90033, 90055, LOOP];

/// We are taken for a client that asks the same thing over and over.
const LOOP: u32 = 50196;

/// How long such a client stays away.
const LOOP_PAUSE: Duration = Duration::from_mins(10);

/// Judges a refusal by its `error`; the number in its text is for messages, and for the few
/// troubles that hide behind a wrong `error`.
pub(super) fn judge(refusal: &Refusal) -> TokenError {
    let Refusal {
        error,
        description,
        claims,
    } = refusal;
    let number = number(description);
    let text = first_line(description);
    let named = if text.is_empty() {
        error.clone()
    } else {
        text.to_owned()
    };
    if number.is_some_and(|number| TRANSIENT.contains(&number)) {
        return TokenError::Unavailable {
            what: named,
            retry_after: (number == Some(LOOP)).then_some(LOOP_PAUSE),
        };
    }
    match error.as_str() {
        "invalid_grant"
        | "interaction_required"
        | "login_required"
        | "consent_required"
        | "account_selection_required"
        | "access_denied"
        | "authorization_declined"
        | "expired_token"
        | "bad_verification_code" => TokenError::SignIn {
            why: advised(number, named),
            claims: claims.clone().filter(|claims| !claims.is_empty()),
        },
        "invalid_client"
        | "unauthorized_client"
        | "invalid_scope"
        | "invalid_request"
        | "invalid_resource"
        | "unsupported_grant_type"
        | "unsupported_response_type" => TokenError::Configuration(advised(number, named)),
        // temporarily_unavailable, server_error, and what nobody has heard of: only what is known
        // to be about the token may end it (trap T25).
        _ => TokenError::unavailable(named),
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
        Some(700_027) => {
            "the certificate has expired or is not the app's: upload the one of drive.client_certificate_file at the app's `Certificates & secrets`"
        }
        Some(700_025) => "a public client has no secret: empty drive.client_secret_file",
        Some(700_084) => {
            "the app is registered as a single-page application, whose sign-ins end after a day: register it as `Mobile and desktop applications`"
        }
        Some(700_016) => {
            "no such app in this tenant or cloud: check drive.client_id, drive.tenant and drive.cloud"
        }
        Some(50_194) => "the app is for one tenant: name it in drive.tenant",
        Some(9_002_332) => "the app takes no personal accounts: check drive.tenant",
        Some(90_002) => "no such tenant: check drive.tenant",
        Some(90_038) => "the account lives in another cloud: check drive.cloud",
        Some(70_000) => {
            "the token was issued to another app: check drive.client_id, or run `tuyunfs login`"
        }
        Some(65_001 | 65_004 | 90_094) => {
            "nobody has consented: sign in and accept, or ask an administrator of the tenant to consent"
        }
        Some(53_000 | 53_003 | 530_032) => {
            "a rule of the organisation refuses this machine: ask its administrator"
        }
        _ => return text,
    };
    format!("{text} ({advice})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(error: &str, description: &str) -> TokenError {
        judge(&Refusal {
            error: error.into(),
            description: description.into(),
            claims: None,
        })
    }

    fn kind(error: &str, description: &str) -> &'static str {
        match judged(error, description) {
            TokenError::SignIn { .. } => "sign in",
            TokenError::Configuration(_) => "configuration",
            TokenError::Unavailable { .. } => "unavailable",
            TokenError::Store(_) => "store",
        }
    }

    /// The table of section 2.6, and the answers of 2.4 that end a device sign-in.
    #[test]
    fn each_refusal_means_what_the_reference_says() {
        for (meaning, error, numbers) in [
            (
                "sign in",
                "invalid_grant",
                &[70008, 700_082, 700_084, 50173, 70000, 54005, 501_481, 70043][..],
            ),
            ("sign in", "interaction_required", &[50076, 50079, 50078]),
            (
                "sign in",
                "invalid_grant",
                &[50074, 53000, 53003, 530_032, 65001],
            ),
            ("sign in", "consent_required", &[65001, 90094]),
            ("sign in", "access_denied", &[65004]),
            ("sign in", "authorization_declined", &[70017]),
            ("sign in", "expired_token", &[70019, 70020]),
            ("sign in", "bad_verification_code", &[70018]),
            ("configuration", "unauthorized_client", &[700_016]),
            (
                "configuration",
                "invalid_request",
                &[90002, 50011, 90038, 50194],
            ),
            (
                "configuration",
                "invalid_client",
                &[7_000_215, 7_000_222, 7_000_218, 700_025, 700_027],
            ),
            ("configuration", "invalid_scope", &[70011, 9_001_023]),
            ("unavailable", "temporarily_unavailable", &[0]),
            ("unavailable", "server_error", &[0]),
            (
                "unavailable",
                "invalid_grant",
                &[50033, 90006, 90024, 90033, 90055, 50196],
            ),
            ("unavailable", "something_new", &[999_999]),
        ] {
            for number in numbers {
                let text = format!("AADSTS{number}: so it is.\r\nTrace ID: x");
                assert_eq!(kind(error, &text), meaning, "{error} {number}");
            }
            let bare = kind(error, "");
            assert!(bare == meaning || meaning == "unavailable", "{error}");
        }
    }

    #[test]
    fn a_client_that_is_told_that_it_loops_stays_away_for_long() {
        let TokenError::Unavailable { retry_after, .. } =
            judged("invalid_grant", "AADSTS50196: loop")
        else {
            panic!("the token is as good as before")
        };
        assert_eq!(retry_after, Some(LOOP_PAUSE));
    }

    #[test]
    fn messages_keep_the_number_say_what_to_do_and_lose_the_trace() {
        let error = judged(
            "invalid_grant",
            "AADSTS50173: revoked.\r\nTrace ID: 1\r\nTimestamp: 2",
        );
        assert_eq!(error.to_string(), "AADSTS50173: revoked.");
        for (number, advice) in [
            (7_000_222, "drive.client_secret_file"),
            (700_084, "Mobile and desktop applications"),
            (700_016, "drive.client_id"),
            (90_038, "drive.cloud"),
            (53_003, "administrator"),
        ] {
            let text = judged("invalid_client", &format!("AADSTS{number}: no.")).to_string();
            assert!(
                text.contains(&number.to_string()) && text.contains(advice),
                "{text}"
            );
        }
    }

    #[test]
    fn claims_are_passed_on_as_they_came() {
        let refusal: Refusal = serde_json::from_str(
            r#"{"error":"interaction_required","error_codes":[50076],"claims":"{\"a\":1}"}"#,
        )
        .unwrap();
        let TokenError::SignIn { claims, .. } = judge(&refusal) else {
            panic!("a person is asked for")
        };
        assert_eq!(claims.as_deref(), Some(r#"{"a":1}"#));
    }
}
