//! Lanes: where writers append, one at a time each.
//!
//! A store has a few lanes, each with an open segment of its own, and at times with a second
//! one for values that expire soon (`deadline.rs`). A writer takes a free lane,
//! so that writers meet only when there are more of them than lanes. Within a lane records are
//! numbered, appended and published under its lock.
//!
//! # Invariants
//! 1. A sequence number is drawn, its record appended to the lane's open segment, and its slot
//!    published, all under the lane's lock.
//! 2. While that goes on, the lane's word says so (`in_flight.rs`).
//! 3. Locks are taken in this order: gate (`store.rs`), progress (`upkeep.rs`), lane, reclaim,
//!    spare, live. Nobody waits for a second lane
//!    while holding one, except in order: `clear` and `close`, which take all of them, and who
//!    needs the last one, the maintenance's, which no writer of values uses.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::deadline::Class;
use super::in_flight::{InFlight, WriterWord, all_after, enter, none_before};
use super::segment::Segment;
use super::share::Share;
use super::shortage::Patience;
use super::writer::Writer;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// One lane.
#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    open: Mutex<Opened>,
    in_flight: WriterWord,
    /// By how much the number of entries changed here and is still to be added to that of the
    /// store. Changed by who holds the lane.
    entries: AtomicU64,
}

/// The segments that a lane has open.
#[derive(Debug, Default)]
struct Opened {
    /// For everything.
    common: Option<Writer>,
    /// For what expires soon.
    soon: Option<Writer>,
    /// How soon; of `soon`, or of the last one.
    class: Option<Class>,
}

impl Opened {
    fn each(&mut self, act: impl FnMut(&mut Writer)) {
        [&mut self.common, &mut self.soon].into_iter().flatten().for_each(act);
    }
}

/// One of the segments that a lane has open, and the way to the other one.
#[derive(Debug)]
pub(crate) struct Selected<'a> {
    opened: MutexGuard<'a, Opened>,
    soon: bool,
}

impl Selected<'_> {
    /// Turns to the segment for a class of values: one that is open for values that live as
    /// long at least, or to be begun if none is open; else to the common one.
    pub(crate) fn select(&mut self, class: Option<Class>) {
        let opened = &mut *self.opened;
        self.soon = match (class, &opened.soon) {
            (None, _) => false,
            (Some(_), None) => {
                opened.class = class;
                true
            }
            (Some(_), Some(_)) => class <= opened.class,
        };
    }

    /// Does something with both.
    pub(crate) fn each(&mut self, act: impl FnMut(&mut Writer)) {
        self.opened.each(act);
    }

    /// Takes both.
    pub(crate) fn take_all(&mut self) -> [Option<Writer>; 2] {
        [self.opened.common.take(), self.opened.soon.take()]
    }
}

impl Deref for Selected<'_> {
    type Target = Option<Writer>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        if self.soon { &self.opened.soon } else { &self.opened.common }
    }
}

impl DerefMut for Selected<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        if self.soon { &mut self.opened.soon } else { &mut self.opened.common }
    }
}

/// All lanes of a store.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Box<[Lane]>,
    /// Where other processes see who is under way, if they have the store open too.
    share: Option<Arc<Share>>,
}

/// A lane that the current thread holds.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) number: u32,
    /// The segment that is written to now.
    pub(crate) writer: Selected<'a>,
    /// How long its holder waits for room.
    pub(crate) patience: Patience,
    lane: &'a Lane,
    /// The lane's word that all processes see, if the store is shared.
    common: Option<&'a AtomicU64>,
}

impl Lanes {
    /// Lanes for `count` writers, and one more for the maintenance.
    pub(crate) fn new(count: usize, share: Option<Arc<Share>>) -> Self {
        let lane = |_| Lane {
            open: Mutex::default(),
            in_flight: WriterWord::new(),
            entries: AtomicU64::new(0),
        };
        Self { lanes: (0..=count.max(1)).map(lane).collect(), share }
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

    #[inline]
    fn held<'a>(&'a self, at: usize, opened: MutexGuard<'a, Opened>) -> Held<'a> {
        let writer = Selected { opened, soon: false };
        let number = u32::try_from(at).unwrap_or(u32::MAX);
        let common = self.share.as_ref().map(|share| share.in_flight(at));
        Held { number, writer, patience: Patience::Help, lane: &self.lanes[at], common }
    }

    /// A free lane, preferring the thread's own; waits for that one if all are taken.
    pub(crate) fn acquire(&self) -> Held<'_> {
        self.acquire_for(false)
    }

