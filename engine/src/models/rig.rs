//! What the models share: an index on the heap, and records that notice a race.

use std::sync::{Arc, OnceLock};

use larder_format::layout::{PAGE, UNIT};
use larder_format::{Geometry, Slot, SlotState};
use loom::cell::UnsafeCell;

use crate::disk::in_flight::{InFlight, WriterWord};
use crate::disk::index::{Blocked, Generation, PAGE_SLOTS, Verdict};
pub(super) use crate::sync::Turn;
use crate::sync::{AtomicBool, AtomicU64, Ordering, Site, Words};

/// A place that is read and written plainly. Whoever looks at it without being ordered after
/// its writer fails the model.
#[derive(Debug)]
pub(super) struct Plain(UnsafeCell<()>);

// SAFETY: there is nothing inside to race for; loom keeps account of the accesses.
unsafe impl Sync for Plain {}

impl Plain {
    pub(super) fn new() -> Self {
        Self(UnsafeCell::new(()))
    }

    pub(super) fn read(&self) {
        self.0.with(|_| ());
    }

    pub(super) fn write(&self) {
        self.0.with_mut(|_| ());
    }
}

/// A key: something to tell it by, and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    name: char,
    hash: u64,
}

impl Key {
    /// The key that the threads quarrel about.
    pub(super) const A: Self = Self { name: 'a', hash: 1 << 42 };
    /// Another key with the same tag, and hence in the same two slots.
    pub(super) const B: Self = Self { name: 'b', hash: 1 << 42 };

    pub(super) const fn hash(self) -> u64 {
        self.hash
    }
}

/// Pages of slots, and a page of moved bits, on the heap.
#[derive(Debug)]
pub(super) struct Pages {
    words: Vec<AtomicU64>,
    turn: Arc<Turn>,
}

/// Where the moved bits of a generation of two pages are.
pub(super) const MOVED_AT: usize = 3 * PAGE;

impl Words for Pages {
    fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        self.turn.take();
        let first = (at / PAGE - 1) * PAGE_SLOTS + at % PAGE / 8;
        &self.words[first..first + count]
    }
}

/// A generation with twice as many pages for each of `doublings`.
pub(super) fn generation(doublings: u8, turn: &Arc<Turn>) -> Generation<Pages> {
    let geometry = Geometry { page_bits: doublings, base_bits: 0 };
    let words = 0..(geometry.pages() + 1) * PAGE_SLOTS;
    let words = words.map(|_| AtomicU64::new(0)).collect();
    Generation::new(Pages { words, turn: Arc::clone(turn) }, geometry)
}

/// A record, as far as a model needs it.
#[derive(Debug, Clone, Copy)]
struct Record {
    key: Key,
    seq: u64,
    state: SlotState,
}

/// The place of a record.
#[derive(Debug)]
struct Place {
    bytes: Plain,
    record: OnceLock<Record>,
}

/// Places for records: each has that of its sequence number, unless it asks for another.
#[derive(Debug)]
pub(super) struct Log([Place; 9]);

