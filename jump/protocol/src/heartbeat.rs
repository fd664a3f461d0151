//! What a node says to jump: I live, under this address; or: I leave.
//!
//! Originals send `token`, `server_id` and `url` and ignore all else; so do we with fields that we
//! do not know. A signed heartbeat omits `token`.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{BadBase, BadNodeId, Base, NodeId, Report, Token};

/// The longest text that is kept of a field we only show.
const SHOWN: usize = 64;

/// A node's sign of life.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Who.
    pub server_id: NodeId,
    /// Under which address visitors reach it.
    pub whereabouts: Whereabouts,
    /// How long this sign counts; jump has a maximum of its own.
    pub ttl: Option<Duration>,
    /// The program and its version, for the status page. Originals say nothing.
    pub version: Option<String>,
    /// What else it says of itself.
    pub report: Report,
}

/// Where a node can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Here.
    At(Base),
    /// At the address this heartbeat comes from (`url: "auto"`).
    Auto {
        /// The scheme it listens with.
        scheme: Scheme,
        /// The port it listens on.
        port: u16,
    },
}

/// How a node that does not know its address is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

/// A node's last word.
#[derive(Clone, Debug)]
pub struct Farewell {
    /// Who.
    pub server_id: NodeId,
}

/// What came, and the token it came with if it was not signed.
#[derive(Clone, Debug)]
pub struct Claim<T> {
    /// The message.
    pub message: T,
    /// The token in the body.
    pub token: Option<Token>,
}

/// Why a message from a node cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeartbeat {
    /// Not a JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// A field is absent or empty.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// The id cannot be used.
    #[error("`server_id` is not 1 to 64 letters, digits, `_` or `-`")]
    NodeId,
    /// The address cannot be used.
    #[error("`url` cannot be used: {0}")]
    Url(BadBase),
    /// `url` is `auto`, and what has to come with it does not.
    #[error("`url` is \"auto\", so `scheme` (http or https) and `port` (1 to 65535) are needed")]
    Auto,
}

impl Heartbeat {
    /// Reads the body of a heartbeat.
    ///
    /// # Errors
    /// When it is no object, or something is missing or malformed.
    pub fn read(body: &[u8]) -> Result<Claim<Self>, BadHeartbeat> {
        let fields = object(body)?;
        let server_id = read_id(&fields)?;
        let whereabouts = match text(&fields, "url") {
            None => return Err(BadHeartbeat::Missing("url")),
            Some("auto") => read_auto(&fields)?,
            Some(url) => Whereabouts::At(Base::parse(url).map_err(BadHeartbeat::Url)?),
        };
        let ttl = fields
            .get("ttl")
            .and_then(Value::as_u64)
            .filter(|seconds| *seconds > 0);
        let version = text(&fields, "version").map(shown);
        let ttl = ttl.map(Duration::from_secs);
        let message = Self {
            server_id,
            whereabouts,
            ttl,
            version,
            report: Report::of(&fields),
        };
        Ok(Claim {
            message,
            token: text(&fields, "token").map(Token::new),
        })
    }

    /// The body to send: with the token for an original jump, without it when signed.
    #[must_use]
    pub fn body(&self, token: Option<&Token>) -> String {
        let mut fields = json!({ "server_id": self.server_id });
        match &self.whereabouts {
            Whereabouts::At(base) => fields["url"] = base.as_str().into(),
            Whereabouts::Auto { scheme, port } => {
                fields["url"] = "auto".into();
                fields["scheme"] = json!(scheme);
                fields["port"] = (*port).into();
            }
        }
        if let Some(ttl) = self.ttl {
            fields["ttl"] = ttl.as_secs().max(1).into();
        }
        if let Some(version) = &self.version {
            fields["version"] = version.as_str().into();
        }
        if let (Some(fields), Value::Object(report)) = (fields.as_object_mut(), json!(self.report))
        {
            fields.extend(report);
        }
        with_token(fields, token)
    }
}

impl Farewell {
    /// Reads the body of a farewell.
    ///
    /// # Errors
    /// When it is no object, or `server_id` is missing or malformed.
    pub fn read(body: &[u8]) -> Result<Claim<Self>, BadHeartbeat> {
        let fields = object(body)?;
        let message = Self {
            server_id: read_id(&fields)?,
        };
        Ok(Claim {
            message,
            token: text(&fields, "token").map(Token::new),
        })
    }

