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
        let store = Store::new();
        store.put(key, 1);
        let writers = [WriterWord::new(), WriterWord::new()];
        Arc::new(Self { store, next_seq: AtomicU64::new(2), writers })
    }

    /// Puts a value of the key; returns its number.
    fn put(&self) -> u64 {
        let (seq, in_flight) = self.writers[0].enter(&self.next_seq);
        self.store.put(Key::A, seq);
        drop(in_flight);
        seq
    }

    /// Removes the key; returns the tombstone's number.
    fn remove(&self) -> u64 {
        let (seq, in_flight) = self.writers[1].enter(&self.next_seq);
        let slot = self.store.log.append(Key::A, seq, SlotState::Tombstone);
        let published = self.store.log.publish(&self.store.slots, Key::A, seq, slot);
        let published = published.expect("not moved and not full");
        drop(in_flight);
        if published.winner.is_none() && none_before(self.writers.iter(), seq) {
            self.store.slots.swap_place(published.at, slot, |_| Slot::EMPTY);
        }
        seq
    }

    /// Removes, looks, and lets another thread put meanwhile.
    fn run(self: Arc<Self>, mut prepare: impl FnMut(&Store)) {
        let putter = {
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.put())
        };
        prepare(&self.store);
        let removed = self.remove();
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

/// A key without a slot is removed while another writer inserts it, in another place. The
/// newer of the two counts, and whoever was told that the key is removed never sees the older
/// again.
pub(super) const REMOVE_AND_INSERT: Model = Model::new(4, || {
    Shared::with(Key::B).run(|store| {
        let (at, slot, _) = store.find(Key::B).unwrap();
        store.evict((at, slot));
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