impl Log {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Place { bytes: Plain::new(), record: OnceLock::new() }))
    }

    /// Writes a record and returns a slot that points to it.
    pub(super) fn append(&self, key: Key, seq: u64, state: SlotState) -> Slot {
        self.append_at(usize::try_from(seq).expect("a small number"), key, seq, state)
    }

    /// Writes a record in place number `at`.
    pub(super) fn append_at(&self, at: usize, key: Key, seq: u64, state: SlotState) -> Slot {
        let place = &self.0[at];
        place.bytes.write();
        place.record.set(Record { key, seq, state }).expect("a place of its own");
        Slot::new(key.hash, 1, at * UNIT, state)
    }

    /// What the record behind a slot says about a key.
    pub(super) fn judge(&self, key: Key, slot: Slot) -> Verdict<()> {
        let place = &self.0[slot.offset() / UNIT];
        place.bytes.read();
        let record = place.record.get().expect("written before its slot was published");
        let fits = matches!(slot.state(), SlotState::Tentative | SlotState::Pending)
            || record.state == slot.state();
        if record.key == key && fits {
            Verdict::Same { seq: record.seq, state: record.state, found: () }
        } else {
            Verdict::Other
        }
    }

    /// Writes a record, numbered `seq`, and publishes it.
    pub(super) fn put(
        &self,
        slots: &Generation<Pages>,
        key: Key,
        seq: u64,
        state: SlotState,
    ) -> Outcome {
        let slot = self.append(key, seq, state);
        self.publish(slots, key, seq, slot).expect("not moved and not full")
    }

    /// Publishes a record that was written, unless the key has a newer one.
    pub(super) fn publish(
        &self,
        slots: &Generation<Pages>,
        key: Key,
        seq: u64,
        slot: Slot,
    ) -> Result<Outcome, Blocked> {
        let judge = |slot| self.judge(key, slot);
        let mut entries = 0;
        loop {
            let (survey, change) = slots.survey(key.hash, judge);
            entries += change;
            let survey = survey?;
            if survey.current.as_ref().is_some_and(|current| current.seq > seq) {
                return Ok(Outcome { is_lost: true, entries, ..Outcome::default() });
            }
            match slots.publish(key.hash, slot, seq, &survey, judge) {
                Ok(published) => {
                    let entries = entries + published.entries;
                    let replaced = published.replaced.is_some();
                    return Ok(Outcome {
                        at: published.at,
                        replaced,
                        entries,
                        ..Outcome::default()
                    });
                }
                Err(Blocked::Changed) => {}
                // Nobody is in the way but a writer whose slot is still tentative.
                Err(Blocked::Full) => loom::thread::yield_now(),
                Err(Blocked::Frozen) => return Err(Blocked::Frozen),
            }
        }
    }

    /// Changes a key as the store does: looks, draws a number, appends, publishes, and begins
    /// again when the key has changed. `None` if `decide` says so of the current number.
    pub(super) fn update<'a>(
        &self,
        slots: &Generation<Pages>,
        state: SlotState,
        (writer, next_seq): (&'a WriterWord, &AtomicU64),
        decide: impl Fn(Option<u64>) -> bool,
    ) -> Option<(u64, Slot, Outcome, InFlight<'a>)> {
        let key = Key::A;
        let judge = |slot| self.judge(key, slot);
        let mut entries = 0;
        loop {
            let (survey, change) = slots.survey(key.hash, judge);
            entries += change;
            let survey = survey.expect("not moved");
            let current = survey.current.as_ref();
            let version = current.filter(|it| it.state == SlotState::Value).map(|it| it.seq);
            if !decide(version) {
                return None;
            }
            let (seq, in_flight) = writer.enter(next_seq);
            let slot = self.append(key, seq, state);
            if let Ok(published) = slots.publish(key.hash, slot, seq, &survey, judge) {
                let entries = entries + published.entries;
                let replaced = published.replaced.is_some();
                let outcome = Outcome { at: published.at, replaced, entries, is_lost: false };
                return Some((seq, slot, outcome, in_flight));
            }
        }
    }

    /// The newest record of a key, by its slot: where it is, the slot, the sequence number.
    pub(super) fn find(&self, slots: &Generation<Pages>, key: Key) -> Option<(usize, Slot, u64)> {
        let found = slots.find(key.hash, |slot| self.judge(key, slot))?;
        Some((found.at, found.slot, found.seq))
    }

    /// The sequence number of a key's value, or 0 if it has none.
    pub(super) fn version(&self, slots: &Generation<Pages>, key: Key) -> u64 {
        match self.find(slots, key) {
            Some((_, slot, seq)) if slot.state() == SlotState::Value => seq,
            _ => 0,
        }
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// The key had a newer one.
    pub(super) is_lost: bool,
    /// Where its slot is.
    pub(super) at: usize,
    /// Whether it took the place of another.
    pub(super) replaced: bool,
    /// By how much the number of value slots changed.
    pub(super) entries: i64,
}

/// Whether the segment of one record was reclaimed. Stands for the table of segments, whose
/// cells have a model of their own.
#[derive(Debug)]
pub(super) struct Reclaimed {
    place: Slot,
    is_gone: AtomicBool,
}

impl Reclaimed {
    pub(super) fn new(place: Slot) -> Self {
        Self { place, is_gone: AtomicBool::new(false) }
    }

    pub(super) fn reclaim(&self) {
        self.is_gone.swap(true, Site::CellReplace.is(Ordering::AcqRel));
    }

    /// What the record behind a slot says, if there still is one.
    pub(super) fn judge(&self, log: &Log, slot: Slot) -> Verdict<()> {
        let is_here = slot.same_place(self.place);
        if is_here && self.is_gone.load(Site::CellLoad.is(Ordering::Acquire)) {
            return Verdict::Gone;
        }
        log.judge(Key::A, slot)
    }
}

/// Number of slots that hold a value.
pub(super) fn values(slots: &Generation<Pages>) -> i64 {
    let pages = 0..slots.geometry().pages();
    pages.map(|page| slots.count_values(page)).sum::<u64>().cast_signed()
}

/// An index of one page with its records.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) log: Log,
    pub(super) slots: Generation<Pages>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { log: Log::new(), slots: generation(0, &Arc::new(Turn::default())) }
    }

    pub(super) fn put(&self, key: Key, seq: u64) -> Outcome {
        self.log.put(&self.slots, key, seq, SlotState::Value)
    }

    pub(super) fn find(&self, key: Key) -> Option<(usize, Slot, u64)> {
        self.log.find(&self.slots, key)
    }

    pub(super) fn version(&self, key: Key) -> u64 {
        self.log.version(&self.slots, key)
    }

    /// Empties the slot of a record, as eviction does. Whether it was there.
    pub(super) fn evict(&self, place: (usize, Slot)) -> bool {
        self.slots.swap_place(place.0, place.1, |_| Slot::EMPTY).is_some()
    }

    /// Number of slots that hold a value.
    pub(super) fn values(&self) -> i64 {
        values(&self.slots)
    }
}
