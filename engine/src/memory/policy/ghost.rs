//! What was evicted lately: fingerprints of hashes, oldest forgotten first.
//!
//! A ring of fingerprints (the lower 32 bits of a hash), and the tier's own buckets from a fingerprint to
//! its place in the ring (`buckets.rs`). Taking one out leaves a dead place behind; when half of the ring is
//! dead, it is rebuilt. 11 to 16 bytes per ghost, 4 to 6 more where weights differ. Of two hashes
//! with the same fingerprint one is taken for the other: with a million ghosts, that happens to one
//! newcomer of four thousand.
//!
//! # Invariants
//! 1. Every live place is in the buckets once, and nothing else is; `weight` is their sum.
//! 2. The front of the ring is live, or the ring is empty.

use super::super::buckets::{Buckets, Spot, Tag};

/// Stands in place of the fingerprint of a dead place.
const DEAD: u32 = 0;
/// What weighs more counts as this much.
const WEIGHT_MAX: u64 = u32::MAX as u64;

/// What was evicted lately, up to a weight and a number.
#[derive(Debug)]
pub(super) struct Ghost {
    /// Fingerprints; all places that there are.
    ring: Box<[u32]>,
    /// What those weigh; empty as long as each weighs 1.
    weights: Box<[u32]>,
    front: usize,
    /// Places from the oldest to the newest, dead ones included.
    span: usize,
    len: usize,
    places: Buckets,
    weight: u64,
}

