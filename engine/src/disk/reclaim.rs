//! Making room: rolling lanes to new segments, and reclaiming old ones.
//!
//! Segments go first in, first out. A record that was hit since it was written, or since it
//! was last moved, is appended again at the head, with its sequence number and one hit less,
//! up to a quarter of the segment; so of four bytes written at most one is a copy.
//!
//! # Invariants
//! 1. Only sealed segments are reclaimed; all their records have been published.
//! 2. Each step can be done again: after a crash the segment is still there, retiring or
//!    sealed, and is reclaimed from the start.
//! 3. The dead stay dead. A record hides older records of its key, and all of those were
//!    written before it. They are gone by the time its own segment goes, except in segments
//!    that were begun before that one was sealed: for those, a tombstone is left behind.
//! 4. What a durable record left behind, moved or buried, is durable before its segment goes.
//! 5. A segment's file is unlinked, and its directory synced, before the next one goes.

use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::layout::KEY_LEN_MAX;
use larder_format::{
    CodecId, Flags, FooterEntry, Kind, SegmentHeader, SegmentState, Slot, SlotState,
};

use super::counters::Count;
use super::lanes::Held;
use super::segment::{NewRecord, Record, Segment, Writer, room_for};
use super::store::Store;
use crate::clock::NEVER;
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// Entries after which the epoch may advance.
const PIN_EVERY: usize = 256;

/// Records of other segments that a segment's records may hide: hash and sequence, sorted.
type Hidden = Vec<(u64, u64)>;

impl Store {
    /// Makes sure that the lane's segment has `needed` bytes of room, rolling to a new one if
    /// it has not.
    pub(super) fn make_room(&self, lane: &mut Held<'_>, needed: usize, now_ms: u64) -> Result<()> {
        // What is moved into a new segment may fill it, if several old ones have to go.
        while !self.is_roomy(lane, needed, now_ms) {
            self.check_open()?;
            self.seal(lane);
            let segment = match self.begin_segment(lane.number, now_ms) {
                // The disk is fuller than the budget knows: what can go, goes.
                Err(Error::StorageFull { .. }) if self.reclaim_oldest(None)? => {
                    self.begin_segment(lane.number, now_ms)?
                }
                begun => begun?,
            };
            *lane.writer = Writer::new(segment);
            self.reclaim_to(self.budget, Some(lane))?;
        }
        Ok(())
    }

    fn is_roomy(&self, lane: &Held<'_>, needed: usize, now_ms: u64) -> bool {
        lane.writer.as_ref().is_some_and(|writer| {
            let header = writer.segment().header();
            let age_ms = now_ms.saturating_sub(header.created_ms);
            // Relaxed: a sum. A segment that refers to much goes before it is full, so that
            // evicting it is no large step.
            let external = writer.segment().external_bytes().load(Ordering::Relaxed);
            writer.room() >= needed && age_ms < u64::from(u32::MAX) && external < self.budget / 8
        })
    }

    /// Seals the segment that a lane has open.
    pub(super) fn seal(&self, lane: &mut Held<'_>) {
        if let Some(writer) = lane.writer.take() {
            // Relaxed: an id that was given out before this segment's last record was written
            // is seen here or was taken by someone who overlaps; both are safe to count in.
            let _ = writer.seal(self.file.next_segment().load(Ordering::Relaxed));
        }
    }

    fn begin_segment(&self, lane: u32, now_ms: u64) -> Result<Arc<Segment>> {
        let _birth = self.reclaiming.lock();
        let superblock = self.file.superblock();
        let guard = &crossbeam_epoch::pin();
        let id = loop {
            // Relaxed: only distinctness counts; positions are taken under the lock.
            let id = self.file.next_segment().fetch_add(1, Ordering::Relaxed);
            if self.table.is_free(id, guard) {
                break id;
            }
        };
        let header = SegmentHeader {
            uuid: superblock.uuid,
            id,
            // Relaxed: every number drawn for this segment is drawn later, by a thread that
            // got the segment from this one.
            base_seq: self.file.next_seq().load(Ordering::Relaxed),
            created_ms: now_ms,
            file_len: superblock.segment_len,
            lane,
        };
        let segment = Arc::new(Segment::create(&*self.storage, header, &self.usage)?);
        self.live.lock().insert(id, Arc::clone(&segment));
        self.table.insert(Arc::clone(&segment), guard);
        Ok(segment)
    }

