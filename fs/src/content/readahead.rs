//! How far ahead the next fetch should reach.
//!
//! One [`ReadAhead`] a reader. Whoever reads on where it stopped will read on further, so each
//! fetch asks for twice as much as the one before; whoever jumps about gets what was asked for and
//! no more. The next window is asked for when half of the present one has been read, so that a
//! steady reader never waits.

use super::span::Span;

/// Fetches begin and end where the kernel's pages do: it reads whole pages anyhow.
const PAGE: u64 = 4096;

/// The first window. As much as the kernel itself reads ahead, so a look at a file's header costs
/// one request, and not much of one.
const FIRST: u64 = 128 * 1024;

/// The largest window. At 50 ms a round trip, 8 MiB in each (half a window) are 160 MB/s, more
/// than the lines have that this runs on; twice as much would be thrown away by whoever stops.
pub const CAP: u64 = 16 * 1024 * 1024;

/// A read that begins no further than this from where the last one ended is in sequence: the
/// kernel has eight reads of 128 KiB in the air and delivers them in no order.
const NEAR: u64 = 1024 * 1024;

/// What one reader has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAhead {
    /// Where a reader in sequence goes on.
    expected: u64,
    /// How much was asked for ahead of the reader; 0 after a jump.
    window: u64,
    /// Up to where it was asked for.
    planned: u64,
}

impl ReadAhead {
    /// A reader that has not read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What should be held or on its way for this read of a content of `size` bytes. It always
    /// holds the read itself, as far as the content goes.
    pub fn reach(&mut self, offset: u64, len: u64, size: u64) -> Span {
        let read = Span::at(offset, len).before(size);
        let exact = read.end.next_multiple_of(PAGE).min(size);
        if read.start.abs_diff(self.expected) > NEAR {
            *self = Self {
                expected: read.end,
                window: 0,
                planned: exact,
            };
            return Span::new(read.start / PAGE * PAGE, exact);
        }
        // What a neighbouring read skipped is asked for along with this one, in one piece.
        let start = read.start.min(self.expected) / PAGE * PAGE;
        if read.end.saturating_add(self.window / 2) >= self.planned && self.planned < size {
            self.window = (self.window * 2).clamp(FIRST, CAP);
            self.planned = exact
                .saturating_add(self.window)
                .min(size)
                .max(self.planned);
        }
        self.expected = self.expected.max(read.end);
        Span::new(start, exact.max(self.planned.min(size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    #[test]
    fn a_first_read_at_the_beginning_reaches_one_window_ahead() {
        let mut ahead = ReadAhead::new();
        assert_eq!(ahead.reach(0, 4 * KIB, 512 * MIB), Span::new(0, 132 * KIB));
    }

    #[test]
    fn the_window_doubles_up_to_the_cap() {
        let mut ahead = ReadAhead::new();
        let (size, step) = (512 * MIB, 128 * KIB);
        let mut windows = Vec::new();
        for at in (0..size).step_by(128 * 1024) {
            let reach = ahead.reach(at, step, size);
            assert!(reach.end <= at + step + CAP);
            if windows.last() != Some(&ahead.window) {
                windows.push(ahead.window);
            }
        }
        let doubled: Vec<u64> = (0..8).map(|n| FIRST << n).collect();
        assert_eq!(windows, doubled);
        assert_eq!(ahead.window, CAP);
    }

    #[test]
    fn a_steady_reader_asks_in_large_steps() {
        let mut ahead = ReadAhead::new();
        let mut ends = Vec::new();
        for at in (0..512 * MIB).step_by(128 * 1024) {
            ends.push(ahead.reach(at, 128 * KIB, 512 * MIB).end);
        }
        ends.dedup();
        assert!(ends.len() < 80, "{} fetches for 512 MiB", ends.len());
    }

    #[test]
    fn a_jump_gets_its_own_pages_and_no_more() {
        let mut ahead = ReadAhead::new();
        ahead.reach(0, 128 * KIB, 512 * MIB);
        let reach = ahead.reach(100 * MIB + 10, 100, 512 * MIB);
        assert_eq!(reach, Span::new(100 * MIB, 100 * MIB + 4 * KIB));
        let on = ahead.reach(100 * MIB + 110, 4 * KIB, 512 * MIB);
        assert_eq!(on, Span::new(100 * MIB, 100 * MIB + 8 * KIB + FIRST));
    }

    #[test]
    fn reads_that_the_kernel_reordered_are_in_sequence() {
        let mut ahead = ReadAhead::new();
        assert_eq!(ahead.reach(256 * KIB, 128 * KIB, 512 * MIB).start, 0);
        ahead.reach(0, 128 * KIB, 512 * MIB);
        ahead.reach(128 * KIB, 128 * KIB, 512 * MIB);
        assert_eq!(ahead.window, FIRST);
        assert_eq!(ahead.reach(384 * KIB, 128 * KIB, 512 * MIB).end, 768 * KIB);
    }

    proptest! {
        #[test]
        fn a_reach_holds_the_read_and_stays_within_the_content(
            reads in proptest::collection::vec((0..40 * MIB, 0..2 * MIB), 1..40),
            size in 0..40 * MIB,
        ) {
            let mut ahead = ReadAhead::new();
            for (offset, len) in reads {
                let reach = ahead.reach(offset, len, size);
                let read = Span::at(offset, len).before(size);
                prop_assert!(reach.start <= read.start && read.end <= reach.end);
                prop_assert!(reach.end <= size);
                prop_assert!(reach.start.is_multiple_of(PAGE));
                prop_assert!(reach.end.is_multiple_of(PAGE) || reach.end == size);
                prop_assert!(read.start - reach.start <= NEAR + PAGE);
            }
        }
    }
}
