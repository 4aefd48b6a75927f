//! One segment on its way out, in steps that can be interrupted.
//!
//! First the records that may hide something are collected and compared with the segments
//! that they may hide it in; then every record is moved or dropped, the oldest first; then the
//! file goes. After each step the reclaim lock may be let go, and anybody may go on.
//!
//! # Invariants
//! 1. Only a record with [`Flags::REPLACED`] or a tombstone can hide an older record that
//!    nothing else hides: any other was published into a place while no slot of its key was
//!    in the index, so that what there was of the key before is hidden by a tombstone in the
//!    log, or gone. Where slots were given up (the shared word `dropped`) the flag proves
//!    nothing, and every record is compared.
//! 2. A dead record need hide nothing any more once the newest record of its key is a
//!    tombstone or has the flag, or is a copy of it: that one sees to it when its own turn comes.
//! 3. What is compared was there when the comparison began: records that come later are newer
//!    than all of a sealed segment, or copies of its own, or tombstones.
//! 4. Room for a copy is made before its slot is looked for: a segment that the copy goes to
//!    was then begun before any segment with a newer record of the key was sealed.
//! 5. Before anything of a segment is copied, its batches are durable, large values included: a
//!    copy of one record of a batch counts by itself, and may be durable before the batch is.

use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::{CodecId, Flags, FooterEntry, Kind, SegmentState, Slot, SlotState};

use super::counters::Count;
use super::lanes::Held;
use super::lost::Veiled;
use super::observer::Event;
use super::segment::{Record, Segment};
use super::store::Store;
use super::tags::{is_readable, may_hold_tagged_before};
use super::writer::{NewRecord, room_for};
use crate::clock::NEVER;
use crate::error::Result;

/// Entries after which the epoch may advance.
pub(super) const PIN_EVERY: usize = 256;
/// Entries that a step looks at, and bytes that it moves, before it can be interrupted.
const STEP_ENTRIES: usize = 4 << 10;
const STEP_BYTES: usize = 1 << 20;

/// Which records are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Those with hits, up to this many bytes.
    Hot(usize),
    /// All that live.
    Live,
    /// None.
    Nothing,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to do.
    More,
    /// The segment is gone.
    Gone,
    /// Something has to be written first, and there is no room for it: the segment stays,
    /// retiring, until there is.
    Stuck,
}

/// A record that may hide older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hider {
    hash: u64,
    seq: u64,
    /// A tombstone hides a value with its own number as well.
    is_tombstone: bool,
    hides: bool,
}

/// A segment that is being reclaimed.
#[derive(Debug)]
pub(super) struct Dying {
    pub(super) segment: Arc<Segment>,
    pub(super) keep: Keep,
    /// Whether some segment could not be mapped that it has to be compared with.
    is_partial: bool,
    /// Sorted once all are collected.
    hiders: Vec<Hider>,
    collected: usize,
    /// Segments that are still to be compared, and how far the last of them is.
    others: Vec<Arc<Segment>>,
    compared: usize,
    /// What invalidations that cannot be read speak of.
    pub(super) veiled: Veiled,
    settled: usize,
    pub(super) dropped: u64,
    moved: u64,
    /// Whether anything was appended for it.
    pub(super) wrote: bool,
}

/// What became of a record.
enum Settled {
    Moved,
    Dropped,
    NoRoom,
}

impl Dying {
    /// Begins with a sealed segment.
    pub(super) fn new(store: &Store, segment: Arc<Segment>, keep: Keep) -> Self {
        let unmapped = store.unmapped();
        let others = store.overlapping(&segment);
        segment.set_state(SegmentState::Retiring);
        Self {
            is_partial: store.check_mapped(unmapped).is_err(),
            segment,
            keep,
            hiders: Vec::new(),
            collected: 0,
            others,
            compared: 0,
            veiled: Veiled::default(),
            settled: 0,
            dropped: 0,
            moved: 0,
            wrote: false,
        }
    }