    /// Reclaims until a file of this many bytes fits beside what the store holds.
    pub(super) fn make_space_for(&self, bytes: u64, now_ms: u64) -> Result<()> {
        let target = self.budget.saturating_sub(bytes);
        if self.usage.live() <= target {
            return Ok(());
        }
        self.free_doomed()?;
        let mut lane = self.lanes.acquire();
        loop {
            self.make_room(&mut lane, room_for(KEY_LEN_MAX, 0), now_ms)?;
            self.reclaim_to(target, Some(&mut lane))?;
            let empty = lane
                .writer
                .as_ref()
                .is_none_or(|writer| writer.segment().region().committed().entries == 0);
            if self.usage.live() <= target || empty {
                return Ok(());
            }
            // Only open segments are left: this one has to go as well.
            self.seal(&mut lane);
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
        let externals = self.externals.sync(&*self.storage).inspect_err(|_| self.note_suspect());
        if let Err(error) = externals.and_then(|()| self.sync_segments()) {
            self.doomed.lock().extend(doomed);
            return Err(error);
        }
        let guard = &crossbeam_epoch::pin();
        doomed.into_iter().try_for_each(|id| self.externals.remove(&*self.storage, id, guard))
    }

    /// Reclaims until the store is within `target` bytes. What views keep alive counts, unless
    /// it was retired by this very call and its last readers are still on their way.
    fn reclaim_to(&self, target: u64, mut lane: Option<&mut Held<'_>>) -> Result<()> {
        let pinned = self.usage.retired();
        while self.usage.live().saturating_add(pinned) > target {
            if !self.reclaim_oldest(lane.as_deref_mut())? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reclaims the oldest sealed segment, moving what is worth keeping into `lane`. Whether
    /// there was one, and room in the lane for what has to be written to be rid of it.
    fn reclaim_oldest(&self, lane: Option<&mut Held<'_>>) -> Result<bool> {
        let _reclaiming = self.reclaiming.lock();
        let oldest = self
            .live
            .lock()
            .values()
            .find(|segment| segment.state() != SegmentState::Open)
            .cloned();
        let Some(segment) = oldest else { return Ok(false) };
        self.reclaim(&segment, lane)
    }

    /// Drops every sealed segment with an id below `end`, moving nothing. Returns the number
    /// of entries that went.
    pub(super) fn drop_before(&self, end: u64) -> Result<u64> {
        let _reclaiming = self.reclaiming.lock();
        let all: Vec<_> = self.live.lock().range(..end).map(|(_, s)| Arc::clone(s)).collect();
        let mut gone = 0;
        for segment in all.iter().filter(|segment| segment.state() != SegmentState::Open) {
            gone += self.clear_slots(segment);
            self.unlink(segment)?;
            self.drop_externals(segment);
        }
        Ok(gone)
    }

    /// Reclaims one segment. The caller holds the reclaim lock. Whether it is gone: without
    /// room for a tombstone it stays, retiring, until there is.
    fn reclaim(&self, segment: &Arc<Segment>, mut lane: Option<&mut Held<'_>>) -> Result<bool> {
        segment.set_state(SegmentState::Retiring);
        let hidden = self.hidden_by(segment);
        let mut allowance = segment.len() / 4;
        let mut guard = crossbeam_epoch::pin();
        let writer = lane.as_ref().and_then(|lane| lane.writer.as_ref());
        let written_before = writer.map(|writer| writer.segment().region().committed());
        // Oldest first, so that what is moved keeps its order.
        for (number, entry) in segment.entries().rev().enumerate() {
            if number % PIN_EVERY == PIN_EVERY - 1 {
                guard.repin();
            }
            if entry.kind == Kind::TagInvalidation {
                if !self.pass_on(segment, &entry, lane.as_deref_mut(), &guard)? {
                    return Ok(false);
                }
                continue;
            }
            let kept =
                self.keep_or_drop(segment, &entry, &mut allowance, lane.as_deref_mut(), &guard)?;
            if !kept && !self.bury(segment, &entry, &hidden, lane.as_deref_mut())? {
                return Ok(false);
            }
        }
        drop(guard);
        // What was durable here has to be durable in its new place before this one goes: a
        // value that was moved, and a tombstone that hides an older one.
        if let Some(writer) = lane.and_then(|lane| lane.writer.as_ref())
            && written_before.is_some_and(|before| before != writer.segment().region().committed())
        {
            writer.segment().sync(&*self.storage).inspect_err(|_| self.note_suspect())?;
        }
        self.unlink(segment)?;
        self.drop_externals(segment);
        Ok(true)
    }

    /// Moves the record of a live entry if it is worth it; otherwise empties its slot. Whether
    /// it was moved.
    fn keep_or_drop(
        &self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
        allowance: &mut usize,
        lane: Option<&mut Held<'_>>,
        guard: &Guard,
    ) -> Result<bool> {
        let hash = entry.key_hash;
        let state = match entry.kind {
            Kind::Value => SlotState::Value,
            Kind::Tombstone => SlotState::Tombstone,
            _ => return Ok(false),
        };
        let place = Slot::new(hash, segment.id(), entry.offset(), state);
        let Some(slot) = self.find_place(hash, place, guard) else { return Ok(false) };
        if let (Some(lane), true) = (lane, slot.freq() > 0 && state == SlotState::Value)
            && let Ok(record) = segment.record(entry.offset())
            && self.is_live_at(&record, || self.clock.now_ms(), guard)
            && record.is_intact()
            && record.len() <= *allowance
            && let Some(offset) = self.move_record(lane, hash, &record)?
        {
            let target = lane.writer.as_ref().map_or(0, |writer| writer.segment().id());
            let moved = Slot::new(hash, target, offset, SlotState::Value);
            *allowance -= record.len();
            self.counters.add(Count::MovedBytes, record.len() as u64);
            // If it was replaced meanwhile, the copy is a dead record like any other: its
            // hider's segment and its own were open at the same time (invariant 3).
            let aged = |now: Slot| moved.with_freq(now.freq().saturating_sub(1));
            return Ok(self.replace_place(hash, place, aged, guard).is_some());
        }
        let emptied = self.replace_place(hash, place, |_| Slot::EMPTY, guard).is_some();
        if emptied && state == SlotState::Value {
            self.add_entries(-1);
            self.counters.add(Count::Evictions, 1);
        }
        Ok(false)
    }

    /// Moves the invalidation of a tag for as long as a segment is live that was begun before
    /// it; then it goes. Whether there was room for it.
    fn pass_on(
        &self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
        lane: Option<&mut Held<'_>>,
        guard: &Guard,
    ) -> Result<bool> {
        let hash = entry.key_hash;
        let place = Slot::new(hash, segment.id(), entry.offset(), SlotState::Tombstone);
        if self.find_place(hash, place, guard).is_none() {
            return Ok(true);
        }
        let Ok(record) = segment.record(entry.offset()) else { return Ok(true) };
        let is_needed =
            self.live.lock().values().any(|other| {
                other.id() != segment.id() && other.header().base_seq < record.header.seq
            });
        if !is_needed {
            self.replace_place(hash, place, |_| Slot::EMPTY, guard);
            return Ok(true);
        }
        let Some(lane) = lane else { return Ok(false) };
        let Some(offset) = self.move_record(lane, hash, &record)? else { return Ok(false) };
        let target = lane.writer.as_ref().map_or(0, |writer| writer.segment().id());
        let moved = Slot::new(hash, target, offset, SlotState::Tombstone);
        self.replace_place(hash, place, |_| moved, guard);
        Ok(true)
    }

    /// The slot that points to a place.
    fn find_place(&self, hash: u64, place: Slot, guard: &Guard) -> Option<Slot> {
        self.replace_place(hash, place, |slot| slot, guard)
    }

    /// Changes the slot that points to a place; returns it as it was before.
    fn replace_place(
        &self,
        hash: u64,
        place: Slot,
        new: impl Fn(Slot) -> Slot,
        guard: &Guard,
    ) -> Option<Slot> {
        loop {
            let slots = self.index.for_writing(self.ground(), hash, guard);
            let (at, slot) = slots.slot_of(hash, place)?;
            if slot.state() == SlotState::Pending {
                // A batch that was committed by a process that died: it takes its place first.
                // What cannot be settled now stays as it is.
                self.settle(place, guard).ok()?;
            } else if let Some(old) = slots.swap_place(at, slot, &new) {
                return Some(old);
            }
            // Its page has moved to the next generation, or it was replaced: look again.
            self.index.thaw_strays(hash);
        }
    }

    /// Appends a record again, if the lane has room.
    fn move_record(
        &self,
        lane: &mut Held<'_>,
        hash: u64,
        record: &Record<'_>,
    ) -> Result<Option<usize>> {
        let header = &record.header;
        let needed = room_for(record.key().len(), record.value().len());
        if lane.writer.as_ref().is_none_or(|writer| writer.room() < needed) {
            return Ok(None);
        }
        let tags: Vec<u64> = record.tags().collect();
        let copy = NewRecord {
            kind: header.kind,
            flags: header.flags.with(Flags::MOVED).without(Flags::EXPIRES).without(Flags::BATCHED),
            seq: header.seq,
            key_hash: hash,
            tags: &tags,
            key: record.key(),
            value: record.value(),
            codec: header.codec,
            expires_at_ms: header.expires_at_ms,
            written_at_ms: record.written_at_ms(),
        };
        Ok(Some(self.append(lane, &copy)?.0))
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

    /// Unlinks the large values of a segment that is gone for good. Not before: a record whose
    /// file is missing hides nothing after a crash, and an older one would show.
    fn drop_externals(&self, segment: &Arc<Segment>) {
        for entry in segment.entries().filter(|entry| entry.external) {
            if let Ok(record) = segment.record(entry.offset()) {
                self.drop_external(&record, entry.key_hash, &crossbeam_epoch::pin());
            }
        }
    }

    /// Takes a segment out of the store. The caller holds the reclaim lock and has seen to its
    /// slots.
    fn unlink(&self, segment: &Arc<Segment>) -> Result<()> {
        segment.retire(&*self.storage)?;
        let guard = crossbeam_epoch::pin();
        self.table.remove(segment.id(), &guard);
        self.live.lock().remove(&segment.id());
        guard.flush();
        self.storage
            .sync_dir("seg")
            .map_err(|error| Error::io("sync", &self.storage.path("seg"), error))
    }

    /// The values in other live segments that records of this one may hide: those segments
    /// were begun before this one was sealed (invariant 3).
    fn hidden_by(&self, segment: &Arc<Segment>) -> Hidden {
        let sealed_before = segment.trailer().map_or(NEVER, |trailer| trailer.sealed_before);
        let overlapping: Vec<_> = self
            .live
            .lock()
            .range(..sealed_before)
            .filter(|(id, _)| **id != segment.id())
            .map(|(_, other)| Arc::clone(other))
            .collect();
        let mut hidden = Hidden::new();
        if overlapping.is_empty() {
            return hidden;
        }
        for other in overlapping {
            let values = other.entries().filter(|entry| entry.kind == Kind::Value);
            hidden.extend(
                values.filter_map(|entry| Some((entry.key_hash, other.entry_seq(&entry)?))),
            );
        }
        hidden.sort_unstable();
        hidden
    }

    /// Leaves a tombstone behind for a record that goes, if it hides one that stays.
    /// Whether there was room for it.
    fn bury(
        &self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
        hidden: &Hidden,
        lane: Option<&mut Held<'_>>,
    ) -> Result<bool> {
        if hidden.is_empty() || !matches!(entry.kind, Kind::Value | Kind::Tombstone) {
            return Ok(true);
        }
        let Some(seq) = segment.entry_seq(entry) else { return Ok(true) };
        let first = hidden.partition_point(|(hash, _)| *hash < entry.key_hash);
        let hides = hidden[first..]
            .iter()
            .take_while(|(hash, _)| *hash == entry.key_hash)
            .any(|(_, older)| *older < seq);
        if !hides {
            return Ok(true);
        }
        let Ok(record) = segment.record(entry.offset()) else { return Ok(true) };
        let tombstone = NewRecord {
            kind: Kind::Tombstone,
            flags: Flags::MOVED,
            seq,
            key_hash: entry.key_hash,
            tags: &[],
            key: record.key(),
            value: &[],
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            written_at_ms: record.written_at_ms(),
        };
        let needed = room_for(record.key().len(), 0);
        match lane {
            Some(lane) if lane.writer.as_ref().is_some_and(|writer| writer.room() >= needed) => {
                self.append(lane, &tombstone)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
