//! All entries, one after the other, while anybody may change them.
//!
//! An iterator holds the keys of one shard, copied at one moment, and looks each of them up when
//! its turn comes. So it holds no lock between two calls of `next`, no value that is gone, and no
//! more than one shard has in keys; and what it yields is live when it is yielded.

use std::fmt;
use std::hash::Hash;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::vec;

use super::marks::TagCell;
use super::space::{Space, is_same};
use super::tier::Tier;

/// The live entries of a [`Tier`], or of a [`Namespace`](super::Namespace). Made by [`Tier::iter`]
/// and [`Namespace::iter`](super::Namespace::iter).
pub struct Iter<'a, K, V> {
    tier: &'a Tier<K, V>,
    space: Option<Arc<TagCell>>,
    /// The next shard.
    at: usize,
    keys: vec::IntoIter<K>,
}

impl<K: Hash + Eq + Clone, V: Clone> Tier<K, V> {
    /// Clones of all live entries under plain keys, in no order. Does not count as use.
    ///
    /// An entry that is there from the beginning to the end comes exactly once, with the value that
    /// it has when it comes; one that comes or goes meanwhile may come or not. The iterator is
    /// never invalidated, and holds no lock between its steps. Beginning with a shard copies its
    /// keys under its lock: `Clone` of keys must be quick and must not call the tier. What is dead
    /// then leaves.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Tier};
    /// let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// (0..10).for_each(|key| tier.insert(key, key * key, u64::MAX).unwrap());
    /// for (key, value) in tier.iter().filter(|(_, value)| value % 2 == 0) {
    ///     tier.insert(key, value / 2, u64::MAX).unwrap();
    /// }
    /// assert_eq!(tier.iter().map(|(_, value)| value).sum::<i32>(), 165 + 60);
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.iter_at(None)
    }

    /// The same, in a namespace or not.
    pub(super) fn iter_at(&self, space: Option<Arc<TagCell>>) -> Iter<'_, K, V> {
        Iter { tier: self, space, at: 0, keys: Vec::new().into_iter() }
    }

    /// All live entries under plain keys, in no order: what [`iter`](Self::iter) yields.
    #[must_use]
    pub fn entries(&self) -> Vec<(K, V)> {
        self.iter().collect()
    }

    /// The keys of the live entries of one shard, plain or in a namespace. What is dead leaves.
    fn keys_of_cell(&self, at: usize, space: Space<'_>) -> Vec<K> {
        let mut departures = self.departures();
        let mut shard = self.cells[at].lock();
        let (mut keys, mut dead) = (Vec::new(), Vec::new());
        for (place, entry) in shard.iter() {
            match shard.terms(entry).check(|| self.now_ms()) {
                Err(why) => dead.push((place, why.into())),
                Ok(()) if is_same(shard.cell.table().space_of(entry), space) => {
                    keys.push(entry.key.clone());
                }
                Ok(()) => {}
            }
        }
        for (place, cause) in dead {
            self.drop_entry(&mut shard, place, cause, &mut departures);
        }
        keys
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Iterator for Iter<'_, K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            for key in self.keys.by_ref() {
                let seek = self.tier.seek(self.space.as_deref(), &key);
                if let Some(value) = self.tier.peek_at(seek, V::clone) {
                    return Some((key, value));
                }
            }
            if self.at == self.tier.cells.len() {
                return None;
            }
            self.keys = self.tier.keys_of_cell(self.at, self.space.as_deref()).into_iter();
            self.at += 1;
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> FusedIterator for Iter<'_, K, V> {}

impl<'a, K: Hash + Eq + Clone, V: Clone> IntoIterator for &'a Tier<K, V> {
    type Item = (K, V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Iter").field("shard", &self.at).finish_non_exhaustive()
    }
}
