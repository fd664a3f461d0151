//! How long a sign-in lasts, and when to say that it is about to end (trap T26).

use std::time::{Duration, SystemTime};

use super::StoredToken;

/// A refresh token that nobody uses dies after this (`graph-api.md` section 2.3).
pub(super) const UNUSED: Duration = Duration::from_hours(90 * 24);

/// How long before its end a sign-in is worth a warning: long enough to outlast a holiday.
const WARN: Duration = Duration::from_hours(14 * 24);

/// How often a refresh token is used at least, though nobody needs a new access token: a mount
/// that nobody looks at should not be what lets it die.
const KEEP_ALIVE: Duration = Duration::from_hours(24);

/// A sign-in whose end was told and is this near is one of a single-page application: it ends a
/// day after it began, used or not.
const ONE_DAY: Duration = Duration::from_hours(25);

/// Until when the sign-in lasts if it is not used before.
pub(super) fn lasts_until(token: &StoredToken) -> SystemTime {
    let unused = token.refreshed_at + UNUSED;
    token.told_end.map_or(unused, |told| told.min(unused))
}

/// Whether the refresh token should be used, only to keep it alive. One that was last used in the
/// future, by a clock that has been set back since, is due as well.
pub(super) fn keep_alive_due(token: &StoredToken, now: SystemTime) -> bool {
    now.duration_since(token.refreshed_at)
        .map_or(true, |idle| idle >= KEEP_ALIVE)
}

/// What a person should be told before the sign-in ends.
pub(super) fn warning(token: &StoredToken, now: SystemTime) -> Option<String> {
    let left = lasts_until(token).duration_since(now).unwrap_or_default();
    if left > WARN {
        return None;
    }
    let unit = |count: u64, name: &str| match count {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    };
    let hours = left.as_secs() / 3600;
    let when = match hours {
        0 => "within the hour".to_owned(),
        1..48 => format!("in {}", unit(hours, "hour")),
        hours => format!("in {}", unit(hours / 24, "day")),
    };
    let advice = if token.told_end.is_some() && left <= ONE_DAY {
        "the app is registered as a single-page application, whose sign-ins last a day: register it \
         as `Mobile and desktop applications`, then run `tuyunfs login`"
    } else {
        "it could not be renewed for long: check the network, or run `tuyunfs login`"
    };
    Some(format!("the sign-in ends {when}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::super::token::example;
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn an_unused_sign_in_is_warned_of_two_weeks_before_its_end() {
        let mut token = example("r");
        token.refreshed_at = SystemTime::UNIX_EPOCH + 100 * DAY;
        let end = token.refreshed_at + 90 * DAY;
        assert_eq!(lasts_until(&token), end);
        let at = |left: Duration| warning(&token, end - left);
        assert_eq!(at(15 * DAY), None);
        assert!(at(14 * DAY).unwrap().contains("in 14 days"));
        assert!(
            at(Duration::from_hours(25))
                .unwrap()
                .contains("in 25 hours")
        );
        assert!(
            at(Duration::from_mins(1))
                .unwrap()
                .contains("within the hour")
        );
        assert!(
            warning(&token, end + DAY)
                .unwrap()
                .contains("tuyunfs login")
        );
    }

    #[test]
    fn a_sign_in_of_a_day_says_what_is_wrong_with_the_registration() {
        let mut token = example("r");
        let now = token.refreshed_at;
        token.told_end = Some(now + DAY);
        let told = warning(&token, now).unwrap();
        assert!(
            told.contains("in 24 hours") && told.contains("Mobile and desktop"),
            "{told}"
        );
        token.told_end = Some(now + 365 * DAY);
        assert_eq!(lasts_until(&token), now + 90 * DAY);
        assert_eq!(warning(&token, now), None);
    }

    #[test]
    fn a_token_is_used_once_a_day_also_by_a_clock_that_went_back() {
        let token = example("r");
        assert!(!keep_alive_due(
            &token,
            token.refreshed_at + Duration::from_hours(23)
        ));
        assert!(keep_alive_due(&token, token.refreshed_at + DAY));
        assert!(keep_alive_due(&token, token.refreshed_at - DAY));
    }
}
