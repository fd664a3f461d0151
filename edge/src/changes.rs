//! What changed at the origin, as it happens.
//!
//! tuyunfs tells at `/_api/changes` which pictures were replaced or removed; they are gone from here
//! before the next visitor asks. The number of the last event is kept beside the cache, so that after
//! a break, or a stop, what was missed is told first. Where the origin cannot tell any more, whatever
//! was fetched before is asked about at its next use.
//!
//! Without the feed everything works as well, only later: when a picture's life ends.

mod events;
mod mark;
mod news;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderValue, header};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tuyun_protocol::{Base, ImagePath, Token};
use url::Url;

use self::events::Parser;
use self::mark::Mark;
use self::news::{News, Place};
use crate::cache::{Cache, ChangeError, Moment};
use crate::origin::Origin;

/// How long a connection and the head of the answer may take.
const HEAD: Duration = Duration::from_secs(15);

/// The origin says something every 15 seconds; two of these may be lost.
const SILENCE: Duration = Duration::from_secs(40);

/// After the first break one looks again so soon, then after twice as long each time.
const SOON: Duration = Duration::from_millis(500);

/// The longest pause between two looks at an origin that is down. What changes meanwhile is told
/// afterwards.
const LATE: Duration = Duration::from_secs(30);

/// The pause after a clear no: this origin has no feed, or not for us.
const SELDOM: Duration = Duration::from_mins(5);

/// How often the number of the last event is written down at the most. What a kill loses is told
/// twice, and forgotten twice.
const NOTED_EVERY: Duration = Duration::from_secs(2);

/// Pictures fetched ahead at once: they must not keep visitors from the line.
const AHEAD: usize = 2;

/// The largest picture that is fetched ahead, in bytes; films wait until somebody wants them.
const AHEAD_LARGEST: u64 = 16 << 20;

/// How the feed is found.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The primary, whose feed it is.
    pub base: Base,
    /// What opens it.
    pub token: Token,
    /// Where the number of the last event is kept.
    pub mark: PathBuf,
    /// Fetch new pictures before somebody asks.
    pub prefetch: bool,
}

/// Follows the feed.
pub struct Follower {
    url: Url,
    place: Place,
    token: Token,
    mark: Mark,
    ahead: Option<Arc<Semaphore>>,
    cache: Arc<Cache<Origin>>,
    client: reqwest::Client,
    following: Arc<AtomicBool>,
}

/// Why the feed is not followed at present.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the origin cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the origin was silent for too long")]
    Silent,
    #[error("the origin ended the feed")]
    Ended,
    #[error("the origin answered {0}")]
    Refused(u16),
    #[error("what came is no feed of changes")]
    NoFeed,
    #[error("a change could not be carried out")]
    Cache(#[source] ChangeError),
}

impl Lost {
    /// Asking again soon would get the same answer.
    fn is_clear(&self) -> bool {
        match self {
            Self::Refused(status) => !matches!(status, 429 | 500..),
            Self::NoFeed => true,
            Self::Unreachable(_) | Self::Silent | Self::Ended | Self::Cache(_) => false,
        }
    }
}

impl Follower {
    /// Reads how far it had come. Blocks while it does, which is short.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new(plan: Plan, cache: Arc<Cache<Origin>>) -> Result<Self, reqwest::Error> {
        let mark = Mark::open(plan.mark);
        if let Some(known) = mark.read() {
            // What was fetched up to then is in doubt still, however often the program starts.
            cache.doubt(known.doubt);
        }
        let client = reqwest::Client::builder()
            // The token is the primary's, and goes nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(HEAD)
            .user_agent(concat!("tuyun-edge/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let mut url = plan.base.url().clone();
        url.set_path("/_api/changes");
        url.set_query(None);
        Ok(Self {
            url,
            place: Place::of(&plan.base),
            token: plan.token,
            mark,
            ahead: plan.prefetch.then(|| Arc::new(Semaphore::new(AHEAD))),
            cache,
            client,
            following: Arc::default(),
        })
    }

    /// Whether the feed is being followed, for figures.
    #[must_use]
    pub fn following(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.following)
    }

