//! First in, first out.

use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, offer};

/// First in, first out: what came first leaves first, however often it was used.
///
/// Costs 8 bytes per entry; a hit writes nothing.
///
/// Choices: an overwrite keeps the place in the queue. (Implementations differ. Here the age
/// of a key counts, so that a key that is rewritten all the time cannot stay for ever.)
#[derive(Debug, Default)]
pub struct Fifo {
    links: Links,
    queue: List,
}

impl Policy for Fifo {
    fn on_hit(&self) -> OnHit {
        OnHit::NOTHING
    }

    fn insert(&mut self, id: u32, _arrival: Arrival, entries: &dyn Entries) {
        self.queue.push(&mut self.links, id, entries.weight(id));
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        self.queue.reweigh(old_weight, entries.weight(id));
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

    /// Keys and weights, the oldest first.
    #[derive(Debug, Default)]
    struct Queue(VecDeque<(u64, u64)>);

    impl Model for Queue {
        fn hit(&mut self, _key: u64) {}

        fn insert(&mut self, key: u64, weight: u64, _capacity: u64, _arrival: u8) {
            self.0.push_back((key, weight));
        }

        fn overwrite(&mut self, key: u64, weight: u64) {
            self.0.iter_mut().filter(|entry| entry.0 == key).for_each(|entry| entry.1 = weight);
        }

        fn remove(&mut self, key: u64) {
            self.0.retain(|entry| entry.0 != key);
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            self.0.pop_front().map(|entry| entry.0)
        }
    }

    #[test]
    fn does_what_a_plain_queue_does() {
        check_against_model(Fifo::default, Queue::default, Order::Exact);
    }
}
