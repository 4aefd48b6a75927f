//! The entries of one shard: a slab with dense ids, and a hash table of ids over it.
//!
//! # Invariants
//! 1. Every entry in the slab is in the table once, under its own hash, and nothing else is.
//! 2. An id is free or in use; free ids are in `free` once. Ids stay below `u32::MAX`.

use std::borrow::Borrow;
use std::num::NonZeroU64;

use hashbrown::HashTable;

use super::policy::Entries;
use crate::clock::{NEVER, is_live};
use crate::sync::{AtomicU8, Ordering};

/// Number of ids: all but `u32::MAX`, which means "none" to the lists of policies.
const IDS: usize = u32::MAX as usize;

/// A key, its value and what else is known about them.
#[derive(Debug)]
pub(super) struct Entry<K, V> {
    /// Not zero, so that an `Option<Entry>` is no larger than an entry.
    hash: NonZeroU64,
    pub(super) weight: u64,
    pub(super) expires_at_ms: u64,
    pub(super) hits: AtomicU8,
    pub(super) key: K,
    pub(super) value: V,
}

impl<K, V> Entry<K, V> {
    pub(super) const fn new(
        hash: NonZeroU64,
        key: K,
        value: V,
        weight: u64,
        expires_at_ms: u64,
    ) -> Self {
        Self { hash, weight, expires_at_ms, hits: AtomicU8::new(0), key, value }
    }

    /// Whether it is live at a time that is only asked for if it matters.
    #[inline]
    pub(super) fn is_live(&self, now_ms: impl FnOnce() -> u64) -> bool {
        self.expires_at_ms == NEVER || is_live(self.expires_at_ms, now_ms())
    }
}

#[derive(Debug)]
pub(super) struct Table<K, V> {
    ids: HashTable<u32>,
    slab: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { ids: HashTable::new(), slab: Vec::new(), free: Vec::new() }
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether all ids are in use.
    pub(super) const fn is_full(&self) -> bool {
        self.free.is_empty() && self.slab.len() >= IDS
    }

    #[inline]
    pub(super) fn find<Q>(&self, hash: NonZeroU64, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let is_it = |&id: &u32| {
            self.get(id).is_some_and(|entry| entry.hash == hash && entry.key.borrow() == key)
        };
        self.ids.find(hash.get(), is_it).copied()
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<&Entry<K, V>> {
        self.slab.get(id as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry<K, V>> {
        self.slab.get_mut(id as usize)?.as_mut()
    }

    /// Adds an entry whose key is not in the table, unless that is full.
    pub(super) fn insert(&mut self, entry: Entry<K, V>) -> Option<u32> {
        let hash = entry.hash.get();
        let id = match self.free.pop() {
            Some(id) => {
                self.slab[id as usize] = Some(entry);
                id
            }
            None if self.is_full() => return None,
            None => {
                self.slab.push(Some(entry));
                u32::try_from(self.slab.len() - 1).ok()?
            }
        };
        let slab = &self.slab;
        self.ids.insert_unique(hash, id, |&id| {
            slab[id as usize].as_ref().map_or(0, |entry| entry.hash.get())
        });
        Some(id)
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Entry<K, V>> {
        let entry = self.slab.get_mut(id as usize)?.take()?;
        if let Ok(found) = self.ids.find_entry(entry.hash.get(), |&other| other == id) {
            found.remove();
        }
        self.free.push(id);
        Some(entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry<K, V>)> {
        (0..).zip(&self.slab).filter_map(|(id, entry)| Some((id, entry.as_ref()?)))
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry<K, V>> {
        self.slab.into_iter().flatten()
    }

    /// Checks the invariants, and that every key still has the hash it had.
    pub(super) fn validate(&self, hash_of: impl Fn(&K) -> NonZeroU64) -> Result<(), String> {
        let used = self.iter().count();
        if used != self.ids.len() || used + self.free.len() != self.slab.len() {
            return Err(format!(
                "{} ids in the table, {used} in use, {} free, {} in all",
                self.ids.len(),
                self.free.len(),
                self.slab.len()
            ));
        }
        if let Some(id) = self.free.iter().find(|&&id| self.get(id).is_some()) {
            return Err(format!("id {id} is free and in use"));
        }
        for (id, entry) in self.iter() {
            if hash_of(&entry.key) != entry.hash {
                return Err(format!("the key of entry {id} has changed its hash"));
            }
            if self.ids.find(entry.hash.get(), |&other| other == id).is_none() {
                return Err(format!("entry {id} cannot be found by its hash"));
            }
        }
        Ok(())
    }
}

/// What the policy of a shard sees of its table.
pub(super) struct Shelf<'a, K, V> {
    pub(super) table: &'a Table<K, V>,
    pub(super) capacity: u64,
}

impl<K, V> Entries for Shelf<'_, K, V> {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn weight(&self, id: u32) -> u64 {
        self.table.get(id).map_or(0, |entry| entry.weight)
    }

    fn hash(&self, id: u32) -> u64 {
        self.table.get(id).map_or(0, |entry| entry.hash.get())
    }

    fn hits(&self, id: u32) -> u8 {
        // Relaxed: see `OnHit::count`.
        self.table.get(id).map_or(0, |entry| entry.hits.load(Ordering::Relaxed))
    }

    fn set_hits(&self, id: u32, hits: u8) {
        if let Some(entry) = self.table.get(id) {
            // Relaxed: see `OnHit::count`.
            entry.hits.store(hits, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_and_used_again() {
        // One hash for all: keys decide.
        let (one, two) = (NonZeroU64::MIN, NonZeroU64::MAX);
        let mut table = Table::default();
        let ids: Vec<u32> = (0..100)
            .map(|key| table.insert(Entry::new(one, key, key * 2, 1, NEVER)).unwrap())
            .collect();
        assert_eq!(ids, (0..100).collect::<Vec<u32>>());
        assert_eq!(table.remove(7).unwrap().value, 14);
        assert!(table.remove(7).is_none() && table.find(one, &7).is_none());
        assert_eq!(table.insert(Entry::new(one, 1_000, 0, 1, NEVER)), Some(7));
        assert_eq!((table.find(one, &1_000), table.find(two, &1_000)), (Some(7), None));
        assert_eq!(table.find(one, &99), Some(99));
        assert_eq!(table.validate(|_| one), Ok(()));
        assert!(table.validate(|_| two).is_err());
        assert_eq!(size_of::<Option<Entry<u64, u64>>>(), size_of::<Entry<u64, u64>>());
    }
}