    /// Follows until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = SOON;
        let mut said = None;
        while let Some(Err(lost)) = stop.run_until_cancelled(self.follow()).await {
            if self.following.swap(false, Ordering::Relaxed) {
                pause = SOON;
                said = None;
            }
            // Once a reason: an origin that is down stays down for a while.
            let text = lost.to_string();
            if said.as_ref() != Some(&text) {
                let error = &lost as &(dyn std::error::Error + 'static);
                tracing::warn!(error, "the origin's changes are not followed; trying on");
                said = Some(text);
            }
            let rest = if lost.is_clear() { SELDOM } else { pause };
            let jitter = rest.mul_f64(rand::random_range(0.0..0.2));
            if stop
                .run_until_cancelled(sleep(rest + jitter))
                .await
                .is_none()
            {
                break;
            }
            pause = (pause * 2).min(LATE);
        }
        self.following.store(false, Ordering::Relaxed);
        self.write_down().await;
    }

    /// Follows until it is lost.
    async fn follow(&mut self) -> Result<(), Lost> {
        let known = self.mark.read();
        let mut request = self
            .client
            .get(self.url.clone())
            .bearer_auth(self.token.expose())
            .header(header::ACCEPT, "text/event-stream");
        if let Some(known) = &known {
            let id = HeaderValue::from_str(&known.id).map_err(|_| Lost::NoFeed)?;
            request = request.header("last-event-id", id);
        }
        let answer = timeout(HEAD, request.send()).await;
        let answer = answer
            .map_err(|_| Lost::Silent)?
            .map_err(|error| Lost::Unreachable(error.without_url()))?;
        if answer.status() != 200 {
            return Err(Lost::Refused(answer.status().as_u16()));
        }
        let kind = answer.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            return Err(Lost::NoFeed);
        }
        self.following.store(true, Ordering::Relaxed);
        tracing::info!("the origin's changes are followed");
        if known.is_none() {
            // From now on; what was fetched up to this moment may be old.
            self.cache.doubt(Moment::now());
        }
        let mut parser = Parser::default();
        let mut pieces = answer.bytes_stream();
        let mut noted = Instant::now();
        loop {
            let piece = timeout(SILENCE, pieces.next()).await;
            let piece = match piece.map_err(|_| Lost::Silent)? {
                None => return Err(Lost::Ended),
                Some(piece) => piece.map_err(|error| Lost::Unreachable(error.without_url()))?,
            };
            for event in parser.take(&piece).map_err(|_| Lost::NoFeed)? {
                self.obey(self.place.read(&event.name, &event.data)).await?;
                if let Some(id) = event.id {
                    // Only now: what is not carried out is to be told again.
                    self.mark.set(id, self.cache.doubted());
                }
            }
            if noted.elapsed() >= NOTED_EVERY {
                self.write_down().await;
                noted = Instant::now();
            }
        }
    }

    async fn obey(&self, news: Option<News>) -> Result<(), Lost> {
        match news {
            None => {}
            Some(News::Reset) => {
                tracing::info!("changes were missed: what is held is asked about at its next use");
                self.cache.doubt(Moment::now());
            }
            Some(News::Gone(scope)) => {
                self.cache.purge(&scope).await.map_err(Lost::Cache)?;
            }
            Some(News::New { path, etag, size }) => {
                self.cache
                    .replaced(&path, etag.as_deref())
                    .await
                    .map_err(Lost::Cache)?;
                if size <= AHEAD_LARGEST {
                    self.fetch_ahead(path);
                }
            }
        }
        Ok(())
    }

    /// If there is a turn free; else the first visitor fetches it.
    fn fetch_ahead(&self, path: ImagePath) {
        let turn = self
            .ahead
            .as_ref()
            .map(|ahead| Arc::clone(ahead).try_acquire_owned());
        if let Some(Ok(turn)) = turn {
            let cache = Arc::clone(&self.cache);
            tokio::spawn(async move {
                cache.warm(&path).await;
                drop(turn);
            });
        }
    }

    async fn write_down(&mut self) {
        if let Err(error) = self.mark.write().await {
            tracing::warn!(%error, "it is not noted how far the origin's changes were followed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_no_is_not_asked_about_again_soon() {
        assert!(Lost::Refused(404).is_clear());
        assert!(Lost::Refused(401).is_clear());
        assert!(!Lost::Refused(503).is_clear());
        assert!(!Lost::Refused(429).is_clear());
        assert!(!Lost::Ended.is_clear());
    }
}
