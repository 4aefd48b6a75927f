//! Random replacement.

use std::collections::HashMap;

use super::{Arrival, Entries, OnHit, Policy, cover};

/// Random: every entry is as likely as any other to leave next.
///
/// What other policies have to beat, and the only one that no pattern of requests can defeat.
///
/// Costs 8 bytes per entry; a hit writes nothing. The generator is seeded, so the same calls
/// lead to the same victims; it is SplitMix64 (Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014, figure 16).
///
/// Choices: weights do not matter, and an overwrite changes nothing. The order is that of the
/// draws to come, and exact.
#[derive(Debug)]
pub struct Random {
    draws: Draws,
    ids: Vec<u32>,
    /// Where in `ids` an id is.
    places: Vec<u32>,
}

/// Numbers that look random, from a seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        super::mix(self.0)
    }

    /// A number below `len`, which is not 0.
    fn below(&mut self, len: usize) -> usize {
        let scaled = (u128::from(self.next()) * len as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }
}

impl Random {
    /// Draws from the stream that starts at `seed`.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self { draws: Draws::new(seed), ids: Vec::new(), places: Vec::new() }
    }

    fn take(&mut self, at: usize) -> u32 {
        let id = self.ids.swap_remove(at);
        if let Some(&moved) = self.ids.get(at) {
            self.places[moved as usize] = self.places[id as usize];
        }
        id
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl Policy for Random {
    fn on_hit(&self) -> OnHit {
        OnHit::NOTHING
    }

    fn insert(&mut self, id: u32, _arrival: Arrival, _entries: &dyn Entries) {
        let place = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        cover(&mut self.places, id, 0);
        self.places[id as usize] = place;
        cover_one_more(&mut self.ids);
        self.ids.push(id);
    }

    fn overwrite(&mut self, _id: u32, _old_weight: u64, _entries: &dyn Entries) {}

    fn remove(&mut self, id: u32, _entries: &dyn Entries) {
        self.take(self.places[id as usize] as usize);
    }

    fn victim(&mut self, _arrival: Arrival, _entries: &dyn Entries) -> Option<u32> {
        if self.ids.is_empty() {
            return None;
        }
        let at = self.draws.below(self.ids.len());
        Some(self.take(at))
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn clear(&mut self) {
        *self = Self { draws: self.draws, ids: Vec::new(), places: Vec::new() };
    }

    fn order(&self, _entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        // What `take` would have moved, without moving it.
        let (mut draws, mut moved) = (self.draws, HashMap::new());
        for len in (1..=self.ids.len()).rev() {
            let now = |moved: &HashMap<usize, u32>, at| *moved.get(&at).unwrap_or(&self.ids[at]);
            let at = draws.below(len);
            let (id, last) = (now(&moved, at), now(&moved, len - 1));
            moved.insert(at, last);
            if !f(id) {
                return;
            }
        }
    }

    fn allocated_bytes(&self) -> usize {
        (self.ids.capacity() + self.places.capacity()) * size_of::<u32>()
    }

    fn validate(&self, _entries: &dyn Entries) -> Result<(), String> {
        let misplaced = |&(at, &id): &(usize, &u32)| self.places[id as usize] as usize != at;
        match self.ids.iter().enumerate().find(misplaced) {
            Some((at, id)) => Err(format!("entry {id} does not know that it is at {at}")),
            None => Ok(()),
        }
    }
}

fn cover_one_more(ids: &mut Vec<u32>) {
    if ids.len() == ids.capacity() {
        ids.reserve_exact(ids.len() / 8 + 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};
    use crate::memory::simulate::{Request, Simulator};

    #[derive(Debug)]
    struct Bag(Vec<u64>, Draws);

    impl Model for Bag {
        fn hit(&mut self, _key: u64) {}

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            let at = self.1.below(self.0.len());
            Some(self.0.swap_remove(at))
        }

        fn insert(&mut self, key: u64, _weight: u64, _capacity: u64, _arrival: u8) {
            self.0.push(key);
        }

        fn overwrite(&mut self, _key: u64, _weight: u64) {}

        fn remove(&mut self, key: u64) {
            let at = self.0.iter().position(|&other| other == key).unwrap();
            self.0.swap_remove(at);
        }
    }

    #[test]
    fn does_what_a_bag_does() {
        let bag = || Bag(Vec::new(), Draws::new(9));
        check_against_model(|| Random::seeded(9), bag, Order::Exact);
    }

    #[test]
    fn every_place_is_as_likely() {
        let mut left = [0; 8];
        for seed in 0..8_000 {
            let mut cache = Simulator::new(Random::seeded(super::super::mix(seed)), 8);
            (0..8).for_each(|key| _ = cache.request(&Request::new(key)));
            left[usize::try_from(cache.evict().unwrap()).unwrap()] += 1;
        }
        assert!(left.iter().all(|times| (850..1_150).contains(times)), "{left:?}");
    }
}
