//! Which request goes wrong, and how.
//!
//! A fault names a route, says how often it strikes, and what it does. The first fault in the list
//! that matches a request strikes; a spent one is dropped.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::route::Route;

/// A reply that stands in for the real one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The error code; a fitting one for the status when absent.
    pub code: Option<String>,
    /// The inner error code.
    pub inner: Option<String>,
    /// Seconds of a `Retry-After` header.
    pub retry_after: Option<u64>,
    /// A `Location` header.
    pub location: Option<String>,
    /// What stands in the body.
    pub body: ReplyBody,
}

/// The body of an error reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// JSON as Graph writes it.
    #[default]
    Json,
    /// A gateway's HTML page.
    Html,
    /// Nothing.
    Empty,
}

/// What a fault does to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// Refused before it takes effect.
    Refuse(Reply),
    /// Carried out, and then answered with this.
    RefuseAfterEffect(Reply),
    /// The connection closes before it takes effect.
    LoseRequest,
    /// Carried out, then the connection closes without a reply.
    LoseReply,
    /// Carried out, and answered with its own status and no body.
    EmptyBody,
    /// The whole file with 200 where a range with 206 was asked for.
    IgnoreRange,
    /// The body ends after so many bytes, and the connection with it.
    CutBody {
        /// Bytes that still arrive.
        after: u64,
    },
    /// The body stands still after so many bytes.
    Stall {
        /// Bytes that arrive at once.
        after: u64,
        /// How long it stands.
        millis: u64,
    },
    /// The request waits before anything is done.
    Delay {
        /// How long.
        millis: u64,
    },
    /// 410 on delta.
    Resync {
        /// `resyncChangesApplyDifferences` or `resyncChangesUploadDifferences`.
        code: String,
        /// Whether the code stands at the top, or inside under `resyncRequired`.
        top: bool,
        /// Whether a `Location` leads to a fresh enumeration.
        location: bool,
    },
    /// An error of the token endpoint.
    Oauth {
        /// The HTTP status, 400 or 401 as a rule.
        status: u16,
        /// `invalid_grant`, `interaction_required`, `invalid_client`, …
        error: String,
        /// The AADSTS number.
        number: u32,
    },
}

/// How often a fault strikes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Often {
    /// The next so many matching requests.
    Times(u64),
    /// Every matching request.
    Always,
    /// Each matching request with this probability, from a seed of its own.
    Chance {
        /// Between 0 and 1.
        probability: f64,
        /// The same seed strikes the same requests.
        seed: u64,
    },
}

/// A fault to inject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The route it strikes; none means every route.
    #[serde(default)]
    pub route: Option<Route>,
    /// Only requests whose path contains this.
    #[serde(default)]
    pub path_contains: Option<String>,
    /// So many matching requests pass first.
    #[serde(default)]
    pub skip: u64,
    /// How often.
    #[serde(default = "once")]
    pub often: Often,
    /// What it does.
    pub act: Act,
}

fn once() -> Often {
    Often::Times(1)
}

impl Fault {
    /// Strikes the next request of a route.
    #[must_use]
    pub fn new(route: Route, act: Act) -> Self {
        Self {
            route: Some(route),
            path_contains: None,
            skip: 0,
            often: Often::Times(1),
            act,
        }
    }

    /// Strikes the next request of any route.
    #[must_use]
    pub fn anywhere(act: Act) -> Self {
        Self {
            route: None,
            path_contains: None,
            skip: 0,
            often: Often::Times(1),
            act,
        }
    }

    /// The next request of a route is refused with this status, without effect.
    #[must_use]
    pub fn status(route: Route, status: u16) -> Self {
        Self::new(
            route,
            Act::Refuse(Reply {
                status,
                ..Reply::default()
            }),
        )
    }

    /// The next request of a route is carried out and then answered with this status.
    #[must_use]
    pub fn status_after_effect(route: Route, status: u16) -> Self {
        Self::new(
            route,
            Act::RefuseAfterEffect(Reply {
                status,
                ..Reply::default()
            }),
        )
    }

    /// The next request of a route is carried out, and its reply lost with the connection.
    #[must_use]
    pub fn lost_reply(route: Route) -> Self {
        Self::new(route, Act::LoseReply)
    }

