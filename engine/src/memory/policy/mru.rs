//! Most recently used.

use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, offer};

/// Most recently used: what was used last leaves first.
///
/// Right for loops over more than fits, where what was just used will be needed last; bad for
/// almost everything else. (Chou, DeWitt, "An evaluation of buffer management strategies for
/// relational database systems", VLDB 1985, section 3.)
///
/// Costs 8 bytes per entry. A hit has to move the entry, so hits are replayed under the lock.
///
/// Choices: an insert and an overwrite count as uses. What is taken back because it may not
/// leave is the most recently used again.
#[derive(Debug, Default)]
pub struct Mru {
    links: Links,
    /// From the least to the most recently used.
    queue: List,
}

impl Policy for Mru {
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
        let id = self.queue.newest()?;
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
        offer(self.queue.iter_back(&self.links), f);
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
    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};

    /// Keys, the most recently used last.
    #[derive(Debug, Default)]
    struct Pile(Vec<u64>);

    impl Model for Pile {
        fn hit(&mut self, key: u64) {
            self.remove(key);
            self.0.push(key);
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            self.0.pop()
        }

        fn insert(&mut self, key: u64, _weight: u64, _capacity: u64, _arrival: u8) {
            self.0.push(key);
        }

        fn overwrite(&mut self, key: u64, _weight: u64) {
            self.hit(key);
        }

        fn remove(&mut self, key: u64) {
            self.0.retain(|&other| other != key);
        }
    }

    #[test]
    fn does_what_a_pile_does() {
        check_against_model(Mru::default, Pile::default, Order::Exact);
    }
}
