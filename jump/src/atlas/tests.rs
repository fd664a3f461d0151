//! Tables and a database that is made here, byte by byte.

use std::sync::Arc;

use super::*;

const TABLE: &str = "
# range, isp, province, country
1.0.0.0/8, Telecom, , CN
1.2.0.0/16,telecom,guangdong,cn
1.2.3.4,unicom
2400:3200::/32,mobile,,cn
";

fn fresh<T>(value: T) -> Fresh<T> {
    Arc::new(ArcSwap::from_pointee(value))
}

fn find(atlas: &Atlas, address: &str) -> Labels {
    atlas.find(address.parse().unwrap())
}

#[test]
fn the_narrowest_range_counts() {
    let atlas = Atlas::new(Some(fresh(Ranges::parse(TABLE).unwrap())), None);
    assert_eq!(find(&atlas, "1.9.9.9"), Labels::new("telecom", "", "cn"));
    assert_eq!(
        find(&atlas, "1.2.9.9"),
        Labels::new("telecom", "guangdong", "cn")
    );
    assert_eq!(find(&atlas, "1.2.3.4"), Labels::new("unicom", "", ""));
    assert_eq!(
        find(&atlas, "2400:3200::1"),
        Labels::new("mobile", "", "cn")
    );
    assert!(find(&atlas, "9.9.9.9").is_empty() && find(&atlas, "::1").is_empty());
}

#[test]
fn a_line_that_is_none_is_named() {
    for (text, line) in [
        ("1.0.0.0/8,a\nx,b", 2),
        ("1.0.0.0/33,a", 1),
        ("\n1.0.0.0/8", 2),
        ("1.0.0.0/8,a,b,c,d", 1),
        ("1.0.0.0/8,,,", 1),
    ] {
        assert!(
            matches!(Ranges::parse(text), Err(BadAtlas::Line(at)) if at == line),
            "{text}"
        );
    }
}

#[test]
fn a_database_of_cities_or_providers_is_understood() {
    let city = [
        ("country", map(&[("iso_code", text("CN"))])),
        ("subdivisions", list(&[map(&[("iso_code", text("GD"))])])),
        ("traits", map(&[("isp", text("China Telecom"))])),
    ];
    let database = database(u32::from_be_bytes([1, 2, 0, 0]), 16, &map(&city));
    let atlas = Atlas::new(None, Some(fresh(database)));
    let expected = Labels::new("china telecom", "gd", "cn");
    assert_eq!(find(&atlas, "1.2.3.4"), expected);
    assert!(find(&atlas, "1.3.3.4").is_empty());

    let provider = map(&[("autonomous_system_organization", text("CHINANET"))]);
    let atlas = Atlas::new(None, Some(fresh(self::database(1 << 24, 8, &provider))));
    assert_eq!(find(&atlas, "1.2.3.4"), Labels::new("chinanet", "", ""));
}

#[test]
fn the_table_outweighs_the_database_label_by_label() {
    let country = map(&[("country", map(&[("iso_code", text("US"))]))]);
    let atlas = Atlas::new(
        Some(fresh(Ranges::parse("1.2.0.0/16,telecom").unwrap())),
        Some(fresh(database(1 << 24, 8, &country))),
    );
    assert_eq!(find(&atlas, "1.2.3.4"), Labels::new("telecom", "", "us"));
    assert_eq!(find(&atlas, "1.9.3.4"), Labels::new("", "", "us"));
}

#[test]
fn what_is_no_database_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "not a database").unwrap();
    assert!(matches!(
        Database::read(file.path()),
        Err(BadAtlas::Format(_))
    ));
    assert!(matches!(
        Database::read(Path::new("/nonexistent")),
        Err(BadAtlas::Unreadable(_))
    ));
}

fn text(value: &str) -> Vec<u8> {
    assert!(value.len() < 29 + 256);
    let mut bytes = match u8::try_from(value.len()).unwrap() {
        short @ 0..0x1d => vec![0x40 | short],
        long => vec![0x40 | 0x1d, long - 0x1d],
    };
    bytes.extend(value.bytes());
    bytes
}

fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xe0 | u8::try_from(fields.len()).unwrap()];
    for (name, value) in fields {
        bytes.extend(text(name));
        bytes.extend(value);
    }
    bytes
}

/// An array is an extended type: its number, less seven, follows.
fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(items.len()).unwrap(), 11 - 7];
    bytes.extend(items.concat());
    bytes
}

/// A number of 32 bits is of type 6, one of 16 of type 5, each with as many bytes as it needs.
fn number(kind: u8, value: u32) -> Vec<u8> {
    let length = if kind == 5 { 2 } else { 4 };
    let bytes = value.to_be_bytes();
    [&[kind << 5 | length], &bytes[4 - usize::from(length)..]].concat()
}

/// A database of IPv4 that knows one range.
fn database(address: u32, bits: u32, record: &[u8]) -> Database {
    let mut tree = Vec::new();
    for bit in 0..bits {
        let next = if bit + 1 == bits { bits + 16 } else { bit + 1 };
        let right = address >> (31 - bit) & 1 == 1;
        let sides = if right { [bits, next] } else { [next, bits] };
        for side in sides {
            tree.extend(&side.to_be_bytes()[1..]);
        }
    }
    let metadata = map(&[
        ("node_count", number(6, bits)),
        ("record_size", number(5, 24)),
        ("ip_version", number(5, 4)),
        ("binary_format_major_version", number(5, 2)),
        ("binary_format_minor_version", number(5, 0)),
        ("build_epoch", vec![0, 9 - 7]),
        ("database_type", text("Test")),
        ("description", map(&[])),
        ("languages", list(&[])),
    ]);
    let mut bytes = tree;
    bytes.extend([0; 16]);
    bytes.extend(record);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    bytes.extend(metadata);
    Database(Reader::from_source(bytes).unwrap())
}
