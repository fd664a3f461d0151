//! What a refusal means: by status first, then by the service's own codes (section 8.4).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::ports::{DeltaLink, DriveError, LOCKED_VAULT};

/// What to do about a reply that is not a success.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Final: further tries change nothing, or are for others to decide on.
    Final(DriveError),
    /// The token was refused: get another one, once.
    Token {
        /// What was said.
        what: String,
        /// What the next token has to show in addition (a claims challenge).
        claims: Option<String>,
    },
    /// It did not take effect: try again after a while.
    Again(String),
    /// Nobody knows whether it took effect.
    Unclear(String),
    /// Keep silent for so long, all of us.
    Silence(Option<Duration>, String),
}

/// The parts of a refusal that count.
#[derive(Default)]
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
    /// `WWW-Authenticate`.
    pub(super) challenge: Option<String>,
    /// The request named the version that it is for.
    pub(super) conditional: bool,
    pub(super) body: &'a [u8],
}

/// What an error body says: the codes from the outside in, and the message. Empty and HTML bodies
/// say nothing.
struct Told {
    codes: Vec<String>,
    message: String,
}

impl Told {
    fn read(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Self {
                codes: Vec::new(),
                message: String::new(),
            };
        };
        let mut at = &body["error"];
        let message = at["message"].as_str().unwrap_or_default().to_owned();
        let mut codes = Vec::new();
        // Nested a few levels at most; a bound, since it comes from outside.
        for _ in 0..8 {
            codes.extend(
                at["code"]
                    .as_str()
                    .filter(|code| !code.is_empty())
                    .map(str::to_owned),
            );
            at = if at["innerError"].is_object() {
                &at["innerError"]
            } else {
                &at["innererror"]
            };
            if !at.is_object() {
                break;
            }
        }
        Self { codes, message }
    }

    fn has(&self, code: &str) -> bool {
        self.codes
            .iter()
            .any(|held| held.eq_ignore_ascii_case(code))
    }

    fn says(&self, text: &str) -> bool {
        self.message.to_lowercase().contains(text)
    }

    /// Messages are the service's own text and may be long.
    fn text(&self) -> String {
        self.message.chars().take(300).collect()
    }

    /// Open in Office, checked out, or being moved: said with several statuses (section 8.2).
    fn is_lock(&self) -> bool {
        self.has("resourceLocked")
            || ["locked for editing", "checked out", "lock token"]
                .iter()
                .any(|text| self.says(text))
    }

    /// The name is held by an upload that somebody has begun (trap T11).
    fn is_upload_under_way(&self) -> bool {
        self.says("upload session already exists") || self.says("currently being uploaded")
    }
}

/// Judges a refusal.
pub(super) fn judge(refusal: &Refusal<'_>) -> Verdict {
    let told = Told::read(refusal.body);
    let status = refusal.status;
    let code = told
        .codes
        .first()
        .cloned()
        .unwrap_or_else(|| format!("http {status}"));
    let what = format!("{status} {code}");
    let locked = || Verdict::Final(DriveError::Locked(told.text()));
    match status {
        401 => unauthorized(refusal, &told, what),
        // Each tells of one item: no reason to hold back the others.
        423 => locked(),
        403 | 409 if told.is_lock() || (status == 409 && told.is_upload_under_way()) => locked(),
        403 if told.has("quotaLimitReached") || told.has("insufficientStorage") => {
            Verdict::Final(DriveError::QuotaFull)
        }
        404 => Verdict::Final(DriveError::NotFound),
        // The service's own race on quick saves (trap T22).
        409 if told.has("resourceModified") => Verdict::Again(what),
        409 => Verdict::Final(DriveError::NameTaken),
        412 if !refusal.conditional => Verdict::Again(what),
        412 => Verdict::Final(DriveError::Conflict),
        410 => Verdict::Final(resync(refusal, &told)),
        400 if told.has("syncStateNotFound") || told.has("resyncRequired") => {
            Verdict::Final(resync(refusal, &told))
        }
        400 if told.says("change tracking is not supported")
            || told.says("view.delta can only be called") =>
        {
            Verdict::Final(DriveError::NotSupported(told.text()))
        }
        // A locked vault, or a folder of the service's own: unreadable, and no reason to stop
        // looking at the rest (trap T28).
        400 if told.says("objecthandle is invalid") => Verdict::Final(DriveError::Refused {
            code: LOCKED_VAULT.into(),
            message: told.text(),
        }),
        501 => Verdict::Final(DriveError::NotSupported(told.text())),
        507 => Verdict::Final(DriveError::QuotaFull),
        429 | 509 => Verdict::Silence(refusal.retry_after, what),
        500 | 502 | 503 | 504 if refusal.retry_after.is_some() => {
            Verdict::Silence(refusal.retry_after, what)
        }
        // Some of these come after the effect took place (section 7.3, trap T15). A range that
        // does not fit an upload session may be there already (trap T13).
        // A redirect is not the service's, but of something on the way to it.
        300..=399 | 408 | 416 | 500 | 502 | 503 | 504 => Verdict::Unclear(what),
        _ => Verdict::Final(DriveError::Refused {
            code: told.innermost(code),
            message: told.text(),
        }),
    }
}

