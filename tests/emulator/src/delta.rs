//! Rounds of delta and the tokens that lead through them.
//!
//! A round fixes which items it lists when it begins, and shows each in its latest state when its
//! page is asked for: state, not events. Tokens are opaque text to the client; to us they are a
//! small JSON in base64.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// So many rounds are remembered; the nextLink of an older one is too old.
const KEPT: usize = 64;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Token {
    /// What changed since.
    Since {
        epoch: u64,
        seq: u64,
        folder: String,
        select: Option<String>,
    },
    /// The rest of a round.
    Rest { round: u64, offset: usize },
}

impl Token {
    pub(crate) fn encode(&self) -> String {
        // A map of plain numbers and text always serialises.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Refusal> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| Refusal::invalid("The delta token is invalid."))
    }
}

/// One enumeration in progress.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) drive: usize,
    pub(crate) folder: String,
    /// The last change that the round covers; the next one begins after it.
    pub(crate) upto: u64,
    pub(crate) epoch: u64,
    pub(crate) select: Option<String>,
    pub(crate) rows: std::sync::Arc<Vec<String>>,
}

/// The rounds in progress.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    open: BTreeMap<u64, Round>,
    next: u64,
}

impl Rounds {
    pub(crate) fn open(&mut self, round: Round) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, round);
        while self.open.len() > KEPT {
            self.open.pop_first();
        }
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Round> {
        self.open.get(&number)
    }
}

/// 410: the token is too old.
pub(crate) fn resync(code: &str, top: bool, location: Option<String>) -> Refusal {
    let message = "Resync required. Replace any local items with the server's version.";
    let refusal = if top {
        Refusal::new(410, code.to_owned(), message)
    } else {
        Refusal::new(410, "resyncRequired", message).inner(code.to_owned())
    };
    match location {
        Some(location) => refusal.header(http::header::LOCATION, location),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_it_was_written_and_garbage_is_refused() {
        let token = Token::Since {
            epoch: 1,
            seq: 9,
            folder: "f".into(),
            select: None,
        };
        assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        assert!(Token::decode("garbage").is_err());
    }
}
