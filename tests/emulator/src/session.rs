//! Upload sessions: what has arrived, what may come next, how long it may take.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::{
    clock,
    content::Spool,
    ids, names,
    refusal::Refusal,
    store::{Conflict, Place, Precondition},
};

/// Fragments are multiples of this, but for the last.
pub(crate) const FRAGMENT_UNIT: u64 = 327_680;
/// A fragment is smaller than this.
pub(crate) const FRAGMENT_LIMIT: u64 = 60 * 1024 * 1024;
/// Work drives give a session so long after each fragment.
const WORK_LIFE: Duration = Duration::from_mins(15);
/// Personal drives give it days.
const PERSONAL_LIFE: Duration = Duration::from_hours(7 * 24);
/// The signature in an upload URL of a work drive ends then, whatever else is said.
const TEMPAUTH_LIFE: Duration = Duration::from_hours(24);

/// An upload in progress.
pub(crate) struct Session {
    pub(crate) drive: usize,
    pub(crate) place: Place,
    pub(crate) conflict: Conflict,
    pub(crate) created: Option<Timestamp>,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) precondition: Precondition,
    pub(crate) deferred: bool,
    /// The size of the whole, known from the first fragment on.
    pub(crate) total: Option<u64>,
    /// The first byte that is still missing.
    pub(crate) next: u64,
    /// The bytes; out while a fragment arrives.
    pub(crate) spool: Option<Spool>,
    secret: String,
    life: Duration,
    personal: bool,
    opened: Timestamp,
    pub(crate) expires: Timestamp,
    /// Cancelled while a fragment was arriving.
    cancelled: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// What a client asks for when it opens a session.
pub(crate) struct Wish {
    pub(crate) drive: usize,
    pub(crate) place: Place,
    pub(crate) conflict: Conflict,
    pub(crate) created: Option<Timestamp>,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) precondition: Precondition,
    pub(crate) deferred: bool,
}

impl Session {
    pub(crate) fn is_complete(&self) -> bool {
        self.total == Some(self.next)
    }

    /// `nextExpectedRanges`.
    pub(crate) fn missing(&self) -> Vec<String> {
        match self.total {
            Some(total) if self.next == total => Vec::new(),
            Some(total) if self.next > 0 => vec![format!("{}-{}", self.next, total - 1)],
            Some(_) | None => vec![format!("{}-", self.next)],
        }
    }

    /// Moves the end of the session away from now.
    pub(crate) fn renew(&mut self, now: Timestamp) {
        self.expires = clock::after(now, self.life);
        if !self.personal {
            self.expires = self.expires.min(clock::after(self.opened, TEMPAUTH_LIFE));
        }
    }
}

/// All sessions, by the id in their URL.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: HashMap<String, Session>,
}

impl Sessions {
    /// Opens a session; gives its id and the secret of its URL.
    pub(crate) fn open(
        &mut self,
        wish: Wish,
        spool: Spool,
        personal: bool,
        life_seconds: u64,
        now: Timestamp,
    ) -> (String, String) {
        let life = match life_seconds {
            0 if personal => PERSONAL_LIFE,
            0 => WORK_LIFE,
            seconds => Duration::from_secs(seconds),
        };
        let (id, secret) = (ids::guid().to_lowercase(), ids::secret(43));
        let mut session = Session {
            drive: wish.drive,
            place: wish.place,
            conflict: wish.conflict,
            created: wish.created,
            modified: wish.modified,
            precondition: wish.precondition,
            deferred: wish.deferred,
            total: None,
            next: 0,
            spool: Some(spool),
            secret: secret.clone(),
            life,
            personal,
            opened: now,
            expires: now,
            cancelled: false,
        };
        session.renew(now);
        self.forget_expired(now);
        self.open.insert(id.clone(), session);
        (id, secret)
    }

    /// The living session of a URL.
    pub(crate) fn find(
        &mut self,
        id: &str,
        secret: &str,
        now: Timestamp,
    ) -> Result<&mut Session, Refusal> {
        let gone = || Refusal::new(404, "itemNotFound", "The upload session was not found");
        let session = self.open.get_mut(id).ok_or_else(gone)?;
        if session.secret != secret {
            return Err(Refusal::new(
                401,
                "unauthenticated",
                "The signature is not valid.",
            ));
        }
        if !session.personal && now >= clock::after(session.opened, TEMPAUTH_LIFE) {
            return Err(Refusal::new(
                401,
                "unauthenticated",
                "The signature has expired.",
            ));
        }
        if session.cancelled || now >= session.expires {
            return Err(gone());
        }
        Ok(session)
    }

    pub(crate) fn close(&mut self, id: &str) -> Option<Session> {
        self.open.remove(id)
    }

    /// Cancels a session, at once or when the fragment that is arriving has ended.
    pub(crate) fn cancel(&mut self, id: &str) {
        match self.open.get_mut(id) {
            Some(session) if session.spool.is_none() => session.cancelled = true,
            Some(_) | None => {
                self.open.remove(id);
            }
        }
    }

    /// Gives the bytes back after a fragment, whole or broken.
    pub(crate) fn put_back(&mut self, id: &str, spool: Spool) {
        if let Some(session) = self.open.get_mut(id) {
            if session.cancelled {
                self.open.remove(id);
            } else {
                session.spool = Some(spool);
            }
        }
    }

    /// Whether a living session is going to put this name into this folder.
    pub(crate) fn holds_name(&self, drive: usize, place: &Place, now: Timestamp) -> bool {
        self.open.values().any(|session| {
            session.drive == drive && now < session.expires && same_place(&session.place, place)
        })
    }

    pub(crate) fn count(&self, now: Timestamp) -> usize {
        self.open
            .values()
            .filter(|session| now < session.expires)
            .count()
    }

    /// Lets every session end now.
    pub(crate) fn expire_all(&mut self) {
        self.open.clear();
    }

    fn forget_expired(&mut self, now: Timestamp) {
        self.open.retain(|_, session| now < session.expires);
    }
}

fn same_place(one: &Place, other: &Place) -> bool {
    match (one, other) {
        (Place::Taken(one), Place::Taken(other)) => one == other,
        (Place::Free { parent: a, name: x }, Place::Free { parent: b, name: y }) => {
            a == b && names::key(x) == names::key(y)
        }
        (Place::Taken(_), Place::Free { .. }) | (Place::Free { .. }, Place::Taken(_)) => false,
    }
}
