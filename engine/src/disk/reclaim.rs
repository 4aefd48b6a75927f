//! Making room: rolling lanes to new segments, and choosing which old ones go.
//!
//! Segments go first in, first out, except that those go first in which everything has
//! expired. A record that was hit since it was written, or since it
//! was last moved, is appended again at the head, with its sequence number and one hit less,
//! up to a quarter of the segment; so of four bytes written at most one is a copy.
//!
//! The maintenance reclaims ahead of the writers (`maintenance.rs`). A writer that finds the
//! budget exceeded nevertheless goes on where the maintenance stopped, and to the end.
//!
//! # Invariants
//! 1. Only sealed segments are reclaimed; all their records have been published.
//! 2. Each step can be done again: after a crash the segment is still there, retiring or
//!    sealed, and is reclaimed from the start.
//! 3. The dead stay dead. When a record goes that hides an older one of its key, a tombstone
//!    is left behind (`dying.rs`). What it may hide stands in segments that were begun before
//!    its own was sealed.
//! 4. What a durable record left behind, moved or buried, is durable before its segment goes.
//! 5. A segment's file is unlinked, and its directory synced, before the next one goes.

use std::sync::Arc;

use larder_format::layout::KEY_LEN_MAX;
use larder_format::{Kind, SegmentState, Slot, SlotState};

use super::compact::PRESSED;
use super::counters::Count;
use super::dying::{Dying, Keep, PIN_EVERY, Step};
use super::lanes::Held;
use super::observer::Event;
use super::segment::Segment;
use super::shortage::Patience;
use super::store::Store;
use super::writer::{Writer, room_for};
use crate::clock::NEVER;
use crate::error::{Error, Result};
use crate::sync::Ordering;

impl Store {
    /// Makes sure that the lane's segment has `needed` bytes of room, rolling to a new one if
    /// it has not.
    pub(super) fn make_room(
        &self,
        lane: &mut Held<'_>,
        needed: usize,
        (kind, deadline_ms): (Kind, u64),
        now_ms: u64,
    ) -> Result<()> {
        self.select(lane, deadline_ms, now_ms);
        // Under the lane's lock: a store that is closed is not written to (`durable.rs`).
        self.check_open()?;
        if !self.is_roomy(lane, needed, now_ms) {
            self.roll(lane, needed, kind, now_ms)?;
        }
        self.check_lane(lane, kind)
    }

    /// Turns the lane to a new segment, with `needed` bytes of room.
    #[cold]
    pub(super) fn roll(
        &self,
        lane: &mut Held<'_>,
        needed: usize,
        kind: Kind,
        now_ms: u64,
    ) -> Result<()> {
        let _stall = self.upkeep.timings.stall();
        // What is moved into a new segment may fill it, if several old ones have to go.
        while !self.is_roomy(lane, needed, now_ms) {
            if self.fill_out(lane) {
                continue;
            }
            if lane.patience != Patience::Help {
                self.roll_to_spare(lane, kind, now_ms)?;
                continue;
            }
            self.check_room(kind)?;
            self.hand_over(lane);
            let most = self.budget().saturating_add(self.segment_len());
            self.let_go(|retired| self.can_begin_within(most, retired));
            let short = self.is_short();
            let segment = match self.begin_segment(lane.number, now_ms) {
                Err(Error::StorageFull { .. }) => {
                    self.make_on_full(|| self.begin_segment(lane.number, now_ms))?
                }
                begun => begun?,
            };
            segment.tally.set_reserved(short);
            *lane.writer = Writer::new(segment);
            self.reclaim_to(self.budget().saturating_sub(self.index_wish()), Some(lane))?;
        }
        Ok(())
    }

