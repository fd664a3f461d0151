//! Leases, listings, outages and probes, with made-up time.

use std::time::Duration;

use super::*;

pub(crate) fn lease(id: &str) -> Lease {
    Lease {
        id: id.parse().unwrap(),
        url: Base::parse(&format!("https://node-{id}.example/")).unwrap(),
        kind: Kind::Tuyun,
        proven: true,
        version: None,
        report: Report::default(),
    }
}

/// What a registry lists, as if nothing else were known.
pub(crate) fn listed(leases: Vec<(Lease, Duration)>) -> Vec<Listed> {
    let item = |(lease, remaining)| Listed {
        lease,
        remaining,
        order: None,
        sighting: None,
    };
    leases.into_iter().map(item).collect()
}

pub(crate) fn table_of(ids: &[&str], now: Instant) -> Table {
    let mut table = Table::new(HOLD);
    for id in ids {
        table.hear(lease(id), TTL, now).unwrap();
    }
    table
}

const TTL: Duration = Duration::from_secs(20);
const HOLD: Duration = Duration::from_mins(20);
const SECOND: Duration = Duration::from_secs(1);

fn alive(table: &Table, now: Instant) -> Vec<String> {
    table
        .snapshot(now)
        .alive(now)
        .map(|node| node.lease.id.to_string())
        .collect()
}

fn save_all(table: &mut Table, now: Instant) {
    for (lease, _) in table.unsaved(now).leases {
        table.saved(&lease.id, now);
    }
    for id in table.unsaved(now).gone {
        table.removed(&id);
    }
}

#[test]
fn a_node_that_leaves_is_gone_at_once_and_a_late_listing_does_not_bring_it_back() {
    let start = Instant::now();
    let mut table = table_of(&["1", "2"], start);
    save_all(&mut table, start);
    let asked = start + SECOND;
    assert!(table.leave(&"1".parse().unwrap(), asked));
    assert_eq!(alive(&table, asked), ["2"]);
    save_all(&mut table, asked);
    // Asked before it left, answered after.
    table.reconcile(
        listed(vec![(lease("1"), TTL), (lease("2"), TTL)]),
        asked,
        asked + SECOND,
    );
    assert_eq!(alive(&table, asked + SECOND), ["2"]);
    // Asked afterwards: it came back through another jump.
    let later = asked + 2 * SECOND;
    table.reconcile(
        listed(vec![(lease("1"), TTL), (lease("2"), TTL)]),
        later,
        later,
    );
    assert_eq!(alive(&table, later), ["1", "2"]);
}

#[test]
fn a_heartbeat_is_not_lost_to_a_listing_that_was_asked_before_it() {
    let start = Instant::now();
    let mut table = table_of(&[], start);
    table.hear(lease("1"), TTL, start + SECOND).unwrap();
    save_all(&mut table, start + SECOND);
    table.reconcile(listed(vec![]), start, start + 2 * SECOND);
    assert_eq!(alive(&table, start + 2 * SECOND), ["1"]);
    table.reconcile(listed(vec![]), start + 3 * SECOND, start + 3 * SECOND);
    assert_eq!(alive(&table, start + 3 * SECOND), [""; 0]);
}

#[test]
fn what_others_write_is_found_and_its_address_wins() {
    let start = Instant::now();
    let mut table = table_of(&["1"], start);
    save_all(&mut table, start);
    let moved = Lease {
        url: Base::parse("https://elsewhere.example/").unwrap(),
        ..lease("1")
    };
    let now = start + SECOND;
    table.reconcile(
        listed(vec![(moved.clone(), TTL), (lease("7"), TTL)]),
        now,
        now,
    );
    assert_eq!(alive(&table, now), ["1", "7"]);
    assert_eq!(table.snapshot(now).nodes()[0].lease, moved);
}

#[test]
fn in_an_outage_own_heartbeats_run_out_and_those_of_others_are_held() {
    let start = Instant::now();
    let mut table = table_of(&["1"], start);
    save_all(&mut table, start);
    table.reconcile(
        listed(vec![(lease("1"), TTL), (lease("2"), TTL)]),
        start + SECOND,
        start + SECOND,
    );
    table.lost(start + 2 * SECOND);
    assert!(table.is_lost());
    let late = start + 2 * TTL;
    table.lost(late);
    assert_eq!(alive(&table, late), ["2"]);
    assert_eq!(alive(&table, start + 2 * SECOND + HOLD), [""; 0]);
}

