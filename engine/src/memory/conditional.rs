//! Inserts that depend on what is there.

use std::hash::Hash;
use std::sync::Arc;

use super::insert::Rejected;
use super::keep::Keep;
use super::marks::TagCell;
use super::tier::Tier;

impl<K: Hash + Eq, V> Tier<K, V> {
    /// Inserts `value` under `key`, if the key has no live value. Whether it did. Of several that
    /// try at once, one succeeds.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Keep, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// assert!(tier.add("key", 1, &Keep::default()).unwrap());
    /// assert!(!tier.add("key", 2, &Keep::default()).unwrap());
    /// assert_eq!(tier.get("key"), Some(1));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`insert`](Self::insert), so [`TooLarge`](crate::Rejection::TooLarge) for a value that
    /// weighs more than the whole tier may hold; but the answer for a key that has a live value is
    /// `false`, whatever the new one weighs.
    pub fn add(&self, key: K, value: V, keep: &Keep<'_>) -> Result<bool, Rejected<K, V>> {
        self.add_at(None, (key, value), keep)
    }

    /// The same, in a namespace or not.
    pub(super) fn add_at(
        &self,
        space: Option<&Arc<TagCell>>,
        pair: (K, V),
        keep: &Keep<'_>,
    ) -> Result<bool, Rejected<K, V>> {
        // No room need be made for what is not inserted.
        if self.peek_at(self.seek(space.map(|cell| &**cell), &pair.0), |_| ()).is_some() {
            return Ok(false);
        }
        self.insert_at(space, pair, keep, |current| current.is_none())
    }

    /// Replaces the live value of `key` by `new`, if it equals `expected`. Whether it did. What
    /// `keep` says counts from then on; what was said of the old value does not.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Keep, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// tier.insert("key", 1, u64::MAX).unwrap();
    /// assert!(tier.compare_and_swap("key", &1, 2, &Keep::default()).unwrap());
    /// assert!(!tier.compare_and_swap("key", &1, 3, &Keep::default()).unwrap());
    /// assert_eq!(tier.get("key"), Some(2));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    ///
    /// `PartialEq` of values runs under the lock of one shard: it must be quick and must not call
    /// the tier.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), so [`TooLarge`](crate::Rejection::TooLarge) for a value that
    /// weighs more than the whole tier may hold, and the old one stays; but the answer for a key
    /// whose value is another one, or that has none, is `false`, whatever the new one weighs.
    pub fn compare_and_swap(
        &self,
        key: K,
        expected: &V,
        new: V,
        keep: &Keep<'_>,
    ) -> Result<bool, Rejected<K, V>>
    where
        V: PartialEq,
    {
        // As above.
        if self.peek_with(&key, |current| current == expected) != Some(true) {
            return Ok(false);
        }
        self.insert_if_as(key, new, keep, |current| current == Some(expected))
    }
}
