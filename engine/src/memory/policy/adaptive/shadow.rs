//! What a cache of another setting would have done: a small one of keys alone.
//!
//! A shadow sees one key in 2^s, chosen by its hash, and has a capacity of one 2^s-th; it then
//! hits and misses about as often as a whole cache would on all keys. It runs the same
//! [`Queues`] as the cache itself, with a setting of its own.
//!
//! Costs 13 bytes per entry and its place in a table (5 to 10), 9 for the queues, and 8 to 16
//! each for a sketch and for ghosts where the setting needs them.
//!
//! Source of the sampling: Waldspurger, Saemundsson, Ahmad, Park, "Cache modeling and
//! optimization using miniature simulations", USENIX ATC 2017.
//!
//! # Invariants
//! 1. The table holds the ids of all residents and nothing else; `free` holds all other ids.
//! 2. `used` is the weight of all residents, and at most the capacity after each request.

use std::cell::Cell;

use hashbrown::HashTable;

use super::super::{Arrival, Entries, Policy};
use super::queues::{Queues, Setting};

/// A cache that holds nothing, and knows whether it would have hit.
#[derive(Debug)]
pub(super) struct Shadow {
    queues: Queues,
    shelf: Shelf,
    ids: HashTable<u32>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Shelf {
    capacity: u64,
    used: u64,
    /// The lower halves of hashes: what is equal here is taken for the same.
    keys: Vec<u32>,
    weights: Vec<u32>,
    hits: Vec<Cell<u8>>,
}

impl Shelf {
    /// Room for one more, under an id that it returns; an eighth more memory at a time.
    fn grow(&mut self) -> u32 {
        let id = self.keys.len();
        if id == self.keys.capacity() {
            let more = id / 8 + 16;
            self.keys.reserve_exact(more);
            self.weights.reserve_exact(more);
            self.hits.reserve_exact(more);
        }
        self.keys.push(0);
        self.weights.push(0);
        self.hits.push(Cell::new(0));
        u32::try_from(id).unwrap_or(u32::MAX)
    }
}

impl Entries for Shelf {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn weight(&self, id: u32) -> u64 {
        u64::from(self.weights[id as usize])
    }

    fn hash(&self, id: u32) -> u64 {
        spread(self.keys[id as usize])
    }

    fn hits(&self, id: u32) -> u8 {
        self.hits[id as usize].get()
    }

    fn set_hits(&self, id: u32, hits: u8) {
        self.hits[id as usize].set(hits);
    }
}

/// Makes a whole hash of half of one.
const fn spread(key: u32) -> u64 {
    super::super::mix(((key as u64) << 32) | key as u64)
}

/// The half of a hash that shadows remember. Shards are chosen by others of its bits.
fn key_of(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
}

impl Shadow {
    pub(super) fn new(setting: Setting) -> Self {
        let queues = Queues::fixed(setting);
        Self { queues, shelf: Shelf::default(), ids: HashTable::new(), free: Vec::new() }
    }

    /// How many keys it holds.
    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }

    /// Makes the sketch as large as the history of so many entries needs.
    pub(super) fn cover_history(&mut self, entries: usize) {
        self.queues.cover_history(entries);
    }

    /// Makes the sketch no larger than the history of so many entries needs.
    pub(super) fn shrink_history(&mut self, entries: usize) {
        self.queues.shrink_history(entries);
    }

    /// Asks for a key, and takes it in if it is not there. Whether it was.
    pub(super) fn request(&mut self, hash: u64, weight: u64, capacity: u64) -> bool {
        // Without weight there would be no end to what fits.
        let (key, weight) = (key_of(hash), weight.max(1));
        if let Some(id) = self.find(key) {
            let hits = &self.shelf.hits[id as usize];
            hits.set((hits.get() + 1).min(self.queues.on_hit().count_to));
            return true;
        }
        self.shelf.capacity = capacity;
        if weight > capacity {
            return false;
        }
        let arrival = self.queues.arrive(spread(key), weight, &self.shelf);
        self.evict_to(capacity - weight, arrival);
        self.insert(key, u32::try_from(weight).unwrap_or(u32::MAX), arrival);
        false
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, hash: u64) {
        if let Some(id) = self.find(key_of(hash)) {
            self.queues.remove(id, &self.shelf);
            self.forget(id);
        }
    }

