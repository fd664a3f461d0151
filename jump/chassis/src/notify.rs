//! What the supervisor is told. Without systemd every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Serving: units ordered after this one may start.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    send(&[NotifyState::Status(line)]);
}

/// Leaving, after finishing what was taken.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Asks for that much more time from now on, to start or to stop.
pub fn extend(time: Duration) {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(micros)]);
}

/// Still alive, for `WatchdogSec=`.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] should be called: half of what the unit allows. `None` when it is off.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify the supervisor");
    }
}
