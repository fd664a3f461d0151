//! What changed since when: the rows of a delta round.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{Drive, Item};

impl Drive {
    /// The ids that a round lists: what changed after `since` under `folder`, up to and with `upto`.
    /// A first round (`since` is none) lists what lives, and no deletions.
    pub(crate) fn rows(
        &self,
        since: Option<u64>,
        upto: u64,
        folder: &str,
        with_ancestors: bool,
    ) -> Vec<String> {
        let whole_drive = folder == self.root;
        let mut rows = Vec::new();
        let mut listed = HashSet::new();
        let mut list = |rows: &mut Vec<String>, id: &str| {
            if listed.insert(id.to_owned()) {
                rows.push(id.to_owned());
            }
        };
        if since.is_none() {
            list(&mut rows, folder);
        }
        let from = since.map_or(0, |since| since + 1);
        for id in self.feed.range(from..=upto.max(from)).map(|(_, id)| id) {
            let Some(item) = self.items.get(id).filter(|item| item.seq <= upto) else {
                continue;
            };
            if since.is_none() && !item.is_live() {
                continue;
            }
            if !whole_drive && !self.is_within(id, folder) && !self.left_since(item, since, folder)
            {
                continue;
            }
            if self.switches.ancestors && with_ancestors && since.is_some() {
                for ancestor in self.ancestors(item) {
                    list(&mut rows, ancestor);
                }
            }
            list(&mut rows, id);
        }
        rows
    }

    /// The last change that is old enough to be shown.
    pub(crate) fn settled(&self, until: Timestamp) -> u64 {
        self.feed
            .iter()
            .rev()
            .find(|(_, id)| {
                self.items
                    .get(*id)
                    .is_some_and(|item| item.changed <= until)
            })
            .map_or(0, |(seq, _)| *seq)
    }

    /// The last change before a time.
    pub(crate) fn before(&self, time: Timestamp) -> u64 {
        self.feed
            .iter()
            .find(|(_, id)| self.items.get(*id).is_some_and(|item| item.changed > time))
            .map_or(self.seq, |(seq, _)| seq - 1)
    }

    /// Whether the item was moved out of the folder since, which looks like a deletion from within.
    pub(crate) fn left_since(&self, item: &Item, since: Option<u64>, folder: &str) -> bool {
        let (Some((from, at)), Some(since)) = (&item.left, since) else {
            return false;
        };
        *at > since && self.is_within(from, folder)
    }

    /// Folders above an item, from the root down.
    fn ancestors<'a>(&'a self, item: &'a Item) -> Vec<&'a str> {
        let mut above = Vec::new();
        let mut at = item.parent.as_deref();
        while let Some(id) = at {
            above.push(id);
            at = self.items.get(id).and_then(|item| item.parent.as_deref());
        }
        above.reverse();
        above
    }
}
