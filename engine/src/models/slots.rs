//! Models of one generation: writers, readers and eviction at the same slots.

use std::sync::Arc;

use larder_format::SlotState;
use loom::thread;

use super::Model;
use super::rig::{Key, Reclaimed, Store};
use crate::disk::in_flight::WriterWord;
use crate::disk::lookup::lookup;
use crate::sync::AtomicU64;

/// A reader meets two publications of a key. What it finds it sees whole, and what it finds
/// later is not older.
pub(super) const PUBLISH_AND_LOOKUP: Model = Model::new(4, || {
    let store = Arc::new(Store::new());
    let writer = {
        let store = Arc::clone(&store);
        thread::spawn(move || {
            store.put(Key::A, 1);
            store.put(Key::A, 2);
        })
    };
    let (first, second) = (store.version(Key::A), store.version(Key::A));
    assert!(first <= second, "a read went back");
    writer.join().unwrap();
    assert_eq!(store.version(Key::A), 2);
});

/// Two writers update a key. The newer stays, in one slot, whoever comes first.
pub(super) const UPDATE_AND_UPDATE: Model = Model::new(4, || {
    let store = Arc::new(Store::new());
    let mut entries = store.put(Key::A, 1).entries;
    let other = {
        let store = Arc::clone(&store);
        thread::spawn(move || store.put(Key::A, 2))
    };
    let newer = store.put(Key::A, 3);
    let older = other.join().unwrap();
    entries += newer.entries + older.entries;
    assert!(!newer.is_lost);
    assert_ne!(older.is_lost, older.replaced);
    assert_eq!((store.version(Key::A), store.values(), entries), (3, 1, 1));
});

/// Two writers insert a key, in two places: one finds the first candidate taken by another
/// key, the other evicts that key before. The newer stays, in one slot, and is told so.
fn insert_twice(first: u64, second: u64) {
    let store = Arc::new(Store::new());
    let mut entries = store.put(Key::B, 1).entries;
    let (at, slot, _) = store.find(Key::B).unwrap();
    let other = {
        let store = Arc::clone(&store);
        thread::spawn(move || store.put(Key::A, first))
    };
    entries -= i64::from(store.evict((at, slot)));
    let mine = store.put(Key::A, second);
    let theirs = other.join().unwrap();
    entries += mine.entries + theirs.entries;
    let newer = if first > second { theirs } else { mine };
    assert!(!newer.is_lost, "the newer is taken for lost");
    assert_eq!(store.version(Key::A), first.max(second));
    assert_eq!((store.values(), entries), (1, 1));
}

/// As [`insert_twice`], the evictor being the newer.
pub(super) const INSERT_AND_INSERT_NEWER: Model = Model::new(3, || insert_twice(2, 3));

/// As [`insert_twice`], the evictor being the older.
pub(super) const INSERT_AND_INSERT_OLDER: Model = Model::new(3, || insert_twice(3, 2));

/// Two writers add a key that is absent, in two places: one succeeds.
pub(super) const ADD_AND_ADD: Model = Model::new(3, || {
    let store = Arc::new(Store::new());
    store.put(Key::B, 1);
    let (at, slot, _) = store.find(Key::B).unwrap();
    let shared = Arc::new((AtomicU64::new(2), [WriterWord::new(), WriterWord::new()]));
    let add = |store: &Store, shared: &(AtomicU64, [WriterWord; 2]), number: usize| {
        let drawn = (&shared.1[number], &shared.0);
        let added = store.log.update(&store.slots, SlotState::Value, drawn, |now| now.is_none());
        added.map(|(seq, ..)| seq)
    };
    let other = {
        let (store, shared) = (Arc::clone(&store), Arc::clone(&shared));
        thread::spawn(move || add(&store, &shared, 0))
    };
    store.evict((at, slot));
    let mine = add(&store, &shared, 1);
    let theirs = other.join().unwrap();
    assert!(mine.is_some() != theirs.is_some(), "{mine:?} and {theirs:?} were added");
    assert_eq!(store.version(Key::A), mine.or(theirs).unwrap());
    assert_eq!(store.values(), 1);
});

