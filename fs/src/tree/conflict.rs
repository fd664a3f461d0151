//! Two versions keep both: the name of the one that gives way.

use std::time::SystemTime;

use jiff::{Timestamp, tz::TimeZone};

/// `name (conflict HOST YYYY-MM-DD HHMMSS).ext`, the time in UTC.
#[must_use]
pub fn conflict_name(name: &str, host: &str, now: SystemTime) -> String {
    let stamp = Timestamp::try_from(now)
        .map(|at| {
            at.to_zoned(TimeZone::UTC)
                .strftime("%Y-%m-%d %H%M%S")
                .to_string()
        })
        .unwrap_or_default();
    // A leading dot begins a hidden name, not an extension.
    match name.rfind('.').filter(|at| *at > 0) {
        Some(at) => format!("{} (conflict {host} {stamp}){}", &name[..at], &name[at..]),
        None => format!("{name} (conflict {host} {stamp})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_conflict_copy_keeps_its_extension() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        assert_eq!(
            conflict_name("a.b.jpg", "nas", at),
            "a.b (conflict nas 2026-11-18 110640).jpg"
        );
        assert_eq!(
            conflict_name(".env", "nas", at),
            ".env (conflict nas 2026-11-18 110640)"
        );
    }
}
