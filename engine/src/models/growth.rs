//! Models of growth: a page moves to the next generation while its keys are used.

use std::sync::Arc;

use larder_format::{Slot, SlotState};
use loom::sync::Mutex;
use loom::thread;

use super::Model;
use super::rig::{Key, Log, MOVED_AT, Outcome, Pages, Reclaimed, Turn, generation, values};
use crate::disk::index::Generation;
use crate::disk::lookup::lookup;
use crate::disk::moving::{has_moved, move_page, move_page_together};
use crate::sync::{Ordering, Words as _};

/// Two generations, as `growth.rs` keeps them.
struct Growing {
    log: Log,
    old: Generation<Pages>,
    new: Generation<Pages>,
    mover: Mutex<()>,
}

impl Growing {
    /// The first of the key's two slots is another key's.
    fn with_neighbour() -> Self {
        let turn = Arc::new(Turn::default());
        let growing = Self {
            log: Log::new(),
            old: generation(0, &turn),
            new: generation(1, &turn),
            mover: Mutex::new(()),
        };
        growing.log.put(&growing.old, Key::B, 1, SlotState::Value);
        growing
    }

    /// The key has a value in the second of its two slots; the first is free.
    fn new() -> Arc<Self> {
        let growing = Self::with_neighbour();
        growing.log.put(&growing.old, Key::A, 2, SlotState::Value);
        growing.evict_neighbour();
        Arc::new(growing)
    }

    /// Frees the first slot, unless it is being moved.
    fn evict_neighbour(&self) -> i64 {
        let Some((at, slot, _)) = self.log.find(&self.old, Key::B) else { return 0 };
        -i64::from(self.old.swap_place(at, slot, |_| Slot::EMPTY).is_some())
    }

    /// As `Index::for_reading` does.
    fn for_reading(&self) -> &Generation<Pages> {
        if has_moved(&self.new, MOVED_AT, 0) { &self.new } else { &self.old }
    }

    /// As `Index::for_writing` does for whoever knows of the growth.
    fn for_writing(&self) -> &Generation<Pages> {
        if !has_moved(&self.new, MOVED_AT, 0) {
            let _mover = self.mover.lock().unwrap();
            move_page(&self.old, &self.new, MOVED_AT, 0);
        }
        &self.new
    }

    fn version(&self) -> u64 {
        self.log.version(self.for_reading(), Key::A)
    }

    /// Updates the key, knowing of the growth.
    fn update(&self, seq: u64) -> Outcome {
        self.log.put(self.for_writing(), Key::A, seq, SlotState::Value)
    }

    /// Updates the key, having begun before the growth.
    fn late_update(&self, seq: u64) -> Outcome {
        let slot = self.log.append(Key::A, seq, SlotState::Value);
        let published = self.log.publish(&self.old, Key::A, seq, slot);
        published.unwrap_or_else(|_| {
            let moved = self.log.publish(self.for_writing(), Key::A, seq, slot);
            moved.expect("not moved twice and not full")
        })
    }

    /// The newest record is there, in one slot that is counted once.
    fn assert_holds(&self, seq: u64, entries: i64) {
        assert_eq!(self.version(), seq);
        assert_eq!((values(&self.new), 1 + entries), (1, 1));
    }
}

/// A reader meets a writer that moves the page and then updates the key: it finds the key
/// every time, and never an older record than before.
pub(super) const MOVE_AND_LOOKUP: Model = Model::new(4, || {
    let growing = Growing::new();
    let writer = {
        let growing = Arc::clone(&growing);
        thread::spawn(move || growing.update(3))
    };
    let (first, second) = (growing.version(), growing.version());
    assert!(first >= 2, "the key is there");
    assert!(second >= first, "a read went back");
    growing.assert_holds(3, writer.join().unwrap().entries);
});

/// Two writers that know of the growth update the key: one of them moves the page, and the
/// newer stays, in one slot.
pub(super) const MOVE_AND_UPDATE: Model = Model::new(4, || {
    let growing = Growing::new();
    let writer = {
        let growing = Arc::clone(&growing);
        thread::spawn(move || growing.update(4))
    };
    let entries = growing.update(3).entries;
    growing.assert_holds(4, entries + writer.join().unwrap().entries);
});

