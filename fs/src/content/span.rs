//! Byte ranges, and sets of them.

use std::collections::BTreeMap;

/// A range of bytes: from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// The byte behind the last one.
    pub end: u64,
}

impl Span {
    /// The bytes from `start` up to `end`; none when they are the wrong way round.
    #[must_use]
    pub fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// The `len` bytes from `offset`, as far as numbers go.
    #[must_use]
    pub fn at(offset: u64, len: u64) -> Self {
        Self {
            start: offset,
            end: offset.saturating_add(len),
        }
    }

    /// How many bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether some byte is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// The part that lies before `end`.
    #[must_use]
    pub fn before(self, end: u64) -> Self {
        Self::new(self.start.min(end), self.end.min(end))
    }
}

/// A set of bytes, kept as the ranges that they form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// End by start. No range is empty, and none touches another.
    ends: BTreeMap<u64, u64>,
    bytes: u64,
}

impl Spans {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes are in it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a range.
    pub fn insert(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        let (mut start, mut end) = (span.start, span.end);
        // Whatever begins within or right behind the new range, from the back; the one before may
        // reach into it, too.
        while let Some((&other, &until)) = self.ends.range(..=end).next_back() {
            if until < start {
                break;
            }
            self.ends.remove(&other);
            self.bytes -= until - other;
            start = start.min(other);
            end = end.max(until);
        }
        self.ends.insert(start, end);
        self.bytes += end - start;
    }

    /// Whether every byte of a range is in it.
    #[must_use]
    pub fn contains(&self, span: Span) -> bool {
        span.is_empty() || self.covered_from(span.start) >= span.end
    }

    /// Up to where the bytes from `offset` are in it without a gap; `offset` when it is not.
    #[must_use]
    pub fn covered_from(&self, offset: u64) -> u64 {
        self.ends
            .range(..=offset)
            .next_back()
            .map_or(offset, |(_, end)| offset.max(*end))
    }

    /// The parts of a range that are not in it, in order.
    #[must_use]
    pub fn missing(&self, span: Span) -> Vec<Span> {
        let mut missing = Vec::new();
        let mut at = self.covered_from(span.start);
        for (&start, &end) in self.ends.range(at..span.end.max(at)) {
            missing.push(Span::new(at, start));
            at = end;
        }
        if at < span.end {
            missing.push(Span::new(at, span.end));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small, so that ranges meet.
    const SIZE: u64 = 64;

    fn span() -> impl Strategy<Value = Span> {
        (0..SIZE, 0..=SIZE / 4).prop_map(|(start, len)| Span::new(start, (start + len).min(SIZE)))
    }

    fn bits(span: Span) -> impl Iterator<Item = usize> {
        (span.start..span.end).map(|at| usize::try_from(at).unwrap())
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut spans = Spans::new();
        spans.insert(Span::new(0, 4));
        spans.insert(Span::new(8, 12));
        assert_eq!(
            spans.missing(Span::new(0, 16)),
            [Span::new(4, 8), Span::new(12, 16)]
        );
        spans.insert(Span::new(4, 8));
        assert_eq!(spans.covered_from(0), 12);
        assert_eq!(spans.bytes(), 12);
        assert_eq!(spans.ends.len(), 1);
    }

    proptest! {
        #[test]
        fn spans_agree_with_a_bitmap(inserts in proptest::collection::vec(span(), 0..40), ask in span()) {
            let mut spans = Spans::new();
            let mut map = vec![false; usize::try_from(SIZE).unwrap()];
            for span in inserts {
                spans.insert(span);
                bits(span).for_each(|at| map[at] = true);
                prop_assert_eq!(spans.bytes(), map.iter().filter(|bit| **bit).count() as u64);
            }
            prop_assert_eq!(spans.contains(ask), bits(ask).all(|at| map[at]));
            let reach = bits(Span::new(ask.start, SIZE)).take_while(|at| map[*at]).count() as u64;
            prop_assert_eq!(spans.covered_from(ask.start), ask.start + reach);
            let missing = spans.missing(ask);
            let holes: Vec<usize> = missing.iter().copied().flat_map(bits).collect();
            let expected: Vec<usize> = bits(ask).filter(|at| !map[*at]).collect();
            prop_assert_eq!(holes, expected);
            prop_assert!(missing.iter().all(|span| !span.is_empty()));
            prop_assert!(missing.windows(2).all(|two| two[0].end < two[1].start));
            let mut joined = spans.ends.iter().zip(spans.ends.iter().skip(1));
            prop_assert!(joined.all(|(one, next)| one.1 < next.0));
        }
    }
}
