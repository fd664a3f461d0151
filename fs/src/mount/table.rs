//! What is mounted where, as `/proc/self/mountinfo` tells it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) point: PathBuf,
    pub(super) fstype: String,
    pub(super) source: String,
}

/// What is mounted at a point at present, the uppermost where several lie on each other.
pub(super) fn at(point: &Path) -> Option<Entry> {
    // Without /proc nothing is known, and mount(2) will say what is wrong.
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    parse(&table)
        .into_iter()
        .rev()
        .find(|entry| entry.point == point)
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`; the optional fields end at
/// the lone dash. See proc(5).
fn parse(table: &[u8]) -> Vec<Entry> {
    let line = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = fields.nth(4)?;
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let text = |field| {
            OsString::from_vec(unescape(field))
                .to_string_lossy()
                .into_owned()
        };
        Some(Entry {
            point: OsString::from_vec(unescape(point)).into(),
            fstype: text(rest.next()?),
            source: text(rest.next()?),
        })
    };
    table
        .split(|byte| *byte == b'\n')
        .filter_map(line)
        .collect()
}

/// Space, tab, newline and backslash are written as `\040` and so on.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let code = (*byte == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 8).ok());
        plain.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes_and_optional_fields() {
        let table = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            50 22 0:40 / /mnt/one\\040drive rw master:2 shared:9 - fuse.tuyunfs onedrive:/a rw\n\
            51 22 0:41 / /tmp rw - tmpfs tmpfs rw\n\
            broken line\n";
        let entries = parse(table);
        assert_eq!(entries.len(), 3);
        let drive = Entry {
            point: "/mnt/one drive".into(),
            fstype: "fuse.tuyunfs".into(),
            source: "onedrive:/a".into(),
        };
        assert_eq!(entries[1], drive);
        assert_eq!(entries[2].fstype, "tmpfs");
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(b"a\\b\\12"), b"a\\b\\12");
        assert_eq!(unescape(b"\\134"), b"\\");
    }

    #[test]
    fn the_root_is_mounted_somewhere() {
        assert!(at(Path::new("/")).is_some());
        assert_eq!(at(Path::new("/no/such/place")), None);
    }
}
