//! May this message be believed?
//!
//! Either the body carries a token of the node's, or the request is signed with one: then within
//! 300 s of its time and once only.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tuyun_protocol::{BadSignature, NodeId, Signature, Standing, Token, TokenBook, UPDATE_PATH};

use crate::fresh::Fresh;
use crate::roster::MOST_NODES;

/// Nonces remembered for one node: a heartbeat each second for ten minutes is 600. A node that
/// sends more is refused until the oldest are forgotten, and harms nobody else.
const MOST_NONCES: usize = 4096;

/// Decides who is believed.
#[derive(Debug)]
pub struct Admission {
    book: Fresh<TokenBook>,
    require_signed: bool,
    seen: Mutex<Seen>,
}

/// A message from a node, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The HTTP method, which is signed too.
    pub method: &'a str,
    /// The body as it came.
    pub body: &'a [u8],
    /// Who it says it is from.
    pub id: &'a NodeId,
    /// The token in the body.
    pub token: Option<&'a Token>,
    /// The signature in the headers.
    pub signature: Option<&'a Signature>,
}

/// How a message proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// By whose token.
    pub standing: Standing,
    /// Whether it was signed.
    pub signed: bool,
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No token of this node's fits.
    #[error("the token or signature is not this node's")]
    Token,
    /// Tokens in bodies are not accepted here.
    #[error("heartbeats have to be signed here; set `auth = \"signed\"` in the node's [jump]")]
    Unsigned,
    /// The signature's headers are not right, or its time is not.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The same signature came before, or there is no room to know that it did not.
    #[error("this signature was used before, or too many were")]
    Replay,
}

impl Admission {
    /// Believes those whom the book knows.
    #[must_use]
    pub fn new(book: Fresh<TokenBook>, require_signed: bool) -> Self {
        Self {
            book,
            require_signed,
            seen: Mutex::default(),
        }
    }

    /// Believes a message or not; `now` in unix seconds.
    ///
    /// # Errors
    /// Says what is wrong, for the log and for whoever sets up a node.
    pub fn admit(&self, message: &Message<'_>, now: u64) -> Result<Proof, Refused> {
        let Some(signature) = message.signature else {
            if self.require_signed {
                return Err(Refused::Unsigned);
            }
            let token = message.token.ok_or(Refused::Token)?;
            let fits = |known: &Token| known.matches(token.expose());
            let standing = self
                .book
                .load()
                .recognise(message.id, fits)
                .ok_or(Refused::Token)?;
            return Ok(Proof {
                standing,
                signed: false,
            });
        };
        signature.check_time(now)?;
        let fits = |known: &Token| signature.fits(known, message.method, UPDATE_PATH, message.body);
        let standing = self
            .book
            .load()
            .recognise(message.id, fits)
            .ok_or(Refused::Token)?;
        // Remembered only now: what strangers invent takes no memory.
        self.seen
            .lock()
            .first_time(message.id, signature.nonce().number(), now)?;
        Ok(Proof {
            standing,
            signed: true,
        })
    }
}

/// The nonces of the last while, by node.
#[derive(Debug, Default)]
struct Seen(HashMap<NodeId, VecDeque<(u128, u64)>>);

impl Seen {
    fn first_time(&mut self, id: &NodeId, nonce: u128, now: u64) -> Result<(), Refused> {
        // Signed up to one window in the future, it stays valid for one more after that.
        let forget = now + 2 * Signature::WINDOW.as_secs();
        if self.0.len() >= MOST_NODES && !self.0.contains_key(id) {
            self.0
                .retain(|_, nonces| nonces.back().is_some_and(|(_, until)| *until >= now));
        }
        let nonces = self.0.entry(id.clone()).or_default();
        while nonces.front().is_some_and(|(_, until)| *until < now) {
            nonces.pop_front();
        }
        if nonces.len() >= MOST_NONCES || nonces.iter().any(|(known, _)| *known == nonce) {
            return Err(Refused::Replay);
        }
        nonces.push_back((nonce, forget));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tuyun_protocol::Nonce;

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const BODY: &[u8] = b"{}";

    fn admission(require_signed: bool) -> Admission {
        let book = TokenBook::parse("1 one\n* all\n").unwrap();
        let book = std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(book));
        Admission::new(book, require_signed)
    }

