//! A node's id: a number in the programs of others, a name if you like in ours.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// The longest id: it stands in Redis keys, metrics and pages.
const LONGEST: usize = 64;

/// A checked id: 1 to 64 of `A-Z a-z 0-9 _ -`, and not `0`.
///
/// Ids order by priority: numbers ascending, then names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NodeId(Box<str>);

/// Why something is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNodeId {
    /// Absent, null, false, 0 or empty: what the originals count as not given.
    #[error("server_id is missing")]
    Missing,
    /// Given, but not an id.
    #[error("server_id is not 1 to 64 letters, digits, `_` or `-`")]
    Malformed,
}

impl NodeId {
    /// Reads an id from text.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn parse(text: &str) -> Result<Self, BadNodeId> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        match text {
            "" | "0" => Err(BadNodeId::Missing),
            text if text.len() <= LONGEST && text.bytes().all(fits) => Ok(Self(text.into())),
            _ => Err(BadNodeId::Malformed),
        }
    }

    /// Reads an id from JSON: a number or a string, `1` and `"1"` being the same.
    ///
    /// # Errors
    /// When it is missing or malformed.
    pub fn from_json(value: Option<&Value>) -> Result<Self, BadNodeId> {
        match value {
            None | Some(Value::Null | Value::Bool(false)) => Err(BadNodeId::Missing),
            Some(Value::String(text)) => Self::parse(text),
            Some(Value::Number(number)) if number.as_f64() == Some(0.0) => Err(BadNodeId::Missing),
            Some(Value::Number(number)) => Self::parse(&number.to_string()),
            Some(Value::Bool(true) | Value::Array(_) | Value::Object(_)) => {
                Err(BadNodeId::Malformed)
            }
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number it is, if it is one: those come first.
    fn number(&self) -> Option<i128> {
        // 64 digits do not fit; such an id is a name that looks like a number.
        self.0.parse().ok()
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.number(), other.number()) {
            (Some(mine), Some(theirs)) => mine.cmp(&theirs).then_with(|| self.0.cmp(&other.0)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.0.cmp(&other.0),
        }
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for NodeId {
    type Err = BadNodeId;

    fn from_str(text: &str) -> Result<Self, BadNodeId> {
        Self::parse(text)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_and_its_text_are_the_same_id() {
        let number = NodeId::from_json(Some(&json!(1))).unwrap();
        assert_eq!(number, NodeId::from_json(Some(&json!("1"))).unwrap());
        assert_eq!(number.as_str(), "1");
    }

    #[test]
    fn what_the_originals_count_as_empty_is_missing() {
        for value in [
            json!(null),
            json!(false),
            json!(0),
            json!(0.0),
            json!(""),
            json!("0"),
        ] {
            assert_eq!(
                NodeId::from_json(Some(&value)),
                Err(BadNodeId::Missing),
                "{value}"
            );
        }
        assert_eq!(NodeId::from_json(None), Err(BadNodeId::Missing));
    }

    #[test]
    fn what_could_break_a_key_is_malformed() {
        let long = "a".repeat(65);
        for value in [
            json!(true),
            json!([1]),
            json!({}),
            json!(1.5),
            json!("a b"),
            json!("a:b"),
            json!("图"),
            json!("a\n"),
            json!("*"),
            json!(long),
        ] {
            assert_eq!(
                NodeId::from_json(Some(&value)),
                Err(BadNodeId::Malformed),
                "{value}"
            );
        }
        assert!(NodeId::parse(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn numbers_come_in_their_order_and_before_names() {
        let mut ids: Vec<NodeId> = ["b", "10", "a", "2", "1", "Z-9"]
            .iter()
            .map(|id| id.parse().unwrap())
            .collect();
        ids.sort();
        let order: Vec<_> = ids.iter().map(NodeId::as_str).collect();
        assert_eq!(order, ["1", "2", "10", "Z-9", "a", "b"]);
    }
}
