//! Who may ask next: few requests at a time, those that a program waits for first.
//!
//! The [`Line`] decides, and has no clock and no network; [`Lanes`] lets callers wait for its
//! word. A program that waits goes before work that nobody waits for, and background work still
//! gets its turn however many programs come.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Requests at a time, and with that connections: the service takes four to eight (section 9.3).
pub(super) const AT_ONCE: usize = 8;

/// Requests with content, of either direction: one lane is left for listings and changes.
const BULK: usize = AT_ONCE - 1;

/// Uploads: a visitor's cold read must not wait until a slow line has sent what was saved.
pub(super) const UPLOADS: usize = BULK - 1;

/// Work that nobody waits for: a lookup always finds a lane.
const BACKGROUND: usize = AT_ONCE - 1;

/// So often in a row a program goes before background work that waits, too. With all lanes busy
/// all the time, background work keeps a fifth of them.
const FAVOURS: u32 = 4;

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// A few kilobytes either way.
    Small,
    /// Content, to the drive.
    Up,
    /// Content, from the drive.
    Down,
}

/// Who waits for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// A program, in a system call.
    Program,
    /// Nobody: uploads, and looks for remote changes.
    Background,
}

/// What a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) load: Load,
    pub(super) rank: Rank,
}

/// A place in the line.
type Ticket = u64;

/// Who is under way, and who waits.
#[derive(Debug, Default)]
struct Line {
    under_way: Vec<Need>,
    programs: VecDeque<(Ticket, Need)>,
    background: VecDeque<(Ticket, Need)>,
    favours: u32,
    tickets: Ticket,
}

impl Line {
    fn join(&mut self, need: Need) -> Ticket {
        self.tickets += 1;
        let queue = match need.rank {
            Rank::Program => &mut self.programs,
            Rank::Background => &mut self.background,
        };
        queue.push_back((self.tickets, need));
        self.tickets
    }

    /// Takes a caller out of the line. False: it is not waiting any more.
    fn leave(&mut self, ticket: Ticket) -> bool {
        let before = self.programs.len() + self.background.len();
        self.programs.retain(|(held, _)| *held != ticket);
        self.background.retain(|(held, _)| *held != ticket);
        before != self.programs.len() + self.background.len()
    }

    /// The next one that may go, if any may.
    fn admit(&mut self) -> Option<Ticket> {
        let first = |queue: &VecDeque<(Ticket, Need)>| {
            queue.iter().position(|(_, need)| self.has_room(*need))
        };
        let (program, background) = (first(&self.programs), first(&self.background));
        let (ticket, need) = match (program, background) {
            (Some(at), Some(_)) if self.favours < FAVOURS => {
                self.favours += 1;
                self.programs.remove(at)?
            }
            (_, Some(at)) => {
                self.favours = 0;
                self.background.remove(at)?
            }
            (Some(at), None) => self.programs.remove(at)?,
            (None, None) => return None,
        };
        self.under_way.push(need);
        Some(ticket)
    }

    fn has_room(&self, need: Need) -> bool {
        let count = |counts: &dyn Fn(&Need) -> bool| {
            self.under_way.iter().filter(|held| counts(held)).count()
        };
        count(&|_| true) < AT_ONCE
            && (need.load == Load::Small || count(&|held| held.load != Load::Small) < BULK)
            && (need.load != Load::Up || count(&|held| held.load == Load::Up) < UPLOADS)
            && (need.rank == Rank::Program
                || count(&|held| held.rank == Rank::Background) < BACKGROUND)
    }

    fn done(&mut self, need: Need) {
        if let Some(at) = self.under_way.iter().position(|held| *held == need) {
            self.under_way.swap_remove(at);
        }
    }
}

/// The lanes of one drive.
#[derive(Default)]
pub(super) struct Lanes(Mutex<Waiters>);

#[derive(Default)]
struct Waiters {
    line: Line,
    calls: HashMap<Ticket, oneshot::Sender<()>>,
}

