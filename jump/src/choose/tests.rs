//! Policies and nearness, over made-up fleets.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tuyun_protocol::Report;

use super::*;
use crate::roster::tests::{lease, table_of};
use crate::roster::{Lease, Order};

fn path(text: &str) -> ImagePath {
    ImagePath::parse(text).unwrap()
}

fn chosen(ids: &[&str], policy: Policy, asked: &str) -> Option<String> {
    let now = Instant::now();
    let roster = table_of(ids, now).snapshot(now);
    id_of(choose(
        &roster,
        policy,
        &path(asked),
        &Labels::default(),
        now,
    ))
}

fn id_of(target: Target<'_>) -> Option<String> {
    match target {
        Target::Node(node) => Some(node.lease.id.to_string()),
        Target::Origin => None,
    }
}

/// A fleet whose nodes say this of themselves.
fn fleet(nodes: &[(&str, Report)]) -> Roster {
    let now = Instant::now();
    let mut table = table_of(&[], now);
    for (id, report) in nodes {
        let said = Lease {
            report: report.clone(),
            ..lease(id)
        };
        table.hear(said, Duration::from_secs(20), now).unwrap();
    }
    table.snapshot(now)
}

fn carries(mbits: u32, load: u8) -> Report {
    Report {
        capacity: Some(mbits),
        load: Some(load),
        ..Report::default()
    }
}

fn at(isp: &str, province: &str, country: &str) -> Report {
    Report {
        labels: Labels::new(isp, province, country),
        ..Report::default()
    }
}

/// How a thousand paths fall on a fleet.
fn shares(roster: &Roster) -> BTreeMap<String, u32> {
    let mut shares = BTreeMap::new();
    for number in 0..1000 {
        let asked = path(&format!("pic/{number}.webp"));
        let nobody = Labels::default();
        let target = choose(roster, Policy::Weighted, &asked, &nobody, Instant::now());
        *shares.entry(id_of(target).unwrap()).or_default() += 1;
    }
    shares
}

#[test]
fn priority_takes_the_lowest_number_then_the_first_name() {
    let priority = Policy::Priority;
    assert_eq!(chosen(&["10", "2", "a"], priority, "x"), Some("2".into()));
    assert_eq!(chosen(&["b", "a"], priority, "x"), Some("a".into()));
    assert_eq!(chosen(&[], priority, "x"), None);
}

#[test]
fn a_node_whose_lease_ran_out_gets_nobody_from_that_moment() {
    let now = Instant::now();
    let mut table = table_of(&[], now);
    let ttl = Duration::from_secs(20);
    table.hear(lease("1"), ttl, now).unwrap();
    let roster = table.snapshot(now);
    let asked = |at| {
        choose(
            &roster,
            Policy::Priority,
            &path("x"),
            &Labels::default(),
            at,
        )
    };
    let last = now + Duration::from_nanos(19_999_999_999);
    assert!(matches!(asked(last), Target::Node(_)));
    assert_eq!(asked(now + ttl), Target::Origin);
}

#[test]
fn affinity_spreads_paths_over_all_nodes() {
    let ids = ["1", "2", "3", "4"];
    let mut count = BTreeMap::new();
    for number in 0..1000 {
        let asked = format!("pic/{number}.webp");
        *count
            .entry(chosen(&ids, Policy::Affinity, &asked).unwrap())
            .or_insert(0) += 1;
    }
    assert!(
        count.len() == 4 && count.values().all(|got| *got > 180),
        "{count:?}"
    );
}

#[test]
fn a_node_that_carries_three_times_as_much_gets_three_times_as_many_paths() {
    let shares = shares(&fleet(&[("1", carries(300, 0)), ("2", carries(100, 0))]));
    assert!((700..800).contains(&shares["1"]), "{shares:?}");
}

#[test]
fn a_busy_node_gets_less_and_a_full_one_little() {
    let half = shares(&fleet(&[("1", carries(100, 50)), ("2", carries(100, 0))]));
    assert!((280..390).contains(&half["1"]), "{half:?}");
    let full = shares(&fleet(&[("1", carries(100, 100)), ("2", carries(100, 0))]));
    assert!((10..100).contains(&full["1"]), "{full:?}");
}

