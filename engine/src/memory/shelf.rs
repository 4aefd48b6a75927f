//! What a policy sees of the entries of its shard: it knows them by their places (`places.rs`).

use std::hash::Hash;

use super::entry::Entry;
use super::pins::Pins;
use super::places::Places;
use super::policy::Entries;
use super::shard::Cell;
use super::table::Side;
use crate::sync::Ordering;

/// What the policy of a shard sees of its entries.
pub(super) struct Shelf<'a, K, V> {
    cell: &'a Cell<K, V>,
    pub(super) side: &'a Side,
    pub(super) places: &'a Places,
    pub(super) pins: &'a Pins,
    capacity: u64,
    /// The place of which the hash was asked for last, and the hash.
    hashed: std::cell::Cell<Option<(u32, u64)>>,
}

impl<'a, K, V> Shelf<'a, K, V> {
    #[inline]
    pub(super) const fn new(
        cell: &'a Cell<K, V>,
        side: &'a Side,
        places: &'a Places,
        pins: &'a Pins,
        capacity: u64,
    ) -> Self {
        Self { cell, side, places, pins, capacity, hashed: std::cell::Cell::new(None) }
    }

    #[inline]
    pub(super) fn get(&self, place: u32) -> Option<&Entry<K, V>> {
        self.cell.table().get(self.side, self.places.id(place)?)
    }

    pub(super) fn is_pinned(&self, place: u32) -> bool {
        self.pins.is_pinned(place)
    }

    /// The hash of the entry in a place; remembered, if it was asked for just now.
    #[inline]
    pub(super) fn hash_of(&self, place: u32, entry: &Entry<K, V>) -> u64
    where
        K: Hash,
    {
        match self.hashed.get() {
            Some((of, hash)) if of == place => hash,
            _ => self.cell.hash_of(entry),
        }
    }

    /// Any entry but one, and none that is pinned.
    pub(super) fn any_but(&self, keep: Option<u32>) -> Option<u32> {
        let mut places = self.cell.table().iter(self.side).map(|(id, _)| self.places.place(id));
        places.find(|&place| Some(place) != keep && !self.pins.is_pinned(place))
    }
}

impl<K: Hash, V> Entries for Shelf<'_, K, V> {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    #[inline(always)]
    fn weight(&self, place: u32) -> u64 {
        if !self.cell.is_weighed {
            return 1;
        }
        self.get(place).map_or(0, |entry| self.cell.table().terms(entry).weight())
    }

    fn cost(&self, place: u32) -> u64 {
        self.get(place).map_or(1, |entry| self.cell.table().terms(entry).cost())
    }

    #[inline]
    fn hash(&self, place: u32) -> u64 {
        let hash = self.get(place).map_or(0, |entry| self.cell.hash_of(entry));
        self.hashed.set(Some((place, hash)));
        hash
    }

    #[inline]
    fn hits(&self, place: u32) -> u8 {
        // Relaxed: see `OnHit::count`.
        self.get(place).map_or(0, |entry| entry.hits.load(Ordering::Relaxed))
    }

    #[inline]
    fn set_hits(&self, place: u32, hits: u8) {
        if let Some(entry) = self.get(place) {
            // Relaxed: see `OnHit::count`.
            entry.hits.store(hits, Ordering::Relaxed);
        }
    }
}
