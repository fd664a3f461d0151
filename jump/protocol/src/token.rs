//! The secret that a node shares with jump, and the book in which jump keeps them.

use std::collections::HashMap;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::NodeId;

/// A secret; it prints as nothing.
#[derive(Clone)]
pub struct Token(SecretString);

impl Token {
    /// Takes the text as it stands in its file, without the white space around it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().into())
    }

    /// Whether this text is the token, in constant time.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.expose().as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// The token itself, for the line that puts it into a body or a signature.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<SecretString> for Token {
    fn from(secret: SecretString) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Jump's token file: lines of `server_id token`, or `* token` for every node without a line of
/// its own; a line of one word means that too. `#` begins a comment line.
#[derive(Clone, Debug, Default)]
pub struct TokenBook {
    own: HashMap<NodeId, Vec<Token>>,
    shared: Vec<Token>,
}

/// By which token a node was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// By the token that only this node has.
    Own,
    /// By one that others have too.
    Shared,
}

/// A line of the token file that says nothing usable. The line itself is not repeated: it may
/// hold a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is neither `server_id token` nor `* token`")]
pub struct BadTokenBook {
    /// Which line, from 1.
    pub line: usize,
}

impl TokenBook {
    /// Reads the text of a token file. Two lines for one node are two tokens, so that a token can
    /// be replaced without a gap.
    ///
    /// # Errors
    /// When a line has more than two words, or the first of two is no node's id.
    pub fn parse(text: &str) -> Result<Self, BadTokenBook> {
        let mut book = Self::default();
        for (index, line) in text.lines().enumerate() {
            let bad = BadTokenBook { line: index + 1 };
            if line.trim_start().starts_with('#') {
                continue;
            }
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                [token] | ["*", token] => book.shared.push(Token::new(token)),
                [id, token] => {
                    let id = NodeId::parse(id).map_err(|_| bad)?;
                    book.own.entry(id).or_default().push(Token::new(token));
                }
                _ => return Err(bad),
            }
        }
        Ok(book)
    }

    /// Whether there is no token at all, so that no node can ever report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }

    /// How this node stands, if one of the tokens it may use fits. With a line of its own a node
    /// cannot be spoken for by another, so the shared tokens do not count for it.
    pub fn recognise(&self, id: &NodeId, fits: impl Fn(&Token) -> bool) -> Option<Standing> {
        let any = |tokens: &[Token]| {
            tokens
                .iter()
                .fold(false, |found, token| found | fits(token))
        };
        match self.own.get(id) {
            Some(own) => any(own).then_some(Standing::Own),
            None => any(&self.shared).then_some(Standing::Shared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(book: &TokenBook, id: &str, text: &str) -> Option<Standing> {
        book.recognise(&id.parse().unwrap(), |token| token.matches(text))
    }

    #[test]
    fn a_node_with_its_own_line_cannot_be_spoken_for() {
        let book = TokenBook::parse("# ours\n1 one\n* all\nbare\n\n1 next\n").unwrap();
        assert_eq!(standing(&book, "1", "one"), Some(Standing::Own));
        assert_eq!(standing(&book, "1", "next"), Some(Standing::Own));
        assert_eq!(standing(&book, "1", "all"), None);
        assert_eq!(standing(&book, "2", "all"), Some(Standing::Shared));
        assert_eq!(standing(&book, "2", "bare"), Some(Standing::Shared));
        assert_eq!(standing(&book, "2", "one"), None);
    }

    #[test]
    fn a_line_that_says_nothing_is_named_by_its_number() {
        assert_eq!(TokenBook::parse("1 one\na b c\n").unwrap_err().line, 2);
        assert_eq!(TokenBook::parse("a:b token\n").unwrap_err().line, 1);
        assert!(TokenBook::parse("\n# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn a_token_does_not_print() {
        assert_eq!(format!("{:?}", Token::new("secret")), "Token(..)");
        assert!(!format!("{:?}", TokenBook::parse("1 secret").unwrap()).contains("secret"));
    }
}
