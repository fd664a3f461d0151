//! A browser without a window, told what to do over its own debugging protocol.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::needs::Need;
use crate::wait::{until, until_async};

/// What it takes.
pub const NEEDS: &[Need] = &[Need::Program("chromium")];

/// A running browser with one page, ended when it goes out of scope.
pub struct Browser {
    child: Child,
    page: WebSocketStream<TcpStream>,
    last: u64,
    _profile: TempDir,
}

impl Browser {
    /// Opens this address.
    ///
    /// # Panics
    /// The browser does not start, or does not do as it is told.
    pub async fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let child = Command::new("chromium")
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--lang=en",
                "--remote-debugging-port=0",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--window-size=1320,900")
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium: run `make deps`");
        let told = profile.path().join("DevToolsActivePort");
        let port: u16 = until("the browser says its port", || {
            let text = std::fs::read_to_string(&told).ok()?;
            text.lines().next()?.parse().ok()
        });
        let list = format!("http://127.0.0.1:{port}/json/list");
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let address = until_async("it has a page", async || {
            let pages: Value = client.get(&list).send().await.ok()?.json().await.ok()?;
            let page = pages
                .as_array()?
                .iter()
                .find(|page| page["type"] == "page")?;
            Some(page["webSocketDebuggerUrl"].as_str()?.to_owned())
        })
        .await;
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("its port");
        let (page, _) = tokio_tungstenite::client_async(address, stream)
            .await
            .expect("it speaks to us");
        let mut browser = Self {
            child,
            page,
            last: 0,
            _profile: profile,
        };
        browser.tell("Page.enable", json!({})).await;
        browser.tell("Page.navigate", json!({ "url": url })).await;
        browser
    }

    /// One command, and its result.
    ///
    /// # Panics
    /// It is refused.
    pub async fn tell(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let command = json!({ "id": self.last, "method": method, "params": params });
        let sent = self.page.send(Message::text(command.to_string())).await;
        sent.expect("the browser listens");
        loop {
            let message = self
                .page
                .next()
                .await
                .expect("an answer")
                .expect("an answer");
            let Ok(text) = message.to_text() else {
                continue;
            };
            let Ok(answer) = serde_json::from_str::<Value>(text) else {
                continue;
            };
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// What a script on the page says.
    ///
    /// # Panics
    /// It throws.
    pub async fn run(&mut self, script: &str) -> Value {
        let params = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let result = self.tell("Runtime.evaluate", params).await;
        assert!(result["exceptionDetails"].is_null(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until a script says true.
    ///
    /// # Panics
    /// It never does.
    pub async fn until(&mut self, what: &str, script: &str) {
        let end = std::time::Instant::now() + crate::wait::DEADLINE;
        loop {
            let params = json!({ "expression": script, "returnByValue": true });
            // On the way to another page a script may have nothing to run on.
            let said = self.tell("Runtime.evaluate", params).await;
            if said["result"]["value"] == true {
                return;
            }
            assert!(
                std::time::Instant::now() < end,
                "waited in vain until {what}: {said}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Writes a picture of the page.
    ///
    /// # Panics
    /// It cannot be written.
    pub async fn picture(&mut self, path: &Path) {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.tell("Page.captureScreenshot", params).await;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(shot["data"].as_str().expect("a picture"))
            .expect("base64");
        std::fs::write(path, bytes).expect("a picture");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
