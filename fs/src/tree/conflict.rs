//! Two versions keep both: the name of the one that gives way.

use std::time::SystemTime;

use jiff::{Timestamp, tz::TimeZone};

use super::name::{SEGMENT_UNITS, units};

/// `name (conflict HOST YYYY-MM-DD HHMMSS).ext`, the time in UTC.
#[must_use]
pub fn conflict_name(name: &str, host: &str, now: SystemTime) -> String {
    let tail = format!(" (conflict {host} {})", stamp(now));
    // A leading dot begins a hidden name, not an extension.
    match name.rfind('.').filter(|at| *at > 0) {
        Some(at) => shortened(&name[..at], &format!("{tail}{}", &name[at..])),
        None => shortened(name, &tail),
    }
}

/// The folder for what came back from a damaged journal: `recovered YYYY-MM-DD HHMMSS`.
#[must_use]
pub fn recovered_name(now: SystemTime) -> String {
    format!("recovered {}", stamp(now))
}

fn stamp(now: SystemTime) -> String {
    let at = Timestamp::try_from(now).map(|at| at.to_zoned(TimeZone::UTC));
    at.map(|at| at.strftime("%Y-%m-%d %H%M%S").to_string())
        .unwrap_or_default()
}

/// A name and its tail, the name cut where the drive would find both too long.
fn shortened(name: &str, tail: &str) -> String {
    let room = SEGMENT_UNITS.saturating_sub(units(tail));
    let mut left = room;
    let fits = |c: &char| {
        let fits = c.len_utf16() <= left;
        left = left.saturating_sub(c.len_utf16());
        fits
    };
    let kept: String = name.chars().take_while(fits).collect();
    kept + tail
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
        let long = conflict_name(&format!("{}.jpg", "图".repeat(251)), "nas", at);
        assert_eq!(units(&long), SEGMENT_UNITS);
        assert!(long.ends_with("图 (conflict nas 2026-11-18 110640).jpg"));
    }
}
