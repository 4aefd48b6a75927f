//! Entries in the order in which they would leave.
//!
//! Each shard has an order of its own (`Policy::order`). They are merged in proportion: the tenth
//! of a hundred in one shard comes beside the first of ten in another. How many each shard has to
//! give is counted first, and only then is anything cloned or removed, one shard at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

use super::bits::Bits;
use super::departure::Cause;
use super::entry::Entry;
use super::shard::Locked;
use super::space::{Space, is_same};
use super::tier::Tier;

/// From which end of the order, and what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Coldest,
    Hottest,
    /// The coldest, but nothing that is pinned.
    Evictable,
}

/// # Order
/// A policy says in which order entries would leave if nothing else happened, as exactly as its
/// own documentation says ([`Policy::order`](super::Policy::order)). For a tier of one shard that
/// is the order here. With several, their orders are merged in proportion, so that what is named
/// is off by about what the shards differ. What is pinned comes last, as it would not leave; and
/// of a policy that does not name all of its entries, the others come before that, in no order.
///
/// All of this is about plain keys: a key alone does not say to which namespace it belongs. For the keys
/// of a namespace, [`Namespace`](super::Namespace) has the same.
///
/// What changes during a call may be seen or not; then fewer may be returned. `Clone` of keys and
/// values runs under the lock of one shard: it must be quick and must not call the tier. Nothing of
/// this counts as a use.
impl<K: Hash + Eq + Clone, V: Clone> Tier<K, V> {
    /// The `count` live entries that would leave next, the next one first. Fewer if there are
    /// fewer.
    ///
    /// ```
    /// use larder_engine::memory::{Capacity, PolicyKind, Tier};
    ///
    /// let tier = Tier::builder(Capacity::items(100)).policy(PolicyKind::Lru).build()?;
    /// (0..5).for_each(|key| tier.insert(key, "value", u64::MAX).unwrap());
    /// tier.get(&0);
    /// assert_eq!(tier.coldest(2), [(1, "value"), (2, "value")]);
    /// assert_eq!(tier.hottest(2), [(0, "value"), (4, "value")]);
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    #[must_use]
    pub fn coldest(&self, count: usize) -> Vec<(K, V)> {
        self.coldest_at(None, count)
    }

    /// The `count` live entries that would stay for longest, the last to leave first. Looks at all
    /// entries.
    #[must_use]
    pub fn hottest(&self, count: usize) -> Vec<(K, V)> {
        self.hottest_at(None, count)
    }

