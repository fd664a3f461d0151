//! Everything that goes wrong at the real service, all at once, by dice with a seed.
//!
//! Each entry is a row of the fault list in `graph-api.md` section 12 or of its traps, on the routes
//! where it was seen. A request meets some fault with the given probability, spread evenly over
//! those that its route knows; what struck whom is in the log.

use crate::faults::{Act, Fault, Reply, ReplyBody};
use crate::route::Route;

/// Routes of the API itself.
const GRAPH: &[Route] = &[
    Route::Item,
    Route::Children,
    Route::CreateFolder,
    Route::PutContent,
    Route::CreateSession,
    Route::Patch,
    Route::Delete,
    Route::Content,
    Route::Delta,
    Route::Quota,
    Route::Drive,
];

/// Of them, those that change something: they may have taken effect though they failed.
const CHANGING: &[Route] = &[
    Route::CreateFolder,
    Route::PutContent,
    Route::Patch,
    Route::Delete,
];

/// Routes behind pre-authenticated URLs.
const STORAGE: &[Route] = &[Route::Fragment, Route::SessionStatus, Route::Download];

/// Seconds of silence that are asked for. The real service asks for 15 and more; that it is kept
/// to is seen in one second as well.
const SILENCE: u64 = 1;

fn refuse(status: u16) -> Act {
    Act::Refuse(Reply {
        status,
        ..Reply::default()
    })
}

fn coded(status: u16, code: &str, inner: Option<&str>) -> Act {
    Act::Refuse(Reply {
        status,
        code: Some(code.to_owned()),
        inner: inner.map(str::to_owned),
        ..Reply::default()
    })
}

fn gateway(status: u16) -> Act {
    Act::Refuse(Reply {
        status,
        body: ReplyBody::Html,
        ..Reply::default()
    })
}

fn silence(status: u16) -> Act {
    Act::Refuse(Reply {
        status,
        retry_after: Some(SILENCE),
        ..Reply::default()
    })
}

fn after_effect(status: u16) -> Act {
    Act::RefuseAfterEffect(Reply {
        status,
        ..Reply::default()
    })
}

fn resync(code: &str, top: bool, location: bool) -> Act {
    Act::Resync {
        code: code.to_owned(),
        top,
        location,
    }
}

/// What may happen to a route.
fn acts(route: Route) -> Vec<Act> {
    let mut acts = vec![Act::LoseRequest, Act::LoseReply, Act::Delay { millis: 100 }];
    if GRAPH.contains(&route) {
        acts.extend([
            silence(429),
            silence(503),
            refuse(500),
            gateway(502),
            gateway(504),
            refuse(401),
        ]);
    }
    if CHANGING.contains(&route) {
        acts.extend([after_effect(504), after_effect(500), Act::EmptyBody]);
    }
    if STORAGE.contains(&route) {
        acts.extend([silence(429), refuse(503), gateway(502)]);
    }
    acts.extend(match route {
        Route::PutContent => vec![refuse(409), coded(423, "resourceLocked", None)],
        Route::CreateSession => vec![coded(409, "nameAlreadyExists", None)],
        Route::Fragment => vec![
            refuse(404),
            refuse(416),
            after_effect(500),
            after_effect(503),
        ],
        Route::Download => vec![
            Act::CutBody { after: 1000 },
            Act::Stall {
                after: 1000,
                millis: 300,
            },
            Act::IgnoreRange,
            refuse(401),
            refuse(404),
        ],
        Route::Children => vec![Act::CutBody { after: 200 }],
        Route::Delta => vec![
            Act::CutBody { after: 200 },
            resync("resyncChangesApplyDifferences", false, true),
            resync("resyncApplyDifferences", true, false),
            resync("resyncChangesUploadDifferences", false, false),
            coded(400, "invalidRequest", Some("invalidToken")),
        ],
        Route::Item => vec![refuse(404)],
        _ => Vec::new(),
    });
    acts
}

/// The faults of a storm: of each route that a client of files uses, requests go wrong with this
/// probability. The same seed strikes the same requests, counted by route.
#[must_use]
pub fn storm(probability: f64, seed: u64) -> Vec<Fault> {
    let token = [refuse(503), gateway(502), Act::LoseReply];
    let mut faults: Vec<Fault> = Vec::new();
    for route in GRAPH.iter().chain(STORAGE).copied() {
        spread(&mut faults, route, acts(route), probability, seed);
    }
    spread(&mut faults, Route::Token, token.into(), probability, seed);
    faults
}

/// Dice are thrown for one act after the other, so each must weigh a little more than the last.
fn spread(faults: &mut Vec<Fault>, route: Route, acts: Vec<Act>, probability: f64, seed: u64) {
    let share = probability / f64::from(u32::try_from(acts.len()).unwrap_or(u32::MAX));
    let mut left = 1.0;
    for act in acts {
        let number = seed
            .wrapping_mul(1_000_003)
            .wrapping_add(faults.len() as u64);
        faults.push(Fault::new(route, act).chance(share / left, number));
        left -= share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Faults;

    fn strikes(seed: u64) -> Vec<Option<Act>> {
        let mut faults = Faults::default();
        for fault in storm(0.3, seed) {
            faults.add(fault);
        }
        (0..2000)
            .map(|_| faults.strike(Route::PutContent, "/x"))
            .collect()
    }

    #[test]
    fn a_storm_strikes_as_often_as_it_says_in_every_way_that_a_route_knows() {
        let struck: Vec<Act> = strikes(7).into_iter().flatten().collect();
        assert!(
            (520..680).contains(&struck.len()),
            "{} of 2000",
            struck.len()
        );
        for act in acts(Route::PutContent) {
            let times = struck.iter().filter(|it| **it == act).count();
            let fair = 600 / acts(Route::PutContent).len();
            assert!(times * 3 > fair && times < fair * 3, "{act:?}: {times}");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_storm() {
        assert_eq!(strikes(7), strikes(7));
        assert_ne!(strikes(7), strikes(8));
    }
}
