//! Models of the memory tier: what a lookup finds is whole, newer than what was found before, and
//! stays until the lookup is done with it.

use std::sync::Arc;

use loom::thread;

use super::Model;
use super::rig::Plain;
use crate::clock::NEVER;
use crate::memory::buckets::Tag;
use crate::memory::budget::{Budget, Claim};
use crate::memory::extra::Extra;
use crate::memory::limbo::Limits;
use crate::memory::marks::{Mark, TagCell};
use crate::memory::readers::{Barriers, Fences, Record};
use crate::memory::replay::Replay;
use crate::memory::table::{Found, Side, Table};
use crate::sync::{AtomicBool, Ordering};

/// A value that notices a reader who is not ordered after its making and before its end. What it
/// consists of outlives it, so that a model that fails does so in an orderly way.
#[derive(Debug)]
struct Value {
    number: u32,
    content: &'static Plain,
}

impl Value {
    fn new(number: u32) -> Self {
        let content: &'static Plain = Box::leak(Box::new(Plain::new()));
        content.write();
        Self { number, content }
    }

    fn read(&self) -> u32 {
        self.content.read();
        self.number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // A model that fails drops what it holds; that is no failure of its own.
        if !std::thread::panicking() {
            self.content.write();
        }
    }
}

/// The keys: one hash for all, so that they are after the same names; the first bucket is the first, and
/// the second the last.
const TAG: Tag = Tag::of(0xFFFF_FFFF);
const A: u64 = 1;
const B: u64 = 2;

/// A table, and the record of the one reader.
#[derive(Debug)]
struct Shared {
    table: Table<u64, Value>,
    record: &'static Record,
}

/// What only the writer has.
struct Writer {
    shared: Arc<Shared>,
    side: Side,
}

/// A table that the main thread reads, and another thread changes. Lookups rely on barriers.
fn table() -> (Arc<Shared>, Writer) {
    table_with(Fences::OfOthers(Box::leak(Box::new(Barriers::new()))))
}

fn table_with(fences: Fences) -> (Arc<Shared>, Writer) {
    let (table, side) = Table::new(Limits { entries: 1, weight: u64::MAX, fences });
    let record = Box::leak(Box::new(Record::new(0)));
    let shared = Arc::new(Shared { table, record });
    (Arc::clone(&shared), Writer { shared, side })
}

impl Shared {
    /// What `look` makes of the entry that a key has.
    fn look<R>(&self, key: u64, look: impl FnOnce(Found<'_, u64, Value>) -> R) -> Option<R> {
        let mut pin = self.record.enter(self.table.fences());
        self.table.find(&mut pin, TAG, None, &key).map(look)
    }

    /// The number that a key has, or 0.
    fn number(&self, key: u64) -> u32 {
        self.number_by(self.record, key)
    }

    /// The same of what is live.
    fn live_number(&self, key: u64) -> u32 {
        let live = |found: Found<'_, u64, Value>| {
            let number = found.value.read();
            if self.table.terms(&found).is_live(|| 0) { number } else { 0 }
        };
        self.look(key, live).unwrap_or(0)
    }

    /// The same as `number`, for the thread that has this record.
    fn number_by(&self, record: &'static Record, key: u64) -> u32 {
        let mut pin = record.enter(self.table.fences());
        self.table.find(&mut pin, TAG, None, &key).map_or(0, |found| found.value.read())
    }
}

impl Writer {
    fn insert(&mut self, key: u64, number: u32) -> u32 {
        let (pair, extra) = ((key, Value::new(number)), Extra::new(1, NEVER));
        self.shared.table.insert(&mut self.side, TAG, pair, extra, |_| TAG).expect("there are ids")
    }

    fn replace(&mut self, id: u32, key: u64, number: u32) {
        self.replace_as(id, key, number, Extra::new(1, NEVER));
    }

    fn replace_as(&mut self, id: u32, key: u64, number: u32, extra: Extra) {
        let pair = (key, Value::new(number));
        let spot = self.shared.table.locate(&self.side, TAG, id).expect("it is there");
        let replaced = self.shared.table.replace(&mut self.side, spot, pair, extra);
        self.shared.table.retire(&mut self.side, replaced.expect("it is there").1);
    }

