//! Whether the disk has room for what applications write.
//!
//! What is written here and not yet on the drive cannot be given up, so a disk without room has to say
//! so before a picture is half written. The last of it is left to the journal: what is open can
//! always be closed, renamed or deleted.

/// What no content gets. Closing all that is open, and rows for some thousand files, take a few MiB of
/// the journal, which doubles in the worst case until its next compaction.
const RESERVE: u64 = 16 << 20;

/// How much may be written before the disk is asked again. Others may fill the disk meanwhile, and
/// that much is what the reserve can bear.
const CREDIT: u64 = 16 << 20;

/// What a new file takes before it has a byte: its inode and its name.
pub const FILE: u64 = 4096;

/// How much more than what is asked for may be written to a disk with `free` bytes left before it
/// is asked again; `None`: there is no room for it.
#[must_use]
pub fn credit(free: u64, asked: u64) -> Option<u64> {
    let left = free.checked_sub(RESERVE)?.checked_sub(asked)?;
    Some(left.min(CREDIT))
}

/// What stays free where it can be: what the operator wants, and not less than makes the next write
/// possible.
#[must_use]
pub fn least(min_free: u64) -> u64 {
    min_free.max(RESERVE + CREDIT)
}

/// Whether a disk has less than that left. Once it has, it stays short until there is a tenth more: as
/// much as evictions make free.
#[must_use]
pub fn is_short(was: bool, free: u64, min_free: u64) -> bool {
    let least = least(min_free);
    free < least.saturating_add(if was {
        least / super::eviction::SLACK
    } else {
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_disk_is_left_to_the_journal() {
        assert_eq!(credit(RESERVE + 10, 10), Some(0));
        assert_eq!(credit(RESERVE + 10, 11), None);
        assert_eq!(credit(RESERVE - 1, 0), None);
        assert_eq!(credit(RESERVE + 15, 10), Some(5));
        assert_eq!(credit(u64::MAX, 10), Some(CREDIT));
        assert_eq!(credit(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn a_disk_that_was_short_is_well_only_with_some_room_to_spare() {
        const GIB: u64 = 1 << 30;
        assert!(!is_short(false, GIB, GIB));
        assert!(is_short(false, GIB - 1, GIB));
        assert!(is_short(true, GIB + GIB / 10 - 1, GIB));
        assert!(!is_short(true, GIB + GIB / 10, GIB));
    }

    #[test]
    fn without_a_wish_there_is_to_be_room_for_the_next_write() {
        assert!(is_short(false, RESERVE + CREDIT - 1, 0));
        assert!(!is_short(false, RESERVE + CREDIT, 0));
    }
}
