//! Notifications over a socket.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use graph_emulator::Profile;
use reqwest::Method;

use crate::client::{Signed, json, on, with};

/// A websocket by hand: text frames below 126 bytes out, any text frame in.
struct Socket(TcpStream);

impl Socket {
    fn open(drive: &Signed, notification_url: &str) -> Self {
        let url = url::Url::parse(notification_url).unwrap();
        let storage = url::Url::parse(drive.emulator.storage_url()).unwrap();
        let port = storage.port().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        write!(
            stream,
            "GET /socket.io/?EIO=4&transport=websocket&{} HTTP/1.1\r\nHost: x\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            url.query().unwrap()
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(
            head.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        Self(stream)
    }

    fn send(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap();
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.0.write_all(&frame).unwrap();
    }

    fn receive(&mut self) -> String {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.0.read_exact(&mut long).unwrap();
                usize::from(u16::from_be_bytes(long))
            }
            short => usize::from(short),
        };
        let mut text = vec![0; length];
        self.0.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }
}

async fn notification_url(drive: &Signed) -> String {
    let response = drive
        .ask(Method::GET, "root/subscriptions/socketIo")
        .send()
        .await
        .unwrap();
    json(response).await["notificationUrl"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_drive_is_told_to_those_who_listen() {
    let drive = on(Profile::Business).await;
    let url = notification_url(&drive).await;
    let mut socket = Socket::open(&drive, &url);
    assert!(socket.receive().starts_with("0{"));
    socket.send("40");
    assert!(socket.receive().starts_with("40"));
    socket.send("40/notifications,");
    assert!(socket.receive().starts_with("40/notifications,"));
    drive.emulator.put_file("a.txt", b"x").unwrap();
    assert!(
        socket
            .receive()
            .starts_with("42/notifications,[\"notification\",")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_pings() {
    let drive = with(Profile::Business, |settings| settings.push_ping_ms = 20).await;
    let url = notification_url(&drive).await;
    let mut socket = Socket::open(&drive, &url);
    assert!(socket.receive().starts_with("0{"));
    assert_eq!(socket.receive(), "2");
    socket.send("3");
    assert_eq!(socket.receive(), "2");
}