    /// Makes something again for which the disk had no space, though the budget has: what can go,
    /// goes. Its space is there once nobody looks at it any more. The caller must not be pinned,
    /// and holds neither the spare's lock nor the reclaim lock.
    pub(super) fn make_on_full<T>(&self, make: impl Fn() -> Result<T>) -> Result<T> {
        if self.usage.retired() > 0 {
            self.let_go(|retired| retired == 0);
            match make() {
                Err(Error::StorageFull { .. }) => {}
                made => return made,
            }
        }
        if self.reclaim_oldest(None)? {
            self.let_go(|retired| retired == 0);
        }
        make()
    }

    pub(super) fn is_roomy(&self, lane: &Held<'_>, needed: usize, now_ms: u64) -> bool {
        lane.writer.as_ref().is_some_and(|writer| self.has_room(writer, needed, now_ms))
    }

    /// Whether a lane's segment has `needed` bytes of room.
    #[inline]
    pub(super) fn has_room(&self, writer: &Writer, needed: usize, now_ms: u64) -> bool {
        {
            let header = writer.segment().header();
            let age_ms = now_ms.saturating_sub(header.created_ms);
            // Relaxed: a sum. A segment that refers to much goes before it is full, so that
            // evicting it is no large step.
            let external = writer.segment().external_bytes().load(Ordering::Relaxed);
            writer.room() >= needed && age_ms < u64::from(u32::MAX) && external < self.budget() / 8
        }
    }

    /// Seals the segments that a lane has open.
    pub(super) fn seal(&self, lane: &mut Held<'_>) {
        for writer in lane.writer.take_all().into_iter().flatten() {
            self.seal_writer(writer);
        }
    }

    /// Ends a writer's segment.
    pub(super) fn seal_writer(&self, writer: Writer) {
        // Relaxed: an id that was given out before this segment's last record was written is
        // seen here or was taken by someone who overlaps; both are safe to count in.
        let _ = writer.seal(self.file.next_segment().load(Ordering::Relaxed));
    }

    /// Reclaims until a file of this many bytes fits beside what the store holds.
    pub(super) fn make_space_for(&self, bytes: u64, now_ms: u64) -> Result<()> {
        if self.keeps_all() {
            let needed = bytes.saturating_add(self.reserve());
            let fits = self.free_up(|held| self.can_begin(needed.saturating_add(held)), PRESSED)?;
            return if fits { Ok(()) } else { Err(Error::Full { needed, budget: self.budget() }) };
        }
        let target = self.budget().saturating_sub(bytes);
        let most = target.saturating_add(self.segment_len());
        self.let_go(|retired| self.usage.live().saturating_add(retired) <= most);
        if self.usage.live().saturating_add(self.held()) <= target {
            return Ok(());
        }
        self.free_doomed()?;
        if self.usage.live() > target {
            self.drop_spare()?;
        }
        self.reclaim_all_to(target, now_ms)?;
        // What went is gone once the last lookups have ended.
        self.let_go(|retired| self.usage.live().saturating_add(retired) <= most);
        Ok(())
    }

    /// Reclaims until the store is within `target` bytes, and be it to the last segment.
    fn reclaim_all_to(&self, target: u64, now_ms: u64) -> Result<()> {
        let mut lane = self.lanes.acquire();
        loop {
            self.make_room(&mut lane, room_for(KEY_LEN_MAX, 0), (Kind::Tombstone, NEVER), now_ms)?;
            self.reclaim_to(target, Some(&mut lane))?;
            let empty = lane
                .writer
                .as_ref()
                .is_none_or(|writer| writer.segment().region().committed().entries == 0);
            if self.usage.live() <= target || empty {
                return Ok(());
            }
            // Only open segments are left: these have to go as well.
            self.seal(&mut lane);
            self.seal(&mut self.lanes.acquire_maintenance());
        }
    }