impl Waiters {
    fn call(&mut self) {
        while let Some(ticket) = self.line.admit() {
            if let Some(call) = self.calls.remove(&ticket) {
                // Whoever went away meanwhile gives the lane back by itself, when it is dropped.
                let _ = call.send(());
            }
        }
    }
}

impl Lanes {
    /// Waits for a lane.
    pub(super) async fn take(self: &Arc<Self>, need: Need) -> Lane {
        let (call, called) = oneshot::channel();
        let mut place = {
            let mut waiters = self.0.lock();
            let ticket = waiters.line.join(need);
            waiters.calls.insert(ticket, call);
            waiters.call();
            Lane {
                lanes: Arc::clone(self),
                need,
                ticket: Some(ticket),
            }
        };
        // The sender is dropped by nobody but the one who sends.
        let _ = called.await;
        place.ticket = None;
        place
    }
}

/// A share of what may be under way at a time, or a place in the line for one; given back when
/// dropped.
pub(super) struct Lane {
    lanes: Arc<Lanes>,
    need: Need,
    ticket: Option<Ticket>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut waiters = self.lanes.0.lock();
        let waiting = self.ticket.is_some_and(|ticket| {
            waiters.calls.remove(&ticket);
            waiters.line.leave(ticket)
        });
        if !waiting {
            waiters.line.done(self.need);
        }
        waiters.call();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const fn need(load: Load, rank: Rank) -> Need {
        Need { load, rank }
    }

    const LOOKUP: Need = need(Load::Small, Rank::Program);
    const UPLOAD: Need = need(Load::Up, Rank::Background);

    #[test]
    fn uploads_leave_a_lane_to_readers_and_content_leaves_one_to_the_rest() {
        let lanes = Arc::new(Lanes::default());
        let mut held = Vec::new();
        for (need, count) in [
            (UPLOAD, UPLOADS),
            (need(Load::Down, Rank::Program), BULK),
            (LOOKUP, AT_ONCE),
        ] {
            while let Some(lane) = lanes.take(need).now_or_never() {
                held.push(lane);
            }
            assert_eq!(held.len(), count);
        }
        held.clear();
        assert!(
            lanes.take(UPLOAD).now_or_never().is_some(),
            "all were given back"
        );
    }

    #[test]
    fn work_that_nobody_waits_for_leaves_a_lane_to_a_program() {
        let lanes = Arc::new(Lanes::default());
        let mut held = Vec::new();
        while let Some(lane) = lanes
            .take(need(Load::Small, Rank::Background))
            .now_or_never()
        {
            held.push(lane);
        }
        assert_eq!(held.len(), BACKGROUND);
        assert!(lanes.take(LOOKUP).now_or_never().is_some());
    }

    #[test]
    fn a_program_goes_first_and_background_work_is_not_starved() {
        let mut line = Line::default();
        for _ in 0..AT_ONCE {
            line.join(LOOKUP);
            line.admit().unwrap();
        }
        let waiting = line.join(UPLOAD);
        let programs: Vec<_> = (0..10).map(|_| line.join(LOOKUP)).collect();
        assert_eq!(line.admit(), None, "all lanes are taken");
        for program in &programs[..FAVOURS as usize] {
            line.done(LOOKUP);
            assert_eq!(line.admit(), Some(*program));
        }
        line.done(LOOKUP);
        assert_eq!(line.admit(), Some(waiting));
    }

    #[test]
    fn who_goes_away_leaves_no_gap() {
        let lanes = Arc::new(Lanes::default());
        let mut held: Vec<_> = (0..AT_ONCE)
            .map(|_| lanes.take(LOOKUP).now_or_never().unwrap())
            .collect();
        let mut waiting = Box::pin(lanes.take(LOOKUP));
        let mut gone = Box::pin(lanes.take(LOOKUP));
        assert!((&mut gone).now_or_never().is_none());
        assert!((&mut waiting).now_or_never().is_none());
        held.pop(); // the lane goes to the first in the line
        drop(gone); // which has left without taking it
        assert!(waiting.now_or_never().is_some());
    }
}
