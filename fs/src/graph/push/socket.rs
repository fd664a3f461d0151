//! One connection to the notification socket: opened, joined, listened to until it ends.
//!
//! The websocket rides on the same HTTP client as content does, with its proxies and certificates;
//! no token comes near it, the address itself is the secret.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{StatusCode, Upgraded};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use url::Url;

use super::frame::{self, Frame};
use crate::auth::plain;
use crate::graph::client::Wire;
use crate::graph::lanes::Load;
use crate::graph::send::PATIENCE;

/// The largest message that is read. A notice is a few hundred bytes, and what a change was is not
/// in it.
const LONGEST: usize = 64 << 10;

/// How long opening and joining may take together.
const JOINING: Duration = Duration::from_secs(30);

/// A burst of notices is one change after the other of the same upload: after the first, the next
/// look for changes waits so long: half of the second within which a change is to be seen.
const BURST: Duration = Duration::from_millis(500);

/// An open socket.
pub(super) struct Socket {
    stream: WebSocketStream<Upgraded>,
    /// Without a sign of life for so long it is dead.
    silence: Duration,
}

impl Socket {
    /// Opens the socket and joins those who are told of changes. The error says what failed,
    /// without the address.
    pub(super) async fn join(wire: &Wire, address: Url) -> Result<Self, String> {
        let joining = async {
            let mut socket = Self::open(wire, address).await?;
            loop {
                match socket.next().await? {
                    Frame::Open { silence } => {
                        socket.silence = silence;
                        socket.say(frame::CONNECT).await?;
                        socket.say(frame::JOIN).await?;
                    }
                    Frame::Ping => socket.say(frame::PONG).await?,
                    Frame::Joined => return Ok(socket),
                    Frame::Refused => return Err("the service lets nobody listen".into()),
                    Frame::Close => return Err("the service ended the connection".into()),
                    Frame::Notice | Frame::Other => {}
                }
            }
        };
        tokio::time::timeout(JOINING, joining)
            .await
            .unwrap_or_else(|_| Err("the service keeps silent".into()))
    }

    async fn open(wire: &Wire, address: Url) -> Result<Self, String> {
        let lane = wire.enter(address.as_str(), Load::Small, PATIENCE).await;
        let lane = lane.map_err(|error| error.to_string())?;
        let key = generate_key();
        let request = wire
            .storage
            .get(address)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        let response = request.send().await.map_err(plain)?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("the service opens no socket: {status}"));
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|value| value != derive_accept_key(key.as_bytes()).as_str()) {
            return Err("what opened the socket is not the service".into());
        }
        let upgraded = response.upgrade().await.map_err(plain)?;
        drop(lane); // it listens from now on, and asks for nothing
        let limits = WebSocketConfig::default()
            .max_message_size(Some(LONGEST))
            .max_frame_size(Some(LONGEST))
            .read_buffer_size(4 << 10);
        let stream = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(limits)).await;
        Ok(Self {
            stream,
            silence: JOINING,
        })
    }

    /// Listens until `until`, and calls `notice` when something has changed. Back when the time is
    /// over, or with what ended the connection before.
    pub(super) async fn listen(mut self, until: Instant, notice: impl Fn()) -> Result<(), String> {
        // Nothing before this, and whether something happened meanwhile.
        let (mut quiet, mut waiting) = (Instant::now(), false);
        loop {
            let frame = tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = tokio::time::sleep_until(quiet), if waiting => Frame::Notice,
                frame = self.next() => frame?,
            };
            match frame {
                Frame::Ping => self.say(frame::PONG).await?,
                Frame::Notice if Instant::now() < quiet => waiting = true,
                Frame::Notice => {
                    notice();
                    (quiet, waiting) = (Instant::now() + BURST, false);
                }
                Frame::Close => return Err("the service ended the connection".into()),
                Frame::Refused => return Err("the service lets nobody listen any more".into()),
                Frame::Open { .. } | Frame::Joined | Frame::Other => {}
            }
        }
    }

    /// What the service says next. Dropping the wait loses nothing.
    async fn next(&mut self) -> Result<Frame, String> {
        let message = tokio::time::timeout(self.silence, self.stream.next())
            .await
            .map_err(|_| "the service gives no sign of life".to_owned())?;
        match message {
            None | Some(Ok(Message::Close(_))) => Ok(Frame::Close),
            Some(Ok(Message::Text(text))) => Ok(frame::parse(&text)),
            Some(Ok(
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
            )) => Ok(Frame::Other),
            Some(Err(error)) => Err(format!("the connection broke: {error}")),
        }
    }

    async fn say(&mut self, text: &'static str) -> Result<(), String> {
        let saying = self.stream.send(Message::text(text));
        match tokio::time::timeout(JOINING, saying).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the connection broke: {error}")),
            Err(_) => Err("the connection takes nothing".into()),
        }
    }
}