    fn remove(&mut self, id: u32) {
        let departed = self.shared.table.unlink(&mut self.side, TAG, id).expect("it is there");
        self.shared.table.retire(&mut self.side, departed);
    }

    /// Lets another thread write, and hands the writer back at its end: what has left is still
    /// there then.
    fn spawn(mut self, write: impl FnOnce(&mut Self) + 'static) -> thread::JoinHandle<Self> {
        thread::spawn(move || {
            write(&mut self);
            self
        })
    }

    /// Drops what nobody can see.
    fn collect(&mut self) {
        self.collect_with(true);
    }

    /// Makes a barrier for that only with `all`.
    fn collect_with(&mut self, all: bool) {
        let mut trash = Vec::new();
        self.shared.table.collect(&mut self.side, &[self.shared.record], all, &mut trash);
    }
}

/// A key is inserted while it is looked up: who finds it sees the whole value, and nobody who has
/// found it misses it later.
pub(super) const INSERT_AND_LOOKUP: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    // So that a model that fails finds memory to look at.
    writer.insert(B, 2);
    let writer = writer.spawn(move |writer| {
        writer.insert(A, 1);
    });
    let (first, second) = (shared.number(A), shared.number(A));
    assert!(first <= second, "a value vanished");
    writer.join().unwrap();
    assert_eq!(shared.number(A), 1);
});

/// A key gets a new value while it is looked up: it is found all the time, and no lookup goes
/// back.
pub(super) const REPLACE_AND_LOOKUP: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    let id = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.replace(id, A, 2);
        writer.collect();
    });
    let (first, second) = (shared.number(A), shared.number(A));
    assert!(1 <= first && first <= second, "{first}, then {second}");
    writer.join().unwrap();
    assert_eq!(shared.number(A), 2);
});

/// A key gets a value with a mark while that is invalidated, and looked up: the old value is there
/// until the new one is, and that stays, or is gone for good.
const REPLACE_INVALIDATE_AND_LOOKUP: Model = Model::new(2, || {
    let (shared, mut writer) = table();
    let id = writer.insert(A, 1);
    let cell = Arc::<TagCell>::default();
    let extra = Extra::new(1, NEVER).with_marks(Some(Box::new([Mark::new(Arc::clone(&cell))])));
    let writer = writer.spawn(move |writer| {
        writer.replace_as(id, A, 2, extra);
        // Not collected: this is about what is found.
    });
    let invalidator = thread::spawn(move || cell.invalidate());
    let seen = [shared.live_number(A), shared.live_number(A)];
    writer.join().unwrap();
    invalidator.join().unwrap();
    match (seen, shared.live_number(A)) {
        ([1, 1] | [1, 2] | [2, 2], 2 | 0) | ([1 | 2 | 0, 0], 0) => {}
        other => panic!("{other:?}"),
    }
});

/// A key that had to pass a full bucket is removed, and another passes it: who has missed the
/// first does not find it later.
pub(super) const PASS_AND_LOOKUP: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    // Two words in the first bucket, so the third key passes it.
    writer.insert(3, 3);
    writer.insert(4, 4);
    // Makes the buckets grow, so that there is a second one.
    let passed = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.remove(passed);
        writer.insert(B, 2);
        // Not collected: this is about what is found.
    });
    let (before, after) = (shared.number(A), shared.number(A));
    assert!(before >= after, "a removed value came back");
    writer.join().unwrap();
    assert_eq!((shared.number(A), shared.number(B)), (0, 2));
});

/// A key is removed, and another one with the same hint takes its place: who has missed the first
/// does not find it later, behind the hint of the other.
pub(super) const TAKE_OVER_AND_LOOKUP: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    let taken = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.remove(taken);
        writer.insert(B, 2);
        // Not collected: this is about what is found.
    });
    let (before, after) = (shared.number(A), shared.number(A));
    assert!(before >= after, "a removed value came back");
    writer.join().unwrap();
    assert_eq!((shared.number(A), shared.number(B)), (0, 2));
});

/// A key is removed and inserted again, into the same place: who has found the new value never
/// misses it.
const REINSERT_AND_LOOKUP: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    let id = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.remove(id);
        writer.insert(A, 2);
    });
    match [shared.number(A), shared.number(A)] {
        [1, _] | [0, 0 | 2] | [2, 2] => {}
        other => panic!("{other:?}"),
    }
    writer.join().unwrap();
    assert_eq!(shared.number(A), 2);
});

