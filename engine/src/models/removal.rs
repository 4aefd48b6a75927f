//! Models of removal: a tombstone hides older values for as long as one may still come.

use std::sync::Arc;

use larder_format::{Slot, SlotState};
use loom::thread;

use super::Model;
use super::rig::{Key, Store};
use crate::disk::in_flight::{WriterWord, none_before};
use crate::sync::AtomicU64;

/// A store with numbers to draw, and two writers.
struct Shared {
    store: Store,
    next_seq: AtomicU64,
    writers: [WriterWord; 2],
}

impl Shared {
    /// A store where `key` has a value.
    fn with(key: Key) -> Arc<Self> {
        let shared = Self::empty();
        shared.store.put(key, 1);
        shared
    }

    /// A store without keys.
    fn empty() -> Arc<Self> {
        let store = Store::new();
        let writers = [WriterWord::new(), WriterWord::new()];
        Arc::new(Self { store, next_seq: AtomicU64::new(2), writers })
    }

    /// Puts a value of the key; returns its number.
    fn put(&self, writer: usize) -> u64 {
        let drawn = (&self.writers[writer], &self.next_seq);
        let put = self.store.log.update(&self.store.slots, SlotState::Value, drawn, |_| true);
        put.expect("puts are unconditional").0
    }

    /// Removes the key, if it is there; returns the tombstone's number.
    fn remove(&self) -> Option<u64> {
        let drawn = (&self.writers[1], &self.next_seq);
        let is_there = |version: Option<u64>| version.is_some();
        let (slots, log) = (&self.store.slots, &self.store.log);
        let (seq, slot, outcome, in_flight) =
            log.update(slots, SlotState::Tombstone, drawn, is_there)?;
        drop(in_flight);
        if none_before(self.writers.iter(), seq) {
            slots.swap_place(outcome.at, slot, |_| Slot::EMPTY);
        }
        Some(seq)
    }

    /// Removes, looks, and lets another thread put meanwhile.
    fn run(self: Arc<Self>, prepare: impl FnOnce(&Self)) {
        let putter = {
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.put(0))
        };
        prepare(&self);
        let removed = self.remove().expect("the key is there");
        let seen = self.store.version(Key::A);
        assert!(seen == 0 || seen > removed, "{seen} was removed by {removed}");
        let put = putter.join().unwrap();
        let expected = if put > removed { put } else { 0 };
        assert_eq!(self.store.version(Key::A), expected, "put {put}, removed {removed}");
    }
}

/// A key that has a value is removed while another writer updates it. The newer of the two
/// counts, even though the tombstone's slot may go at once.
pub(super) const REMOVE_AND_UPDATE: Model = Model::new(4, || Shared::with(Key::A).run(|_| ()));

/// A key without a slot is put and removed while another writer inserts it. Whoever was told
/// that the key is removed never sees an older value again.
pub(super) const REMOVE_AND_INSERT: Model = Model::new(2, || {
    Shared::empty().run(|shared| {
        shared.put(1);
    });
});

/// A key is removed while it is read: once a reader has missed it, it is gone for good.
pub(super) const REMOVE_AND_LOOKUP: Model = Model::new(4, || {
    let shared = Shared::with(Key::A);
    let remover = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.remove())
    };
    let (first, second) = (shared.store.version(Key::A), shared.store.version(Key::A));
    assert!(first >= second, "a removed value came back");
    remover.join().unwrap();
    assert!(shared.store.find(Key::A).is_none(), "nobody was under way");
});

#[test]
fn a_tombstone_outlasts_a_slow_update() {
    REMOVE_AND_UPDATE.check();
}

#[test]
fn a_tombstone_outlasts_a_slow_insert() {
    REMOVE_AND_INSERT.check();
}

#[test]
fn a_removed_value_stays_away() {
    REMOVE_AND_LOOKUP.check();
}
