//! Entries in places that never move, and what few of them have beside.
//!
//! A [`Lodging`] is two slabs (`slab.rs`): of entries, and of extras (`extra.rs`) for those whose terms do
//! not fit into their word. A [`Ledger`] says which places are in use, and is the writers'.
//!
//! # Invariants
//! 1. A ledger is used with the lodging that it was made with, and with no other.
//! 2. A place is full from `put` to `empty`, and its id in use exactly then. An extra is there before
//!    its entry, and leaves with it.

use std::mem::needs_drop;

use super::bits::Bits;
use super::entry::{Entry, Packed, Terms, Unpacked};
use super::extra::Extra;
use super::ids::Ids;
use super::marks::{Space, is_same};
use super::slab::Slab;
use crate::sync::AtomicU8;

/// Entries and extras.
#[derive(Debug)]
pub(super) struct Lodging<K, V> {
    entries: Slab<Entry<K, V>>,
    extras: Slab<Extra>,
}

/// Which of their places are in use.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    ids: Ids,
    extra_ids: Ids,
}

impl Ledger {
    /// Whether another entry might find no place.
    #[inline]
    pub(super) const fn is_exhausted(&self) -> bool {
        self.ids.is_exhausted() || self.extra_ids.is_exhausted()
    }

    /// How many entries are there.
    pub(super) fn count(&self) -> usize {
        self.ids.count()
    }
}

impl<K, V> Lodging<K, V> {
    pub(super) fn new() -> Self {
        Self { entries: Slab::new(), extras: Slab::new() }
    }

    /// An entry.
    ///
    /// # Safety
    /// Its place is full, and stays so as long as the reference lives.
    #[inline(always)]
    pub(super) unsafe fn get(&self, id: u32) -> &Entry<K, V> {
        // SAFETY: the caller's.
        unsafe { self.entries.get(id) }
    }

    /// What an entry of this lodging weighs, and how long it lives.
    #[inline]
    pub(super) fn terms<'a>(&'a self, entry: &'a Entry<K, V>) -> Terms<'a> {
        match entry.packed.unpack() {
            Unpacked::Terms { weight, expires_at_ms } => Terms::Packed { weight, expires_at_ms },
            // SAFETY: filled before its entry, emptied with it (invariant 2), and whoever has a
            // reference to the entry keeps it full.
            Unpacked::Extra(id) => Terms::Extra(unsafe { self.extras.get(id) }),
        }
    }

    /// The namespace that the key of an entry belongs to.
    #[inline]
    pub(super) fn space_of<'a>(&'a self, entry: &'a Entry<K, V>) -> Space<'a> {
        if !entry.packed.is_spaced() {
            return None;
        }
        match self.terms(entry) {
            Terms::Packed { .. } => None,
            Terms::Extra(extra) => extra.space(),
        }
    }

    /// Whether the key of an entry belongs to a namespace, or to none.
    #[inline]
    pub(super) fn is_in(&self, entry: &Entry<K, V>, space: Space<'_>) -> bool {
        match space {
            None => !entry.packed.is_spaced(),
            space => is_same(self.space_of(entry), space),
        }
    }

    /// The word of an entry that is put next and lives on these terms, which go elsewhere if need
    /// be.
    pub(super) fn pack(&self, ledger: &mut Ledger, extra: Extra) -> Option<Packed> {
        if let Some((weight, deadline)) = extra.as_plain()
            && let Some(packed) = Packed::new(weight, deadline)
        {
            return Some(packed);
        }
        if ledger.ids.is_exhausted() {
            return None;
        }
        let place = ledger.extra_ids.take()?;
        let packed = Packed::extra(place, extra.space().is_some());
        // SAFETY: it was free, so its place is empty and nobody reads it (invariant 2).
        unsafe { self.extras.put(place, extra) };
        Some(packed)
    }

    /// Fills the place of a new id. `None`: there is none left.
    #[inline(always)]
    pub(super) fn put(
        &self,
        ledger: &mut Ledger,
        (key, value): (K, V),
        packed: Packed,
        hits: u8,
    ) -> Option<u32> {
        let id = ledger.ids.take()?;
        let entry = Entry { key, value, packed, hits: AtomicU8::new(hits) };
        // SAFETY: as above.
        unsafe { self.entries.put(id, entry) };
        Some(id)
    }

    /// Empties places; `trash` gets what was in them, if that has to be dropped.
    ///
    /// # Safety
    /// They are full, each is named once, and nobody looks at them, nor will.
    pub(super) unsafe fn empty(&self, ledger: &mut Ledger, ids: &[u32], trash: &mut Vec<(K, V)>) {
        let has_extras = !ledger.extra_ids.is_untouched();
        for &id in ids.iter().take_while(|_| has_extras || needs_drop::<(K, V)>()) {
            // SAFETY: the caller's.
            let entry = unsafe { self.entries.take(id) };
            if let Unpacked::Extra(extra) = entry.packed.unpack() {
                // SAFETY: filled before its entry, of which nobody is left who could look at it.
                drop(unsafe { self.extras.take(extra) });
                ledger.extra_ids.give_back(extra);
            }
            if needs_drop::<(K, V)>() {
                trash.push((entry.key, entry.value));
            }
        }
        ledger.ids.give_back_all(ids);
    }

    /// Drops everything. Goes on with the rest when a destructor panics.
    pub(super) fn end(&mut self, ledger: &mut Ledger) {
        // First, as no destructor of theirs can panic.
        drop(Rest(&self.extras, ledger.extra_ids.drain()));
        let mut rest = Rest(&self.entries, ledger.ids.drain());
        while rest.drop_next() {}
    }

    /// Checks the books, given entries that are there, and that each extra belongs to one of them.
    pub(super) fn validate<'a>(
        &'a self,
        ledger: &Ledger,
        entries: impl Iterator<Item = (u32, &'a Entry<K, V>)> + Clone,
    ) -> Result<(), String> {
        ledger.ids.validate(entries.clone().map(|(id, _)| id))?;
        let mut named = Bits::default();
        for (id, entry) in entries {
            let Unpacked::Extra(extra) = entry.packed.unpack() else { continue };
            if named.has(extra) {
                return Err(format!("extra {extra} of entry {id} is not its own"));
            }
            named.flip(extra);
            if let Terms::Extra(extra) = self.terms(entry) {
                extra.validate().map_err(|why| format!("entry {id}: {why}"))?;
            }
        }
        let used = std::iter::successors(named.next_from(0), |&id| named.next_from(id + 1));
        ledger.extra_ids.validate(used).map_err(|why| format!("extras: {why}"))
    }
}

/// What is left of a slab at its end.
struct Rest<'a, T, I: Iterator<Item = u32>>(&'a Slab<T>, I);

impl<T, I: Iterator<Item = u32>> Rest<'_, T, I> {
    fn drop_next(&mut self) -> bool {
        let Some(id) = self.1.next() else { return false };
        // SAFETY: full until now, as it was in use, and `end` has the lodging alone: nobody is left.
        drop(unsafe { self.0.take(id) });
        true
    }
}

impl<T, I: Iterator<Item = u32>> Drop for Rest<'_, T, I> {
    fn drop(&mut self) {
        while self.drop_next() {}
    }
}
