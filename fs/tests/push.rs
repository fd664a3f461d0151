//! The drive's own word of changes, from an emulated one.

mod bench;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench::Bench;
use graph_emulator::{Act, Fault, Profile, Route};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tuyunfs::graph::{Graph, GraphConfig, Push, PushState, PushWish};

/// Longer than anything that is waited for here takes, by far.
const DEADLINE: Duration = Duration::from_mins(1);

/// A listener at work, and what it said.
struct Listening {
    push: Arc<Push>,
    wakes: Arc<Wakes>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Wakes {
    count: AtomicU64,
    rung: Notify,
}

impl Listening {
    async fn start(bench: &Bench, wish: PushWish) -> Self {
        let config = GraphConfig {
            graph_url: bench.service.graph_url().to_owned(),
            ca_pem: None,
            ..GraphConfig::default()
        };
        let auth = bench.signed_in();
        let found = Graph::find(&config, auth.clone(), "", "").await.unwrap();
        let graph = Arc::new(Graph::of(&config, auth, &found).unwrap());
        bench.service.reset_log();
        let push = Arc::new(Push::new(graph, wish));
        let (wakes, stop) = (Arc::new(Wakes::default()), CancellationToken::new());
        let rung = wakes.clone();
        let wake = move || {
            rung.count.fetch_add(1, Ordering::Relaxed);
            rung.rung.notify_one();
        };
        let task = tokio::spawn(push.clone().run(wake, stop.clone()));
        Self {
            push,
            wakes,
            stop,
            task,
        }
    }

    fn woken(&self) -> u64 {
        self.wakes.count.load(Ordering::Relaxed)
    }

    /// Waits until it has been woken so often.
    async fn until_woken(&self, times: u64) {
        let waiting = async {
            while self.woken() < times {
                self.wakes.rung.notified().await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn a_change_by_another_client_is_told_as_it_happens() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    let listening = Listening::start(&bench, PushWish::Auto).await;
    // Once connected, there is a look at what was missed.
    listening.until_woken(1).await;
    assert_eq!(listening.push.status().state, PushState::Connected);
    for change in 1..=3_u64 {
        let name = format!("{change}.txt");
        bench.service.put_file(&name, b"x").unwrap();
        listening.until_woken(1 + change).await;
        assert_eq!(listening.push.status().notices, change);
    }
    listening.end().await;
}

#[tokio::test]
async fn a_burst_of_changes_is_told_at_its_beginning_and_in_a_while() {
    let bench = Bench::start(Profile::PersonalMigrated, |_| {}).await;
    let listening = Listening::start(&bench, PushWish::Auto).await;
    listening.until_woken(1).await;
    bench.service.put_file("first.txt", b"x").unwrap();
    listening.until_woken(2).await;
    let first = Instant::now();
    for n in 0..20 {
        bench.service.put_file(&format!("{n}.txt"), b"x").unwrap();
        tokio::task::yield_now().await;
    }
    listening.until_woken(3).await;
    assert!(first.elapsed() > Duration::from_millis(400));
    listening.end().await;
}

#[tokio::test]
async fn pings_are_answered_and_mean_nothing_else() {
    let bench = Bench::start(Profile::Business, |settings| settings.push_ping_ms = 20).await;
    let listening = Listening::start(&bench, PushWish::Auto).await;
    listening.until_woken(1).await;
    bench.service.put_file("a.txt", b"x").unwrap();
    listening.until_woken(2).await;
    assert_eq!(listening.push.status().state, PushState::Connected);
    listening.end().await;
}

#[tokio::test]
async fn an_account_that_does_not_offer_it_is_asked_once() {
    for status in [403, 404, 501] {
        let bench = Bench::start(Profile::Business, |_| {}).await;
        bench
            .service
            .inject(Fault::status(Route::SocketIo, status).always());
        let listening = Listening::start(&bench, PushWish::Auto).await;
        let offered = bench
            .service
            .wait_until(DEADLINE, |service| service.completed(Route::SocketIo) == 1);
        assert!(offered.await, "{status}");
        let told = async {
            while !matches!(listening.push.status().state, PushState::NotOffered { .. }) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, told).await.unwrap();
        assert_eq!(listening.woken(), 0);
        listening.end().await;
        assert_eq!(bench.service.count(Route::SocketIo), 1, "{status}");
    }
}

#[tokio::test]
async fn who_does_not_want_it_or_is_no_person_asks_for_nothing() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    for (wish, named) in [
        (PushWish::Off, "off"),
        (PushWish::Application, "not_offered"),
    ] {
        let listening = Listening::start(&bench, wish).await;
        let status = serde_json::to_value(listening.push.status()).unwrap();
        assert_eq!(status["state"], named);
        tokio::time::timeout(DEADLINE, listening.task)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(bench.service.total(), 0);
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_had_is_tried_again() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    bench
        .service
        .inject(Fault::new(Route::Socket, Act::LoseRequest));
    let listening = Listening::start(&bench, PushWish::Auto).await;
    listening.until_woken(1).await;
    assert_eq!(listening.push.status().state, PushState::Connected);
    assert_eq!(
        bench.service.count(Route::SocketIo),
        2,
        "with an address of its own each time"
    );
    listening.end().await;
}

#[tokio::test]
async fn a_silence_that_the_drive_asks_for_is_kept_by_the_listener_too() {
    let bench = Bench::start(Profile::Business, |_| {}).await;
    bench
        .service
        .inject(Fault::status(Route::SocketIo, 429).retry_after(3600));
    let listening = Listening::start(&bench, PushWish::Auto).await;
    let told = async {
        loop {
            if let PushState::Waiting { why } = listening.push.status().state
                && why.contains("429")
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, told).await.unwrap();
    assert_eq!(bench.service.total(), 1);
    listening.end().await;
    assert_eq!(bench.service.total(), 1);
}
