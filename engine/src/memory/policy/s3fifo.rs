//! S3-FIFO: three queues, of which two hold entries.
//!
//! ```text
//!            new                    used twice
//! insert ──────────► small (10 %) ─────────────► main (90 %) ──► out, unless used:
//!    │                   └─ else ► ghost, out      ▲     ▲            │ then counter − 1
//!    └── was in the ghost ─────────────────────────┘     └────────────┘ and in again
//! ```

use super::super::bits::Bits;
use super::ghost::Ghost;
use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, ghosts_max, offer};

/// Hits are counted up to this (2 bits).
const HITS_MAX: u8 = 3;
/// Hits in the small queue that lead to the main one.
const PROMOTE_AT: u8 = 2;

/// S3-FIFO: a small queue in front of the main one drops what is used only once.
///
/// Source: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction",
/// SOSP 2023; section 4.1 and algorithm 1. New entries enter a small FIFO queue of a tenth of
/// the capacity. What leaves it with at least two hits enters the main queue with its counter
/// reset; the rest is evicted and its hash kept as a ghost. What comes back while it is a
/// ghost enters the main queue at once. The main queue gives an entry with hits another
/// round, and takes one hit from it. Nothing leaves before the cache is full; then the main
/// queue gives if it is over nine tenths of the capacity or the small one is empty, else the
/// small one.
///
/// Costs 8 bytes and a bit per entry and 11 to 16 bytes per ghost; a hit writes one byte, and none from the
/// third on.
///
/// Where it departs from the paper:
/// - "More than one hit" is read as at least two, as in the authors' simulator (libCacheSim),
///   whose miss counts this reproduces.
/// - Ghosts are an exact queue, not a table whose entries age. They are limited by the weight
///   of what they stand for, to nine tenths of the capacity, and by number, to twice that of
///   the resident entries, so that no load can make them cost more than the entries do.
/// - What weighs as much as the whole small queue, or more, enters it like everything else
///   and leaves it next. (The authors' simulator does not admit it: a simulator that has to
///   agree must not insert it. To send it to the main queue instead costs hits: on two traces
///   with sizes the miss ratio rose by half a point on average, and by up to 2.8.)
///
/// Choices: an overwrite keeps queue, place and counter, and is not a use.
#[derive(Debug, Default)]
pub struct S3Fifo {
    links: Links,
    small: List,
    main: List,
    /// Which of the two queues an entry is in.
    in_main: Bits,
    ghost: Ghost,
}

/// What the small queue may weigh.
const fn small_share(capacity: u64) -> u64 {
    capacity / 10
}

/// What the ghosts may weigh: ⌊capacity × 0.9⌋, without overflow.
const fn ghost_share(capacity: u64) -> u64 {
    capacity / 10 * 9 + capacity % 10 * 9 / 10
}

/// What [`Policy`] asks for, for whoever knows which entries these are.
impl S3Fifo {
    fn queue(&mut self, id: u32) -> (&mut List, &mut Links) {
        let list = if self.in_main.has(id) { &mut self.main } else { &mut self.small };
        (list, &mut self.links)
    }

    #[inline]
    fn push_main(&mut self, id: u32, weight: u64) {
        self.in_main.put(id, true);
        self.main.push(&mut self.links, id, weight);
    }

    /// `None` if everything moved on to the main queue.
    #[inline]
    fn victim_of_small(&mut self, entries: &(impl Entries + ?Sized)) -> Option<u32> {
        while let Some(id) = self.small.oldest() {
            let weight = entries.weight(id);
            self.small.remove(&mut self.links, id, weight);
            if entries.hits(id) < PROMOTE_AT {
                let (weight_max, len_max) =
                    (ghost_share(entries.capacity()), ghosts_max(self.resident()));
                // It was taken out when the entry arrived.
                self.ghost.push_new(entries.hash(id), weight, weight_max, len_max);
                return Some(id);
            }
            entries.set_hits(id, 0);
            self.push_main(id, weight);
        }
        None
    }

    fn victim_of_main(&mut self, entries: &(impl Entries + ?Sized)) -> Option<u32> {
        while let Some(id) = self.main.oldest() {
            match entries.hits(id).min(HITS_MAX) {
                0 => {
                    self.main.remove(&mut self.links, id, entries.weight(id));
                    return Some(id);
                }
                hits => {
                    entries.set_hits(id, hits - 1);
                    self.main.refresh(&mut self.links, id);
                }
            }
        }
        None
    }

    const fn resident(&self) -> usize {
        self.small.len() + self.main.len()
    }

    #[inline]
    pub(super) fn arrived(&mut self, hash: u64) -> Arrival {
        if self.ghost.take(hash) { Arrival::GHOST } else { Arrival::NEW }
    }

    #[inline]
    pub(super) fn enter(&mut self, id: u32, arrival: Arrival, entries: &(impl Entries + ?Sized)) {
        let weight = entries.weight(id);
        if arrival == Arrival::GHOST {
            self.push_main(id, weight);
        } else {
            self.in_main.put(id, false);
            self.small.push(&mut self.links, id, weight);
        }
    }

    #[inline]
    pub(super) fn reweigh(&mut self, id: u32, old_weight: u64, entries: &(impl Entries + ?Sized)) {
        let weight = entries.weight(id);
        if weight != old_weight {
            self.queue(id).0.reweigh(old_weight, weight);
        }
    }

