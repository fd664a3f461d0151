//! Asks one address over and over on so many connections, and throws the bodies away.
//!
//! `load HOST:PORT PATH CONNECTIONS SECONDS BYTES PIDS` prints one line: answers a second, median and
//! 99th percentile of an answer in microseconds, microseconds of processor that the processes spent
//! on an answer, and their resident KiB. Bodies are dropped inside the kernel (`MSG_TRUNC`), so that
//! what is measured is the server and not how fast this program copies. One thread; every answer
//! has to be a 200 with as many bytes as were asked for.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// The longest head that a server may send.
const HEAD: usize = 4096;

/// How much is taken at once: what a socket holds at the most, so that one call empties it.
const PIECE: usize = 8 << 20;

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(20);

struct Order {
    address: SocketAddr,
    request: Vec<u8>,
    connections: usize,
    time: Duration,
    body_bytes: usize,
    pids: Vec<String>,
}

struct Connection {
    socket: TcpStream,
    asked: Instant,
    head: Vec<u8>,
    /// Of the body, once the head is known.
    missing: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let order = Order::from_arguments()?;
    let cpu_before = cpu(&order.pids)?;
    let began = Instant::now();
    let mut micros = run(&order, began + order.time)?;
    let (wall, cpu) = (
        began.elapsed(),
        cpu(&order.pids)?.saturating_sub(cpu_before),
    );
    if micros.is_empty() {
        bail!("no answer came");
    }
    micros.sort_unstable();
    let at = |percent: usize| micros[(micros.len() - 1) * percent / 100];
    let answers = u32::try_from(micros.len())?;
    println!(
        "{:.0} {} {} {:.2} {}",
        f64::from(answers) / wall.as_secs_f64(),
        at(50),
        at(99),
        cpu.as_secs_f64() * 1e6 / f64::from(answers),
        resident(&order.pids),
    );
    Ok(())
}

impl Order {
    fn from_arguments() -> anyhow::Result<Self> {
        let given: Vec<String> = std::env::args().skip(1).collect();
        let [address, path, connections, seconds, bytes, pids] = given.as_slice() else {
            bail!("usage: load HOST:PORT PATH CONNECTIONS SECONDS BYTES PID[,PID]");
        };
        Ok(Self {
            address: address.parse().context("HOST:PORT")?,
            request: format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: load\r\n\r\n")
                .into_bytes(),
            connections: connections.parse().context("CONNECTIONS")?,
            time: Duration::from_secs_f64(seconds.parse().context("SECONDS")?),
            body_bytes: bytes.parse().context("BYTES")?,
            pids: pids.split(',').map(str::to_owned).collect(),
        })
    }
}

/// Asks until the end; gives what each answer took.
fn run(order: &Order, end: Instant) -> anyhow::Result<Vec<u32>> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::new();
    for number in 0..order.connections {
        let socket = TcpStream::connect(order.address).context("cannot connect")?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&poll, &socket, data, epoll::EventFlags::IN)?;
        let mut connection = Connection {
            socket,
            asked: Instant::now(),
            head: Vec::with_capacity(HEAD),
            missing: None,
        };
        connection.ask(order)?;
        connections.push(connection);
    }
    let mut micros = Vec::with_capacity(1 << 20);
    let mut sink = vec![0; PIECE];
    let mut events = Vec::with_capacity(order.connections);
    let patience = rustix::event::Timespec {
        tv_sec: i64::try_from(PATIENCE.as_secs())?,
        tv_nsec: 0,
    };
    while Instant::now() < end {
        events.clear();
        let spare = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&poll, spare, Some(&patience))? == 0 {
            bail!("nothing came for {} s", PATIENCE.as_secs());
        }
        for event in &events {
            let connection = &mut connections[usize::try_from(event.data.u64())?];
            if connection.take(order, &mut sink)? {
                micros.push(u32::try_from(connection.asked.elapsed().as_micros())?);
                connection.ask(order)?;
            }
        }
    }
    Ok(micros)
}

impl Connection {
    fn ask(&mut self, order: &Order) -> anyhow::Result<()> {
        self.head.clear();
        self.missing = None;
        self.asked = Instant::now();
        let sent = send(self.socket.as_fd(), &order.request, SendFlags::NOSIGNAL)?;
        if sent < order.request.len() {
            bail!("a request did not fit into a socket");
        }
        Ok(())
    }

    /// Takes what is there; true once the answer is whole.
    fn take(&mut self, order: &Order, sink: &mut [u8]) -> anyhow::Result<bool> {
        if self.missing.is_none() {
            self.take_head(order)?;
        }
        while let Some(missing) = self.missing.filter(|missing| *missing > 0) {
            let room = missing.min(sink.len());
            match recv(self.socket.as_fd(), &mut sink[..room], RecvFlags::TRUNC) {
                Ok((_, 0)) => bail!("a body broke off"),
                Ok((_, took)) => self.missing = Some(missing - took.min(missing)),
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error).context("receiving"),
            }
        }
        Ok(self.missing == Some(0))
    }

    fn take_head(&mut self, order: &Order) -> anyhow::Result<()> {
        // Looked at first, so that the body stays in the kernel.
        let mut seen = [0; HEAD];
        let (_, came) = match recv(self.socket.as_fd(), &mut seen[..], RecvFlags::PEEK) {
            Ok(came) => came,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error).context("receiving"),
        };
        let came = &seen[..came];
        if came.is_empty() {
            bail!("the server closed the connection");
        }
        let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") else {
            if came.len() == HEAD {
                bail!("a head without end");
            }
            return Ok(());
        };
        let head = String::from_utf8_lossy(&came[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|text| text.trim().parse::<usize>().ok());
        if !head.starts_with("http/1.1 200 ") || length != Some(order.body_bytes) {
            bail!("not what was asked for: {head}");
        }
        let mut whole = [0; HEAD];
        recv(
            self.socket.as_fd(),
            &mut whole[..end + 4],
            RecvFlags::empty(),
        )?;
        self.missing = Some(order.body_bytes);
        Ok(())
    }
}

/// Time on a processor, of all threads that live.
fn cpu(pids: &[String]) -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for pid in pids {
        // Some have helpers that end after a while.
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks {
            // A thread may end between the two.
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let spent = text.split(' ').next().unwrap_or_default();
            nanos += spent.parse::<u64>().unwrap_or_default();
        }
    }
    Ok(Duration::from_nanos(nanos))
}

fn resident(pids: &[String]) -> u64 {
    let mut kib = 0;
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib += number
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or_default();
    }
    kib
}
