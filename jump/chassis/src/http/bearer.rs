//! Tokens in `Authorization: Bearer`, compared in constant time.

use std::path::Path;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::Problem;
use crate::settings::{SecretError, read_secret, read_secret_lines};

/// The tokens that open a door; none, and it stays shut.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Vec<SecretString>);

/// Why the door stays shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 403: this program was given no token, so nobody may.
    Closed,
    /// 401: the request brought no token, or a wrong one.
    Stranger,
}

impl Bearer {
    /// Any of these tokens opens.
    #[must_use]
    pub fn new(tokens: Vec<SecretString>) -> Self {
        Self(tokens)
    }

    /// The one token in the file of an `admin.token_file` setting; an empty path leaves it shut.
    ///
    /// # Errors
    /// When the file cannot be read, is empty or holds several lines.
    pub fn from_token_file(path: &str) -> Result<Self, SecretError> {
        if path.is_empty() {
            return Ok(Self::default());
        }
        read_secret(Path::new(path)).map(|token| Self(vec![token]))
    }

    /// The tokens, one a line, in the file of a `tokens_file` setting; an empty path leaves it shut.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub fn from_tokens_file(path: &str) -> Result<Self, SecretError> {
        if path.is_empty() {
            return Ok(Self::default());
        }
        read_secret_lines(Path::new(path)).map(Self)
    }

    /// Whether there is any token at all.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// Lets a request in, or says why not.
    ///
    /// # Errors
    /// [`Denied::Closed`] without any token here, [`Denied::Stranger`] without the right one there.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        if self.0.is_empty() {
            return Err(Denied::Closed);
        }
        if token_in(headers).is_some_and(|token| self.opens(token)) {
            Ok(())
        } else {
            Err(Denied::Stranger)
        }
    }

    /// Whether this is one of the tokens. Every one is compared, so time tells nothing.
    #[must_use]
    pub fn opens(&self, token: &str) -> bool {
        self.0.iter().fold(false, |opens, known| {
            let same: bool = known
                .expose_secret()
                .as_bytes()
                .ct_eq(token.as_bytes())
                .into();
            opens | same
        })
    }
}

/// The token a request brings along.
fn token_in(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Closed => {
                Problem::of(StatusCode::FORBIDDEN, "No admin token is set up here.").response()
            }
            Self::Stranger => {
                let mut response =
                    Problem::of(StatusCode::UNAUTHORIZED, "A bearer token is needed.").response();
                let value = HeaderValue::from_static("Bearer");
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, value);
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bring(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_the_right_token_opens() {
        let door = Bearer::new(vec!["first".into(), "second".into()]);
        assert_eq!(door.check(&bring("Bearer second")), Ok(()));
        assert_eq!(door.check(&bring("bearer first")), Ok(()));
        for wrong in ["Bearer secon", "Bearer", "Basic first", "first", "Bearer "] {
            assert_eq!(door.check(&bring(wrong)), Err(Denied::Stranger), "{wrong}");
        }
        assert_eq!(door.check(&HeaderMap::new()), Err(Denied::Stranger));
    }

    #[test]
    fn without_a_token_of_ours_nobody_gets_in() {
        assert_eq!(
            Bearer::default().check(&bring("Bearer ")),
            Err(Denied::Closed)
        );
        assert_eq!(Denied::Closed.into_response().status(), 403);
    }
}
