//! Which seals are not proven: their record is on the disk, and of their bytes that is not known.
//!
//! Bytes and record go to the disk together, so a power cut may leave the record without the
//! bytes. Until both are known to be there, a row beside the record says what the node held
//! before, and those bytes are kept. A start looks at the bytes of each such row, and takes the
//! node back to what it held before when they are not what was sealed.

use std::collections::{BTreeMap, HashSet};

use super::CommitFailed;
use crate::tree::{ContentId, Seal};

/// The seals whose rows stand in the database.
#[derive(Debug, Default)]
pub(super) struct Unproven {
    /// Those whose bytes the disk refused.
    lost: BTreeMap<ContentId, Option<ContentId>>,
    refused: HashSet<ContentId>,
    /// Rows to be removed with the next transaction.
    settled: Vec<ContentId>,
}

impl Unproven {
    /// A start has looked at these, whose rows it has found. Not before: should it end early, the next one has to
    /// look again.
    pub(super) fn examined(&mut self, contents: &[ContentId]) {
        self.settled.extend(contents);
    }

    /// Rows to be removed with the next transaction.
    pub(super) fn settled(&self) -> &[ContentId] {
        &self.settled
    }

    /// They have been.
    pub(super) fn forget_settled(&mut self) {
        self.settled.clear();
    }

    /// The disk refused these bytes.
    pub(super) fn lost(&mut self, contents: &[(ContentId, CommitFailed)]) {
        self.refused
            .extend(contents.iter().map(|(content, _)| *content));
    }

    /// The record of a seal is durable. Returns what may be removed now: what the node held
    /// before, unless the new bytes did not get to the disk.
    pub(super) fn sealed(&mut self, seal: Seal) -> Vec<ContentId> {
        let before = seal.before.map(|held| held.content);
        if self.refused.remove(&seal.content) {
            self.lost.insert(seal.content, before);
            return Vec::new();
        }
        self.settled.push(seal.content);
        let Some(before) = before else {
            return Vec::new();
        };
        let mut gone = self.dropped(before);
        gone.push(before);
        gone
    }

    /// Nothing refers to a content any more. Returns what was kept for the case that it is not
    /// there.
    pub(super) fn dropped(&mut self, mut content: ContentId) -> Vec<ContentId> {
        let mut gone = Vec::new();
        while let Some(before) = self.lost.remove(&content) {
            self.settled.push(content);
            let Some(before) = before else { break };
            gone.push(before);
            content = before;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Generation, Held, NodeId, QuickXorHash};

    fn seal(content: u64, before: Option<u64>) -> Seal {
        Seal {
            node: NodeId(2),
            content: ContentId(content),
            size: 1,
            hash: QuickXorHash([0; 20]),
            before: before.map(|content| Held {
                content: ContentId(content),
                generation: Generation(1),
                size: 1,
                hash: None,
            }),
        }
    }

    fn refuse(unproven: &mut Unproven, content: u64) {
        unproven.lost(&[(ContentId(content), CommitFailed::other("no"))]);
    }

    #[test]
    fn what_was_before_goes_once_the_new_bytes_are_on_the_disk() {
        let mut unproven = Unproven::default();
        assert_eq!(unproven.sealed(seal(1, None)), []);
        assert_eq!(unproven.sealed(seal(2, Some(1))), [ContentId(1)]);
        assert_eq!(unproven.settled(), [ContentId(1), ContentId(2)]);
    }

    #[test]
    fn what_was_before_stays_while_the_disk_refuses_and_goes_with_the_next_that_it_takes() {
        let mut unproven = Unproven::default();
        refuse(&mut unproven, 2);
        assert_eq!(unproven.sealed(seal(2, Some(1))), []);
        refuse(&mut unproven, 3);
        assert_eq!(unproven.sealed(seal(3, Some(2))), []);
        assert_eq!(unproven.settled(), []);
        assert_eq!(
            unproven.sealed(seal(4, Some(3))),
            [ContentId(2), ContentId(1), ContentId(3)]
        );
        assert_eq!(
            unproven.settled(),
            [ContentId(4), ContentId(3), ContentId(2)]
        );
    }

    #[test]
    fn what_was_before_goes_with_the_file() {
        let mut unproven = Unproven::default();
        refuse(&mut unproven, 2);
        unproven.sealed(seal(2, Some(1)));
        assert_eq!(unproven.dropped(ContentId(2)), [ContentId(1)]);
        assert_eq!(unproven.dropped(ContentId(2)), []);
    }
}