/// The same, and who has missed the first tells another reader, who does not find it either.
const PASS_AND_TELL: Model = Model::new(2, || {
    let (shared, mut writer) = table();
    writer.insert(3, 3);
    writer.insert(4, 4);
    let passed = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.remove(passed);
        writer.insert(B, 2);
    });
    let is_gone = Arc::new(AtomicBool::new(false));
    let teller = {
        let (shared, is_gone) = (Arc::clone(&shared), Arc::clone(&is_gone));
        thread::spawn(move || {
            let record = Box::leak(Box::new(Record::new(1)));
            if shared.number_by(record, A) == 0 {
                is_gone.store(true, Ordering::Release);
            }
        })
    };
    if is_gone.load(Ordering::Acquire) {
        assert_eq!(shared.number(A), 0, "another reader has missed it");
    }
    teller.join().unwrap();
    writer.join().unwrap();
});

/// The buckets grow while a key is looked up: it is found all the time.
pub(super) const GROW_AND_LOOKUP: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    writer.insert(A, 1);
    writer.insert(B, 2);
    let writer = writer.spawn(move |writer| {
        writer.insert(3, 3);
        writer.collect();
    });
    assert_eq!(shared.number(A), 1);
    writer.join().unwrap();
    assert_eq!((shared.number(B), shared.number(3)), (2, 3));
});

/// A key is evicted and dropped while it is read.
pub(super) const EVICT_AND_LOOKUP: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    let id = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.remove(id);
        writer.collect();
    });
    let (first, second) = (shared.number(A), shared.number(A));
    assert!(first >= second, "an evicted value came back");
    writer.join().unwrap();
});

/// The same, with a fence in the lookup.
pub(super) const EVICT_AND_LOOKUP_FENCED: Model = Model::new(3, || {
    let (shared, mut writer) = table_with(Fences::Own);
    let id = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.remove(id);
        writer.collect();
    });
    let (first, second) = (shared.number(A), shared.number(A));
    assert!(first >= second, "an evicted value came back");
    writer.join().unwrap();
});

/// The same, where a writer of another table makes the barrier. Who evicts is the main thread, as
/// it is interrupted most often.
pub(super) const EVICT_BY_ANOTHER_BARRIER: Model = Model::new(2, || {
    let barriers: &'static Barriers = Box::leak(Box::new(Barriers::new()));
    let (shared, mut writer) = table_with(Fences::OfOthers(barriers));
    let id = writer.insert(A, 1);
    let reader = thread::spawn(move || {
        shared.number(A);
    });
    let other = thread::spawn(move || barriers.make());
    writer.remove(id);
    writer.collect_with(false);
    writer.collect_with(false);
    reader.join().unwrap();
    other.join().unwrap();
});

/// The same, and another entry takes its place in memory: nobody takes the one for the other.
pub(super) const REUSE_AND_LOOKUP: Model = Model::new(2, || {
    let (shared, mut writer) = table();
    let id = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.remove(id);
        writer.collect();
        writer.insert(B, 2);
    });
    shared.look(A, |found| {
        // As a reader who was asleep in between would.
        thread::yield_now();
        assert_eq!((found.key, found.value.read()), (A, 1));
    });
    let second = shared.number(B);
    assert!(second == 0 || second == 2);
    writer.join().unwrap();
});

/// Everything is removed while a key is read, as when an engine is closed.
pub(super) const CLEAR_AND_LOOKUP: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        for departed in writer.shared.table.unlink_all(&mut writer.side) {
            writer.shared.table.retire(&mut writer.side, departed);
        }
        writer.collect();
    });
    let (first, second) = (shared.number(A), shared.number(A));
    assert!(first >= second, "what was cleared came back");
    writer.join().unwrap();
    assert_eq!(shared.number(A), 0);
});

/// A key is evicted while a closure looks at it, which holds back nothing else: it stays until
/// the closure returns, and another that leaves meanwhile goes.
pub(super) const EVICT_AND_LOOK_LONG: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    let id = writer.insert(A, 1);
    let writer = writer.spawn(move |writer| {
        writer.remove(id);
        writer.collect();
        // What was looked at is asked about again with the next batch.
        let other = writer.insert(B, 2);
        writer.remove(other);
        writer.collect();
    });
    shared.look(A, |found| assert_eq!(found.settle().value.read(), 1));
    writer.join().unwrap();
});

