//! Compaction: getting back the space of what is dead, without losing what lives.
//!
//! How much of a segment is dead is counted as records die. Those of an earlier process are
//! counted in a walk, in steps, after the store was opened; the count may be off by records
//! that die while it passes them. Nothing but the choice of a segment depends on it: what is
//! moved is decided by the index, record by record (`dying.rs`).

use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::layout::{ENTRY_LEN, SEGMENT_DATA, TRAILER_LEN};
use larder_format::{Kind, SegmentState, Slot, SlotState};

use super::cell;
use super::dying::{Dying, Keep, Step};
use super::lanes::Held;
use super::segment::Segment;
use super::store::Store;
use crate::clock::NEVER;
use crate::error::Result;

/// Live share in percent below which a segment is compacted when there is no room.
pub(super) const PRESSED: u64 = 80;
/// Stands for every segment that holds something dead.
pub(super) const ANY_DEAD: u64 = 100;
/// Live share in percent below which one is compacted at any time.
const AT_EASE: u64 = 50;
/// Live share in percent below which one without dead records is rewritten on request: it was
/// sealed before it was full.
const ON_REQUEST: u64 = 85;
/// Entries that a step of the count looks at.
const STEP_ENTRIES: usize = 4 << 10;

/// The count of what is dead in the segments of an earlier process.
#[derive(Debug)]
pub(super) struct Count {
    segment: Arc<Segment>,
    end: usize,
    next: usize,
}

impl Count {
    fn new(segment: Arc<Segment>) -> Self {
        let end = segment.entry_count();
        segment.tally.begin_count(segment.region().committed().tail());
        Self { segment, end, next: 0 }
    }
}

impl Segment {
    /// Bytes of records and entries, dead or alive.
    fn filled(&self) -> u64 {
        let committed = self.region().committed();
        let records = committed.tail().saturating_sub(SEGMENT_DATA);
        (records + committed.entries as usize * ENTRY_LEN) as u64
    }

    /// How much of it lives, in percent; `None` while that is not known.
    fn live_share(&self) -> Option<u64> {
        let room = (self.len() - SEGMENT_DATA - TRAILER_LEN) as u64;
        Some(self.filled().saturating_sub(self.tally.dead()?) * 100 / room)
    }
}

impl Store {
    /// Notes that a slot that led to a value is gone.
    pub(super) fn note_dead(&self, slot: Slot, guard: &Guard) {
        if self.keeps_all()
            && slot.state() == SlotState::Value
            && let Some(segment) = self.segment_at(slot.segment(), guard)
            && let Ok(record) = segment.record(slot.offset())
        {
            segment.tally.note_dead(slot.offset(), record.len() + ENTRY_LEN);
        }
    }

    /// Takes a step of the count; whether there was one to take.
    pub(super) fn step_count(&self, count: &mut Option<Count>) -> bool {
        if count.is_none() {
            let live = self.all_live();
            let next = live.values().find(|segment| segment.tally.dead().is_none()).cloned();
            *count = next.map(Count::new);
        }
        let Some(under_way) = count else { return false };
        if self.count_on(under_way) {
            *count = None;
        }
        true
    }

    /// Counts some entries on. Whether that was the end.
    fn count_on(&self, count: &mut Count) -> bool {
        let guard = &crossbeam_epoch::pin();
        let segment = &count.segment;
        let end = count.end.min(count.next + STEP_ENTRIES);
        let mut dead = 0;
        let mut to = 0;
        for number in count.next..end {
            let Some(entry) = segment.entry(number) else { continue };
            to = entry.offset() as u64 + 1;
            let place = Slot::new(entry.key_hash, segment.id(), entry.offset(), SlotState::Value);
            let lives = entry.kind == Kind::Value
                && self.find_place(entry.key_hash, place, guard).is_some();
            if !lives {
                let len = segment.record(entry.offset()).map_or(0, |record| record.len());
                dead += (len + ENTRY_LEN) as u64;
            }
        }
        count.next = end;
        let is_end = end == count.end;
        segment.tally.counted_to(if is_end { NEVER } else { to }, dead);
        is_end
    }

    /// Takes a step of compaction if a segment is worth it; `None` if none is.
    pub(super) fn compact_ahead(&self) -> Result<Option<Step>> {
        let reserve = self.reserve() + self.segment_len() * self.ahead();
        let below = if self.can_begin(reserve) { AT_EASE } else { PRESSED };
        let expired = self.expired_segment(self.clock.now_ms()).is_some();
        if self.reclaiming.lock().is_none() && !expired && self.sparsest(below).is_none() {
            return Ok(None);
        }
        let mut lane = self.lanes.acquire_maintenance();
        let mut reclaiming = self.reclaiming.lock();
        let next = || self.expired_segment(self.clock.now_ms()).or_else(|| self.sparsest(below));
        self.step_compaction(&mut reclaiming, &mut lane, next)
    }

