//! Least recently used.

use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, offer};

/// Least recently used: what was unused for longest leaves first.
///
/// Costs 8 bytes per entry. A hit has to move the entry, so hits are replayed under the lock.
///
/// Choices: an overwrite counts as a use. Looking without using (`peek`, `contains`) does not.
#[derive(Debug, Default)]
pub struct Lru {
    links: Links,
    /// From the least to the most recently used.
    queue: List,
}

impl Policy for Lru {
    fn on_hit(&self) -> OnHit {
        OnHit::REPLAY
    }

    fn insert(&mut self, id: u32, _arrival: Arrival, entries: &dyn Entries) {
        self.queue.push(&mut self.links, id, entries.weight(id));
    }

    fn hit(&mut self, id: u32, _entries: &dyn Entries) {
        self.queue.refresh(&mut self.links, id);
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        self.queue.reweigh(old_weight, entries.weight(id));
        self.queue.refresh(&mut self.links, id);
    }

    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        self.queue.remove(&mut self.links, id, entries.weight(id));
    }

    fn victim(&mut self, _arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        let id = self.queue.oldest()?;
        self.remove(id, entries);
        Some(id)
    }

    fn len(&self) -> usize {
        self.queue.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Exact.
    fn order(&self, _entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        offer(self.queue.iter(&self.links), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        self.queue.validate(&self.links, entries)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};

    /// Keys, the least recently used first.
    #[derive(Debug, Default)]
    struct Recency(VecDeque<u64>);

    impl Model for Recency {
        fn hit(&mut self, key: u64) {
            self.remove(key);
            self.0.push_back(key);
        }

        fn insert(&mut self, key: u64, _weight: u64, _capacity: u64, _arrival: u8) {
            self.0.push_back(key);
        }

        fn overwrite(&mut self, key: u64, _weight: u64) {
            self.hit(key);
        }

        fn remove(&mut self, key: u64) {
            self.0.retain(|&other| other != key);
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            self.0.pop_front()
        }
    }

    #[test]
    fn does_what_a_plain_list_does() {
        check_against_model(Lru::default, Recency::default, Order::Exact);
    }
}