/// The same, and the closure looks at another key next: what it looked at before is dropped only
/// after that look.
pub(super) const EVICT_AND_LOOK_TWICE: Model = Model::new(3, || {
    let (shared, mut writer) = table();
    let id = writer.insert(A, 1);
    writer.insert(B, 2);
    let writer = writer.spawn(move |writer| {
        writer.remove(id);
        writer.collect();
    });
    for key in [A, B] {
        shared.look(key, |found| found.settle().value.read());
    }
    writer.join().unwrap();
});

/// Two inserts borrow from one budget: together they never have more than there is.
const BORROW_AND_BORROW: Model = Model::new(3, || {
    let budget = Arc::new(Budget::new(3));
    let borrow = |budget: &Budget| {
        let mut claim = Claim::new(budget);
        let got = claim.reserve(2);
        assert!(budget.used() <= 3);
        if got {
            claim.link(2);
        }
        got
    };
    let other = {
        let budget = Arc::clone(&budget);
        thread::spawn(move || borrow(&budget))
    };
    let own = borrow(&budget);
    let both = [own, other.join().unwrap()];
    assert_eq!(budget.used(), 2 * both.iter().filter(|&&got| got).count() as u64);
    assert!(both.contains(&true), "nobody got anything");
});

/// Hits are taken out of a ring while others are put in: what comes out was put in.
const PUSH_AND_DRAIN: Model = Model::new(3, || {
    let replay = Arc::new(Replay::new());
    let pusher = {
        let replay = Arc::clone(&replay);
        thread::spawn(move || {
            let record = Record::new(0);
            (1..4).filter(|&id| replay.push(&record, id)).count()
        })
    };
    let mut drained = 0;
    let mut drain = || {
        replay.drain(|id| {
            assert!((1..4).contains(&id), "{id}");
            drained += 1;
        });
    };
    drain();
    let pushed = pusher.join().unwrap();
    drain();
    assert!(drained <= pushed && pushed >= 2);
});

#[test]
fn an_inserted_value_is_whole() {
    INSERT_AND_LOOKUP.check();
}

#[test]
fn a_replaced_value_is_found_all_the_time() {
    REPLACE_AND_LOOKUP.check();
}

#[test]
fn a_key_has_its_old_value_until_the_new_one_counts() {
    REPLACE_INVALIDATE_AND_LOOKUP.check();
}

#[test]
fn a_removed_value_past_a_full_bucket_stays_away() {
    PASS_AND_LOOKUP.check();
}

#[test]
fn a_removed_value_stays_away_behind_another_keys_hint() {
    TAKE_OVER_AND_LOOKUP.check();
}

#[test]
fn a_value_that_comes_again_stays() {
    REINSERT_AND_LOOKUP.check();
}

#[test]
fn who_is_told_that_a_value_is_gone_misses_it() {
    PASS_AND_TELL.check();
}

#[test]
fn growth_hides_nothing() {
    GROW_AND_LOOKUP.check();
}

#[test]
fn an_evicted_value_outlives_its_readers() {
    EVICT_AND_LOOKUP.check();
}

#[test]
fn an_evicted_value_outlives_readers_with_a_fence() {
    EVICT_AND_LOOKUP_FENCED.check();
}

#[test]
fn one_barrier_serves_all_tables() {
    EVICT_BY_ANOTHER_BARRIER.check();
}

#[test]
fn a_place_is_used_again_after_its_readers() {
    REUSE_AND_LOOKUP.check();
}

#[test]
fn a_cleared_value_outlives_its_readers() {
    CLEAR_AND_LOOKUP.check();
}

#[test]
fn what_a_closure_looks_at_stays() {
    EVICT_AND_LOOK_LONG.check();
}

#[test]
fn what_a_closure_looked_at_before_goes_in_order() {
    EVICT_AND_LOOK_TWICE.check();
}

#[test]
fn shards_never_borrow_more_than_there_is() {
    BORROW_AND_BORROW.check();
}

#[test]
fn replayed_hits_are_hits() {
    PUSH_AND_DRAIN.check();
}
