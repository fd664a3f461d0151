//! Notifications over an outgoing connection: the address, and the socket behind it.
//!
//! The frames are those of section 5.5 of the behaviour reference: Engine.IO around Socket.IO, of
//! which only the handshake, pings and one event are ever used.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{
        FromRequestParts as _,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
};
use http::Request;
use serde_json::json;

use super::graph::{Context, ok};
use crate::{clock, ids, refusal::Refusal, world::World};

/// The address is good for so long.
const LIFE: Duration = Duration::from_hours(24);
/// A client that does not answer pings for this long is gone.
const PING_TIMEOUT_MS: u64 = 60_000;

/// `GET …/subscriptions/socketIo`.
pub(super) fn subscribe(context: &Context) -> Result<Response, Refusal> {
    if context.who.app_only {
        return Err(Refusal::denied("Notifications need a signed-in user."));
    }
    let state = context.world.state();
    let id = context.existing(&state)?;
    let drive = &state.drives[context.drive];
    if id != drive.root {
        return Err(Refusal::not_supported(
            "Only the root can be subscribed to.",
        ));
    }
    let key = ids::secret(32);
    let now = context.world.now();
    Ok(ok(&json!({
        "@odata.context": format!("{}/v1.0/$metadata#subscription", context.world.links().graph),
        "id": ids::request_id(),
        "notificationUrl": format!(
            "{}/zbaehwg/callback?drive={}&snthgk={key}",
            context.world.links().storage, context.drive
        ),
        "expirationDateTime": clock::text(clock::after(now, LIFE), true),
    })))
}

/// The socket.
pub(super) async fn open(world: Arc<World>, request: Request<Body>) -> Result<Response, Refusal> {
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes())
            .into_owned()
            .collect();
    let get = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    if get("EIO") != Some("4") || get("transport") != Some("websocket") {
        return Err(Refusal::invalid("Only EIO=4 over websocket is served."));
    }
    let drive = get("drive")
        .and_then(|drive| drive.parse::<usize>().ok())
        .filter(|drive| *drive < world.state().drives.len() && get("snthgk").is_some())
        .ok_or_else(|| Refusal::new(403, "accessDenied", "The address is not valid."))?;
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|_| Refusal::invalid("A websocket is needed here."))?;
    Ok(upgrade.on_upgrade(move |socket| async move {
        // An error is a client that went away: nobody is left to hear of it.
        let _ = talk(&world, drive, socket).await;
    }))
}

async fn talk(world: &Arc<World>, drive: usize, mut socket: WebSocket) -> Result<(), axum::Error> {
    let ping = world.state().settings.push_ping_ms;
    let hello = json!({
        "sid": ids::secret(20), "upgrades": [], "pingInterval": ping,
        "pingTimeout": PING_TIMEOUT_MS, "maxPayload": 1_000_000,
    });
    send(&mut socket, &format!("0{hello}")).await?;
    let mut pings = tokio::time::interval(Duration::from_millis(ping.max(1)));
    pings.tick().await;
    let mut pulse = world.pulse.subscribe();
    let mut seen = world.state().drives[drive].seq;
    let mut listening = false;
    loop {
        tokio::select! {
            frame = socket.recv() => match frame {
                Some(Ok(Message::Text(text))) => match text.as_str() {
                    "40" => {
                        send(&mut socket, &format!("40{}", json!({ "sid": ids::secret(20) }))).await?;
                    }
                    "40/notifications" | "40/notifications," => {
                        let sid = json!({ "sid": ids::secret(20) });
                        send(&mut socket, &format!("40/notifications,{sid}")).await?;
                        listening = true;
                    }
                    _ => {}
                },
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
            () = world.stop.cancelled() => return Ok(()),
            _ = pings.tick() => send(&mut socket, "2").await?,
            beat = pulse.changed() => {
                if beat.is_err() {
                    return Ok(());
                }
                let now = world.state().drives[drive].seq;
                if listening && now != seen {
                    let event = json!(["notification", json!({
                        "subscriptionId": ids::request_id(), "resource": "root",
                    }).to_string()]);
                    send(&mut socket, &format!("42/notifications,{event}")).await?;
                    seen = now;
                }
            }
        }
    }
}

async fn send(socket: &mut WebSocket, text: &str) -> Result<(), axum::Error> {
    socket.send(Message::Text(text.into())).await
}