    /// The body to send: with the token for an original jump, without it when signed.
    #[must_use]
    pub fn body(&self, token: Option<&Token>) -> String {
        with_token(json!({ "server_id": self.server_id }), token)
    }
}

fn with_token(mut fields: Value, token: Option<&Token>) -> String {
    if let Some(token) = token {
        fields["token"] = token.expose().into();
    }
    fields.to_string()
}

fn object(body: &[u8]) -> Result<Map<String, Value>, BadHeartbeat> {
    serde_json::from_slice(body).map_err(|_| BadHeartbeat::NotAnObject)
}

fn read_id(fields: &Map<String, Value>) -> Result<NodeId, BadHeartbeat> {
    NodeId::from_json(fields.get("server_id")).map_err(|error| match error {
        BadNodeId::Missing => BadHeartbeat::Missing("server_id"),
        BadNodeId::Malformed => BadHeartbeat::NodeId,
    })
}

fn read_auto(fields: &Map<String, Value>) -> Result<Whereabouts, BadHeartbeat> {
    let scheme = match text(fields, "scheme") {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(BadHeartbeat::Auto),
    };
    let port = fields.get("port").and_then(Value::as_u64);
    match port.and_then(|port| u16::try_from(port).ok()) {
        Some(port) if port > 0 => Ok(Whereabouts::Auto { scheme, port }),
        _ => Err(BadHeartbeat::Auto),
    }
}

/// A field that is text and not empty.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields
        .get(name)?
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn shown(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(SHOWN)
        .collect()
}

impl Scheme {
    /// As it stands before `://`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    fn read(body: &str) -> Result<Claim<Heartbeat>, BadHeartbeat> {
        Heartbeat::read(body.as_bytes())
    }

    #[test]
    fn an_original_s_heartbeat_is_understood() {
        let claim = read(r#"{"token":"t","server_id":1,"url":"https://a.example"}"#).unwrap();
        assert_eq!(claim.message.server_id.as_str(), "1");
        let expected = Whereabouts::At(Base::parse("https://a.example/").unwrap());
        assert_eq!(claim.message.whereabouts, expected);
        assert!(claim.token.unwrap().matches("t"));
        assert_eq!(claim.message.ttl, None);
    }

    #[test]
    fn what_we_write_we_read() {
        let written = Heartbeat {
            server_id: "home".parse().unwrap(),
            whereabouts: Whereabouts::Auto {
                scheme: Scheme::Https,
                port: 45_678,
            },
            ttl: Some(Duration::from_secs(20)),
            version: Some("tuyun-edge 0.1.0".into()),
            report: Report {
                capacity: Some(50),
                labels: Labels::new("telecom", "", "cn"),
                ..Report::default()
            },
        };
        let claim = read(&written.body(None)).unwrap();
        assert_eq!(claim.message.server_id, written.server_id);
        assert_eq!(claim.message.whereabouts, written.whereabouts);
        assert_eq!(
            (claim.message.ttl, claim.message.version),
            (written.ttl, written.version)
        );
        assert_eq!(claim.message.report, written.report);
        assert_eq!(claim.message.report.labels.isp.as_deref(), Some("telecom"));
        assert!(claim.token.is_none());
    }

    #[test]
    fn fields_that_nobody_knows_are_ignored() {
        let body = r#"{"token":"t","server_id":"2","url":"http://a/","future":[1,{}],"ttl":"x"}"#;
        assert_eq!(read(body).unwrap().message.ttl, None);
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let cases = [
            ("[]", BadHeartbeat::NotAnObject),
            ("", BadHeartbeat::NotAnObject),
            (r#"{"server_id":1}"#, BadHeartbeat::Missing("url")),
            (
                r#"{"server_id":0,"url":"https://a/"}"#,
                BadHeartbeat::Missing("server_id"),
            ),
            (r#"{"server_id":1,"url":""}"#, BadHeartbeat::Missing("url")),
            (
                r#"{"server_id":"a/b","url":"https://a/"}"#,
                BadHeartbeat::NodeId,
            ),
            (
                r#"{"server_id":1,"url":"javascript:x"}"#,
                BadHeartbeat::Url(BadBase::Scheme),
            ),
            (r#"{"server_id":1,"url":"auto"}"#, BadHeartbeat::Auto),
            (
                r#"{"server_id":1,"url":"auto","scheme":"https","port":0}"#,
                BadHeartbeat::Auto,
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(read(body).unwrap_err(), expected, "{body}");
        }
    }
}