    /// Adds a `Retry-After` to a refusal.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        if let Act::Refuse(reply) | Act::RefuseAfterEffect(reply) = &mut self.act {
            reply.retry_after = Some(seconds);
        }
        self
    }

    /// Sets the codes of a refusal.
    #[must_use]
    pub fn code(mut self, code: &str, inner: Option<&str>) -> Self {
        if let Act::Refuse(reply) | Act::RefuseAfterEffect(reply) = &mut self.act {
            reply.code = Some(code.to_owned());
            reply.inner = inner.map(str::to_owned);
        }
        self
    }

    /// Sets the kind of body of a refusal.
    #[must_use]
    pub fn body(mut self, body: ReplyBody) -> Self {
        if let Act::Refuse(reply) | Act::RefuseAfterEffect(reply) = &mut self.act {
            reply.body = body;
        }
        self
    }

    /// Strikes so many times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.often = Often::Times(times);
        self
    }

    /// Strikes until the faults are cleared.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.often = Often::Always;
        self
    }

    /// Strikes with this probability.
    #[must_use]
    pub fn chance(mut self, probability: f64, seed: u64) -> Self {
        self.often = Often::Chance { probability, seed };
        self
    }

    /// Lets so many matching requests pass first.
    #[must_use]
    pub fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Strikes only requests whose path contains this text.
    #[must_use]
    pub fn on_path(mut self, part: &str) -> Self {
        self.path_contains = Some(part.to_owned());
        self
    }
}

/// The faults that are set.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    set: Vec<Armed>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    dice: StdRng,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        let seed = match fault.often {
            Often::Chance { seed, .. } => seed,
            Often::Times(_) | Often::Always => 0,
        };
        self.set.push(Armed {
            fault,
            dice: StdRng::seed_from_u64(seed),
        });
    }

    pub(crate) fn clear(&mut self) {
        self.set.clear();
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.set.iter().map(|armed| armed.fault.clone()).collect()
    }

    /// The fault that strikes this request, if any.
    pub(crate) fn strike(&mut self, route: Route, path: &str) -> Option<Act> {
        let mut struck = None;
        for armed in &mut self.set {
            if armed.strikes(route, path) {
                struck = Some(armed.fault.act.clone());
                break;
            }
        }
        self.set
            .retain(|armed| armed.fault.often != Often::Times(0));
        struck
    }
}

impl Armed {
    fn strikes(&mut self, route: Route, path: &str) -> bool {
        let fault = &mut self.fault;
        let matches = fault.route.is_none_or(|of| of == route)
            && fault
                .path_contains
                .as_ref()
                .is_none_or(|part| path.contains(part.as_str()));
        if !matches {
            return false;
        }
        if fault.skip > 0 {
            fault.skip -= 1;
            return false;
        }
        match &mut fault.often {
            Often::Always => true,
            Often::Times(left) => {
                let strikes = *left > 0;
                *left = left.saturating_sub(1);
                strikes
            }
            Often::Chance { probability, .. } => self.dice.random_bool(probability.clamp(0.0, 1.0)),
        }
    }
}

impl Act {
    /// The act in one word, for the log.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Refuse(reply) => format!("refuse {}", reply.status),
            Self::RefuseAfterEffect(reply) => format!("refuse after effect {}", reply.status),
            Self::LoseRequest => "lose request".into(),
            Self::LoseReply => "lose reply".into(),
            Self::EmptyBody => "empty body".into(),
            Self::IgnoreRange => "ignore range".into(),
            Self::CutBody { after } => format!("cut after {after}"),
            Self::Stall { after, millis } => {
                format!(
                    "stall after {after} for {:?}",
                    Duration::from_millis(*millis)
                )
            }
            Self::Delay { millis } => format!("delay {:?}", Duration::from_millis(*millis)),
            Self::Resync { code, .. } => code.clone(),
            Self::Oauth { error, .. } => error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(faults: &mut Faults, route: Route, requests: usize) -> Vec<bool> {
        (0..requests)
            .map(|_| faults.strike(route, "/x").is_some())
            .collect()
    }

    #[test]
    fn a_fault_strikes_its_route_as_often_as_it_says_and_is_spent() {
        let mut faults = Faults::default();
        faults.add(Fault::status(Route::Item, 503).times(2).after(1));
        assert_eq!(struck(&mut faults, Route::Delta, 1), [false]);
        assert_eq!(
            struck(&mut faults, Route::Item, 4),
            [false, true, true, false]
        );
        assert!(faults.list().is_empty());
    }

    #[test]
    fn a_fault_on_a_path_leaves_other_paths_alone() {
        let mut faults = Faults::default();
        faults.add(Fault::status(Route::Item, 503).on_path("b.txt"));
        assert!(faults.strike(Route::Item, "/root:/a.txt").is_none());
        assert!(faults.strike(Route::Item, "/root:/b.txt").is_some());
    }

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let run = |seed| {
            let mut faults = Faults::default();
            faults.add(Fault::anywhere(Act::LoseReply).chance(0.3, seed));
            struck(&mut faults, Route::Patch, 100)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let hits = run(7).into_iter().filter(|hit| *hit).count();
        assert!((15..=45).contains(&hits), "{hits} of 100 at 0.3");
    }
}