    /// Unlinks the external files of replaced values, once what replaced them is durable: a
    /// value that survived a loss of power so far must not be lost to one that does not.
    pub(super) fn free_doomed(&self) -> Result<()> {
        let doomed = std::mem::take(&mut *self.doomed.lock());
        if doomed.is_empty() {
            return Ok(());
        }
        // The replacement may be a large value itself.
        if let Err(error) = self.sync_externals().and_then(|()| self.sync_segments()) {
            self.doomed.lock().extend(doomed);
            return Err(error);
        }
        let remove = |file| self.externals.remove(&*self.storage, file, &crossbeam_epoch::pin());
        doomed.into_iter().try_for_each(remove)
    }

    /// Reclaims until the store is within `target` bytes. What views hold counts.
    fn reclaim_to(&self, target: u64, mut lane: Option<&mut Held<'_>>) -> Result<()> {
        if self.keeps_all() {
            return Ok(());
        }
        self.let_go(|retired| self.usage.live().saturating_add(retired) <= target);
        while self.usage.live().saturating_add(self.held()) > target {
            self.seal_full();
            if !self.reclaim_oldest(lane.as_deref_mut())? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reclaims the oldest sealed segment, moving what is worth keeping into `lane`. Whether
    /// there was one, and room in the lane for what has to be written to be rid of it.
    fn reclaim_oldest(&self, mut lane: Option<&mut Held<'_>>) -> Result<bool> {
        if self.keeps_all() {
            return Ok(false);
        }
        let mut reclaiming = self.reclaiming.lock();
        loop {
            match self.step_oldest(&mut reclaiming, lane.as_deref_mut())? {
                Some(Step::More) => {}
                Some(Step::Gone) => {
                    self.counters.add(Count::InlineReclaims, 1);
                    return Ok(true);
                }
                Some(Step::Stuck) | None => return Ok(false),
            }
        }
    }

    /// As `step_next`, with one that has expired or else the oldest.
    pub(super) fn step_oldest(
        &self,
        reclaiming: &mut Option<Dying>,
        lane: Option<&mut Held<'_>>,
    ) -> Result<Option<Step>> {
        let oldest = || self.expired_segment(self.clock.now_ms()).or_else(|| self.oldest_sealed());
        self.step_next(reclaiming, lane, oldest)
    }

    /// Takes a step with the segment that is being reclaimed, or with the `next`; `None` if
    /// there is none.
    pub(super) fn step_next(
        &self,
        reclaiming: &mut Option<Dying>,
        lane: Option<&mut Held<'_>>,
        next: impl FnOnce() -> Option<Arc<Segment>>,
    ) -> Result<Option<Step>> {
        if reclaiming.is_none() {
            let Some(segment) = self.unfinished().or_else(next) else { return Ok(None) };
            if !self.claim_segment(&segment) {
                // Another process was faster.
                return Ok(None);
            }
            let keep = if self.keeps_all() { Keep::Live } else { Keep::Hot(segment.len() / 4) };
            *reclaiming = Some(Dying::new(self, segment, keep));
        }
        let Some(dying) = reclaiming else { return Ok(None) };
        let step = self.step(dying, lane)?;
        if step == Step::Gone {
            *reclaiming = None;
        }
        Ok(Some(step))
    }

    /// A segment that a process which died was reclaiming. It goes first: slots of it may be
    /// empty already, and what was written to a key after that lacks the mark that it hides
    /// what is still there, so that it must not go before.
    pub(super) fn unfinished(&self) -> Option<Arc<Segment>> {
        let live = self.all_live();
        let is_left = |segment: &&Arc<Segment>| {
            segment.state() == SegmentState::Retiring && self.is_free_to_go(segment)
        };
        live.values().find(is_left).cloned()
    }

    /// The segment that was begun first, of those that are sealed.
    fn oldest_sealed(&self) -> Option<Arc<Segment>> {
        let live = self.all_live();
        let sealed = live
            .values()
            .filter(|segment| segment.state() != SegmentState::Open && self.is_free_to_go(segment));
        sealed.min_by_key(|segment| (segment.tally.begun(), segment.id())).cloned()
    }

    /// Drops every sealed segment with an id below `end`, moving nothing. Returns the number
    /// of entries that went.
    pub(super) fn drop_before(&self, end: u64) -> Result<u64> {
        let mut reclaiming = self.reclaiming.lock();
        *reclaiming = None;
        let all: Vec<_> = self.all_live().range(..end).map(|(_, s)| Arc::clone(s)).collect();
        self.drop_all(all)
    }

    /// Drops what a clear left behind that was cut off once it was noted.
    pub(super) fn finish_clear(&self) -> Result<()> {
        let cleared = self.file.cleared_seq();
        let is_cleared = |segment: &Arc<Segment>| {
            let first = || segment.entry(0).and_then(|entry| segment.entry_seq(&entry));
            segment.header().base_seq <= cleared && first().is_some_and(|seq| seq <= cleared)
        };
        let old: Vec<_> = self.all_live().values().filter(|s| is_cleared(s)).cloned().collect();
        // Where processes shared the store, none of them ended its segment for it.
        let is_whole = |segment: &Arc<Segment>| {
            let mut numbers = segment.entries().map(|entry| segment.entry_seq(&entry));
            numbers.all(|seq| seq.is_some_and(|seq| seq <= cleared))
        };
        let (whole, part): (Vec<_>, Vec<_>) = old.into_iter().partition(is_whole);
        for segment in part {
            self.clear_before(&segment, cleared);
        }
        self.drop_all(whole).map(drop)
    }

    /// Drops those of some segments that are sealed: first from the index, which cannot fail,
    /// so that nothing of them is read again whatever becomes of the files.
    fn drop_all(&self, mut segments: Vec<Arc<Segment>>) -> Result<u64> {
        segments.retain(|segment| segment.state() != SegmentState::Open);
        let dropped: Vec<_> = segments.iter().map(|segment| self.clear_slots(segment)).collect();
        let mut result = Ok(dropped.iter().sum());
        for (segment, dropped) in segments.iter().zip(dropped) {
            match self.unlink(segment) {
                Ok(()) => {
                    self.drop_externals(segment);
                    let (segment, moved, compacted) = (segment.id(), 0, false);
                    let event = || Event::Reclaimed { segment, moved, dropped, compacted };
                    self.upkeep.observed.note(event);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Empties the slots of a segment's records, and says how many held a value.
    fn clear_slots(&self, segment: &Arc<Segment>) -> u64 {
        let mut guard = crossbeam_epoch::pin();
        let mut gone = 0;
        for (number, entry) in segment.entries().enumerate() {
            if number % PIN_EVERY == PIN_EVERY - 1 {
                guard.repin();
            }
            let hash = entry.key_hash;
            let state =
                if entry.kind == Kind::Value { SlotState::Value } else { SlotState::Tombstone };
            let place = Slot::new(hash, segment.id(), entry.offset(), state);
            let emptied = self.replace_place(hash, place, |_| Slot::EMPTY, &guard).is_some();
            if emptied && state == SlotState::Value {
                self.add_entries(-1);
                gone += 1;
            }
        }
        gone
    }

    /// Takes a segment out of the store. The caller holds the reclaim lock and has seen to its
    /// slots.
    pub(super) fn unlink(&self, segment: &Arc<Segment>) -> Result<()> {
        segment.retire(&*self.storage)?;
        let guard = crossbeam_epoch::pin();
        {
            let mut live = self.all_live();
            live.remove(&segment.id());
            self.table.remove(segment.id(), &guard);
            if let Some(together) = &self.together {
                together.share.forget(segment.id());
            }
        }
        self.upkeep.inter(segment);
        guard.flush();
        // Not pinned while the disk works: nobody's memory is to wait for that.
        drop(guard);
        self.storage
            .sync_dir("seg")
            .map_err(|error| Error::io("sync", &self.storage.path("seg"), error))
    }
}
