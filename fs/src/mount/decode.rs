//! The kernel's words in those of the use cases.

use std::time::SystemTime;

use fuser::{OpenAccMode, OpenFlags, TimeOrNow};

use crate::content::disk::Allocation;
use crate::vfs::{OpenMode, RenameFlags};

/// Permission bits and the three above them; the kernel sends the file's type along.
const MODE: u32 = 0o7777;

pub(super) fn open_mode(flags: OpenFlags) -> OpenMode {
    let (read, write) = match flags.acc_mode() {
        OpenAccMode::O_RDONLY => (true, false),
        OpenAccMode::O_WRONLY => (false, true),
        OpenAccMode::O_RDWR => (true, true),
    };
    // The kernel reads pages of a file that is written in part, whatever it was opened for.
    OpenMode {
        read: read || write,
        write,
        truncate: flags.0 & libc::O_TRUNC != 0,
    }
}

/// `None` for what is not offered.
pub(super) fn rename_flags(flags: fuser::RenameFlags) -> Option<RenameFlags> {
    let known = fuser::RenameFlags::RENAME_NOREPLACE | fuser::RenameFlags::RENAME_EXCHANGE;
    known.contains(flags).then(|| RenameFlags {
        no_replace: flags.contains(fuser::RenameFlags::RENAME_NOREPLACE),
        exchange: flags.contains(fuser::RenameFlags::RENAME_EXCHANGE),
    })
}

pub(super) fn mode(mode: u32) -> u32 {
    mode & MODE
}

/// Whether `mknod` asks for a plain file; a mode without a type does, too.
pub(super) fn is_plain_file(mode: u32) -> bool {
    matches!(mode & libc::S_IFMT, 0 | libc::S_IFREG)
}

pub(super) fn time(at: TimeOrNow) -> SystemTime {
    match at {
        TimeOrNow::SpecificTime(at) => at,
        TimeOrNow::Now => SystemTime::now(),
    }
}

/// `None` for what is not offered: ranges that are cut out, or squeezed in.
pub(super) fn range(mode: i32) -> Option<Allocation> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_INSIDE: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    Some(match mode {
        0 => Allocation::Reserve,
        libc::FALLOC_FL_KEEP_SIZE => Allocation::ReserveBehind,
        PUNCH => Allocation::Punch,
        libc::FALLOC_FL_ZERO_RANGE => Allocation::Zero,
        ZERO_INSIDE => Allocation::ZeroInside,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flags_are_decoded() {
        let table = [
            (libc::O_RDONLY, (true, false, false)),
            (libc::O_WRONLY, (true, true, false)),
            (libc::O_RDWR | libc::O_TRUNC, (true, true, true)),
            (libc::O_RDONLY | libc::O_TRUNC, (true, false, true)),
        ];
        for (flags, (read, write, truncate)) in table {
            assert_eq!(
                open_mode(OpenFlags(flags)),
                OpenMode {
                    read,
                    write,
                    truncate
                },
                "{flags}"
            );
        }
    }

    #[test]
    fn rename_flags_that_nobody_offers_are_refused() {
        let whiteout = fuser::RenameFlags::RENAME_WHITEOUT;
        assert_eq!(rename_flags(whiteout), None);
        assert_eq!(
            rename_flags(fuser::RenameFlags::from_bits_retain(1 << 9)),
            None
        );
        let no_replace = rename_flags(fuser::RenameFlags::RENAME_NOREPLACE).unwrap();
        assert_eq!(
            no_replace,
            RenameFlags {
                no_replace: true,
                exchange: false
            }
        );
        assert_eq!(
            rename_flags(fuser::RenameFlags::empty()),
            Some(RenameFlags::default())
        );
    }

    #[test]
    fn only_plain_files_are_made() {
        assert!(is_plain_file(libc::S_IFREG | 0o644) && is_plain_file(0o644));
        for other in [libc::S_IFIFO, libc::S_IFCHR, libc::S_IFBLK, libc::S_IFSOCK] {
            assert!(!is_plain_file(other | 0o644));
        }
        assert_eq!(mode(libc::S_IFREG | 0o4644), 0o4644);
    }

    #[test]
    fn fallocate_reserves_and_empties_and_moves_no_bytes() {
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        assert_eq!(range(0), Some(Allocation::Reserve));
        assert_eq!(range(keep), Some(Allocation::ReserveBehind));
        assert_eq!(
            range(libc::FALLOC_FL_PUNCH_HOLE | keep),
            Some(Allocation::Punch)
        );
        assert_eq!(range(libc::FALLOC_FL_ZERO_RANGE), Some(Allocation::Zero));
        assert_eq!(
            range(libc::FALLOC_FL_ZERO_RANGE | keep),
            Some(Allocation::ZeroInside)
        );
        for moves in [
            libc::FALLOC_FL_COLLAPSE_RANGE,
            libc::FALLOC_FL_INSERT_RANGE,
            libc::FALLOC_FL_PUNCH_HOLE,
        ] {
            assert_eq!(range(moves), None);
        }
    }
}
