//! CLOCK: a queue with a second chance.

use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, offer};

/// CLOCK: first in, first out, but what was used meanwhile goes around once more.
///
/// Source: Corbató, "A paging experiment with the Multics system", MIT Project MAC report
/// MAC-M-384, 1968. One bit per entry says that it was used. The hand takes the bit away where
/// it is set, and evicts where it is not.
///
/// Costs 8 bytes per entry; a hit writes one byte, and none from the second on.
///
/// Where it departs from the paper: the hand stands still and the entries go around, that is,
/// a spared entry moves to the end of the queue. The victims are the same.
///
/// Choices: a newcomer's bit is not set. An overwrite keeps place and bit, and is not a use.
#[derive(Debug, Default)]
pub struct Clock {
    links: Links,
    /// The hand stands at the oldest.
    queue: List,
}

impl Policy for Clock {
    fn on_hit(&self) -> OnHit {
        OnHit::count_to(1)
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
        loop {
            let id = self.queue.oldest()?;
            if entries.hits(id) == 0 {
                self.remove(id, entries);
                return Some(id);
            }
            entries.set_hits(id, 0);
            self.queue.refresh(&mut self.links, id);
        }
    }

    fn len(&self) -> usize {
        self.queue.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Exact: those without the bit, then those with it.
    fn order(&self, entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        let with =
            |used| self.queue.iter(&self.links).filter(move |&id| (entries.hits(id) > 0) == used);
        offer(with(false).chain(with(true)), f);
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
    use crate::memory::simulate::{Request, Simulator};

    /// Frames in a ring, as the paper has them: key and bit. Removed frames close up.
    #[derive(Debug, Default)]
    struct Ring {
        frames: Vec<(u64, bool)>,
        hand: usize,
    }

    impl Model for Ring {
        fn hit(&mut self, key: u64) {
            self.frames.iter_mut().filter(|frame| frame.0 == key).for_each(|frame| frame.1 = true);
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            while !self.frames.is_empty() {
                self.hand %= self.frames.len();
                if !self.frames[self.hand].1 {
                    return Some(self.frames.remove(self.hand).0);
                }
                self.frames[self.hand].1 = false;
                self.hand += 1;
            }
            None
        }

        /// Just behind the hand, so that the hand gets there last.
        fn insert(&mut self, key: u64, _weight: u64, _capacity: u64, _arrival: u8) {
            self.frames.insert(self.hand, (key, false));
            self.hand += 1;
        }

        fn overwrite(&mut self, _key: u64, _weight: u64) {}

        fn remove(&mut self, key: u64) {
            let at = self.frames.iter().position(|frame| frame.0 == key).unwrap();
            self.frames.remove(at);
            self.hand -= usize::from(at < self.hand);
        }
    }

    #[test]
    fn does_what_a_ring_of_frames_does() {
        check_against_model(Clock::default, Ring::default, Order::Exact);
    }

    #[test]
    fn what_was_used_goes_around_once_more() {
        let mut cache = Simulator::new(Clock::default(), 3);
        // Hand at 1; the star is the bit.      1 2 3   1* 2 3   (2 leaves) 3 1 4   1 4 5
        for key in [1, 2, 3, 1, 4, 5] {
            cache.request(&Request::new(key));
        }
        let mut left = Vec::new();
        cache.order(|key| {
            left.push(key);
            true
        });
        assert_eq!(left, [1, 4, 5]);
    }
}