    /// Whether not all segments could be looked at when it began, and they can be now.
    fn is_partial(&self, store: &Store) -> Result<bool> {
        if self.is_partial {
            let unmapped = store.unmapped();
            drop(store.all_live());
            store.check_mapped(unmapped)?;
        }
        Ok(self.is_partial)
    }

    /// Keeps nothing of what is still to come.
    pub(super) fn keep_nothing(&mut self) {
        self.keep = Keep::Nothing;
    }

    /// Values that were dropped so far.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether the record `seq` of a key hides another that stays.
    fn hides(&self, hash: u64, seq: u64) -> bool {
        let at = self.hiders.partition_point(|hider| (hider.hash, hider.seq) < (hash, seq));
        let same = |hider: &&Hider| (hider.hash, hider.seq) == (hash, seq);
        self.hiders[at..].iter().take_while(same).any(|hider| hider.hides)
    }

    /// Collects hiders. Whether all are collected.
    fn collect(&mut self, store: &Store, all_may_hide: bool) -> bool {
        if self.others.is_empty() {
            return true;
        }
        let count = self.segment.entry_count();
        let end = count.min(self.collected + STEP_ENTRIES);
        for number in self.collected..end {
            let Some(entry) = self.segment.entry(number) else { continue };
            let may_hide = match entry.kind {
                Kind::Tombstone => true,
                Kind::Value => entry.replaced || all_may_hide,
                Kind::TagInvalidation => {
                    self.veiled.note(store, &self.segment, &entry);
                    false
                }
                _ => false,
            };
            if may_hide && let Some(seq) = self.segment.entry_seq(&entry) {
                let (hash, is_tombstone) = (entry.key_hash, entry.kind == Kind::Tombstone);
                self.hiders.push(Hider { hash, seq, is_tombstone, hides: false });
            }
        }
        self.collected = end;
        if end < count {
            return false;
        }
        self.hiders.sort_unstable();
        self.hiders.dedup();
        if self.hiders.is_empty() && self.veiled.is_empty() {
            self.others.clear();
        }
        true
    }

    /// Compares with some entries of the other segments. Whether all are compared.
    fn compare(&mut self) -> bool {
        let Some(other) = self.others.last() else { return true };
        let count = other.entry_count();
        let end = count.min(self.compared + STEP_ENTRIES);
        for number in self.compared..end {
            let Some(entry) = other.entry(number) else { continue };
            if entry.kind != Kind::Value {
                continue;
            }
            self.veiled.compare(other, &entry);
            let hash = entry.key_hash;
            let first = self.hiders.partition_point(|hider| hider.hash < hash);
            if self.hiders.get(first).is_none_or(|hider| hider.hash != hash) {
                continue;
            }
            let Some(seq) = other.entry_seq(&entry) else { continue };
            let of_key = self.hiders[first..].iter_mut().take_while(|hider| hider.hash == hash);
            let hides =
                |hider: &&mut Hider| hider.seq > seq || hider.seq == seq && hider.is_tombstone;
            of_key.filter(hides).for_each(|hider| hider.hides = true);
        }
        self.compared = end;
        if end == count {
            self.others.pop();
            self.compared = 0;
        }
        self.others.is_empty()
    }
}

impl Store {
    /// Segments with records that those of this one may hide: they were begun before this one
    /// was sealed.
    fn overlapping(&self, segment: &Segment) -> Vec<Arc<Segment>> {
        let sealed_before = segment.trailer().map_or(NEVER, |trailer| trailer.sealed_before);
        let live = self.all_live();
        live.range(..sealed_before)
            .filter(|(id, other)| **id != segment.id() && other.entry_count() > 0)
            .map(|(_, other)| Arc::clone(other))
            .collect()
    }