    /// Forgets all keys that are not among the sampled any more.
    pub(super) fn narrow(&mut self, capacity: u64, sampled: impl Fn(u64) -> bool) {
        self.shelf.capacity = capacity;
        let strays: Vec<u32> = {
            let strays = |&&id: &&u32| !sampled(u64::from(self.shelf.keys[id as usize]));
            self.ids.iter().filter(strays).copied().collect()
        };
        for id in strays {
            self.queues.remove(id, &self.shelf);
            self.forget(id);
        }
        self.evict_to(capacity, Arrival::NEW);
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.shelf = Shelf::default();
        self.ids.clear();
        self.free.clear();
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.queues.allocated_bytes()
            + (self.shelf.keys.capacity() + self.shelf.weights.capacity()) * size_of::<u32>()
            + self.shelf.hits.capacity()
            + self.ids.allocation_size()
            + self.free.capacity() * size_of::<u32>()
    }

    /// Checks both invariants, and the queues.
    pub(super) fn validate(&self) -> Result<(), String> {
        self.queues.validate(&self.shelf)?;
        let used: u64 = self.ids.iter().map(|&id| self.shelf.weight(id)).sum();
        if self.ids.len() != self.len() || used != self.shelf.used {
            return Err(format!(
                "a shadow of {} entries weighing {} has {} weighing {used} in its table",
                self.len(),
                self.shelf.used,
                self.ids.len()
            ));
        }
        Ok(())
    }

    fn find(&self, key: u32) -> Option<u32> {
        let keys = &self.shelf.keys;
        self.ids.find(spread(key), |&id| keys[id as usize] == key).copied()
    }

    fn evict_to(&mut self, weight: u64, arrival: Arrival) {
        while self.shelf.used > weight {
            let Some(id) = self.queues.victim(arrival, &self.shelf) else {
                break;
            };
            self.forget(id);
        }
    }

    fn insert(&mut self, key: u32, weight: u32, arrival: Arrival) {
        let id = self.free.pop().unwrap_or_else(|| self.shelf.grow());
        let at = id as usize;
        self.shelf.keys[at] = key;
        self.shelf.weights[at] = weight;
        self.shelf.hits[at].set(0);
        self.shelf.used += u64::from(weight);
        let keys = &self.shelf.keys;
        self.ids.insert_unique(spread(key), id, |&id| spread(keys[id as usize]));
        self.queues.insert(id, arrival, &self.shelf);
    }

    /// Takes an id that the queues have given up out of all the rest.
    fn forget(&mut self, id: u32) {
        let hash = self.shelf.hash(id);
        if let Ok(found) = self.ids.find_entry(hash, |&other| other == id) {
            found.remove();
        }
        self.shelf.used -= self.shelf.weight(id);
        self.free.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::mix;
    use super::super::SETTINGS;
    use super::*;

    #[test]
    fn what_it_says_and_holds_is_consistent() {
        for setting in SETTINGS {
            let mut shadow = Shadow::new(setting);
            shadow.cover_history(64);
            let mut draws = 1_u64;
            for step in 0..20_000 {
                draws = mix(draws.wrapping_add(0x9E37_79B9_7F4A_7C15));
                let (hash, weight) = (mix(draws % 200 + 1), draws >> 60);
                let known = shadow.find(key_of(hash)).is_some();
                match (draws >> 32) & 15 {
                    0 => shadow.remove(hash),
                    _ => assert_eq!(shadow.request(hash, weight, 300), known),
                }
                if step % 100 == 0 {
                    assert_eq!(shadow.validate(), Ok(()));
                    assert!(shadow.shelf.used <= 300);
                }
            }
            shadow.narrow(150, |hash| hash & 1 == 0);
            assert_eq!(shadow.validate(), Ok(()));
            assert!(shadow.shelf.used <= 150 && shadow.len() > 0);
            assert!(shadow.ids.iter().all(|&id| shadow.shelf.keys[id as usize] & 1 == 0));
        }
    }

    #[test]
    fn what_is_heavier_than_all_is_not_taken_in() {
        let mut shadow = Shadow::new(SETTINGS[0]);
        assert!(!shadow.request(1, 11, 10) && !shadow.request(1, 11, 10));
        assert_eq!(shadow.len(), 0);
    }
}
