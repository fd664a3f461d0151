//! What a visitor hears when there is no picture.

use std::time::Duration;

use http::StatusCode;
use tuyun_chassis::http::Problem;

use crate::cache::{ChangeError, FetchError};

/// When to try again, if the origin has not said. A restart of the origin takes about so long.
const AGAIN: Duration = Duration::from_secs(5);

/// A fetch that failed. It never says 404: not known is not absent. It names no host either, the
/// origin's address is not the visitor's business.
pub(super) fn of_fetch(error: &FetchError) -> Problem {
    match error {
        FetchError::Unreachable { .. } => {
            bad_gateway("The origin cannot be reached.").retry_after(AGAIN)
        }
        FetchError::Refused {
            status: 429 | 503,
            retry_after,
            ..
        } => Problem::unavailable(
            "The origin cannot answer now.",
            retry_after.unwrap_or(AGAIN),
        ),
        FetchError::Refused { retry_after, .. } => {
            bad_gateway("The origin answered with an error.")
                .retry_after(retry_after.unwrap_or(AGAIN))
        }
        FetchError::Unusable { .. } => {
            bad_gateway("The origin's answer cannot be used.").retry_after(AGAIN)
        }
        FetchError::Resting { wait, .. } => {
            Problem::unavailable("The origin cannot be reached.", *wait)
        }
        FetchError::Busy => Problem::unavailable("Too many pictures are being fetched.", AGAIN),
        FetchError::GivenUp => Problem::unavailable("The fetch was given up.", AGAIN),
    }
}

/// A change of the cache that was not made.
pub(super) fn of_change(error: &ChangeError) -> Problem {
    tracing::warn!(
        error = error as &(dyn std::error::Error + 'static),
        "the cache was not changed"
    );
    match error {
        ChangeError::Index(_) | ChangeError::TooLate => {
            Problem::unavailable("The cache could not be changed.", AGAIN)
        }
    }
}

fn bad_gateway(msg: &'static str) -> Problem {
    Problem::of(StatusCode::BAD_GATEWAY, msg)
}