    /// Takes one bounded step with a dying segment, moving what is worth keeping into `lane`.
    /// The caller holds the reclaim lock.
    pub(super) fn step(&self, dying: &mut Dying, mut lane: Option<&mut Held<'_>>) -> Result<Step> {
        self.check_open()?;
        if dying.is_partial(self)? {
            // Begun without a look at all segments.
            *dying = Dying::new(self, Arc::clone(&dying.segment), dying.keep);
        }
        if !dying.collect(self, self.may_lack_slots()) || !dying.compare() {
            return Ok(Step::More);
        }
        if dying.settled == 0 && dying.segment.tally.has_batch() {
            self.settle_batches(&dying.segment)?;
        }
        let count = dying.segment.entry_count();
        let end = count.min(dying.settled + STEP_ENTRIES);
        let mut bytes = 0;
        let mut guard = crossbeam_epoch::pin();
        while dying.settled < end && bytes < STEP_BYTES {
            if dying.settled % PIN_EVERY == PIN_EVERY - 1 {
                guard.repin();
            }
            if let Some(entry) = dying.segment.entry(dying.settled) {
                match self.settle(dying, &entry, &mut bytes, lane.as_deref_mut(), &mut guard)? {
                    Settled::NoRoom => return Ok(Step::Stuck),
                    Settled::Moved => dying.moved += 1,
                    Settled::Dropped => {}
                }
            }
            dying.settled += 1;
        }
        drop(guard);
        if dying.settled < count {
            return Ok(Step::More);
        }
        let is_eviction = matches!(dying.keep, Keep::Hot(_) | Keep::Nothing);
        if !is_eviction || dying.wrote || dying.hiders.iter().any(|hider| hider.hides) {
            // What was durable here has to be durable in its new place before this one goes,
            // and so has what hides a record for good. Where nothing is evicted, so has whatever
            // took the place of a record, or invalidated it.
            self.sync_externals()?;
            self.sync_segments()?;
        }
        self.unlink(&dying.segment)?;
        self.drop_externals(&dying.segment);
        let (segment, moved, dropped) = (dying.segment.id(), dying.moved, dying.dropped);
        let compacted = dying.keep == Keep::Live;
        self.upkeep.observed.note(|| Event::Reclaimed { segment, moved, dropped, compacted });
        Ok(Step::Gone)
    }

    /// Makes the batches of a segment durable that is about to go (invariant 5).
    fn settle_batches(&self, segment: &Segment) -> Result<()> {
        self.sync_externals()?;
        self.sync_segment(segment)
    }

    /// Moves the record of a live entry if it is worth it; otherwise empties its slot.
    fn settle(
        &self,
        dying: &mut Dying,
        entry: &FooterEntry,
        bytes: &mut usize,
        mut lane: Option<&mut Held<'_>>,
        guard: &mut Guard,
    ) -> Result<Settled> {
        let segment = Arc::clone(&dying.segment);
        let hash = entry.key_hash;
        let state = match entry.kind {
            Kind::Value => SlotState::Value,
            Kind::Tombstone => SlotState::Tombstone,
            Kind::TagInvalidation => return self.pass_on(dying, entry, lane, guard),
            _ => return Ok(Settled::Dropped),
        };
        let place = Slot::new(hash, segment.id(), entry.offset(), state);
        let slot = self.find_place(hash, place, guard);
        if let Some(slot) = slot
            && state == SlotState::Value
            && let Ok(record) = segment.record(entry.offset())
            && self.is_worth_moving(dying.keep, slot, &record, guard)
            && let Some(lane) = self.roomy(dying.keep, lane.as_deref_mut(), &record, guard)?
        {
            if self.find_place(hash, place, guard).is_none() {
                // Gone since it was looked for: there is room now (invariant 4), but no need.
                return self.bury(dying, entry, Some(lane), guard);
            }
            let offset = self.move_record(lane, hash, &record)?;
            dying.wrote = true;
            let target = lane.writer.as_ref().map_or(0, |writer| writer.segment().id());
            let moved = Slot::new(hash, target, offset, SlotState::Value);
            *bytes += record.len();
            if let Keep::Hot(allowance) = &mut dying.keep {
                *allowance = allowance.saturating_sub(record.len());
            }
            self.counters.add(Count::MovedBytes, record.len() as u64);
            let aged = |now: Slot| moved.with_freq(now.freq().saturating_sub(1));
            if self.replace_place(hash, place, aged, guard).is_some() {
                return Ok(Settled::Moved);
            }
            // It was replaced meanwhile: the copy is a dead record like any other.
        }
        let expired = |record: Record<'_>| !self.is_live_at(&record, || self.clock.now_ms(), guard);
        let expired = segment.record(entry.offset()).is_ok_and(expired);
        if let (Some(_), Keep::Live, false) = (slot, dying.keep, expired)
            && state == SlotState::Value
            && segment.record(entry.offset()).is_ok_and(|record| record.is_intact())
            && self.find_place(hash, place, guard).is_some()
        {
            return Ok(Settled::NoRoom);
        }
        let emptied =
            slot.is_some() && self.replace_place(hash, place, |_| Slot::EMPTY, guard).is_some();
        if emptied && state == SlotState::Value {
            self.add_entries(-1);
            dying.dropped += 1;
            let why = match dying.keep {
                _ if expired => Count::Expired,
                Keep::Nothing => Count::Removes,
                Keep::Hot(_) | Keep::Live => Count::Evictions,
            };
            self.counters.add(why, 1);
        }
        self.bury(dying, entry, lane, guard)
    }