    /// As [`acquire`](Self::acquire), for one who will wait for the disk or not. All who do use
    /// the same lane, so that one sync serves as many of them as possible.
    pub(crate) fn acquire_for(&self, durable: bool) -> Held<'_> {
        self.free(durable).unwrap_or_else(|own| self.held(own, self.lanes[own].open.lock()))
    }

    /// As [`acquire_for`](Self::acquire_for), waiting at most until a time; `None` if all are
    /// taken.
    pub(crate) fn try_acquire(&self, durable: bool, until: Option<Instant>) -> Option<Held<'_>> {
        self.free(durable)
            .or_else(|own| {
                let opened = until.and_then(|until| self.lanes[own].open.try_lock_until(until));
                opened.map(|opened| self.held(own, opened)).ok_or(())
            })
            .ok()
    }

    /// A free lane, preferring the thread's own; that one's number if all are taken.
    #[inline]
    fn free(&self, durable: bool) -> Result<Held<'_>, usize> {
        let own = if durable { 0 } else { thread_number() % self.writers() };
        match self.lanes[own].open.try_lock() {
            Some(opened) => Ok(self.held(own, opened)),
            None if durable => Err(own),
            None => self.free_other(own),
        }
    }

    #[cold]
    fn free_other(&self, own: usize) -> Result<Held<'_>, usize> {
        for i in 1..self.writers() {
            let at = (own + i) % self.writers();
            if let Some(opened) = self.lanes[at].open.try_lock() {
                return Ok(self.held(at, opened));
            }
        }
        Err(own)
    }

    /// The thread's own lane, if nobody has it.
    #[inline]
    pub(crate) fn try_own(&self) -> Option<Held<'_>> {
        self.free(false).ok()
    }

    /// The lanes of writers, taken in order.
    pub(crate) fn acquire_writers(&self) -> Vec<Held<'_>> {
        (0..self.writers()).map(|at| self.held(at, self.lanes[at].open.lock())).collect()
    }

    /// All lanes, taken in order.
    pub(crate) fn acquire_all(&self) -> Vec<Held<'_>> {
        (0..self.lanes.len()).map(|at| self.held(at, self.lanes[at].open.lock())).collect()
    }

    /// By how much the numbers of entries of all lanes have changed that were not added to that
    /// of the store.
    pub(crate) fn entries(&self) -> u64 {
        // Relaxed: a count.
        let each = self.lanes.iter().map(|lane| lane.entries.load(Ordering::Relaxed));
        each.fold(0, u64::wrapping_add)
    }

    /// Whether no writer is under way with a number below `seq`, which was drawn by
    /// [`Held::enter`].
    pub(crate) fn none_before(&self, seq: u64) -> bool {
        match &self.share {
            None => none_before(self.lanes.iter().map(|lane| &lane.in_flight), seq),
            Some(share) => all_after(share.all_in_flight(), seq),
        }
    }

    /// Takes the open segments that are `due` of lanes that nobody holds.
    pub(crate) fn take_due(&self, due: impl Fn(&Segment) -> bool) -> Vec<Writer> {
        let mut taken = Vec::new();
        for lane in &self.lanes {
            let Some(mut opened) = lane.open.try_lock() else { continue };
            let opened = &mut *opened;
            for open in [&mut opened.common, &mut opened.soon] {
                taken.extend(open.take_if(|writer| due(writer.segment())));
            }
        }
        taken
    }

    /// Does something with the open segments of lanes that nobody holds.
    pub(crate) fn each_idle(&self, mut act: impl FnMut(&mut Writer)) {
        for lane in &self.lanes {
            let Some(mut opened) = lane.open.try_lock() else { continue };
            opened.each(&mut act);
        }
    }

    /// Opens a lane with a segment that an earlier process left open.
    pub(crate) fn resume(&self, at: usize, writer: Writer) -> Option<Writer> {
        match self.lanes.get(at) {
            Some(lane) => lane.open.lock().common.replace(writer),
            None => Some(writer),
        }
    }
}

impl<'a> Held<'a> {
    /// Draws a sequence number. Until the guard is dropped, others know that a writer with
    /// this number is under way.
    #[inline]
    pub(crate) fn enter(&self, next_seq: &AtomicU64) -> (u64, InFlight<'a>) {
        match self.common {
            None => self.lane.in_flight.enter(next_seq),
            Some(word) => enter(word, next_seq),
        }
    }

    /// Notes by how much the number of entries changed. Returns what is to be added to that of
    /// the store once that is at least `step`.
    ///
    /// One count for all writers would be one more thing that they wait for each other for.
    #[inline]
    pub(crate) fn note_entries(&self, by: i64, step: u64) -> Option<i64> {
        // Relaxed, here and below: a count, changed under the lane's lock.
        let noted = self.lane.entries.load(Ordering::Relaxed).wrapping_add(by.cast_unsigned());
        let is_due = noted.cast_signed().unsigned_abs() >= step;
        self.lane.entries.store(if is_due { 0 } else { noted }, Ordering::Relaxed);
        is_due.then_some(noted.cast_signed())
    }
}

/// A small number for the current thread, given out in order of first use.
#[inline]
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Relaxed: only distinctness counts.
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
