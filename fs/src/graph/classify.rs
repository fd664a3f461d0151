//! What a refusal means: by status first, then by the service's own codes (section 8.4).

use std::time::Duration;

use serde_json::Value;

use crate::ports::{DeltaLink, DriveError};

/// What to do about a reply that is not a success.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Final: further tries change nothing, or are for others to decide on.
    Final(DriveError),
    /// The token was refused: get another one, once.
    Token(String),
    /// Try again after a while of our own choosing.
    Again(String),
    /// Keep silent for so long, all of us.
    Silence(Option<Duration>, String),
}

/// The parts of a refusal that count.
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
    pub(super) body: &'a [u8],
}

/// All codes of an error body from the outside in, and its message. Empty and HTML bodies have none.
fn codes(body: &[u8]) -> (Vec<String>, String) {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return (Vec::new(), String::new());
    };
    let mut at = &body["error"];
    let message = at["message"].as_str().unwrap_or_default().to_owned();
    let mut codes = Vec::new();
    // Nested a few levels at most; a bound, since it comes from outside.
    for _ in 0..8 {
        codes.extend(at["code"].as_str().map(str::to_owned));
        at = if at["innerError"].is_object() {
            &at["innerError"]
        } else {
            &at["innererror"]
        };
        if !at.is_object() {
            break;
        }
    }
    (codes, message)
}

/// Judges a refusal.
pub(super) fn judge(refusal: &Refusal<'_>) -> Verdict {
    let (codes, message) = codes(refusal.body);
    let has = |code: &str| codes.iter().any(|held| held.eq_ignore_ascii_case(code));
    let code = codes
        .first()
        .cloned()
        .unwrap_or_else(|| format!("http {}", refusal.status));
    let refused = || DriveError::Refused {
        code: code.clone(),
        message: shortened(&message),
    };
    let what = format!("{} {code}", refusal.status);
    let lower = message.to_lowercase();
    let lock = ["locked for editing", "checked out", "lock token"]
        .iter()
        .any(|t| lower.contains(t));
    match refusal.status {
        // A back end that lost its own sign-in says so with 401, and recovers (trap T27).
        401 if lower.contains("unable to initialize rps") => Verdict::Again(what),
        401 => Verdict::Token(what),
        404 if has("ResourceNotFound") || has("itemNotFound") || codes.is_empty() => {
            Verdict::Final(DriveError::NotFound)
        }
        404 => Verdict::Final(DriveError::NotFound),
        403 | 423 if refusal.status == 423 || lock || has("resourceLocked") => {
            match refusal.retry_after {
                Some(silence) => Verdict::Silence(Some(silence), what),
                None => Verdict::Final(DriveError::Locked(shortened(&message))),
            }
        }
        409 if lock => Verdict::Final(DriveError::Locked(shortened(&message))),
        // The service's own race on quick saves (trap T22).
        409 if has("resourceModified") => Verdict::Again(what),
        409 => Verdict::Final(DriveError::NameTaken),
        410 => Verdict::Final(resync(
            refusal,
            has("resyncChangesUploadDifferences") || has("resyncUploadDifferences"),
        )),
        400 if has("syncStateNotFound") || has("resyncRequired") => {
            Verdict::Final(resync(refusal, false))
        }
        400 if lower.contains("change tracking is not supported")
            || lower.contains("view.delta can only be called") =>
        {
            Verdict::Final(DriveError::NotSupported(shortened(&message)))
        }
        501 => Verdict::Final(DriveError::NotSupported(shortened(&message))),
        412 => Verdict::Final(DriveError::Conflict),
        507 => Verdict::Final(DriveError::QuotaFull),
        403 if has("quotaLimitReached") || has("insufficientStorage") => {
            Verdict::Final(DriveError::QuotaFull)
        }
        429 | 509 => Verdict::Silence(refusal.retry_after, what),
        500 | 502 | 503 | 504 => match refusal.retry_after {
            Some(silence) => Verdict::Silence(Some(silence), what),
            None => Verdict::Again(what),
        },
        408 => Verdict::Again(what),
        _ => Verdict::Final(refused()),
    }
}

fn resync(refusal: &Refusal<'_>, keep_local: bool) -> DriveError {
    DriveError::Resync {
        start: refusal.location.clone().map(DeltaLink),
        keep_local,
    }
}

/// Messages are the service's own text and may be long.
fn shortened(message: &str) -> String {
    message.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> String {
        let body = body.as_bytes();
        let refusal = Refusal {
            status,
            retry_after: None,
            location: None,
            body,
        };
        match judge(&refusal) {
            Verdict::Final(error) => format!("{error:?}"),
            Verdict::Token(_) => "token".into(),
            Verdict::Again(_) => "again".into(),
            Verdict::Silence(..) => "silence".into(),
        }
    }

    fn error(code: &str, inner: &str, message: &str) -> String {
        format!(
            r#"{{"error":{{"code":"{code}","message":"{message}","innererror":{{"code":"{inner}"}}}}}}"#
        )
    }

    #[test]
    fn each_refusal_is_what_the_reference_says_it_is() {
        assert_eq!(judged(404, &error("itemNotFound", "", "")), "NotFound");
        assert_eq!(
            judged(409, &error("nameAlreadyExists", "", "")),
            "NameTaken"
        );
        assert_eq!(judged(409, &error("resourceModified", "", "")), "again");
        assert_eq!(judged(412, ""), "Conflict");
        assert_eq!(judged(401, ""), "token");
        assert_eq!(
            judged(
                401,
                &error("generalException", "", "Unable to initialize RPS")
            ),
            "again"
        );
        assert_eq!(
            judged(423, &error("resourceLocked", "", "open")),
            "Locked(\"open\")"
        );
        assert_eq!(
            judged(403, &error("accessDenied", "", "it is locked for editing")),
            "Locked(\"it is locked for editing\")"
        );
        assert_eq!(judged(429, "<html>"), "silence");
        assert_eq!(judged(503, ""), "again");
        assert_eq!(judged(507, ""), "QuotaFull");
        assert_eq!(
            judged(400, &error("invalidRequest", "invalidPath", "no")),
            "Refused { code: \"invalidRequest\", message: \"no\" }"
        );
        assert_eq!(
            judged(
                410,
                &error("resyncRequired", "resyncChangesUploadDifferences", "")
            ),
            "Resync { start: None, keep_local: true }"
        );
        assert!(
            judged(
                400,
                &error("x", "", "Change tracking is not supported against")
            )
            .starts_with("NotSupported")
        );
    }
}
