//! The core's answers, plain values in and out.

use proptest::prelude::*;

use super::*;

const NOW: Moment = Moment(1_000_000);

fn life(cache_control: &str) -> Option<Lifetime> {
    let said = Said {
        cache_control: Some(cache_control),
        ..Said::default()
    };
    admit(&said, NOW).map(|(life, _)| life)
}

fn fresh_secs(cache_control: &str) -> Option<u64> {
    life(cache_control).map(|life| life.fresh_secs)
}

fn head(lifetime: Lifetime, made: Moment) -> Head {
    Head {
        content_type: "image/webp".into(),
        etag: None,
        last_modified: None,
        cache_control: None,
        made,
        lifetime,
    }
}

#[test]
fn an_entry_is_stale_at_the_very_moment_its_lifetime_ends() {
    let head = head(
        Lifetime {
            fresh_secs: 60,
            ..Lifetime::default()
        },
        NOW,
    );
    assert_eq!(judge(&head, Moment(NOW.0 + 59)), Verdict::Fresh);
    assert_eq!(judge(&head, Moment(NOW.0 + 60)), Verdict::Stale);
    assert_eq!(ttl(&head, Moment(NOW.0 + 70)), -10);
}

#[test]
fn the_shared_lifetime_goes_before_the_private_one() {
    assert_eq!(fresh_secs("max-age=10, s-maxage=20"), Some(20));
    assert_eq!(
        fresh_secs("public,MAX-AGE=\"86400\" , stale-if-error=864000"),
        Some(86_400)
    );
}

#[test]
fn what_must_not_be_kept_is_not() {
    assert_eq!(life("no-store, max-age=60"), None);
    assert_eq!(life("private"), None);
    let varies = Said {
        varies: true,
        ..Said::default()
    };
    assert_eq!(admit(&varies, NOW), None);
}

#[test]
fn a_directive_that_names_fields_speaks_of_those_alone() {
    assert_eq!(
        fresh_secs("private=\"set-cookie, x-no-store\", max-age=5"),
        Some(5)
    );
}

#[test]
fn no_cache_is_kept_but_never_served_without_asking() {
    let life = life("no-cache, max-age=60").expect("may be kept");
    assert_eq!(
        life,
        Lifetime {
            fresh_secs: 0,
            while_revalidate_secs: 0,
            strict: true
        }
    );
    assert_eq!(judge(&head(life, NOW), NOW), Verdict::Spent);
}

#[test]
fn a_lifetime_that_cannot_be_read_is_none_and_one_too_long_is_a_year() {
    assert_eq!(fresh_secs("max-age=soon"), Some(0));
    assert_eq!(fresh_secs("max-age=-5"), Some(0));
    assert_eq!(
        fresh_secs("max-age=99999999999999999999999"),
        Some(31_536_000)
    );
}

#[test]
fn a_stale_entry_is_fresh_enough_for_as_long_as_the_origin_allows() {
    let life = life("max-age=10, stale-while-revalidate=5").expect("may be kept");
    let head = head(life, NOW);
    assert_eq!(judge(&head, Moment(NOW.0 + 10)), Verdict::FreshEnough);
    assert_eq!(judge(&head, Moment(NOW.0 + 15)), Verdict::Stale);
}

#[test]
fn must_revalidate_forbids_stale_answers() {
    let life = life("max-age=10, must-revalidate").expect("may be kept");
    assert_eq!(judge(&head(life, NOW), Moment(NOW.0 + 10)), Verdict::Spent);
}

#[test]
fn expires_counts_from_the_origins_own_date() {
    let said = Said {
        expires: Some(Some(Moment(500))),
        date: Some(Moment(400)),
        ..Said::default()
    };
    assert_eq!(
        admit(&said, NOW).map(|(life, _)| life.fresh_secs),
        Some(100)
    );
    let never = Said {
        expires: Some(None),
        ..Said::default()
    };
    assert_eq!(admit(&never, NOW).map(|(life, _)| life.fresh_secs), Some(0));
}

#[test]
fn without_a_word_a_tenth_of_its_age_is_guessed_and_an_hour_without_even_that() {
    let said = Said {
        last_modified: Some(NOW.before(Duration::from_secs(500))),
        ..Said::default()
    };
    assert_eq!(admit(&said, NOW).map(|(life, _)| life.fresh_secs), Some(50));
    let old = Said {
        last_modified: Some(Moment(0)),
        ..Said::default()
    };
    assert_eq!(
        admit(&old, NOW).map(|(life, _)| life.fresh_secs),
        Some(86_400)
    );
    assert_eq!(
        admit(&Said::default(), NOW).map(|(life, _)| life.fresh_secs),
        Some(3_600)
    );
}

#[test]
fn time_spent_in_other_caches_counts() {
    let said = Said {
        cache_control: Some("max-age=60"),
        age: Some(Duration::from_secs(50)),
        ..Said::default()
    };
    let (life, made) = admit(&said, NOW).expect("may be kept");
    assert_eq!(judge(&head(life, made), Moment(NOW.0 + 9)), Verdict::Fresh);
    assert_eq!(judge(&head(life, made), Moment(NOW.0 + 10)), Verdict::Stale);
}

#[test]
fn an_entry_from_the_future_is_asked_about() {
    let life = Lifetime {
        fresh_secs: 60,
        ..Lifetime::default()
    };
    assert_eq!(judge(&head(life, Moment(NOW.0 + 30)), NOW), Verdict::Fresh);
    assert_eq!(judge(&head(life, Moment(NOW.0 + 90)), NOW), Verdict::Stale);
}

proptest! {
    #[test]
    fn whatever_the_origin_says_a_life_lasts_a_year_at_most(text in "[-a-z0-9=,\" ]{0,60}") {
        let said = Said { cache_control: Some(&text), ..Said::default() };
        if let Some((life, made)) = admit(&said, NOW) {
            prop_assert!(life.fresh_secs <= AT_MOST.as_secs());
            prop_assert!(life.while_revalidate_secs <= AT_MOST.as_secs());
            prop_assert_eq!(made, NOW);
        }
    }
}