fn unauthorized(refusal: &Refusal<'_>, told: &Told, what: String) -> Verdict {
    // A back end that lost its own sign-in says so with 401, and recovers (trap T27).
    if told.says("unable to initialize rps") {
        return Verdict::Again(what);
    }
    let claims = refusal.challenge.as_deref().and_then(claims);
    Verdict::Token { what, claims }
}

/// The claims of a challenge `Bearer …, error="insufficient_claims", claims="<base64>"`, as the
/// token endpoint takes them.
fn claims(challenge: &str) -> Option<String> {
    let (_, rest) = challenge.split_once("claims=\"")?;
    let (encoded, _) = rest.split_once('"')?;
    let encoded = encoded.trim_end_matches('=');
    let decoded = STANDARD_NO_PAD
        .decode(encoded)
        .or_else(|_| URL_SAFE_NO_PAD.decode(encoded))
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    serde_json::from_str::<Value>(&text).ok()?;
    Some(text)
}

fn resync(refusal: &Refusal<'_>, told: &Told) -> DriveError {
    DriveError::Resync {
        start: refusal.location.clone().map(DeltaLink),
        keep_local: told.has("resyncChangesUploadDifferences")
            || told.has("resyncUploadDifferences"),
    }
}

impl Told {
    /// The outer codes are general (`invalidRequest`), the inner ones say what it is about.
    fn innermost(&self, otherwise: String) -> String {
        self.codes.last().cloned().unwrap_or(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> String {
        told(&Refusal {
            status,
            conditional: true,
            body: body.as_bytes(),
            ..Refusal::default()
        })
    }

    fn told(refusal: &Refusal<'_>) -> String {
        match judge(refusal) {
            Verdict::Final(error) => format!("{error:?}"),
            Verdict::Token { claims: None, .. } => "token".into(),
            Verdict::Token {
                claims: Some(claims),
                ..
            } => format!("claims {claims}"),
            Verdict::Again(_) => "again".into(),
            Verdict::Unclear(_) => "unclear".into(),
            Verdict::Silence(silence, _) => format!("silence {silence:?}"),
        }
    }

    fn error(code: &str, inner: &str, message: &str) -> String {
        format!(
            r#"{{"error":{{"code":"{code}","message":"{message}","innererror":{{"code":"{inner}"}}}}}}"#
        )
    }

    #[test]
    fn each_refusal_is_what_the_reference_says_it_is() {
        for (status, body, meaning) in [
            (404, error("itemNotFound", "", ""), "NotFound"),
            (404, "<html>".into(), "NotFound"),
            (409, error("nameAlreadyExists", "", ""), "NameTaken"),
            (409, error("resourceModified", "", ""), "again"),
            (412, String::new(), "Conflict"),
            (308, String::new(), "unclear"),
            (408, String::new(), "unclear"),
            (416, error("invalidRange", "fragmentOverlap", ""), "unclear"),
            (423, error("resourceLocked", "", "open"), "Locked(\"open\")"),
            (
                403,
                error("notAllowed", "resourceLocked", "open"),
                "Locked(\"open\")",
            ),
            (429, "<html>".into(), "silence None"),
            (500, String::new(), "unclear"),
            (503, String::new(), "unclear"),
            (507, String::new(), "QuotaFull"),
            (509, String::new(), "silence None"),
            (
                403,
                error("accessDenied", "quotaLimitReached", ""),
                "QuotaFull",
            ),
            (
                400,
                error("resyncRequired", "", ""),
                "Resync { start: None, keep_local: false }",
            ),
        ] {
            assert_eq!(judged(status, &body), meaning, "{status} {body}");
        }
    }

    #[test]
    fn a_refusal_is_named_by_its_innermost_code() {
        assert_eq!(
            judged(400, &error("invalidRequest", "pathIsTooLong", "no")),
            "Refused { code: \"pathIsTooLong\", message: \"no\" }"
        );
        assert_eq!(
            judged(405, ""),
            "Refused { code: \"http 405\", message: \"\" }"
        );
    }

    #[test]
    fn locks_are_told_by_text_where_the_code_does_not() {
        let text = "The file is locked for editing by Ada";
        let locked = format!("Locked(\"{text}\")");
        assert_eq!(judged(403, &error("accessDenied", "", text)), locked);
        assert_eq!(judged(409, &error("-1", "", text)), locked);
        let busy = "An upload session already exists for this file";
        let taken = error("nameAlreadyExists", "", busy);
        assert_eq!(judged(409, &taken), format!("Locked(\"{busy}\")"));
    }

    #[test]
    fn a_401_is_the_tokens_fault_or_the_back_ends_or_asks_for_a_person() {
        assert_eq!(judged(401, ""), "token");
        let lost = error("generalException", "", "Unable to initialize RPS");
        assert_eq!(judged(401, &lost), "again");
        for (challenge, meaning) in [
            (
                "error=\"insufficient_claims\", claims=\"e30=\"",
                "claims {}",
            ),
            (
                "claims=\"eyJhIjoxfQ\", error=\"insufficient_claims\"",
                "claims {\"a\":1}",
            ),
            ("error=\"insufficient_claims\", claims=\"odd!\"", "token"),
            ("error=\"invalid_token\"", "token"),
        ] {
            let refusal = Refusal {
                status: 401,
                challenge: Some(format!("Bearer realm=\"\", {challenge}")),
                ..Refusal::default()
            };
            assert_eq!(told(&refusal), meaning, "{challenge}");
        }
    }

    #[test]
    fn a_412_without_a_condition_is_the_services_own_race() {
        assert_eq!(
            told(&Refusal {
                status: 412,
                ..Refusal::default()
            }),
            "again"
        );
    }

    #[test]
    fn a_server_error_that_names_a_time_asks_for_silence() {
        let retry_after = Some(Duration::from_secs(7));
        let refusal = Refusal {
            status: 503,
            retry_after,
            ..Refusal::default()
        };
        assert_eq!(told(&refusal), "silence Some(7s)");
        let refusal = Refusal {
            status: 423,
            retry_after,
            ..Refusal::default()
        };
        assert_eq!(told(&refusal), "Locked(\"\")");
    }

    #[test]
    fn a_lost_delta_says_where_to_start_and_whose_word_counts() {
        let body = error("resyncRequired", "resyncChangesUploadDifferences", "");
        let location = Some("https://graph.test/v1.0/x".to_owned());
        let refusal = Refusal {
            status: 410,
            location,
            body: body.as_bytes(),
            ..Refusal::default()
        };
        assert_eq!(
            told(&refusal),
            "Resync { start: Some(DeltaLink(\"https://graph.test/v1.0/x\")), keep_local: true }"
        );
        let none = error("x", "", "Change tracking is not supported against it");
        assert!(judged(400, &none).starts_with("NotSupported"));
    }
}