    /// Removes the `count` live entries that would leave next, and hands them out, the next one
    /// first. What is pinned stays. The listener is told first, of [`Cause::Invalidated`].
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, PolicyKind, Tier};
    /// let tier = Tier::builder(Capacity::items(100)).policy(PolicyKind::Fifo).build()?;
    /// (0..5).for_each(|key| tier.insert(key, "value", u64::MAX).unwrap());
    /// tier.pin(&0);
    /// assert_eq!(tier.drain(2), [(1, "value"), (2, "value")]);
    /// assert_eq!(tier.len(), 3);
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    pub fn drain(&self, count: usize) -> Vec<(K, V)> {
        self.drain_at(None, count)
    }

    /// See [`coldest`](Self::coldest).
    pub(super) fn coldest_at(&self, space: Space<'_>, count: usize) -> Vec<(K, V)> {
        self.in_order(space, End::Coldest, count, |shard, places| pairs(shard, places))
    }

    /// See [`hottest`](Self::hottest).
    pub(super) fn hottest_at(&self, space: Space<'_>, count: usize) -> Vec<(K, V)> {
        self.in_order(space, End::Hottest, count, |shard, places| pairs(shard, places))
    }

    /// See [`drain`](Self::drain).
    pub(super) fn drain_at(&self, space: Space<'_>, count: usize) -> Vec<(K, V)> {
        let mut departures = self.departures();
        self.in_order(space, End::Evictable, count, |shard, places| {
            // If a clone panics, nothing of this shard has left.
            let pairs = pairs(shard, places);
            for &place in places {
                self.drop_entry(shard, place, Cause::Invalidated, &mut departures);
            }
            pairs
        })
    }

    /// Merges what `hand_out` makes of the first places of each shard.
    fn in_order<'a>(
        &'a self,
        space: Space<'_>,
        end: End,
        count: usize,
        mut hand_out: impl FnMut(&mut Locked<'a, K, V>, &[u32]) -> Vec<(K, V)>,
    ) -> Vec<(K, V)> {
        let shares: Vec<Share> = (self.cells.iter())
            .map(|cell| {
                let mut shard = cell.lock();
                let has = self.line_up(&mut shard, space, end, count).len();
                Share { has, of: shard.len() }
            })
            .collect();
        let order = merge(&shares, count);
        let mut wanted = vec![0; self.cells.len()];
        order.iter().for_each(|&at| wanted[at] += 1);
        let mut queues: Vec<_> = (self.cells.iter().zip(wanted))
            .map(|(cell, wanted)| {
                if wanted == 0 {
                    return Vec::new().into_iter();
                }
                let mut shard = cell.lock();
                let places = self.line_up(&mut shard, space, end, wanted);
                hand_out(&mut shard, &places).into_iter()
            })
            .collect();
        order.into_iter().filter_map(|at| queues[at].next()).collect()
    }

    /// The places of the first live entries of a shard, at most `count`.
    fn line_up(
        &self,
        shard: &mut Locked<'_, K, V>,
        space: Space<'_>,
        end: End,
        count: usize,
    ) -> Vec<u32> {
        let wanted = if end == End::Hottest { usize::MAX } else { count };
        let (mut places, mut named, mut left) = (Vec::new(), Bits::default(), shard.len());
        let table = shard.cell.table();
        let (policy, shelf) = shard.split(self.budget.free());
        let counts = |entry: &Entry<K, V>| {
            is_same(table.space_of(entry), space) && table.terms(entry).is_live(|| self.now_ms())
        };
        policy.any().order(&shelf, &mut |place| {
            if places.len() >= wanted || left == 0 {
                return false;
            }
            left -= 1;
            if !named.has(place) && !shelf.is_pinned(place) && shelf.get(place).is_some_and(counts)
            {
                named.flip(place);
                places.push(place);
            }
            true
        });
        for pinned in [false, true] {
            if places.len() < wanted && !(pinned && end == End::Evictable) {
                let rest = shard.iter().filter(|&(place, entry)| {
                    shard.pins.is_pinned(place) == pinned && !named.has(place) && counts(entry)
                });
                places.extend(rest.map(|(place, _)| place).take(wanted - places.len()));
            }
        }
        if end == End::Hottest {
            places.reverse();
            places.truncate(count);
        }
        places
    }
}

/// What a shard can give, and of how many entries.
#[derive(Debug, Clone, Copy)]
struct Share {
    has: usize,
    of: usize,
}

/// Which shard gives the first, which the second, and so on: the one whose next entry is nearest to
/// its end of the order, in proportion to the number of its entries.
fn merge(shares: &[Share], count: usize) -> Vec<usize> {
    let next = |at: usize, given: usize| {
        let Share { has, of } = shares[at];
        // The middle of the entry, in 2⁻⁶⁵ of the shard.
        let middle = || ((2 * given as u128 + 1) << 64) / of.max(1) as u128;
        (given < has).then(|| Reverse((middle(), at, given)))
    };
    let mut heap: BinaryHeap<_> = (0..shares.len()).filter_map(|at| next(at, 0)).collect();
    let mut order = Vec::new();
    while order.len() < count
        && let Some(Reverse((_, at, given))) = heap.pop()
    {
        order.push(at);
        heap.extend(next(at, given + 1));
    }
    order
}

/// Clones of entries.
fn pairs<K: Clone, V: Clone>(shard: &Locked<'_, K, V>, places: &[u32]) -> Vec<(K, V)> {
    let entries = places.iter().filter_map(|&place| shard.get(place));
    entries.map(|entry| (entry.key.clone(), entry.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_give_in_proportion() {
        let share = |has, of| Share { has, of };
        assert_eq!(merge(&[share(9, 9), share(3, 3)], 8), [0, 0, 1, 0, 0, 0, 1, 0]);
        assert_eq!(merge(&[share(1, 100), share(0, 0), share(9, 9)], 3), [0, 2, 2]);
        assert_eq!(merge(&[share(2, 2)], 3), [0, 0]);
        assert_eq!(merge(&[], 3), [0; 0]);
    }
}
