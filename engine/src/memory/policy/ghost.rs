//! Hashes of what was evicted, oldest forgotten first.
//!
//! A queue of hashes and weights, and a table from a hash to its place in the queue. Taking a
//! hash out leaves a dead place behind; when half of the queue is dead, it is rebuilt. 30 to
//! 40 bytes per ghost.
//!
//! # Invariants
//! 1. Every live place is in the table once, and nothing else is; `weight` is their sum.
//! 2. The front of the queue is live, or the queue is empty.

use std::collections::VecDeque;

use hashbrown::HashTable;

/// Stands in place of the weight of a dead place.
const DEAD: u32 = u32::MAX;
/// What weighs more counts as this much.
const WEIGHT_MAX: u64 = DEAD as u64 - 1;

/// What was evicted lately, up to a weight and a number.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    hashes: VecDeque<u64>,
    /// Apart from the hashes, so that nothing is lost to alignment.
    weights: VecDeque<u32>,
    /// The number of the place at the front; the next one has the next number, wrapping.
    front: u32,
    places: HashTable<u32>,
    weight: u64,
}

impl Ghost {
    /// How many hashes are remembered.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What they weigh together.
    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.hashes.capacity() * size_of::<u64>()
            + self.weights.capacity() * size_of::<u32>()
            + self.places.allocation_size()
    }

    /// Forgets the oldest. Whether there was one.
    pub(super) fn pop(&mut self) -> bool {
        let any = !self.hashes.is_empty();
        if any {
            self.unlink(0);
            self.trim();
        }
        any
    }

    /// Remembers `hash`, and forgets the oldest until at most `len_max` weighing at most
    /// `weight_max` are left. What is remembered already keeps its place.
    pub(super) fn push(&mut self, hash: u64, weight: u64, weight_max: u64, len_max: usize) {
        if weight > weight_max || len_max == 0 || self.find(hash).is_some() {
            return;
        }
        let weight = weight.min(WEIGHT_MAX);
        while self.weight + weight > weight_max || self.len() >= len_max {
            self.unlink(0);
            self.trim();
        }
        let number = self.number(self.hashes.len());
        if self.hashes.len() == self.hashes.capacity() {
            // An eighth more, not twice as much: ghosts are many.
            self.hashes.reserve_exact(self.hashes.len() / 8 + 16);
            self.weights.reserve_exact(self.weights.len() / 8 + 16);
        }
        self.hashes.push_back(hash);
        self.weights.push_back(u32::try_from(weight).unwrap_or(DEAD - 1));
        self.weight += weight;
        self.link(hash, number);
    }

    /// Forgets `hash`, and says whether it was remembered.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let Some(at) = self.find(hash) else {
            return false;
        };
        self.unlink(at);
        self.trim();
        if self.hashes.len() > 2 * self.len() + 32 {
            self.compact();
        }
        true
    }

    /// Checks both invariants.
    pub(super) fn validate(&self) -> Result<(), String> {
        let live = || self.weights.iter().zip(&self.hashes).filter(|&(&weight, _)| weight != DEAD);
        let weight: u64 = live().map(|(&weight, _)| u64::from(weight)).sum();
        if (live().count(), weight) != (self.len(), self.weight) {
            return Err(format!(
                "{} ghosts weighing {} were counted as {} weighing {weight}",
                self.len(),
                self.weight,
                live().count()
            ));
        }
        if live().any(|(_, &hash)| self.find(hash).is_none()) {
            return Err("a ghost is not in its table".to_owned());
        }
        if self.weights.front() == Some(&DEAD) {
            return Err("the oldest ghost is dead".to_owned());
        }
        Ok(())
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let at = |number: u32| number.wrapping_sub(self.front) as usize;
        self.places.find(hash, |&number| self.hashes[at(number)] == hash).map(|&number| at(number))
    }

    /// The number of the place at `at`. The queue is at most twice as long as the ghosts are
    /// many, plus a few: far below 2³².
    fn number(&self, at: usize) -> u32 {
        let at = u32::try_from(at).expect("fewer than 2³² ghosts");
        self.front.wrapping_add(at)
    }

    fn link(&mut self, hash: u64, number: u32) {
        let (hashes, front) = (&self.hashes, self.front);
        let hash_of = |&number: &u32| hashes[number.wrapping_sub(front) as usize];
        self.places.insert_unique(hash, number, hash_of);
    }

    fn unlink(&mut self, at: usize) {
        let number = self.number(at);
        let weight = std::mem::replace(&mut self.weights[at], DEAD);
        self.weight -= u64::from(weight);
        if let Ok(found) = self.places.find_entry(self.hashes[at], |&other| other == number) {
            found.remove();
        }
    }

    fn trim(&mut self) {
        while self.weights.front() == Some(&DEAD) {
            self.weights.pop_front();
            self.hashes.pop_front();
            self.front = self.front.wrapping_add(1);
        }
    }

    fn compact(&mut self) {
        let mut weights = self.weights.iter();
        self.hashes.retain(|_| weights.next() != Some(&DEAD));
        self.weights.retain(|&weight| weight != DEAD);
        self.places.clear();
        for at in 0..self.hashes.len() {
            self.link(self.hashes[at], self.number(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Push(u64, u64),
        Take(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..40_u64, 0..6_u64).prop_map(|(hash, weight)| Op::Push(hash, weight)),
            (0..40_u64).prop_map(Op::Take),
        ]
    }

    fn spread(hash: u64) -> u64 {
        hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    proptest! {
        #[test]
        fn does_what_a_plain_queue_does(
            ops in prop::collection::vec(op(), 0..400), weight_max in 0..60_u64, len_max in 0..20_usize,
        ) {
            let mut ghost = Ghost::default();
            let mut model: VecDeque<(u64, u64)> = VecDeque::new();
            for op in ops {
                match op {
                    Op::Push(hash, weight) => {
                        ghost.push(spread(hash), weight, weight_max, len_max);
                        let known = model.iter().any(|&(other, _)| other == hash);
                        if weight <= weight_max && len_max > 0 && !known {
                            model.push_back((hash, weight));
                            while model.len() > len_max
                                || model.iter().map(|&(_, weight)| weight).sum::<u64>() > weight_max
                            {
                                model.pop_front();
                            }
                        }
                    }
                    Op::Take(hash) => {
                        let at = model.iter().position(|&(other, _)| other == hash);
                        prop_assert_eq!(ghost.take(spread(hash)), at.is_some());
                        at.map(|at| model.remove(at));
                    }
                }
                prop_assert_eq!(ghost.len(), model.len());
                prop_assert_eq!(ghost.validate(), Ok(()));
            }
            for (hash, _) in model {
                prop_assert!(ghost.take(spread(hash)));
            }
        }
    }

    #[test]
    fn a_queue_that_is_mostly_dead_is_rebuilt() {
        let mut ghost = Ghost::default();
        (0..1_000).for_each(|hash| ghost.push(spread(hash), 1, 1_000, 1_000));
        // The oldest stays, so nothing can be trimmed from the front.
        (1..1_000).for_each(|hash| assert!(ghost.take(spread(hash))));
        assert!(ghost.hashes.len() <= 2 + 32, "{} places for 1 ghost", ghost.hashes.len());
        assert!(ghost.take(spread(0)));
        assert_eq!(ghost.validate(), Ok(()));
    }
}
