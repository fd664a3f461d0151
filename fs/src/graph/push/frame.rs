//! The frames of a notification socket: Engine.IO around Socket.IO, of which a handshake, pings
//! and one event are ever used (`graph-api.md` section 5.5). Text in, meaning out; no I/O.

use std::time::Duration;

use serde::Deserialize;
use url::{Host, Url};

/// Joins the namespace that everything else hangs on.
pub(super) const CONNECT: &str = "40";

/// Joins the namespace of the notifications.
pub(super) const JOIN: &str = "40/notifications,";

/// Answers a ping.
pub(super) const PONG: &str = "3";

/// The namespace of the notifications.
const NOTIFICATIONS: &str = "/notifications";

/// Between two signs of life of the service, when it does not say: what it usually says, 25
/// seconds and another 60.
const USUAL: Duration = Duration::from_secs(85);

/// The shortest and the longest that is believed of what it says.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(10));

/// What the service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The connection stands; without a sign of life for so long it no longer does.
    Open {
        /// How long.
        silence: Duration,
    },
    /// It wants to know whether we live.
    Ping,
    /// From now on, changes are told.
    Joined,
    /// Something has changed.
    Notice,
    /// We may not listen.
    Refused,
    /// It ends the connection.
    Close,
    /// Nothing that concerns us.
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hello {
    ping_interval: Option<u64>,
    ping_timeout: Option<u64>,
}

/// Reads a frame. What is not known means nothing: the service may say more one day.
pub(super) fn parse(text: &str) -> Frame {
    let mut rest = text.chars();
    match rest.next() {
        Some('0') => Frame::Open {
            silence: silence(rest.as_str()),
        },
        Some('1') => Frame::Close,
        Some('2') => Frame::Ping,
        Some('4') => message(rest.as_str()),
        _ => Frame::Other,
    }
}

/// A packet of Socket.IO: its kind, the namespace up to a comma, an id, and what it carries.
fn message(text: &str) -> Frame {
    let mut rest = text.chars();
    let kind = rest.next();
    let ours = rest
        .as_str()
        .strip_prefix(NOTIFICATIONS)
        .filter(|rest| rest.is_empty() || rest.starts_with(','));
    match (kind, ours) {
        (Some('0'), Some(_)) => Frame::Joined,
        (Some('1'), _) => Frame::Close,
        (Some('4'), _) => Frame::Refused,
        (Some('2'), Some(rest)) => {
            let event = rest.trim_start_matches(',');
            let event = event.trim_start_matches(|c: char| c.is_ascii_digit());
            match event.strip_prefix("[\"notification\"") {
                Some(_) => Frame::Notice,
                None => Frame::Other,
            }
        }
        _ => Frame::Other,
    }
}

fn silence(hello: &str) -> Duration {
    let Ok(Hello {
        ping_interval: Some(interval),
        ping_timeout: Some(timeout),
    }) = serde_json::from_str(hello)
    else {
        return USUAL;
    };
    let (shortest, longest) = BELIEVED;
    Duration::from_millis(interval.saturating_add(timeout)).clamp(shortest, longest)
}

/// The socket's address from that of the notifications, which is a secret: `None` when it is no
/// address, or one that would be reached unencrypted over a network.
pub(super) fn socket_address(notification_url: &str) -> Option<Url> {
    let mut url = Url::parse(notification_url).ok()?;
    let here = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && here) {
        return None;
    }
    let query = match url.query() {
        Some(query) => format!("EIO=4&transport=websocket&{query}"),
        None => "EIO=4&transport=websocket".to_owned(),
    };
    url.set_path("/socket.io/");
    url.set_query(Some(&query));
    url.set_fragment(None);
    Some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_frame_means_what_the_reference_says() {
        let open = |seconds| Frame::Open {
            silence: Duration::from_secs(seconds),
        };
        for (text, meaning) in [
            (
                r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":60000}"#,
                open(85),
            ),
            (r#"0{"pingInterval":1000,"pingTimeout":2000}"#, open(5)),
            (
                r#"0{"pingInterval":18446744073709551615,"pingTimeout":1}"#,
                open(600),
            ),
            ("0", open(85)),
            ("0{\"pingInterval\":\"soon\"}", open(85)),
            ("1", Frame::Close),
            ("2", Frame::Ping),
            ("3", Frame::Other),
            ("40", Frame::Other),
            (r#"40{"sid":"y"}"#, Frame::Other),
            ("40/notifications", Frame::Joined),
            (r#"40/notifications,{"sid":"z"}"#, Frame::Joined),
            ("40/notificationsx,", Frame::Other),
            ("41", Frame::Close),
            ("41/notifications,", Frame::Close),
            (r#"44/notifications,{"message":"no"}"#, Frame::Refused),
            (r#"42/notifications,["notification","{}"]"#, Frame::Notice),
            (r#"42/notifications,17["notification"]"#, Frame::Notice),
            (r#"42/notifications,["else"]"#, Frame::Other),
            (r#"42["notification"]"#, Frame::Other),
            ("", Frame::Other),
            ("6", Frame::Other),
            ("图", Frame::Other),
        ] {
            assert_eq!(parse(text), meaning, "{text}");
        }
    }

    #[test]
    fn the_address_keeps_its_query_and_is_encrypted_or_on_this_machine() {
        let of = |url: &str| socket_address(url).map(|url| url.to_string());
        assert_eq!(
            of("https://h.svc.ms/zba/callback?snthgk=1&b=%2F").as_deref(),
            Some("https://h.svc.ms/socket.io/?EIO=4&transport=websocket&snthgk=1&b=%2F")
        );
        assert_eq!(
            of("http://127.0.0.1:9/x").as_deref(),
            Some("http://127.0.0.1:9/socket.io/?EIO=4&transport=websocket")
        );
        for odd in ["http://h.svc.ms/x?y", "ftp://localhost/", "wss", ""] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,40}") {
            parse(&text);
            parse(&format!("4{text}"));
            parse(&format!("42/notifications,{text}"));
            socket_address(&text);
        }
    }
}
