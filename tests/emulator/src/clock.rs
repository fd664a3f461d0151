//! What time the service thinks it is.
//!
//! The machine's time plus a skew that a test sets, so that tokens, sessions and URLs grow old
//! without anybody waiting.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

/// The emulator's clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    skew_millis: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> Timestamp {
        let skew = SignedDuration::from_millis(self.skew_millis.load(Ordering::Relaxed));
        // Out of range only with a skew of millennia; the plain time is the honest fallback.
        Timestamp::now()
            .checked_add(skew)
            .unwrap_or_else(|_| Timestamp::now())
    }

    pub(crate) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.skew_millis.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn set_skew(&self, millis: i64) {
        self.skew_millis.store(millis, Ordering::Relaxed);
    }
}

/// A time so many seconds later, or the last one there is.
pub(crate) fn after(now: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| now.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The time cut to what a drive keeps.
pub(crate) fn cut(time: Timestamp, millis: bool) -> Timestamp {
    let kept = time.as_millisecond();
    let kept = if millis {
        kept
    } else {
        kept.div_euclid(1000) * 1000
    };
    // Cutting moves towards the past by less than a second; only the first second there is fails.
    Timestamp::from_millisecond(kept).unwrap_or(time)
}

/// The time as JSON has it.
pub(crate) fn text(time: Timestamp, millis: bool) -> String {
    if millis {
        format!("{time:.3}")
    } else {
        format!("{time:.0}")
    }
}
