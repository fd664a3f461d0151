//! Lines of a log that is appended to and never waited for: `xxh3 {json}`.
//!
//! Each carries its own sum and stands or falls alone, whatever a crash or a full disk did to its
//! neighbours.

use std::fs::File;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use super::disk::Disk;

/// A value as a line.
///
/// # Panics
/// Never: what becomes a line has string keys and finite numbers only.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let json = serde_json::to_string(value).expect("numbers and text can always be JSON");
    format!("{:016x} {json}\n", xxh3_64(json.as_bytes())).into_bytes()
}

/// Each line of a log; none where it is damaged, or of a program that is newer.
pub fn each<T: DeserializeOwned>(text: &[u8]) -> impl Iterator<Item = Option<T>> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(decode)
}

fn decode<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.split_at_checked(17)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    let whole = u64::from_str_radix(sum, 16).ok()? == xxh3_64(json);
    whole.then(|| serde_json::from_slice(json).ok())?
}

/// Appends a line in one write: a daemon that dies leaves it whole or not at all. `length` and
/// `ragged` are the log's: how long it is, and whether its last line may lack its end.
///
/// # Errors
/// The disk fails or is full; what stands of the line counts for nothing.
pub fn append(
    disk: &dyn Disk,
    file: &File,
    line: &[u8],
    length: &mut u64,
    ragged: &mut bool,
) -> io::Result<()> {
    let mut bytes = std::borrow::Cow::Borrowed(line);
    if *ragged {
        bytes.to_mut().insert(0, b'\n');
    }
    let written = disk.append(file, &bytes)?;
    *length += written as u64;
    if let Some(last) = bytes[..written].last() {
        *ragged = *last != b'\n';
    }
    if written < bytes.len() {
        return Err(io::ErrorKind::StorageFull.into()); // what else a file writes short for
    }
    Ok(())
}
