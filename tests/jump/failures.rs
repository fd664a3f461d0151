//! What happens to visitors when something breaks: real processes, broken one by one, while somebody
//! asks all the time. The table in `docs/reliability.md` names each.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::disk::Disk;
use harness::fleet::{Edge, Jump, NODE_TOKEN};
use harness::http;
use harness::needs::{self, Need};
use harness::redis::{Cluster, Redis, Sentinel};
use harness::wait::until;
use serde_json::json;
use tuyun_protocol::{Nonce, Signature, Token, UPDATE_PATH};

const ORIGIN: &str = "http://127.0.0.1:9";

/// The longest that a visitor may be sent to a node that was killed.
const DEAD: Duration = Duration::from_secs(15);

/// Node 2 as a stand-in: its answer to whatever it is asked can be changed.
struct StandIn {
    url: String,
    /// The status; 0: none for five seconds.
    status: Arc<AtomicU16>,
}

impl StandIn {
    fn start(body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let status = Arc::new(AtomicU16::new(200));
        let says = Arc::clone(&status);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (says, body) = (Arc::clone(&says), body.clone());
                std::thread::spawn(move || answer(stream, &says, &body));
            }
        });
        Self { url, status }
    }

    fn say(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn answer(mut stream: TcpStream, says: &AtomicU16, body: &[u8]) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head);
    let status = says.load(Ordering::SeqCst);
    if status == 0 {
        std::thread::sleep(Duration::from_secs(5));
    }
    let head = format!(
        "HTTP/1.1 {} X\r\nContent-Type: image/gif\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        status.max(200),
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

/// Somebody who asks a jump all the time, and writes down where he is sent.
struct Visitor {
    over: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<(Instant, String)>>>,
    asking: JoinHandle<()>,
}

impl Visitor {
    fn of(jump: &Jump) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (ends, notes, url) = (
            Arc::clone(&over),
            Arc::clone(&sent),
            format!("{}/x", jump.url),
        );
        let asking = std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                let began = Instant::now();
                let reply = http::try_get(&url, &[]);
                let to = match reply {
                    Some(reply) if reply.status == 302 => reply.header("location").to_owned(),
                    other => format!("nowhere: {other:?}"),
                };
                let took = began.elapsed();
                let late = took > Duration::from_secs(1);
                let to = if late {
                    format!("late, {took:?}: {to}")
                } else {
                    to
                };
                notes.lock().unwrap().push((began, to));
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { over, sent, asking }
    }

    /// Stops, and says how often each target was given; every question had its answer in time.
    fn end(self) -> BTreeMap<String, usize> {
        self.over.store(true, Ordering::SeqCst);
        self.asking.join().unwrap();
        let mut targets = BTreeMap::new();
        for (_, to) in self.sent.lock().unwrap().iter() {
            assert!(to.starts_with("http"), "{to}");
            *targets.entry(to.clone()).or_default() += 1;
        }
        targets
    }

    /// How long after `since` this target was given for the last time.
    fn last(&self, target: &str, since: Instant) -> Duration {
        let sent = self.sent.lock().unwrap();
        let last = sent.iter().rev().find(|(_, to)| to == target);
        last.map_or(Duration::ZERO, |(at, _)| {
            at.saturating_duration_since(since)
        })
    }
}

fn sent_to(jump: &Jump, url: &str) {
    let wanted = format!("{url}x");
    until(&format!("visitors are sent to {url}"), || {
        (jump.location("/x") == wanted).then_some(())
    });
}

/// A jump with the probes that it has by itself.
fn usual(redis: &str) -> Jump {
    Jump::start_with(ORIGIN, redis, |settings| {
        settings["nodes"].as_table_mut().unwrap().remove("probe");
    })
}

#[test]
fn a_killed_node_loses_its_visitors_within_fifteen_seconds_though_its_lease_lives() {
    let jump = usual("");
    let next = StandIn::start(vec![]);
    jump.report("2", &next.url, 1200);
    // Its lease is four minutes long: only probes can find out.
    let edge = Edge::start_with(1, ORIGIN, &jump, |settings| {
        settings["jump"]
            .as_table_mut()
            .unwrap()
            .insert("interval".into(), "60s".into());
    });
    sent_to(&jump, &edge.url);
    let visitor = Visitor::of(&jump);
    let dead = format!("{}x", edge.url);
    let killed = Instant::now();
    edge.kill();
    sent_to(&jump, &next.url);
    let took = visitor.last(&dead, killed);
    assert!(took < DEAD, "{took:?}");
    println!("a killed node got visitors for {took:?}");
    visitor.end();
}

