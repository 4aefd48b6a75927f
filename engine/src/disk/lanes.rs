//! Lanes: where writers append, one at a time each.
//!
//! A store has a few lanes, each with an open segment of its own. A writer takes a free lane,
//! so that writers meet only when there are more of them than lanes. Within a lane records are
//! numbered, appended and published under its lock.
//!
//! # Invariants
//! 1. A sequence number is drawn, its record appended to the lane's open segment, and its slot
//!    published, all under the lane's lock.
//! 2. While that goes on, the lane's word says so (`in_flight.rs`).
//! 3. Locks are taken in this order: lane, reclaim, spare, live. Nobody waits for a second lane
//!    while holding one, except in order: `clear` and `close`, which take all of them, and who
//!    needs the last one, the maintenance's, which no writer of values uses.

use parking_lot::{Mutex, MutexGuard};

use super::in_flight::{InFlight, WriterWord, none_before};
use super::segment::Writer;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// One lane.
#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    open: Mutex<Option<Writer>>,
    in_flight: WriterWord,
}

/// All lanes of a store.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Box<[Lane]>,
}

/// A lane that the current thread holds.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) number: u32,
    pub(crate) writer: MutexGuard<'a, Option<Writer>>,
    in_flight: &'a WriterWord,
}

impl Lanes {
    /// Lanes for `count` writers, and one more for the maintenance.
    pub(crate) fn new(count: usize) -> Self {
        let lane = |_| Lane { open: Mutex::new(None), in_flight: WriterWord::new() };
        Self { lanes: (0..=count.max(1)).map(lane).collect() }
    }

    /// How many there are for writers.
    const fn writers(&self) -> usize {
        self.lanes.len() - 1
    }

    /// The number of the maintenance's lane.
    pub(crate) fn maintenance_number(&self) -> u32 {
        u32::try_from(self.writers()).unwrap_or(u32::MAX)
    }

    /// The maintenance's lane, which is last in the order of locking.
    pub(crate) fn acquire_maintenance(&self) -> Held<'_> {
        self.held(self.writers(), self.lanes[self.writers()].open.lock())
    }

    fn held<'a>(&'a self, at: usize, writer: MutexGuard<'a, Option<Writer>>) -> Held<'a> {
        let number = u32::try_from(at).unwrap_or(u32::MAX);
        Held { number, writer, in_flight: &self.lanes[at].in_flight }
    }

    /// A free lane, preferring the thread's own; waits for that one if all are taken.
    pub(crate) fn acquire(&self) -> Held<'_> {
        let own = thread_number() % self.writers();
        for i in 0..self.writers() {
            let at = (own + i) % self.writers();
            if let Some(writer) = self.lanes[at].open.try_lock() {
                return self.held(at, writer);
            }
        }
        self.held(own, self.lanes[own].open.lock())
    }

    /// All lanes, taken in order.
    pub(crate) fn acquire_all(&self) -> Vec<Held<'_>> {
        (0..self.lanes.len()).map(|at| self.held(at, self.lanes[at].open.lock())).collect()
    }

    /// Whether no writer is under way with a number below `seq`.
    pub(crate) fn none_before(&self, seq: u64) -> bool {
        none_before(self.lanes.iter().map(|lane| &lane.in_flight), seq)
    }

    /// Opens a lane with a segment that an earlier process left open.
    pub(crate) fn resume(&self, at: usize, writer: Writer) -> Option<Writer> {
        match self.lanes.get(at) {
            Some(lane) => lane.open.lock().replace(writer),
            None => Some(writer),
        }
    }
}

impl<'a> Held<'a> {
    /// Draws a sequence number. Until the guard is dropped, others know that a writer with
    /// this number is under way.
    pub(crate) fn enter(&self, next_seq: &AtomicU64) -> (u64, InFlight<'a>) {
        self.in_flight.enter(next_seq)
    }
}

/// A small number for the current thread, given out in order of first use.
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Relaxed: only distinctness counts.
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
