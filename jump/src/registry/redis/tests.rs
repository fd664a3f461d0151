//! What two keys of Redis make of a node.

use super::*;

const TTL: Duration = Duration::from_mins(20);
const OURS: &str = r#"{"url":"https://a.example/","kind":"tuyun","proven":true}"#;
const UNPROVEN: &str = r#"{"url":"https://a.example/","kind":"tuyun","proven":false}"#;

fn row(url: Option<(&str, i64)>, details: Option<&str>) -> Option<(Lease, Duration)> {
    let (value, life) = url.unzip();
    let row = Row {
        url: value.map(str::to_owned),
        url_life: life.unwrap_or(-2),
        details: details.map(str::to_owned),
        details_life: 5000,
    };
    row.lease("1".parse().unwrap(), TTL)
}

#[test]
fn an_original_s_key_is_a_lease() {
    let (lease, remaining) = row(Some(("https://a.example/", 9000)), None).unwrap();
    assert_eq!((lease.kind, lease.proven), (Kind::Original, true));
    assert_eq!(remaining, Duration::from_secs(9));
    assert_eq!(row(Some(("https://a.example", -1)), None).unwrap().1, TTL);
    assert_eq!(row(Some(("javascript:x", 9000)), None), None);
    assert_eq!(row(Some(("", 9000)), None), None);
}

#[test]
fn our_fields_count_only_for_the_address_they_were_written_with() {
    let (lease, _) = row(Some(("https://a.example/", 9000)), Some(OURS)).unwrap();
    assert_eq!(lease.kind, Kind::Tuyun);
    let (lease, _) = row(Some(("https://b.example/", 9000)), Some(OURS)).unwrap();
    assert_eq!(lease.kind, Kind::Original);
}

#[test]
fn an_unproven_node_has_no_key_of_the_originals() {
    let (lease, remaining) = row(None, Some(UNPROVEN)).unwrap();
    assert!(!lease.proven);
    assert_eq!(remaining, Duration::from_secs(5));
    assert_eq!(row(None, Some(OURS)), None);
}