    pub(super) fn leave(&mut self, id: u32, entries: &(impl Entries + ?Sized)) {
        let (list, links) = self.queue(id);
        list.remove(links, id, entries.weight(id));
    }

    #[inline]
    pub(super) fn evict(&mut self, entries: &(impl Entries + ?Sized)) -> Option<u32> {
        let capacity = entries.capacity();
        let main_is_over = self.main.weight() > capacity - small_share(capacity);
        if main_is_over && let Some(id) = self.victim_of_main(entries) {
            return Some(id);
        }
        self.victim_of_small(entries).or_else(|| self.victim_of_main(entries))
    }
}

impl Policy for S3Fifo {
    fn on_hit(&self) -> OnHit {
        OnHit::count_to(HITS_MAX)
    }

    fn arrive(&mut self, hash: u64, _weight: u64, _entries: &dyn Entries) -> Arrival {
        self.arrived(hash)
    }

    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries) {
        self.enter(id, arrival, entries);
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        self.reweigh(id, old_weight, entries);
    }

    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        self.leave(id, entries);
    }

    fn victim(&mut self, _arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        self.evict(entries)
    }

    fn len(&self) -> usize {
        self.resident()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Every entry once: the small queue's, then the main queue's, the oldest first. Hits and
    /// the balance between the queues are not looked at, so the truth may differ.
    fn order(&self, _entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        offer(self.small.iter(&self.links).chain(self.main.iter(&self.links)), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes() + self.in_main.allocated_bytes() + self.ghost.allocated_bytes()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        self.small.validate(&self.links, entries)?;
        self.main.validate(&self.links, entries)?;
        if self.small.iter(&self.links).any(|id| self.in_main.has(id))
            || self.main.iter(&self.links).any(|id| !self.in_main.has(id))
        {
            return Err("an entry is not in the queue that it is said to be in".to_owned());
        }
        self.ghost.validate()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};

    #[derive(Debug, Clone, Copy)]
    struct Entry {
        key: u64,
        weight: u64,
        hits: u8,
    }

    /// The paper's algorithm, on plain queues with the oldest in front.
    #[derive(Debug, Default)]
    struct Queues {
        small: VecDeque<Entry>,
        main: VecDeque<Entry>,
        ghost: VecDeque<(u64, u64)>,
    }

    fn weight(queue: &VecDeque<Entry>) -> u64 {
        queue.iter().map(|entry| entry.weight).sum()
    }

    impl Queues {
        fn entry(&mut self, key: u64) -> Option<&mut Entry> {
            self.small.iter_mut().chain(&mut self.main).find(|entry| entry.key == key)
        }

        fn remember(&mut self, entry: Entry, capacity: u64) {
            let weight_max = capacity * 9 / 10;
            let len_max = 2 * (self.small.len() + self.main.len()).max(16);
            if entry.weight <= weight_max {
                self.ghost.push_back((entry.key, entry.weight));
                while self.ghost.len() > len_max
                    || self.ghost.iter().map(|ghost| ghost.1).sum::<u64>() > weight_max
                {
                    self.ghost.pop_front();
                }
            }
        }
    }

    impl Model for Queues {
        fn hit(&mut self, key: u64) {
            self.entry(key).into_iter().for_each(|entry| entry.hits = (entry.hits + 1).min(3));
        }

        fn arrive(&mut self, key: u64, _weight: u64, _capacity: u64) -> u8 {
            let known = self.ghost.iter().any(|ghost| ghost.0 == key);
            self.ghost.retain(|ghost| ghost.0 != key);
            u8::from(known)
        }

        fn insert(&mut self, key: u64, weight: u64, _capacity: u64, known: u8) {
            let queue = if known == 1 { &mut self.main } else { &mut self.small };
            queue.push_back(Entry { key, weight, hits: 0 });
        }

        fn overwrite(&mut self, key: u64, weight: u64) {
            self.entry(key).into_iter().for_each(|entry| entry.weight = weight);
        }

        fn remove(&mut self, key: u64) {
            self.small.retain(|entry| entry.key != key);
            self.main.retain(|entry| entry.key != key);
        }

        fn evict(&mut self, capacity: u64, _arrival: u8) -> Option<u64> {
            if weight(&self.main) <= capacity - capacity / 10 {
                while let Some(mut entry) = self.small.pop_front() {
                    if entry.hits < 2 {
                        self.remember(entry, capacity);
                        return Some(entry.key);
                    }
                    entry.hits = 0;
                    self.main.push_back(entry);
                }
            }
            while let Some(mut entry) = self.main.pop_front() {
                if entry.hits == 0 {
                    return Some(entry.key);
                }
                entry.hits -= 1;
                self.main.push_back(entry);
            }
            None
        }
    }

    #[test]
    fn does_what_the_paper_says() {
        check_against_model(S3Fifo::default, Queues::default, Order::Complete);
    }

    #[test]
    fn shares_are_rounded_down() {
        assert_eq!((small_share(39), ghost_share(39)), (3, 35));
        assert_eq!(ghost_share(u64::MAX), u64::MAX / 10 * 9 + 4);
    }
}