    fn is_worth_moving(&self, keep: Keep, slot: Slot, record: &Record<'_>, guard: &Guard) -> bool {
        let chosen = match keep {
            Keep::Hot(allowance) => slot.freq() > 0 && record.len() <= allowance,
            Keep::Live => true,
            Keep::Nothing => false,
        };
        chosen && self.is_live_at(record, || self.clock.now_ms(), guard) && record.is_intact()
    }

    /// The lane, if it has room for a copy of the record.
    fn roomy<'l, 's>(
        &self,
        keep: Keep,
        lane: Option<&'l mut Held<'s>>,
        record: &Record<'_>,
        guard: &mut Guard,
    ) -> Result<Option<&'l mut Held<'s>>> {
        let Some(lane) = lane else { return Ok(None) };
        let needed = record.room();
        // Not pinned meanwhile: it may have to wait for the disk, and nobody's memory for it.
        let roomy = guard.repin_after(|| self.make_room_in_lane(keep, lane, needed))?;
        Ok(roomy.then_some(lane))
    }

    /// Makes sure that a lane has room: the maintenance's by going on to the next segment, if
    /// the budget allows one. Whether there is room. Compaction of a
    /// cache, which evicts whatever it finds no room for otherwise, may exceed the budget by the
    /// segment that it writes to.
    fn make_room_in_lane(&self, keep: Keep, lane: &mut Held<'_>, needed: usize) -> Result<bool> {
        let roomy = |lane: &Held<'_>| lane.writer.as_ref().is_some_and(|w| w.room() >= needed);
        if roomy(lane) || self.fill_out(lane) && roomy(lane) {
            return Ok(true);
        }
        let fits = self.can_begin(0)
            || (keep == Keep::Live && !self.keeps_all() && self.usage.live() <= self.budget());
        if lane.number != self.lanes.maintenance_number() || !fits {
            return Ok(false);
        }
        self.seal(lane);
        *lane.writer =
            super::writer::Writer::new(self.begin_segment(lane.number, self.clock.now_ms())?);
        self.fill_out(lane);
        Ok(roomy(lane))
    }

