//! An origin that does what it is told, byte by byte.
//!
//! It speaks HTTP/1.1 by hand, because the answers that matter most are those that no proper
//! server gives: too short, cut, empty, silent.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// One thing an answer does after its head.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Wait(Gate),
}

/// Holds an answer back until it is opened.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn shut() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

/// An answer.
#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    steps: Vec<Step>,
}

impl Reply {
    /// Status and nothing else.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: vec![("content-length".into(), "0".into())],
            steps: vec![],
        }
    }

    /// A picture with its proper length.
    pub(crate) fn picture(body: &[u8]) -> Self {
        Self::bare(200)
            .header("content-type", "image/webp")
            .header("content-length", &body.len().to_string())
            .send(body)
    }

    /// No headers at all: the closing of the connection ends it.
    pub(crate) fn bare(status: u16) -> Self {
        Self {
            status,
            headers: vec![],
            steps: vec![],
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn send(mut self, body: &[u8]) -> Self {
        self.steps.push(Step::Send(body.to_vec()));
        self
    }

    pub(crate) fn wait(mut self, gate: &Gate) -> Self {
        self.steps.push(Step::Wait(gate.clone()));
        self
    }
}

type Rule = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

#[derive(Default)]
struct Script {
    rules: HashMap<String, Rule>,
    log: Vec<Asked>,
}

/// A running origin. Dropped, it is gone, and so are its connections.
pub(crate) struct Origin {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    stop: CancellationToken,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address")).await
    }

    /// One at a given address: an origin that comes back.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (script, stop) = (Arc::<Mutex<Script>>::default(), CancellationToken::new());
        tokio::spawn({
            let (script, stop) = (Arc::clone(&script), stop.clone());
            async move {
                while let Some(Ok((socket, _))) = stop.run_until_cancelled(listener.accept()).await
                {
                    let (script, stop) = (Arc::clone(&script), stop.clone());
                    tokio::spawn(stop.run_until_cancelled_owned(talk(socket, script)));
                }
            }
        });
        Self {
            address,
            script,
            stop,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers this target (path and query) always so.
    pub(crate) fn serve(&self, target: &str, reply: Reply) {
        self.rule(target, move |_| reply.clone());
    }

    pub(crate) fn rule(
        &self,
        target: &str,
        rule: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) {
        self.script
            .lock()
            .expect("lock")
            .rules
            .insert(target.into(), Arc::new(rule));
    }

    /// What it was asked under this target.
    pub(crate) fn asked(&self, target: &str) -> Vec<Asked> {
        let script = self.script.lock().expect("lock");
        script
            .log
            .iter()
            .filter(|asked| asked.target == target)
            .cloned()
            .collect()
    }

    /// All it was asked.
    pub(crate) fn log(&self) -> Vec<Asked> {
        self.script.lock().expect("lock").log.clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn talk(socket: TcpStream, script: Arc<Mutex<Script>>) {
    let mut socket = BufReader::new(socket);
    while let Some(asked) = read(&mut socket).await {
        let rule = {
            let mut script = script.lock().expect("lock");
            script.log.push(asked.clone());
            script.rules.get(&asked.target).cloned()
        };
        let reply = rule.map_or_else(|| Reply::status(404), |rule| rule(&asked));
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
        for (name, value) in &reply.headers {
            let _ = write!(head, "{name}: {value}\r\n"); // a String takes everything
        }
        head.push_str("\r\n");
        if socket.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        for step in &reply.steps {
            let done = match step {
                Step::Send(bytes) => socket.write_all(bytes).await.is_ok(),
                Step::Wait(gate) => gate.0.acquire().await.is_ok(),
            };
            if !done || socket.flush().await.is_err() {
                return;
            }
        }
        // Only an answer that keeps its word keeps its connection.
        let sent: usize = reply
            .steps
            .iter()
            .map(|step| match step {
                Step::Send(bytes) => bytes.len(),
                Step::Wait(_) => 0,
            })
            .sum();
        let told = reply
            .headers
            .iter()
            .find(|(name, _)| name == "content-length");
        if told.is_none_or(|(_, length)| *length != sent.to_string()) {
            return;
        }
    }
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Asked {
        method,
        target,
        headers,
        body,
    })
}