/// A reader counts hits while the key is updated and its old record evicted. A hit never
/// brings a record back, nor hides the one behind the slot from those who find it.
pub(super) const EVICT_AND_TOUCH: Model = Model::new(2, || {
    let store = Arc::new(Store::new());
    store.put(Key::A, 1);
    let (at, slot, _) = store.find(Key::A).unwrap();
    let evictor = {
        let store = Arc::clone(&store);
        thread::spawn(move || store.evict((at, slot)))
    };
    let writer = {
        let store = Arc::clone(&store);
        thread::spawn(move || store.put(Key::A, 2))
    };
    for _ in 0..2 {
        if let Some((at, slot, _)) = store.find(Key::A) {
            store.slots.touch(at, slot);
        }
    }
    let (evicted, written) = (evictor.join().unwrap(), writer.join().unwrap());
    assert_ne!(evicted, written.replaced, "evicted or replaced");
    let (_, slot, seq) = store.find(Key::A).unwrap();
    assert_eq!((seq, store.values()), (2, 1));
    assert!(slot.freq() <= 2);
});

/// A key is updated while its record is evicted: the new record stays, and is counted once.
pub(super) const EVICT_AND_UPDATE: Model = Model::new(4, || {
    let store = Arc::new(Store::new());
    let mut entries = store.put(Key::A, 1).entries;
    let (at, slot, _) = store.find(Key::A).unwrap();
    let writer = {
        let store = Arc::clone(&store);
        thread::spawn(move || store.put(Key::A, 2))
    };
    // As eviction does: look for the place, then give it up, and the count with it.
    if store.slots.load(at).same_place(slot) && store.evict((at, slot)) {
        entries -= 1;
    }
    if let Some((_, slot, seq)) = store.find(Key::A) {
        assert_eq!((slot.state(), seq), (SlotState::Value, 2), "what was evicted is gone");
    }
    entries += writer.join().unwrap().entries;
    assert_eq!((store.version(Key::A), store.values(), entries), (2, 1, 1));
});

/// A segment is reclaimed while a key in it is looked up. The record was hit, so it is
/// appended again and its slot pointed there, and only then does the segment go: the key is
/// found all the time.
pub(super) const RECLAIM_AND_LOOKUP: Model = Model::new(4, || {
    let store = Arc::new(Store::new());
    store.put(Key::A, 1);
    let (at, slot, _) = store.find(Key::A).unwrap();
    let reclaimed = Arc::new(Reclaimed::new(slot));
    let reader = {
        let (store, reclaimed) = (Arc::clone(&store), Arc::clone(&reclaimed));
        thread::spawn(move || {
            for _ in 0..2 {
                let found = lookup(
                    || &store.slots,
                    Key::A.hash(),
                    |slot| reclaimed.judge(&store.log, slot),
                );
                assert!(found.is_some(), "a key that was never gone is missed");
            }
        })
    };
    let moved = store.log.append_at(2, Key::A, 1, SlotState::Value);
    assert!(store.slots.swap_place(at, slot, |_| moved).is_some());
    reclaimed.reclaim();
    reader.join().unwrap();
});

/// A key that was put is found by whoever put it, also when a newer put finds room at another
/// place meanwhile.
pub(super) const INSERT_AND_READ_BACK: Model = Model::new(3, || {
    let store = Arc::new(Store::new());
    store.put(Key::B, 1);
    let (at, slot, _) = store.find(Key::B).unwrap();
    let other = {
        let store = Arc::clone(&store);
        thread::spawn(move || {
            store.evict((at, slot));
            store.put(Key::A, 3);
        })
    };
    store.put(Key::A, 2);
    assert!(store.version(Key::A) >= 2, "a key that was never gone is missed");
    other.join().unwrap();
});

#[test]
fn a_key_is_found_while_its_segment_is_reclaimed() {
    RECLAIM_AND_LOOKUP.check();
}

#[test]
fn a_key_is_found_while_it_is_inserted_twice() {
    INSERT_AND_READ_BACK.check();
}

#[test]
fn a_record_is_complete_for_whoever_finds_its_slot() {
    PUBLISH_AND_LOOKUP.check();
}

#[test]
fn of_two_updates_the_newer_stays() {
    UPDATE_AND_UPDATE.check();
}

#[test]
fn of_two_inserts_the_newer_stays() {
    INSERT_AND_INSERT_NEWER.check();
    INSERT_AND_INSERT_OLDER.check();
}

#[test]
fn of_two_additions_one_succeeds() {
    ADD_AND_ADD.check();
}

#[test]
fn a_hit_brings_nothing_back() {
    EVICT_AND_TOUCH.check();
}

#[test]
fn eviction_takes_no_newer_record() {
    EVICT_AND_UPDATE.check();
}
