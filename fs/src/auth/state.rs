//! How sign-in stands, and what that asks of a person.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How sign-in stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum AuthState {
    /// There is a token that works, as far as is known.
    SignedIn,
    /// A person has to act: `tuyunfs login`, or what the reason advises. What is cached is served,
    /// and changes are kept, meanwhile.
    SignInNeeded {
        /// What the service said.
        why: String,
        /// What the sign-in has to show in addition, as the service wrote it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claims: Option<String>,
    },
    /// The login authority cannot be reached. The token is as good as before.
    Unreachable {
        /// What failed.
        why: String,
    },
    /// The registration or the settings are wrong: signing in again would not help.
    Misconfigured {
        /// What the service said, and what to put right.
        why: String,
    },
}

impl AuthState {
    /// Its name in figures and in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::SignInNeeded { .. } => "sign_in_needed",
            Self::Unreachable { .. } => "unreachable",
            Self::Misconfigured { .. } => "misconfigured",
        }
    }

    /// What a person has to do, and why; `None` where nothing is to be done.
    #[must_use]
    pub fn to_do(&self) -> Option<String> {
        match self {
            Self::SignedIn | Self::Unreachable { .. } => None,
            Self::SignInNeeded { why, .. } => {
                Some(format!("sign-in is needed, run `tuyunfs login`: {why}"))
            }
            Self::Misconfigured { why } => Some(format!(
                "the sign-in is refused, put the settings or the app right: {why}"
            )),
        }
    }
}

/// How sign-in stands, since when, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How it stands.
    pub state: AuthState,
    /// Since when; at first, since the start.
    pub since: SystemTime,
    /// Until when the access token is good.
    pub access_until: Option<SystemTime>,
    /// When the refresh token was last used.
    pub refreshed: Option<SystemTime>,
    /// When the sign-in ends, if it is not used before.
    pub lasts_until: Option<SystemTime>,
    /// What a person should know before that.
    pub warning: Option<String>,
}
