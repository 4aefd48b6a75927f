//! SIEVE: a hand that walks through a queue and leaves what was used where it is.
//!
//! ```text
//! newest                     hand                    oldest
//!   ▼                          ▼                        ▼
//!   h    g*   f    e*    d     c*    b (older, spared)  a
//!                 ◄── it moves on, takes stars away, and evicts where there is none: d
//! ```

use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, offer};

/// SIEVE: as CLOCK, but what is spared keeps its place, so new entries are sieved quickly.
///
/// Source: Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is simpler than LRU: an efficient
/// turn-key eviction algorithm for web caches", NSDI 2024, section 3 and algorithm 1.
///
/// Costs 8 bytes per entry; a hit writes one byte, and none from the second on.
///
/// Nothing departs from the paper. Choices: an overwrite keeps place and bit, and is not a
/// use. If the entry at the hand is removed, the hand moves on to the next newer one.
#[derive(Debug, Default)]
pub struct Sieve {
    links: Links,
    queue: List,
    /// Where to go on; `None` for the oldest.
    hand: Option<u32>,
}

impl Policy for Sieve {
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
        if self.hand == Some(id) {
            self.hand = List::newer(&self.links, id);
        }
        self.queue.remove(&mut self.links, id, entries.weight(id));
    }

    fn victim(&mut self, _arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        loop {
            let id = self.hand.or(self.queue.oldest())?;
            self.hand = List::newer(&self.links, id);
            if entries.hits(id) == 0 {
                self.remove(id, entries);
                return Some(id);
            }
            entries.set_hits(id, 0);
        }
    }

    fn len(&self) -> usize {
        self.queue.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Exact: around from the hand those without the bit, then those with it.
    fn order(&self, entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        let newer = |&id: &u32| List::newer(&self.links, id);
        let around = || {
            let from_hand = std::iter::successors(self.hand, newer);
            let behind = self.queue.iter(&self.links).take_while(|&id| Some(id) != self.hand);
            from_hand.chain(behind)
        };
        let with = |used| around().filter(move |&id| (entries.hits(id) > 0) == used);
        offer(with(false).chain(with(true)), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        self.queue.validate(&self.links, entries)?;
        match self.hand {
            Some(hand) if !self.queue.iter(&self.links).any(|id| id == hand) => {
                Err(format!("the hand is at {hand}, which is not in the queue"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};
    use crate::memory::simulate::{Request, Simulator};

    /// Algorithm 1 on an array, the oldest first. `hand` is the place to look at next.
    #[derive(Debug, Default)]
    struct Array {
        entries: Vec<(u64, bool)>,
        hand: usize,
    }

    impl Model for Array {
        fn hit(&mut self, key: u64) {
            self.entries.iter_mut().filter(|entry| entry.0 == key).for_each(|entry| entry.1 = true);
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            if self.entries.is_empty() {
                return None;
            }
            loop {
                if self.hand >= self.entries.len() {
                    self.hand = 0;
                }
                if !self.entries[self.hand].1 {
                    let key = self.entries.remove(self.hand).0;
                    // Past the newest, the next round starts at the oldest, even if something
                    // newer comes before that.
                    self.hand = if self.hand == self.entries.len() { 0 } else { self.hand };
                    return Some(key);
                }
                self.entries[self.hand].1 = false;
                self.hand += 1;
            }
        }

        fn insert(&mut self, key: u64, _weight: u64, _capacity: u64, _arrival: u8) {
            self.entries.push((key, false));
        }

        fn overwrite(&mut self, _key: u64, _weight: u64) {}

        fn remove(&mut self, key: u64) {
            let at = self.entries.iter().position(|entry| entry.0 == key).unwrap();
            self.entries.remove(at);
            self.hand -= usize::from(at < self.hand);
            self.hand = if self.hand == self.entries.len() { 0 } else { self.hand };
        }
    }

    #[test]
    fn does_what_the_paper_says() {
        check_against_model(Sieve::default, Array::default, Order::Exact);
    }

    /// The state of figure 2's kind, drawn: newest first, a star for the bit, ^ for the hand.
    #[test]
    fn spared_entries_keep_their_place() {
        let mut cache = Simulator::new(Sieve::default(), 4);
        let mut left = Vec::new();
        // 4 3 2 1 ^       4 3* 2 1* ^     5 4 3* [2] 1: 1 spared, 2 leaves, hand at 3
        for key in [1, 2, 3, 4, 1, 3, 5] {
            cache.request_with(&Request::new(key), |key| left.push(key));
        }
        assert_eq!(left, [2]);
        // 6 5 3 1, hand past 4, which leaves: 3 is spared. Then 5 and 6 leave as they come by.
        for key in [6, 7, 8] {
            cache.request_with(&Request::new(key), |key| left.push(key));
        }
        assert_eq!(left, [2, 4, 5, 6]);
        assert!(cache.contains(1) && cache.contains(3));
    }
}