/// A writer that began before the growth meets one that moves the page: its update is either
/// moved along, or goes to the new generation; and a reader never goes back.
pub(super) const MOVE_AND_LATE_UPDATE: Model = Model::new(2, || {
    let growing = Growing::new();
    let late = {
        let growing = Arc::clone(&growing);
        thread::spawn(move || growing.late_update(4))
    };
    let mover = {
        let growing = Arc::clone(&growing);
        thread::spawn(move || growing.for_writing().geometry())
    };
    let (first, second) = (growing.version(), growing.version());
    assert!(first >= 2 && second >= first, "a read went back");
    let published = late.join().unwrap();
    mover.join().unwrap();
    assert!(!published.is_lost);
    growing.assert_holds(4, published.entries);
});

/// A segment is reclaimed while its key's page moves: a reader of the old generation, whose
/// slots are frozen, finds the record that was appended again.
pub(super) const RECLAIM_AND_MOVE: Model = Model::new(4, || {
    let growing = Growing::new();
    let (_, slot, _) = growing.log.find(&growing.old, Key::A).unwrap();
    let reclaimed = Arc::new(Reclaimed::new(slot));
    let reader = {
        let (growing, reclaimed) = (Arc::clone(&growing), Arc::clone(&reclaimed));
        thread::spawn(move || {
            let judge = |slot| reclaimed.judge(&growing.log, slot);
            let found = lookup(|| growing.for_reading(), Key::A.hash(), judge);
            assert!(found.is_some(), "a key that was never gone is missed");
        })
    };
    let moved = growing.log.append_at(3, Key::A, 2, SlotState::Value);
    let slots = growing.for_writing();
    let (at, ..) = growing.log.find(slots, Key::A).unwrap();
    assert!(slots.swap_place(at, slot, |_| moved).is_some());
    reclaimed.reclaim();
    reader.join().unwrap();
});

/// Two processes move a page at once, and one of them updates the key as soon as it is moved: whatever the
/// other still does, the update stays.
pub(super) const MOVE_TOGETHER_AND_UPDATE: Model = Model::new(3, || {
    let growing = Growing::new();
    for at in 0..2 * crate::disk::index::PAGE_SLOTS {
        let page = at / crate::disk::index::PAGE_SLOTS;
        let at = Generation::<Pages>::slot_at(page, at % crate::disk::index::PAGE_SLOTS);
        growing.new.word(at).store(Slot::UNBORN.to_bits(), Ordering::Relaxed);
    }
    let mover = {
        let growing = Arc::clone(&growing);
        thread::spawn(move || move_page_together(&growing.old, &growing.new, MOVED_AT, 0))
    };
    move_page_together(&growing.old, &growing.new, MOVED_AT, 0);
    let updated = growing.log.put(&growing.new, Key::A, 3, SlotState::Value);
    assert_eq!(growing.version(), 3);
    mover.join().unwrap();
    growing.assert_holds(3, updated.entries);
});

#[test]
fn what_changes_behind_a_mover_stays() {
    MOVE_TOGETHER_AND_UPDATE.check();
}

/// Two writers that began before the growth insert a key in two places, while the page moves.
pub(super) const INSERT_TWICE_AND_MOVE: Model = Model::new(1, || {
    let growing = Arc::new(Growing::with_neighbour());
    let first = {
        let growing = Arc::clone(&growing);
        thread::spawn(move || growing.late_update(2).entries)
    };
    let mover = {
        let growing = Arc::clone(&growing);
        thread::spawn(move || growing.for_writing().geometry())
    };
    let entries = 1 + growing.evict_neighbour();
    let entries = entries + growing.late_update(3).entries + first.join().unwrap();
    mover.join().unwrap();
    assert_eq!((growing.version(), values(&growing.new)), (3, entries));
    let neighbour = growing.log.version(&growing.new, Key::B);
    assert_eq!(entries, 1 + i64::from(neighbour != 0), "each key has one slot");
});

#[test]
fn a_key_that_moves_while_it_is_inserted_twice_has_one_slot() {
    INSERT_TWICE_AND_MOVE.check();
}

#[test]
fn a_key_is_found_while_it_moves_and_its_segment_is_reclaimed() {
    RECLAIM_AND_MOVE.check();
}

#[test]
fn a_reader_finds_the_key_while_it_moves() {
    MOVE_AND_LOOKUP.check();
}

#[test]
fn of_two_updates_of_a_moving_key_the_newer_stays() {
    MOVE_AND_UPDATE.check();
}

#[test]
fn an_update_is_moved_along_or_comes_after() {
    MOVE_AND_LATE_UPDATE.check();
}