#[test]
fn a_node_that_stops_gets_no_visitor_from_the_moment_it_says_so() {
    let jump = usual("");
    let next = StandIn::start(vec![]);
    jump.report("2", &next.url, 1200);
    let edge = Edge::start(1, ORIGIN, &jump);
    sent_to(&jump, &edge.url);
    let visitor = Visitor::of(&jump);
    let url = edge.url.clone();
    assert!(edge.stop().success());
    let stopped = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(visitor.last(&format!("{url}x"), stopped), Duration::ZERO);
    visitor.end();
}

#[test]
fn a_node_that_answers_500_or_too_late_rests_until_it_is_well() {
    let jump = Jump::start(ORIGIN, "");
    let (first, next) = (StandIn::start(vec![]), StandIn::start(vec![]));
    jump.report("1", &first.url, 1200);
    jump.report("2", &next.url, 1200);
    let visitor = Visitor::of(&jump);
    sent_to(&jump, &first.url);
    for trouble in [500, 0] {
        let began = Instant::now();
        first.say(trouble);
        sent_to(&jump, &next.url);
        assert!(began.elapsed() < DEAD);
        first.say(200);
        sent_to(&jump, &first.url);
    }
    visitor.end();
}

#[test]
fn a_node_with_a_full_disk_keeps_its_visitors_and_they_get_their_pictures() {
    if !needs::met(&[Need::Root, Need::Loop, Need::Program("mkfs.ext4")]) {
        return;
    }
    let picture = [b"GIF89a".as_slice(), &vec![7; 50_000]].concat();
    let origin = StandIn::start(picture.clone());
    let jump = Jump::start(origin.url.trim_end_matches('/'), "");
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::at(&dir.path().join("disk"), 16);
    let place = dir.path().join("disk/cache");
    let edge = Edge::start_with(1, origin.url.trim_end_matches('/'), &jump, |settings| {
        settings["cache"]["dir"] = place.display().to_string().into();
    });
    sent_to(&jump, &edge.url);
    let mut filler = std::fs::File::create(dir.path().join("disk/filler")).unwrap();
    let piece = vec![1; 64 * 1024];
    while filler.write_all(&piece).is_ok() {}
    while filler.write_all(&[1]).is_ok() {}
    let visitor = Visitor::of(&jump);
    for n in 0..20 {
        let location = jump.location(&format!("/mount/{n}.gif"));
        assert!(location.starts_with(&edge.url), "{location}");
        let reply = http::get(&location, &[]);
        assert_eq!(
            (reply.status, reply.body.len()),
            (200, picture.len()),
            "{n}"
        );
        assert!(reply.body == picture);
    }
    let targets = visitor.end();
    assert_eq!(targets.len(), 1, "{targets:?}");
    drop((filler, edge, disk));
}

