//! From the hash of a key to the id of its entry.
//!
//! Open addressing with linear probing over one array. A place holds the upper half of the
//! hash and the id, so that a probe reads one cache line and, as a rule, one key. Where an
//! entry wants to be grows with its hash: growing is one pass from front to back, and a
//! removal moves followers back instead of leaving a mark, so a cache that turns over for
//! ever needs no rebuilding. (A table with marks has to be rebuilt, or be twice as large.)
//!
//! # Invariants
//! 1. Between the home of an entry and its place, no place is empty.
//! 2. At most five ninths of the places are in use, so every probe ends, and soon.

/// No entry: the id in it is `u32::MAX`, which nobody has.
const EMPTY: u64 = u64::MAX;

/// Ids by hash; 14 to 16 bytes for each.
#[derive(Debug, Default)]
pub(super) struct Ids {
    places: Vec<u64>,
    len: usize,
}

/// The part of the hash that is kept.
const fn tag(hash: u64) -> u64 {
    hash >> 32
}

const fn place(hash: u64, id: u32) -> u64 {
    (tag(hash) << 32) | id as u64
}

impl Ids {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn allocated_bytes(&self) -> usize {
        self.places.capacity() * size_of::<u64>()
    }

    /// The id under `hash` that `is_it` says yes to, or `u32::MAX`.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> u32 {
        if self.places.is_empty() {
            return u32::MAX;
        }
        let mut at = self.home(tag(hash));
        loop {
            let found = self.places[at];
            let id = low(found);
            if found == EMPTY || (tag(found) == tag(hash) && is_it(id)) {
                return id;
            }
            at = self.after(at);
        }
    }

    /// Adds an id that is not in here.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, id: u32) {
        if (self.len + 1) * 9 > self.places.len() * 5 {
            self.grow();
        }
        self.len += 1;
        self.put(place(hash, id));
    }

    /// Removes an id that is in here under `hash`.
    #[inline]
    pub(super) fn remove(&mut self, hash: u64, id: u32) {
        let gone = place(hash, id);
        let mut hole = self.home(tag(hash));
        while self.places[hole] != gone {
            hole = self.after(hole);
        }
        let mut at = hole;
        loop {
            at = self.after(at);
            let follower = self.places[at];
            if follower == EMPTY {
                break;
            }
            // It may move unless its home lies behind the hole.
            if self.distance(self.home(tag(follower)), at) >= self.distance(hole, at) {
                self.places[hole] = follower;
                hole = at;
            }
        }
        self.places[hole] = EMPTY;
        self.len -= 1;
    }

    #[inline]
    fn put(&mut self, new: u64) {
        let mut at = self.home(tag(new));
        while self.places[at] != EMPTY {
            at = self.after(at);
        }
        self.places[at] = new;
    }

    #[cold]
    fn grow(&mut self) {
        let mut places = Vec::new();
        places.reserve_exact(self.places.len() / 8 * 9 + 16);
        places.resize(places.capacity(), EMPTY);
        for old in std::mem::replace(&mut self.places, places) {
            if old != EMPTY {
                self.put(old);
            }
        }
    }

    /// Where an entry wants to be: the tag, scaled from 2³² to the number of places.
    #[inline]
    const fn home(&self, tag: u64) -> usize {
        ((tag as u128 * self.places.len() as u128) >> 32) as usize
    }

    #[inline]
    const fn after(&self, at: usize) -> usize {
        if at + 1 == self.places.len() { 0 } else { at + 1 }
    }

    #[inline]
    const fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.places.len() - from }
    }
}

/// The id in a place.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn low(place: u64) -> u32 {
    place as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, crowded at both ends, so that runs wrap around and are cut.
        #[test]
        fn finds_what_a_map_finds(ops in prop::collection::vec((0..24_u32, any::<bool>()), 0..300)) {
            let hash_of = |id: u32| match id % 3 {
                0 => u64::MAX - u64::from(id / 6),
                1 => u64::from(id / 6) << 30,
                _ => u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            };
            let (mut ids, mut model) = (Ids::default(), HashMap::new());
            for (id, insert) in ops {
                if insert && model.insert(id, ()).is_none() {
                    ids.insert(hash_of(id), id);
                } else if !insert && model.remove(&id).is_some() {
                    ids.remove(hash_of(id), id);
                }
                prop_assert_eq!(ids.len(), model.len());
                for id in 0..24 {
                    let found = ids.find(hash_of(id), |found| found == id);
                    prop_assert_eq!(found != u32::MAX, model.contains_key(&id));
                }
            }
        }
    }
}