#[test]
fn when_a_weight_changes_paths_move_only_to_or_from_that_node() {
    let before = fleet(&[
        ("1", carries(100, 0)),
        ("2", carries(100, 0)),
        ("3", carries(100, 0)),
    ]);
    let after = fleet(&[
        ("1", carries(200, 0)),
        ("2", carries(100, 0)),
        ("3", carries(100, 0)),
    ]);
    for number in 0..1000 {
        let asked = path(&format!("pic/{number}.webp"));
        let of = |roster| {
            let nobody = Labels::default();
            id_of(choose(
                roster,
                Policy::Weighted,
                &asked,
                &nobody,
                Instant::now(),
            ))
            .unwrap()
        };
        let (was, is) = (of(&before), of(&after));
        assert!(was == is || is == "1", "{asked:?} went from {was} to {is}");
    }
}

#[test]
fn a_visitor_goes_to_the_nearest_and_the_country_counts_before_the_provider() {
    let roster = fleet(&[
        ("1", at("telecom", "guangdong", "cn")),
        ("2", at("unicom", "beijing", "cn")),
        ("3", at("telecom", "", "us")),
        ("4", Report::default()),
    ]);
    let sent = |isp: &str, province: &str, country: &str| {
        let visitor = Labels::new(isp, province, country);
        id_of(choose(
            &roster,
            Policy::Priority,
            &path("x"),
            &visitor,
            Instant::now(),
        ))
        .unwrap()
    };
    assert_eq!(
        sent("unicom", "guangdong", "cn"),
        "2",
        "the provider before the province"
    );
    assert_eq!(sent("telecom", "shanghai", "cn"), "1");
    assert_eq!(sent("telecom", "", "us"), "3");
    assert_eq!(
        sent("mobile", "beijing", "cn"),
        "2",
        "the province, where no provider is the same"
    );
    assert_eq!(
        sent("", "", "de"),
        "4",
        "not known is nearer than elsewhere"
    );
    assert_eq!(
        sent("", "", ""),
        "1",
        "nothing is known of the visitor: the policy alone"
    );
}

#[test]
fn the_nearest_that_is_dead_is_not_near() {
    let now = Instant::now();
    let mut table = table_of(&["1"], now);
    let near = Lease {
        report: at("telecom", "", "cn"),
        ..lease("2")
    };
    table
        .hear(near.clone(), Duration::from_secs(20), now)
        .unwrap();
    let visitor = Labels::new("telecom", "", "cn");
    let sent = |table: &crate::roster::Table| {
        id_of(choose(
            &table.snapshot(now),
            Policy::Priority,
            &path("x"),
            &visitor,
            now,
        ))
        .unwrap()
    };
    assert_eq!(sent(&table), "2");
    for _ in 0..2 {
        table.probed(&near.id, &near.url, false, now);
    }
    assert_eq!(sent(&table), "1");
}

#[test]
fn the_operator_s_weight_outweighs_what_the_node_says() {
    let now = Instant::now();
    let mut table = table_of(&["1", "2"], now);
    let order = Order {
        weight: Some(900),
        ..Order::default()
    };
    table.order(&"2".parse().unwrap(), Some(order), now);
    let shares = shares(&table.snapshot(now));
    assert!((860..940).contains(&shares["2"]), "{shares:?}");
}

proptest! {
    #[test]
    fn when_a_node_leaves_only_its_own_paths_move(
        asked in "[a-z]{1,12}",
        gone in 0_usize..4,
        policy in prop::sample::select(vec![Policy::Affinity, Policy::Weighted]),
    ) {
        let all = ["1", "2", "3", "4"];
        let left: Vec<_> = all.iter().copied().filter(|id| *id != all[gone]).collect();
        let before = chosen(&all, policy, &asked).unwrap();
        let after = chosen(&left, policy, &asked).unwrap();
        prop_assert!(before == all[gone] || before == after);
    }
}