    fn by_token(admission: &Admission, id: &str, token: &str) -> Result<Proof, Refused> {
        let (id, token) = (id.parse().unwrap(), Token::new(token));
        let message = Message {
            method: "POST",
            body: BODY,
            id: &id,
            token: Some(&token),
            signature: None,
        };
        admission.admit(&message, NOW)
    }

    fn signed(
        admission: &Admission,
        id: &str,
        token: &str,
        nonce: u128,
        at: u64,
    ) -> Result<Proof, Refused> {
        let (id, nonce) = (id.parse().unwrap(), Nonce::from_random(nonce));
        let signature = Signature::sign(&Token::new(token), "POST", UPDATE_PATH, at, nonce, BODY);
        let message = Message {
            method: "POST",
            body: BODY,
            id: &id,
            token: None,
            signature: Some(&signature),
        };
        admission.admit(&message, NOW)
    }

    #[test]
    fn a_token_or_a_signature_is_believed() {
        let ours = admission(false);
        let own = Standing::Own;
        assert_eq!(
            by_token(&ours, "1", "one"),
            Ok(Proof {
                standing: own,
                signed: false
            })
        );
        assert_eq!(
            signed(&ours, "1", "one", 1, NOW),
            Ok(Proof {
                standing: own,
                signed: true
            })
        );
        let shared = Standing::Shared;
        assert_eq!(
            signed(&ours, "2", "all", 1, NOW),
            Ok(Proof {
                standing: shared,
                signed: true
            })
        );
    }

    #[test]
    fn nobody_speaks_for_a_node_with_its_own_token() {
        let ours = admission(false);
        assert_eq!(by_token(&ours, "1", "all"), Err(Refused::Token));
        assert_eq!(signed(&ours, "1", "all", 1, NOW), Err(Refused::Token));
    }

    #[test]
    fn where_signatures_are_required_a_token_is_refused() {
        assert_eq!(
            by_token(&admission(true), "1", "one"),
            Err(Refused::Unsigned)
        );
        assert!(signed(&admission(true), "1", "one", 1, NOW).is_ok());
    }

    #[test]
    fn a_signature_counts_once_and_in_its_time() {
        let ours = admission(false);
        assert!(signed(&ours, "1", "one", 7, NOW).is_ok());
        assert_eq!(signed(&ours, "1", "one", 7, NOW), Err(Refused::Replay));
        assert!(
            signed(&ours, "2", "all", 7, NOW).is_ok(),
            "another node's nonces are its own"
        );
        let late = Err(Refused::Signature(BadSignature::Time(301)));
        assert_eq!(signed(&ours, "1", "one", 8, NOW - 301), late);
        assert_eq!(signed(&ours, "1", "one", 9, NOW + 301), late);
    }

    #[test]
    fn nonces_are_remembered_as_long_as_their_signature_could_count() {
        let mut seen = Seen::default();
        let id = "1".parse().unwrap();
        assert_eq!(seen.first_time(&id, 7, NOW), Ok(()));
        assert_eq!(seen.first_time(&id, 7, NOW + 600), Err(Refused::Replay));
        assert_eq!(seen.first_time(&id, 7, NOW + 601), Ok(()));
    }

    #[test]
    fn one_node_cannot_take_all_memory() {
        let mut seen = Seen::default();
        let id = "1".parse().unwrap();
        for nonce in 0..MOST_NONCES as u128 {
            seen.first_time(&id, nonce, NOW).unwrap();
        }
        assert_eq!(seen.first_time(&id, u128::MAX, NOW), Err(Refused::Replay));
        assert_eq!(seen.first_time(&"2".parse().unwrap(), 0, NOW), Ok(()));
    }
}