#[test]
fn redis_killed_and_back_costs_no_visitor_anything() {
    let redis = Redis::start();
    let port = redis.port();
    let jump = Jump::start(ORIGIN, &redis.url());
    let node = StandIn::start(vec![]);
    jump.report("2", &node.url, 1200);
    sent_to(&jump, &node.url);
    let visitor = Visitor::of(&jump);
    drop(redis);
    until("jump says that Redis is gone", || {
        (!jump.is_ready()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    let redis = Redis::start_on(port);
    until("jump says that all is well", || {
        jump.is_ready().then_some(())
    });
    // It came back empty, and is told without the node's doing.
    until("Redis knows the node again", || {
        (redis.ask(&["-n", "2", "get", "jump_2"]) == node.url).then_some(())
    });
    let targets = visitor.end();
    assert_eq!(
        targets.keys().collect::<Vec<_>>(),
        [&format!("{}x", node.url)],
        "{targets:?}"
    );
}

#[test]
fn a_redis_that_hangs_keeps_no_visitor_waiting() {
    let redis = Redis::start();
    let jump = Jump::start(ORIGIN, &redis.url());
    let node = StandIn::start(vec![]);
    jump.report("2", &node.url, 1200);
    sent_to(&jump, &node.url);
    let visitor = Visitor::of(&jump);
    redis.freeze();
    until("jump says that Redis is gone", || {
        (!jump.is_ready()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    redis.thaw();
    until("jump says that all is well", || {
        jump.is_ready().then_some(())
    });
    let targets = visitor.end();
    assert_eq!(
        targets.keys().collect::<Vec<_>>(),
        [&format!("{}x", node.url)],
        "{targets:?}"
    );
}

#[test]
fn a_failover_by_sentinel_costs_no_visitor_anything_and_the_new_master_is_used() {
    let master = Redis::start();
    let replica = master.replica();
    let sentinel = Sentinel::watching(&master);
    let jump = Jump::start(ORIGIN, &sentinel.url());
    let node = StandIn::start(vec![]);
    jump.report("2", &node.url, 1200);
    until("the replica has the node", || {
        (replica.ask(&["-n", "2", "get", "jump_2"]) == node.url).then_some(())
    });
    sent_to(&jump, &node.url);
    let visitor = Visitor::of(&jump);
    drop(master);
    until("the replica is master", || {
        replica.ask(&["role"]).starts_with("master").then_some(())
    });
    until("jump says that all is well", || {
        jump.is_ready().then_some(())
    });
    let other = StandIn::start(vec![]);
    until("a new node is written to the new master", || {
        jump.report("1", &other.url, 1200);
        (replica.ask(&["-n", "2", "get", "jump_1"]) == other.url).then_some(())
    });
    let targets = visitor.end();
    let both = [&node, &other].map(|node| format!("{}x", node.url));
    assert!(
        targets.keys().all(|target| both.contains(target)),
        "{targets:?}"
    );
}

#[test]
fn a_slot_of_a_cluster_that_moves_takes_no_node_away() {
    let cluster = Cluster::start();
    let (here, there) = (
        Jump::start(ORIGIN, &cluster.url()),
        Jump::start(ORIGIN, &cluster.url()),
    );
    let node = StandIn::start(vec![]);
    here.report("2", &node.url, 1200);
    sent_to(&there, &node.url);
    let visitor = Visitor::of(&there);
    cluster.move_slot_of("jump_2");
    for _ in 0..20 {
        here.report("2", &node.url, 1200);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(cluster.get("jump_2"), node.url);
    assert!(here.is_ready() && there.is_ready());
    let moved = StandIn::start(vec![]);
    here.report("2", &moved.url, 1200);
    sent_to(&there, &moved.url);
    let targets = visitor.end();
    let both = [&node, &moved].map(|node| format!("{}x", node.url));
    assert!(
        targets.keys().all(|target| both.contains(target)),
        "{targets:?}"
    );
}

#[test]
fn two_jumps_that_are_split_serve_on_and_agree_again_afterwards() {
    let redis = Redis::start();
    let (here, there) = (
        Jump::start(ORIGIN, &redis.url()),
        Jump::start(ORIGIN, &redis.url()),
    );
    let (first, second) = (StandIn::start(vec![]), StandIn::start(vec![]));
    here.report("3", &first.url, 1200);
    sent_to(&there, &first.url);
    let visitors = [Visitor::of(&here), Visitor::of(&there)];
    redis.freeze();
    until("both know it", || {
        (!here.is_ready() && !there.is_ready()).then_some(())
    });
    here.report("2", &second.url, 1200);
    assert_eq!(here.location("/x"), format!("{}x", second.url));
    assert_eq!(there.location("/x"), format!("{}x", first.url));
    redis.thaw();
    sent_to(&there, &second.url);
    assert_eq!(here.location("/x"), format!("{}x", second.url));
    for visitor in visitors {
        visitor.end();
    }
}

#[test]
fn news_of_one_jump_reaches_the_other_before_its_next_look() {
    let redis = Redis::start();
    let (here, there) = (
        Jump::start(ORIGIN, &redis.url()),
        Jump::start(ORIGIN, &redis.url()),
    );
    let node = StandIn::start(vec![]);
    here.report("2", &node.url, 1200);
    sent_to(&there, &node.url);
    let mut waits: Vec<Duration> = (0..10)
        .map(|n| {
            let node = format!("http://127.0.0.{}:9/", n + 1);
            here.report("2", &node, 1200);
            let began = Instant::now();
            sent_to(&there, &node);
            began.elapsed()
        })
        .collect();
    waits.sort_unstable();
    assert!(
        waits[5] < Duration::from_millis(500),
        "looked at each second alone: {waits:?}"
    );
}

/// Sends a heartbeat that was signed by a clock that is so many seconds off.
fn beat(jump: &Jump, id: &str, url: &str, off: i64) -> (u16, String) {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let body = json!({ "server_id": id, "url": url }).to_string();
    let nonce = Nonce::from_random(rand::random());
    let time = now.checked_add_signed(off).unwrap();
    let signature = Signature::sign(
        &Token::new(NODE_TOKEN),
        "POST",
        UPDATE_PATH,
        time,
        nonce,
        body.as_bytes(),
    );
    let mut request = format!(
        "POST {UPDATE_PATH} HTTP/1.1\r\nHost: jump\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in signature.headers() {
        request += &[name, ": ", &value, "\r\n"].concat();
    }
    let answer = raw(jump, &format!("{request}\r\n{body}")).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

fn raw(jump: &Jump, request: &str) -> std::io::Result<String> {
    let address: SocketAddr = jump.url.trim_start_matches("http://").parse().unwrap();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_node_whose_clock_is_off_is_taken_within_five_minutes_and_else_told_why_not() {
    let jump = Jump::start(ORIGIN, "");
    let node = StandIn::start(vec![]);
    assert_eq!(beat(&jump, "3", &node.url, -250).0, 200);
    assert_eq!(beat(&jump, "4", &node.url, 250).0, 200);
    sent_to(&jump, &node.url);
    for off in [-400, 400] {
        let (status, said) = beat(&jump, "2", ORIGIN, off);
        assert_eq!(status, 400);
        assert!(
            said.contains("Invalid token.") && said.contains("check the clocks"),
            "{said}"
        );
    }
    assert_eq!(jump.location("/x"), format!("{}x", node.url));
}

#[test]
fn a_flood_of_hostile_heartbeats_and_redirects_moves_no_visitor_and_leaves_nobody_unanswered() {
    let jump = Jump::start_with(ORIGIN, "", |settings| {
        let limit = settings["limit"].as_table_mut().unwrap();
        limit.insert("redirect_per_second".into(), 30.into());
        limit.insert("update_per_second".into(), 5.into());
        limit.insert("trusted_proxies".into(), vec!["127.0.0.1"].into());
    });
    let node = StandIn::start(vec![]);
    jump.report("2", &node.url, 1200);
    let end = Instant::now() + Duration::from_secs(5);
    let flood = |kind: usize| {
        let mut answers: BTreeMap<String, u32> = BTreeMap::new();
        let mut n = kind;
        while Instant::now() < end {
            n += 4;
            let from = format!("198.51.{}.{}", n / 256 % 256, n % 256);
            let body = match n % 3 {
                0 => format!(
                    "{{\"token\":\"wrong\",\"server_id\":\"{n}\",\"url\":\"http://evil.example/\"}}"
                ),
                1 => "{".repeat(8000),
                _ => "x".repeat(20_000),
            };
            let request = match kind {
                0 => format!(
                    "POST /_api/update HTTP/1.1\r\nHost: j\r\nX-Forwarded-For: {from}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
                1 => format!(
                    "GET /a/{n}%2e%2e%2f HTTP/1.1\r\nHost: j\r\nX-Forwarded-For: 198.51.100.1\r\nConnection: close\r\n\r\n"
                ),
                2 => format!(
                    "GET /{} HTTP/1.1\r\nHost: j\r\nX-Forwarded-For: {from}\r\nConnection: close\r\n\r\n",
                    "%41".repeat(2000)
                ),
                _ => format!("\0\u{1}GET {n}\r\n\r\n"),
            };
            // A body that is too long may meet a closed door while it is being sent.
            let status = match raw(&jump, &request) {
                Ok(answer) => answer.get(9..12).unwrap_or("cut").to_owned(),
                Err(_) if kind == 0 => "cut".to_owned(),
                Err(error) => panic!("{error}"),
            };
            *answers.entry(status).or_default() += 1;
        }
        answers
    };
    let slowest = std::thread::scope(|scope| {
        let floods: Vec<_> = (0..4)
            .map(|kind| scope.spawn(move || flood(kind)))
            .collect();
        let mut slowest = Duration::ZERO;
        let mut n = 0_u32;
        while Instant::now() < end {
            n += 1;
            let from = format!("203.0.{}.{}", n / 200 % 200, n % 200);
            let began = Instant::now();
            let reply = http::get(&format!("{}/x", jump.url), &[("x-forwarded-for", &from)]);
            slowest = slowest.max(began.elapsed());
            assert_eq!(
                (reply.status, reply.header("location")),
                (302, format!("{}x", node.url).as_str())
            );
        }
        assert!(n > 100, "only {n} visitors came through");
        let answers: Vec<_> = floods
            .into_iter()
            .map(|flood| flood.join().unwrap())
            .collect();
        assert!(!answers[0].contains_key("200"), "{answers:?}");
        assert!(
            answers[0].contains_key("400") && answers[1].contains_key("429"),
            "{answers:?}"
        );
        assert!(
            answers[3].keys().all(|status| status == "400"),
            "{answers:?}"
        );
        println!("answers: {answers:?}; {n} visitors, the slowest {slowest:?}");
        slowest
    });
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", jump.pid())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 100 * 1024, "{kib} KiB");
}
