//! What a node may say of itself besides who and where it is: how much it can carry, how busy it is,
//! whom it is near, and that it is about to leave.
//!
//! All of it is optional, and originals say nothing. A field that cannot be used is passed over: a
//! node is not turned away for an ornament.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest label; ISPs and provinces have shorter names.
const LABEL: usize = 64;

/// The largest capacity that counts, in Mbit/s: more is a slip of the keyboard.
const MOST_CAPACITY: u32 = 1_000_000;

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// How much it can send, in Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
    /// How much of that is in use, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<u8>,
    /// It finishes what it has and wants nobody new.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Whom it is near.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// Where somebody is in the network: a node, or a visitor. Kept in lower case, to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Labels {
    /// The provider, such as `telecom`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isp: Option<Box<str>>,
    /// The province or state, such as `guangdong`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub province: Option<Box<str>>,
    /// The country, such as `cn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<Box<str>>,
}

impl Report {
    /// Whether this can be a capacity, in Mbit/s.
    #[must_use]
    pub fn can_carry(mbits: u32) -> bool {
        (1..=MOST_CAPACITY).contains(&mbits)
    }

    /// What the fields of a heartbeat say besides its address.
    #[must_use]
    pub(crate) fn of(fields: &Map<String, Value>) -> Self {
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        Self {
            capacity: number("capacity")
                .and_then(|mbits| u32::try_from(mbits).ok())
                .filter(|mbits| Self::can_carry(*mbits)),
            load: number("load").map(|percent| u8::try_from(percent.min(100)).unwrap_or(100)),
            draining: fields.get("draining") == Some(&Value::Bool(true)),
            labels: fields
                .get("labels")
                .map(Labels::from_json)
                .unwrap_or_default(),
        }
    }
}

impl Labels {
    /// Labels from three texts; empty ones are none.
    #[must_use]
    pub fn new(isp: &str, province: &str, country: &str) -> Self {
        Self {
            isp: label(isp),
            province: label(province),
            country: label(country),
        }
    }

    /// Labels from `{"isp": "…", "province": "…", "country": "…"}`.
    #[must_use]
    pub fn from_json(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        Self::new(text("isp"), text("province"), text("country"))
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.isp.is_none() && self.province.is_none() && self.country.is_none()
    }

    /// The same, with what is not known here taken from there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            isp: self.isp.or(other.isp),
            province: self.province.or(other.province),
            country: self.country.or(other.country),
        }
    }
}

fn label(text: &str) -> Option<Box<str>> {
    let kept: String = text
        .trim()
        .chars()
        .filter(|letter| !letter.is_control())
        .take(LABEL)
        .flat_map(char::to_lowercase)
        .collect();
    (!kept.is_empty()).then(|| kept.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Report {
        Report::of(&serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_node_may_say_what_it_carries_and_whom_it_is_near() {
        let report = read(
            r#"{"capacity":50,"load":80,"draining":true,
                "labels":{"isp":" Telecom ","province":"广东","planet":"earth"}}"#,
        );
        assert_eq!((report.capacity, report.load), (Some(50), Some(80)));
        assert!(report.draining);
        assert_eq!(report.labels, Labels::new("telecom", "广东", ""));
    }

    #[test]
    fn what_cannot_be_used_is_passed_over() {
        assert_eq!(read("{}"), Report::default());
        let odd = r#"{"capacity":0,"load":-1,"draining":"yes","labels":["x"]}"#;
        assert_eq!(read(odd), Report::default());
        assert_eq!(
            read(r#"{"load":900,"capacity":4294967296}"#).load,
            Some(100)
        );
        let long = format!(r#"{{"labels":{{"isp":"{}\u0000"}}}}"#, "X".repeat(500));
        assert_eq!(read(&long).labels.isp.unwrap().len(), LABEL);
    }

    #[test]
    fn what_is_stored_is_read_back_and_nothing_is_written_for_nothing() {
        let report = read(r#"{"load":3,"labels":{"country":"CN"}}"#);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(text, r#"{"load":3,"labels":{"country":"cn"}}"#);
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert_eq!(serde_json::to_string(&Report::default()).unwrap(), "{}");
    }
}