    /// Moves the invalidation of a tag for as long as a segment is live that was begun before
    /// it (`tags.rs`); then it goes.
    fn pass_on(
        &self,
        dying: &mut Dying,
        entry: &FooterEntry,
        lane: Option<&mut Held<'_>>,
        guard: &mut Guard,
    ) -> Result<Settled> {
        let segment = Arc::clone(&dying.segment);
        let hash = entry.key_hash;
        let place = Slot::new(hash, segment.id(), entry.offset(), SlotState::Tombstone);
        let record = segment.record(entry.offset()).ok();
        let Some(record) = record.filter(|_| is_readable(&segment, entry.offset())) else {
            if !self.bury_veiled(dying, lane, guard)? {
                return Ok(Settled::NoRoom);
            }
            self.replace_place(hash, place, |_| Slot::EMPTY, guard);
            return Ok(Settled::Dropped);
        };
        if self.find_place(hash, place, guard).is_none() {
            return Ok(Settled::Dropped);
        }
        let seq = record.header.seq;
        let others: Vec<_> = self.all_live().values().cloned().collect();
        let mut others = others.iter().filter(|other| other.id() != segment.id());
        let is_needed = others.any(|other| may_hold_tagged_before(other, seq));
        if !is_needed {
            self.replace_place(hash, place, |_| Slot::EMPTY, guard);
            return Ok(Settled::Dropped);
        }
        let Some(lane) = lane else { return Ok(Settled::NoRoom) };
        let needed = room_for(record.key().len(), 0);
        if !guard.repin_after(|| self.make_room_in_lane(dying.keep, lane, needed))? {
            return Ok(Settled::NoRoom);
        }
        let offset = self.move_record(lane, hash, &record)?;
        dying.wrote = true;
        let target = lane.writer.as_ref().map_or(0, |writer| writer.segment().id());
        let moved = Slot::new(hash, target, offset, SlotState::Tombstone);
        self.replace_place(hash, place, |_| moved, guard);
        Ok(Settled::Moved)
    }

    /// Appends a record again to a lane that has room for it.
    pub(super) fn move_record(
        &self,
        lane: &mut Held<'_>,
        hash: u64,
        record: &Record<'_>,
    ) -> Result<usize> {
        let mut steady = Vec::new();
        let Some(record) = record.steady(&mut steady) else {
            return Err(self.cut_under(record));
        };
        let header = &record.header;
        let tags: Vec<u64> = record.tags().collect();
        let flags = header.flags.with(Flags::MOVED).without(Flags::EXPIRES);
        let copy = NewRecord {
            kind: header.kind,
            flags: flags.without(Flags::BATCHED),
            seq: header.seq,
            key_hash: hash,
            tags: &tags,
            key: record.key(),
            head: &[],
            value: record.value(),
            codec: header.codec,
            expires_at_ms: header.expires_at_ms,
            written_at_ms: record.written_at_ms(),
        };
        let offset = self.append(lane, &copy)?.0;
        if !tags.is_empty()
            && let Some(writer) = lane.writer.as_ref()
        {
            writer.segment().tally.note_tagged_copy(header.seq);
        }
        Ok(offset)
    }

    /// Leaves a tombstone behind for a record that goes, if it hides one that stays.
    fn bury(
        &self,
        dying: &Dying,
        entry: &FooterEntry,
        lane: Option<&mut Held<'_>>,
        guard: &mut Guard,
    ) -> Result<Settled> {
        if dying.hiders.is_empty() {
            return Ok(Settled::Dropped);
        }
        let segment = &dying.segment;
        let Some(seq) = segment.entry_seq(entry) else { return Ok(Settled::Dropped) };
        if !dying.hides(entry.key_hash, seq) {
            return Ok(Settled::Dropped);
        }
        let found;
        let record = match segment.record(entry.offset()) {
            Ok(record) if self.hasher.hash(record.key()) == entry.key_hash => record,
            // What it hides tells its key.
            _ => {
                found = self.overlapping(segment);
                match found.iter().find_map(|other| self.hidden_in(other, entry.key_hash, seq)) {
                    Some(hidden) => hidden,
                    None => return Ok(Settled::Dropped),
                }
            }
        };
        if self.is_hidden_for_good(entry.key_hash, record.key(), seq, guard) {
            return Ok(Settled::Dropped);
        }
        let is_buried = self.append_tombstone(dying.keep, &record, seq, lane, guard)?;
        Ok(if is_buried { Settled::Dropped } else { Settled::NoRoom })
    }

