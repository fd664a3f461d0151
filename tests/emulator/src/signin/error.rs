//! Errors of the login host, with their AADSTS numbers.

use jiff::Timestamp;
use serde_json::json;

use crate::{ids, refusal::Refusal};

/// An error of the token or device code endpoint.
pub(crate) fn oauth(
    status: u16,
    error: &str,
    number: u32,
    message: &str,
    now: Timestamp,
) -> Refusal {
    let (trace, correlation) = (ids::request_id(), ids::request_id());
    let stamp = format!("{now:.0}").replace('T', " ");
    let mut body = json!({
        "error": error,
        "error_description": format!(
            "AADSTS{number}: {message}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\n\
             Timestamp: {stamp}"
        ),
        "error_codes": [number],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
    });
    if error == "interaction_required" {
        body["suberror"] = "basic_action".into();
        body["claims"] =
            "{\"access_token\":{\"capolids\":{\"essential\":true,\"values\":[\"policy\"]}}}".into();
    }
    Refusal::whole(status, body)
}

/// What the number means, for injected errors.
pub(crate) fn meaning(number: u32) -> &'static str {
    match number {
        50173 => "The provided grant has expired due to it being revoked.",
        50076 | 50079 => {
            "Due to a configuration change made by your administrator, you must use multi-factor \
             authentication."
        }
        70008 | 700_082 => "The refresh token has expired due to inactivity.",
        70000 => "Provided grant is invalid or malformed.",
        _ => "The request was refused.",
    }
}