    /// Compacts one segment for a writer that has no room. Whether there was one that is worth
    /// it.
    pub(super) fn compact_inline(&self, below: u64) -> Result<bool> {
        let mut lane = self.lanes.acquire_maintenance();
        let mut reclaiming = self.reclaiming.lock();
        let mut count = None;
        while self.step_count(&mut count) {}
        loop {
            let next = || self.sparsest(below);
            match self.step_compaction(&mut reclaiming, &mut lane, next)? {
                Some(Step::More) => {}
                Some(Step::Gone) => return Ok(true),
                Some(Step::Stuck) | None => return Ok(false),
            }
        }
    }

    fn step_compaction(
        &self,
        reclaiming: &mut Option<Dying>,
        lane: &mut Held<'_>,
        next: impl FnOnce() -> Option<Arc<Segment>>,
    ) -> Result<Option<Step>> {
        if reclaiming.is_none() {
            let Some(segment) = self.unfinished().or_else(next) else { return Ok(None) };
            if !self.claim_segment(&segment) {
                // Another process was faster.
                return Ok(None);
            }
            *reclaiming = Some(Dying::new(self, segment, Keep::Live));
        }
        let Some(dying) = reclaiming else { return Ok(None) };
        let step = self.step(dying, Some(lane))?;
        if step == Step::Gone {
            *reclaiming = None;
        }
        Ok(Some(step))
    }

    /// The sealed segment with the lowest live share, if that is below so many percent.
    pub(super) fn sparsest(&self, below: u64) -> Option<Arc<Segment>> {
        let live = self.all_live();
        let sealed = live.values().filter(|segment| {
            segment.state() != SegmentState::Open
                && self.is_free_to_go(segment)
                && (below < ANY_DEAD || segment.tally.dead().is_some_and(|dead| dead > 0))
        });
        let shares = sealed.filter_map(|segment| Some((segment.live_share()?, segment)));
        let sparsest = shares.min_by_key(|(share, segment)| (*share, segment.tally.begun()));
        sparsest.filter(|(share, _)| *share < below).map(|(_, segment)| Arc::clone(segment))
    }

    /// Whether of every segment it is known how much of it is dead.
    pub(super) fn has_counted_all(&self) -> bool {
        self.all_live().values().all(|segment| segment.tally.dead().is_some())
    }

    /// Rewrites every segment that holds something dead, and gives up the spare.
    pub(crate) fn compact(&self) -> Result<u64> {
        let mut progress = self.upkeep.progress.lock();
        self.check_open()?;
        progress.forget_count();
        let before = self.usage.live();
        self.lanes.acquire_all().iter_mut().for_each(|lane| self.seal(lane));
        self.seal_full();
        // The second time for tombstones that were left behind while what they hide stood in
        // a segment that has gone since.
        for _ in 0..2 {
            for segment in self.sealed_by_age() {
                self.compact_segment(segment)?;
            }
        }
        self.free_doomed()?;
        self.drop_spare()?;
        cell::let_go();
        Ok(before.saturating_sub(self.usage.live()))
    }

    fn compact_segment(&self, segment: Arc<Segment>) -> Result<()> {
        if segment.state() != SegmentState::Retiring {
            let mut count = Count::new(Arc::clone(&segment));
            while !self.count_on(&mut count) {}
            let full = segment.live_share().is_some_and(|share| share >= ON_REQUEST);
            if full && segment.tally.dead() == Some(0) && !self.any_expired(&segment) {
                return Ok(());
            }
        }
        self.rewrite(&segment)
    }

    /// Moves what lives in a sealed segment, and drops the rest and the segment.
    pub(super) fn rewrite(&self, segment: &Arc<Segment>) -> Result<()> {
        loop {
            let mut lane = self.lanes.acquire_maintenance();
            let mut reclaiming = self.reclaiming.lock();
            if self.all_live().get(&segment.id()).is_none() || !self.is_free_to_go(segment) {
                return Ok(());
            }
            let next = || Some(Arc::clone(segment));
            if self.step_compaction(&mut reclaiming, &mut lane, next)? == Some(Step::Stuck) {
                return Ok(());
            }
        }
    }

    /// Whether a segment that holds nothing dead holds something that has expired.
    fn any_expired(&self, segment: &Segment) -> bool {
        let now_ms = self.clock.now_ms();
        segment.entries().any(|entry| {
            let guard = &crossbeam_epoch::pin();
            let record = segment.record(entry.offset());
            record.is_ok_and(|record| !self.is_live_at(&record, || now_ms, guard))
        })
    }

    /// Sealed segments, those that were begun first first.
    pub(super) fn sealed_by_age(&self) -> Vec<Arc<Segment>> {
        let live = self.all_live();
        let sealed = live.values().filter(|segment| segment.state() != SegmentState::Open);
        let mut sealed: Vec<_> = sealed.cloned().collect();
        sealed.sort_by_key(|segment| (segment.tally.begun(), segment.id()));
        sealed
    }
}