impl Default for Ghost {
    fn default() -> Self {
        Self {
            ring: Box::default(),
            weights: Box::default(),
            front: 0,
            span: 0,
            len: 0,
            places: Buckets::new(1),
            weight: 0,
        }
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn fingerprint(hash: u64) -> u32 {
    if hash as u32 == DEAD { 1 } else { hash as u32 }
}

#[inline]
const fn tag_of(fingerprint: u32) -> Tag {
    // The first bucket by its highest bits, the second by bits that depend on all, the hint by the lowest.
    Tag::of((fingerprint as u64) << 32 | fingerprint.wrapping_mul(0x9E37_79B1) as u64)
}

/// There are fewer than 2³² places.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "see there")]
const fn id_of(place: usize) -> u32 {
    place as u32
}

impl Ghost {
    /// How many are remembered.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// What they weigh together.
    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) const fn allocated_bytes(&self) -> usize {
        (self.ring.len() + self.weights.len()) * size_of::<u32>() + self.places.allocated_bytes()
    }

    /// Forgets the oldest. Whether there was one.
    pub(super) fn pop(&mut self) -> bool {
        let any = self.span > 0;
        if any {
            self.forget_oldest();
        }
        any
    }

    /// Remembers `hash`, and forgets the oldest until at most `len_max` weighing at most
    /// `weight_max` are left. What is remembered already keeps its place.
    pub(super) fn push(&mut self, hash: u64, weight: u64, weight_max: u64, len_max: usize) {
        if self.find(fingerprint(hash)).is_none() {
            self.push_new(hash, weight, weight_max, len_max);
        }
    }

    /// The same for what is not remembered.
    #[inline]
    pub(super) fn push_new(&mut self, hash: u64, weight: u64, weight_max: u64, len_max: usize) {
        if weight > weight_max || len_max == 0 {
            return;
        }
        let weight = weight.min(WEIGHT_MAX);
        while self.weight + weight > weight_max || self.len >= len_max {
            self.forget_oldest();
        }
        if self.span == self.ring.len() {
            self.rebuild();
        }
        if weight != 1 && self.weights.is_empty() {
            self.weights = vec![1; self.ring.len()].into();
        }
        if self.len >= self.places.room() {
            self.grow();
        }
        let place = self.wrapped(self.front + self.span);
        self.ring[place] = fingerprint(hash);
        if let Some(place) = self.weights.get_mut(place) {
            *place = u32::try_from(weight).unwrap_or(u32::MAX);
        }
        self.places.insert(tag_of(fingerprint(hash)), id_of(place));
        self.span += 1;
        self.len += 1;
        self.weight += weight;
    }

    /// Forgets `hash`, and says whether it was remembered.
    #[inline]
    pub(super) fn take(&mut self, hash: u64) -> bool {
        match self.find(fingerprint(hash)) {
            Some(spot) => {
                self.forget(spot);
                true
            }
            None => false,
        }
    }

    /// Checks both invariants.
    pub(super) fn validate(&self) -> Result<(), String> {
        let places = || (0..self.span).map(|at| self.wrapped(self.front + at));
        let live = || places().filter(|&place| self.ring[place] != DEAD);
        let weight: u64 = live().map(|place| self.weight_of(place)).sum();
        if (live().count(), weight) != (self.len, self.weight) {
            return Err(format!(
                "{} ghosts weighing {} were counted as {} weighing {weight}",
                self.len,
                self.weight,
                live().count()
            ));
        }
        if self.places.ids().count() != self.len || live().any(|place| self.locate(place).is_none())
        {
            return Err("the ghosts are not those of the table".to_owned());
        }
        self.places.validate(|place| Some(tag_of(self.ring[place as usize])))?;
        if places().next().is_some_and(|place| self.ring[place] == DEAD) {
            return Err("the oldest ghost is dead".to_owned());
        }
        Ok(())
    }

    #[inline]
    const fn wrapped(&self, at: usize) -> usize {
        if at < self.ring.len() { at } else { at - self.ring.len() }
    }

    #[inline]
    fn weight_of(&self, place: usize) -> u64 {
        self.weights.get(place).map_or(1, |&weight| u64::from(weight))
    }

    #[inline]
    fn find(&self, fingerprint: u32) -> Option<Spot> {
        self.places.find(tag_of(fingerprint), |place| self.ring[place as usize] == fingerprint)
    }

    #[inline]
    fn locate(&self, place: usize) -> Option<Spot> {
        self.places.locate(tag_of(self.ring[place]), id_of(place))
    }

    /// There is one.
    #[inline]
    fn forget_oldest(&mut self) {
        let Some(spot) = self.locate(self.front) else {
            debug_assert!(false, "the front of the ring is live");
            *self = Self::default();
            return;
        };
        self.unlink(spot);
        self.trim();
    }

    #[inline(never)]
    fn forget(&mut self, spot: Spot) {
        self.unlink(spot);
        self.trim();
        if self.span > 2 * self.len + 32 {
            self.rebuild();
        }
    }

    #[inline]
    fn unlink(&mut self, spot: Spot) {
        let place = spot.id() as usize;
        self.places.remove(tag_of(self.ring[place]), spot);
        self.ring[place] = DEAD;
        self.weight -= self.weight_of(place);
        self.len -= 1;
    }

    #[inline]
    fn trim(&mut self) {
        while self.span > 0 && self.ring[self.front] == DEAD {
            self.front = self.wrapped(self.front + 1);
            self.span -= 1;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let count = self.places.count() + self.places.count() / 4 + 1;
        self.places = self.places.resized(count, |place| tag_of(self.ring[place as usize]));
    }

    /// Makes another ring of what is live, with room for a quarter more.
    #[cold]
    fn rebuild(&mut self) {
        let places = (0..self.span).map(|at| self.wrapped(self.front + at));
        let mut live = Vec::with_capacity(self.len);
        live.extend(places.filter(|&place| self.ring[place] != DEAD));
        // As long as not half of it is dead, about as much will be dead again soon.
        let dead = Some(self.span - self.len).filter(|&dead| dead <= self.len + 32);
        let span = self.len + dead.unwrap_or(0);
        let vacant = span - self.len + span / 4 + 16;
        let copied = |of: &[u32], filler: u32| -> Box<[u32]> {
            let live = live.iter().map(|&place| of[place]);
            live.chain(std::iter::repeat_n(filler, vacant)).collect()
        };
        let ring = copied(&self.ring, DEAD);
        if !self.weights.is_empty() {
            self.weights = copied(&self.weights, 1);
        }
        self.places = Buckets::new(self.places.count());
        for (place, &fingerprint) in ring.iter().take(self.len).enumerate() {
            self.places.insert(tag_of(fingerprint), id_of(place));
        }
        (self.ring, self.front, self.span) = (ring, 0, self.len);
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
        assert!(ghost.span <= 2 + 32, "{} places for 1 ghost", ghost.span);
        assert!(ghost.take(spread(0)));
        assert_eq!(ghost.validate(), Ok(()));
    }
}