#[test]
fn what_was_heard_in_an_outage_is_told_when_it_ends() {
    let start = Instant::now();
    let mut table = table_of(&["1", "2"], start);
    save_all(&mut table, start);
    table.lost(start);
    table
        .hear(lease("3"), TTL + SECOND, start + SECOND)
        .unwrap();
    table.leave(&"2".parse().unwrap(), start + SECOND);
    let unsaved = table.unsaved(start + 2 * SECOND);
    assert_eq!(unsaved.leases, [(lease("3"), Duration::from_secs(20))]);
    assert_eq!(unsaved.gone, ["2".parse().unwrap()]);
    // Listed before it could be told: ours is newer.
    let now = start + 3 * SECOND;
    table.reconcile(listed(vec![(lease("1"), TTL), (lease("2"), TTL)]), now, now);
    assert_eq!(alive(&table, now), ["1", "3"]);
    save_all(&mut table, now);
    assert_eq!(table.unsaved(now), Unsaved::default());
}

#[test]
fn two_failed_probes_are_a_death_and_one_success_ends_it() {
    let now = Instant::now();
    let mut table = table_of(&["1"], now);
    let node = lease("1");
    table.probed(&node.id, &node.url, false, now);
    assert_eq!(alive(&table, now), ["1"]);
    table.probed(&node.id, &node.url, false, now);
    assert_eq!(alive(&table, now), [""; 0]);
    table.hear(node.clone(), TTL, now).unwrap();
    assert_eq!(
        alive(&table, now),
        [""; 0],
        "a heartbeat alone does not bring visitors back"
    );
    table.probed(&node.id, &node.url, true, now);
    assert_eq!(alive(&table, now), ["1"]);
}

#[test]
fn a_probe_of_an_address_that_the_node_has_left_says_nothing() {
    let now = Instant::now();
    let mut table = table_of(&["1"], now);
    let old = Base::parse("https://old.example/").unwrap();
    for _ in 0..3 {
        table.probed(&lease("1").id, &old, false, now);
    }
    assert_eq!(alive(&table, now), ["1"]);
}

#[test]
fn an_unproven_node_gets_visitors_only_after_it_was_reached() {
    let now = Instant::now();
    let mut table = table_of(&[], now);
    let unproven = Lease {
        proven: false,
        ..lease("1")
    };
    assert_eq!(table.hear(unproven.clone(), TTL, now), Ok(unproven.clone()));
    assert_eq!(alive(&table, now), [""; 0]);
    assert_eq!(
        table.probed(&unproven.id, &unproven.url, true, now),
        Some(lease("1"))
    );
    assert_eq!(alive(&table, now), ["1"]);
    assert_eq!(
        table.hear(unproven, TTL, now),
        Ok(lease("1")),
        "what was proven stays proven"
    );
}

#[test]
fn there_is_room_for_so_many_nodes_and_no_more() {
    let now = Instant::now();
    let mut table = table_of(&[], now);
    for number in 1..=MOST_NODES {
        table
            .hear(
                Lease {
                    id: number.to_string().parse().unwrap(),
                    ..lease("1")
                },
                TTL,
                now,
            )
            .unwrap();
    }
    assert_eq!(table.hear(lease("x"), TTL, now), Err(Full));
    assert!(
        table.hear(lease("1"), TTL, now).is_ok(),
        "known nodes are still heard"
    );
}

#[test]
fn what_the_operator_orders_stands_until_it_is_taken_back() {
    let now = Instant::now();
    let mut table = table_of(&["1", "2"], now);
    let id = "1".parse().unwrap();
    let drain = Order {
        drain: true,
        ..Order::default()
    };
    table.order(&id, Some(drain.clone()), now);
    assert_eq!(alive(&table, now), ["2"]);
    assert_eq!(table.snapshot(now).nodes()[0].health, Health::Draining);
    assert_eq!(
        table.unsaved(now).orders,
        [(id.clone(), Some(drain.clone()))]
    );
    table.order_saved(&id, now);
    save_all(&mut table, now);
    table.hear(lease("1"), TTL, now + SECOND).unwrap();
    assert_eq!(
        alive(&table, now + SECOND),
        ["2"],
        "a heartbeat changes nothing"
    );
    // Another jump took it back, and lists it without.
    let later = now + 2 * SECOND;
    save_all(&mut table, later);
    table.reconcile(
        listed(vec![(lease("1"), TTL), (lease("2"), TTL)]),
        later,
        later,
    );
    assert_eq!(alive(&table, later), ["1", "2"]);
}