    /// Appends a tombstone with the number `seq` for the key of a record. Whether there was room.
    pub(super) fn append_tombstone(
        &self,
        keep: Keep,
        record: &Record<'_>,
        seq: u64,
        lane: Option<&mut Held<'_>>,
        guard: &mut Guard,
    ) -> Result<bool> {
        let tombstone = NewRecord {
            kind: Kind::Tombstone,
            flags: Flags::MOVED,
            seq,
            key_hash: self.hasher.hash(record.key()),
            tags: &[],
            key: record.key(),
            head: &[],
            value: &[],
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            written_at_ms: record.written_at_ms(),
        };
        let needed = room_for(record.key().len(), 0);
        if let Some(lane) = lane
            && guard.repin_after(|| self.make_room_in_lane(keep, lane, needed))?
        {
            self.append(lane, &tombstone)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// A record in a segment with a key of this hash that is older than `seq`.
    fn hidden_in<'s>(&self, other: &'s Segment, hash: u64, seq: u64) -> Option<Record<'s>> {
        let mut of_hash = other.entries().filter(|entry| entry.key_hash == hash);
        of_hash.find_map(|entry| {
            let record = other.record(entry.offset()).ok()?;
            let is_hidden = record.header.kind == Kind::Value
                && record.header.seq <= seq
                && self.hasher.hash(record.key()) == hash;
            is_hidden.then_some(record)
        })
    }

    /// Whether the newest record of a key hides all that the record `seq` does, as it will be
    /// asked when it goes itself (invariant 2): it is newer, or a copy of that very record, made
    /// by a process that died before the segment was gone. A tombstone would hide the copy.
    pub(super) fn is_hidden_for_good(
        &self,
        hash: u64,
        key: &[u8],
        seq: u64,
        guard: &Guard,
    ) -> bool {
        self.lookup(hash, key, guard).is_some_and(|newest| {
            let header = &newest.found.header;
            let hides = header.kind == Kind::Tombstone || header.flags.has(Flags::REPLACED);
            newest.seq > seq && hides || newest.seq == seq && newest.state == SlotState::Value
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::Options;
    use super::super::heap::Heap;
    use super::super::maintenance::Maintenance;
    use super::*;
    use crate::engine::{Engine, Put};

    /// Which of a first segment's records are compared with those of the lane beside it.
    fn compared(keys: impl Fn(u32) -> u32) -> usize {
        let options = Options {
            budget: 8 << 20,
            segment_len: Some(64 << 10),
            writers: Some(2),
            maintenance: Maintenance::Manual,
            ..Options::default()
        };
        let disk = options.open_in(Arc::new(Heap::default())).unwrap();
        let put = |key: u32| {
            let outcome = disk.put(&key.to_le_bytes(), &[7; 100], &Put::default()).unwrap();
            assert!(outcome.is_admitted());
        };
        // Beside the lane that is used below, so that the segments overlap.
        let held = disk.store.lanes.acquire();
        put(0);
        drop(held);
        (1..1_000).for_each(|number| put(keys(number)));
        let oldest =
            disk.store.all_live().values().find(|s| s.state() == SegmentState::Sealed).cloned();
        let mut dying = Dying::new(&disk.store, oldest.unwrap(), Keep::Hot(0));
        assert!(!dying.others.is_empty(), "something overlaps");
        while !dying.collect(&disk.store, false) {}
        assert_eq!(dying.others.is_empty(), dying.hiders.is_empty());
        dying.hiders.len()
    }

    #[test]
    fn nothing_is_compared_where_nothing_was_replaced() {
        assert_eq!(compared(|number| number), 0);
        assert!(compared(|number| number % 10) > 100);
    }
}
