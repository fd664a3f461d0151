//! News that could not be taken when they came: a request for the item was under way, or an
//! application was writing. The drive does not tell them twice, so they are looked at afterwards.

use super::remote::Writing;
use super::{ItemId, Tree};

/// What the drive told of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It has changed.
    Changed,
    /// It is gone.
    Gone,
}

impl Tree {
    /// Remembers that an item has news.
    pub(super) fn put_off(&mut self, item: &ItemId) {
        self.late.insert(item.clone(), News::Changed);
    }

    /// Remembers the end of an item.
    pub(super) fn put_off_gone(&mut self, item: &ItemId) {
        self.late.insert(item.clone(), News::Gone);
    }

    /// The same of an item that nobody knows: it may be one whose reply is still on its way.
    pub(super) fn put_off_unknown(&mut self, item: &ItemId) {
        if !self.under_way.is_empty() {
            self.put_off_gone(item);
        }
    }

    /// Items with news that can be looked at now. Whoever takes them looks, or puts them back.
    pub fn take_late(&mut self, writing: Writing<'_>) -> Vec<(ItemId, News)> {
        if self.late.is_empty() {
            return Vec::new();
        }
        let mut late = std::mem::take(&mut self.late);
        let mut ready = Vec::new();
        late.retain(|item, news| match self.by_item(item) {
            // Not ours: whoever made it, it came and went.
            None => !self.under_way.is_empty(),
            Some(node) if self.under_way.contains(&node.id) => true,
            Some(node) if *news == News::Changed => {
                let wait = node.content_pending() || writing(node.id);
                if !wait {
                    ready.push((item.clone(), *news));
                }
                wait
            }
            Some(_) => {
                ready.push((item.clone(), *news));
                false
            }
        });
        self.late = late;
        ready
    }

    /// Takes items back that could not be looked at.
    pub fn still_late(&mut self, items: impl IntoIterator<Item = (ItemId, News)>) {
        self.late.extend(items);
    }
}