#[test]
fn an_order_is_not_lost_to_a_listing_that_was_asked_before_it() {
    let now = Instant::now();
    let mut table = table_of(&["1"], now);
    save_all(&mut table, now);
    let id: NodeId = "1".parse().unwrap();
    let drain = Order {
        drain: true,
        ..Order::default()
    };
    table.order(&id, Some(drain), now + SECOND);
    table.reconcile(listed(vec![(lease("1"), TTL)]), now, now + 2 * SECOND);
    assert_eq!(alive(&table, now + 2 * SECOND), [""; 0]);
}

#[test]
fn a_node_that_says_it_drains_gets_nobody_at_once() {
    let now = Instant::now();
    let mut table = table_of(&["1", "2"], now);
    let leaving = Lease {
        report: Report {
            draining: true,
            ..Report::default()
        },
        ..lease("1")
    };
    table.hear(leaving, TTL, now).unwrap();
    assert_eq!(alive(&table, now), ["2"]);
}

fn sighting(at: u64, well: bool, rate: u64) -> Sighting {
    Sighting {
        url: "https://node-1.example/".into(),
        at,
        well,
        rate,
        ..Sighting::default()
    }
}

#[test]
fn an_original_that_nobody_finds_well_twice_is_dead_and_each_news_counts_once() {
    let now = Instant::now();
    let mut table = table_of(&[], now);
    let original = Lease {
        kind: Kind::Original,
        ..lease("1")
    };
    table.hear(original.clone(), TTL, now).unwrap();
    for _ in 0..5 {
        table.seen(&original.id, sighting(1000, false, 0), now);
    }
    assert_eq!(alive(&table, now), ["1"]);
    table.seen(&original.id, sighting(2000, false, 0), now);
    assert_eq!(alive(&table, now), [""; 0]);
    table.seen(&original.id, sighting(3000, true, 0), now);
    assert_eq!(alive(&table, now), ["1"]);
}

#[test]
fn load_is_measured_against_capacity_and_small_changes_move_nobody() {
    let now = Instant::now();
    let mut table = table_of(&["1"], now);
    let id = lease("1").id;
    let weight = |table: &Table| table.snapshot(now).nodes()[0].weight;
    assert_eq!(weight(&table), 10_000);
    // 100 Mbit/s are 12.5 MB/s.
    table.seen(&id, sighting(1, true, 6_250_000), now);
    assert_eq!(weight(&table), 5_000);
    table.seen(&id, sighting(2, true, 7_000_000), now);
    assert_eq!(weight(&table), 5_000);
    table.seen(&id, sighting(3, true, 12_500_000), now);
    assert_eq!(weight(&table), 500, "full, and not without any");
    table.hear(lease("1"), TTL, now).unwrap();
    assert_eq!(weight(&table), 500, "a heartbeat does not forget it");
}

#[test]
fn a_restart_remembers_leases_and_orders_with_the_life_they_had_left() {
    let now = Instant::now();
    let mut table = table_of(&["1", "2"], now);
    let id: NodeId = "2".parse().unwrap();
    let order = Order {
        weight: Some(7),
        ..Order::default()
    };
    table.order(&id, Some(order.clone()), now);
    let later = now + 5 * SECOND;
    let (nodes, orders) = table.remember(later);
    assert_eq!(nodes[0].remaining + 5 * SECOND, TTL);
    let mut again = Table::new(HOLD);
    again.restore(nodes, orders, true, later);
    assert_eq!(alive(&again, later), ["1", "2"]);
    assert_eq!(again.ordered(&id), order);
    assert_eq!(again.unsaved(later).leases.len(), 2, "the registry is told");
    assert_eq!(alive(&again, now + TTL), [""; 0]);
}

#[test]
fn a_registry_that_comes_back_empty_is_told_what_was_heard_here() {
    let start = Instant::now();
    let mut table = table_of(&["1"], start);
    save_all(&mut table, start);
    let now = start + SECOND;
    table.reconcile(listed(vec![(lease("1"), TTL), (lease("2"), TTL)]), now, now);
    table.lost(now);
    let later = now + SECOND;
    table.reconcile(listed(vec![]), later, later);
    assert_eq!(alive(&table, later), ["1"], "the other was heard elsewhere");
    assert_eq!(table.unsaved(later).leases.len(), 1);
    save_all(&mut table, later);
    table.reconcile(listed(vec![]), later + SECOND, later + SECOND);
    assert_eq!(
        alive(&table, later + SECOND),
        [""; 0],
        "only an outage excuses it"
    );
}
