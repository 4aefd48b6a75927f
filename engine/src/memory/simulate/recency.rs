//! Keys in the order of their last use, and how much lies above one of them.
//!
//! Every use takes the next place of a row; a Fenwick tree over the row sums the weights of the
//! keys whose last use lies there. What was used since the last use of a key is the sum behind
//! its place. When the row is full, the places of the living are numbered anew in their order,
//! which n uses pay for: O(log n) a use, amortized. Source: F. Olken, "Efficient methods for
//! calculating the success function of fixed space replacement policies", 1981, with a Fenwick
//! tree in the place of a balanced one.
//!
//! # Invariants
//! 1. The place of a key in `places` holds that key in `row`; other entries of `row` are past.
//! 2. `tree` sums the weights of keys at their places, and nothing else.

use hashbrown::HashMap;

/// Places of the shortest row.
const ROW_MIN: usize = 64;

/// A stack of keys, the last used on top.
#[derive(Debug, Clone, Default)]
pub(super) struct Recency {
    places: HashMap<u64, Place, foldhash::fast::FixedState>,
    row: Vec<u64>,
    /// Fenwick tree: entry `at` sums the last `at & at.wrapping_neg()` places up to `at`,
    /// counted from 1.
    tree: Vec<u64>,
    weight: u64,
    /// Sum of the squares of the weights, for errors that grow with them.
    squares: f64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    weight: u64,
}

impl Recency {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What all keys weigh together.
    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    /// What the key weighs on average in which a random unit of weight lies; 1 if there is none.
    pub(super) fn mean_of_units(&self) -> f64 {
        if self.weight == 0 { 1.0 } else { (self.squares / self.weight as f64).max(1.0) }
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.places.allocation_size()
            + (self.row.capacity() + self.tree.capacity()) * size_of::<u64>()
    }

    /// Uses `key`, which weighs `weight` from now on. What the other keys weigh that were used
    /// since its last use; `None` if this is its first.
    pub(super) fn touch(&mut self, key: u64, weight: u64) -> Option<u64> {
        let above = self.remove(key);
        if self.row.len() >= self.tree.len().saturating_sub(1) {
            self.renumber();
        }
        let at = self.row.len() + 1;
        self.row.push(key);
        self.places.insert(key, Place { at, weight });
        self.weight += weight;
        self.squares += weight as f64 * weight as f64;
        self.add(at, weight);
        above
    }

    /// Forgets `key`. What the keys weigh that were used since; `None` if it is not known.
    pub(super) fn remove(&mut self, key: u64) -> Option<u64> {
        let Place { at, weight } = self.places.remove(&key)?;
        let above = self.weight - self.up_to(at);
        self.weight -= weight;
        self.squares -= weight as f64 * weight as f64;
        // Sums are of unsigned numbers that wrap, so the complement takes away.
        self.add(at, weight.wrapping_neg());
        Some(above)
    }

    fn add(&mut self, mut at: usize, weight: u64) {
        while let Some(sum) = self.tree.get_mut(at) {
            *sum = sum.wrapping_add(weight);
            at += at & at.wrapping_neg();
        }
    }

    fn up_to(&self, mut at: usize) -> u64 {
        let mut sum = 0_u64;
        while at > 0 {
            sum = sum.wrapping_add(self.tree[at]);
            at &= at - 1;
        }
        sum
    }

    #[cold]
    fn renumber(&mut self) {
        let mut row = std::mem::take(&mut self.row);
        let mut tree = std::mem::take(&mut self.tree);
        let mut at = 0;
        let mut kept = 0;
        row.retain(|&key| {
            at += 1;
            let place = self.places.get_mut(&key).filter(|place| place.at == at);
            if let Some(place) = place {
                kept += 1;
                place.at = kept;
                true
            } else {
                false
            }
        });
        let places = (2 * row.len()).max(ROW_MIN);
        tree.clear();
        tree.resize(places + 1, 0);
        for (at, key) in row.iter().enumerate() {
            if let Some(place) = self.places.get(key) {
                tree[at + 1] = place.weight;
            }
        }
        for at in 1..=places {
            let above = at + (at & at.wrapping_neg());
            if above <= places {
                tree[above] = tree[above].wrapping_add(tree[at]);
            }
        }
        row.shrink_to(places);
        row.reserve_exact(places - row.len());
        (self.row, self.tree) = (row, tree);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn distances_are_those_of_a_list(
            ops in prop::collection::vec((0..40_u64, 0..9_u64, 0..10_u8), 0..600),
        ) {
            let (mut recency, mut list) = (Recency::default(), Vec::<(u64, u64)>::new());
            for (key, weight, op) in ops {
                let at = list.iter().position(|&(other, _)| other == key);
                let above = at.map(|at| list[at + 1..].iter().map(|&(_, weight)| weight).sum());
                if let Some(at) = at {
                    list.remove(at);
                }
                if op == 0 {
                    prop_assert_eq!(recency.remove(key), above);
                } else {
                    list.push((key, weight));
                    prop_assert_eq!(recency.touch(key, weight), above);
                }
                prop_assert_eq!(recency.len(), list.len());
                prop_assert_eq!(recency.weight(), list.iter().map(|&(_, weight)| weight).sum::<u64>());
            }
        }
    }

    #[test]
    fn the_row_does_not_grow_with_the_uses() {
        let mut recency = Recency::default();
        for at in 0..100_000 {
            recency.touch(at % 100, 1);
        }
        assert!(recency.allocated_bytes() < 20_000, "{}", recency.allocated_bytes());
    }
}
