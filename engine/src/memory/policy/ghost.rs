//! Hashes of what was evicted, oldest forgotten first.
//!
//! A queue of (hash, weight), and a table from the hash to the place in the queue. Taking a
//! hash out leaves a dead place behind; when half of the queue is dead, it is rebuilt.
//!
//! # Invariants
//! 1. Every live place is in the table once, and nothing else is; `weight` is their sum.
//! 2. The front of the queue is live, or the queue is empty.

use std::collections::VecDeque;

use hashbrown::HashTable;

#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u64,
    weight: u64,
    live: bool,
}

/// What was evicted lately, up to a weight and a number.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    queue: VecDeque<Place>,
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

    /// Remembers `hash`, and forgets the oldest until at most `len_max` weighing at most
    /// `weight_max` are left. What is remembered already keeps its place.
    pub(super) fn push(&mut self, hash: u64, weight: u64, weight_max: u64, len_max: usize) {
        if weight > weight_max || len_max == 0 || self.find(hash).is_some() {
            return;
        }
        while self.weight + weight > weight_max || self.len() >= len_max {
            self.forget_oldest();
        }
        let number = self.number(self.queue.len());
        self.queue.push_back(Place { hash, weight, live: true });
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
        if self.queue.len() > 2 * self.len() + 32 {
            self.compact();
        }
        true
    }

    /// Checks both invariants.
    pub(super) fn validate(&self) -> Result<(), String> {
        let live = || self.queue.iter().filter(|place| place.live);
        let weight: u64 = live().map(|place| place.weight).sum();
        if (live().count(), weight) != (self.len(), self.weight) {
            return Err(format!(
                "{} ghosts weighing {} were counted as {} weighing {weight}",
                self.len(),
                self.weight,
                live().count()
            ));
        }
        if live().any(|place| self.find(place.hash).is_none()) {
            return Err("a ghost is not in its table".to_owned());
        }
        if self.queue.front().is_some_and(|place| !place.live) {
            return Err("the oldest ghost is dead".to_owned());
        }
        Ok(())
    }

    fn find(&self, hash: u64) -> Option<usize> {
        let found = self.places.find(hash, |&number| self.queue[self.at(number)].hash == hash);
        found.map(|&number| self.at(number))
    }

    fn at(&self, number: u32) -> usize {
        number.wrapping_sub(self.front) as usize
    }

    /// The number of the place at `at`. The queue is at most twice as long as the number of
    /// resident entries, plus a few: far below 2³².
    fn number(&self, at: usize) -> u32 {
        let at = u32::try_from(at).expect("fewer than 2³² ghosts");
        self.front.wrapping_add(at)
    }

    fn link(&mut self, hash: u64, number: u32) {
        let (queue, front) = (&self.queue, self.front);
        self.places
            .insert_unique(hash, number, |&number| queue[number.wrapping_sub(front) as usize].hash);
    }

    fn unlink(&mut self, at: usize) {
        let number = self.number(at);
        let place = &mut self.queue[at];
        place.live = false;
        self.weight -= place.weight;
        if let Ok(found) = self.places.find_entry(place.hash, |&other| other == number) {
            found.remove();
        }
    }

    fn forget_oldest(&mut self) {
        if !self.queue.is_empty() {
            self.unlink(0);
            self.trim();
        }
    }

    fn trim(&mut self) {
        while self.queue.front().is_some_and(|place| !place.live) {
            self.queue.pop_front();
            self.front = self.front.wrapping_add(1);
        }
    }

    fn compact(&mut self) {
        self.queue.retain(|place| place.live);
        self.places.clear();
        for at in 0..self.queue.len() {
            self.link(self.queue[at].hash, self.number(at));
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
        assert!(ghost.queue.len() <= 2 + 32, "{} places for 1 ghost", ghost.queue.len());
        assert!(ghost.take(spread(0)));
        assert_eq!(ghost.validate(), Ok(()));
    }
}
