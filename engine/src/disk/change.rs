//! Changing a key: the one way in which records are written and published.
//!
//! A change looks at what the key has, lets the caller decide, appends a record to a lane's
//! segment and publishes its slot over what it saw, all under the lane's lock (see the
//! invariants of `lanes.rs`). If the key has changed meanwhile, it begins again: a change takes
//! place at one moment, between what it saw and what it left behind.
//!
//! # Invariants
//! 1. A sequence number is drawn after the look at the key, so that it is above that of what
//!    the change replaces.
//! 2. A record that was appended and not published is older than what its key ends up with. A
//!    change that gives up after such a record sees to that: it writes what the key has again,
//!    or a tombstone. Otherwise a rebuild would take the lost record for the newest.
//! 3. A record without the flag *replaced* was published while its key had no slot, and no
//!    record of its own change was lost before it: it hides nothing (`dying.rs`).

use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::{CodecId, ExternalRef, Flags, Kind, Slot, SlotState};

use super::counters::Count;
use super::external::FileId;
use super::growth::Ground;
use super::index::{Blocked, Found, Generation, Published, Survey, Verdict};
use super::lanes::Held;
use super::map::Map;
use super::segment::{Record, Segment, file_name};
use super::shortage::Patience;
use super::store::Store;
use super::writer::{ALIGN_MAX, NewRecord, Writer, room_for};
use crate::clock::NEVER;
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// Entries that a lane counts before the store does: a part of the index's slots, and at most.
const ENTRIES_STEP: (u64, u64) = (1024, 64);

/// A key to be changed, and the bytes that it may be given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) hash: u64,
    pub(super) key: &'a [u8],
    /// What the value begins with, if that lies apart from it.
    pub(super) head: &'a [u8],
    pub(super) value: &'a [u8],
    /// Hashes of the tags that go with the value.
    pub(super) tags: &'a [u64],
    /// What most likely is written: its kind, and when it expires.
    pub(super) fate: (Kind, u64),
    pub(super) now_ms: u64,
    /// How long to wait for room.
    pub(super) patience: Patience,
    /// Whether it is to be made durable, for which it has to be known where it was written.
    pub(super) durable: bool,
}

/// What a key is to have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft {
    pub(super) content: Content,
    pub(super) flags: Flags,
    pub(super) codec: CodecId,
    pub(super) expires_at_ms: u64,
}

/// Where the bytes of a draft come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// From the change, with its tags.
    Given,
    /// From what the key has, with its tags.
    Kept,
    /// These, with the tags of what the key has.
    Number([u8; 8]),
    /// These, with the tags of the change.
    FirstNumber([u8; 8]),
    /// There are none: the key is removed.
    Nothing,
}

impl Draft {
    /// Removes the key.
    pub(super) const REMOVAL: Self = Self {
        content: Content::Nothing,
        flags: Flags::NONE,
        codec: CodecId::RAW,
        expires_at_ms: NEVER,
    };

    /// What the key has, with another deadline.
    pub(super) const fn kept(record: &Record<'_>, expires_at_ms: u64) -> Self {
        let header = &record.header;
        let flags = header.flags.without(Flags::REPLACED).without(Flags::MOVED);
        let flags = flags.without(Flags::BATCHED).without(Flags::EXPIRES);
        Self { content: Content::Kept, flags, codec: header.codec, expires_at_ms }
    }
}

/// What the caller makes of what a key has.
#[derive(Debug)]
pub(super) enum Decision<R> {
    /// It is to have this instead.
    Write(Draft, R),
    /// It stays as it is.
    Leave(R),
}

/// What a change wrote.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) seq: u64,
    /// Where, if the change asked for it.
    pub(super) segment: Option<Arc<Segment>>,
}

/// A record of a change that was appended and could not be published, as long as nothing newer is.
#[derive(Debug, Default)]
pub(super) struct Stray {
    pub(super) seq: Option<u64>,
    /// The segment that it ends, if the change had to go on in another.
    open: Option<Writer>,
}

impl Stray {
    /// The record with this number.
    pub(super) fn of(seq: u64) -> Self {
        Self { seq: Some(seq), open: None }
    }
}

/// What a survey found, and the generation that it was made in: places mean something there
/// only. If the page moves on meanwhile, its slots are frozen and nothing is published.
pub(super) type Surveyed<'g, T> = (Survey<T>, &'g Generation<Map>);

impl Store {
    /// Changes a key as `decide` says, which is asked with the record that the key has, value
    /// or tombstone, and asked again if that changes before the change takes place.
    pub(super) fn update<R>(
        &self,
        change: &Change<'_>,
        decide: impl FnMut(Option<&Found<Record<'_>>>, &Guard) -> Result<Decision<R>>,
    ) -> Result<(R, Option<Written>)> {
        self.update_pinned(change, None, decide)
    }

    /// As [`update`](Self::update), by a thread that is pinned already if there is a guard. It
    /// is let go before anything that takes time.
    pub(super) fn update_pinned<R>(
        &self,
        change: &Change<'_>,
        mut pinned: Option<Guard>,
        decide: impl FnMut(Option<&Found<Record<'_>>>, &Guard) -> Result<Decision<R>>,
    ) -> Result<(R, Option<Written>)> {
        let mut lane = match self.lanes.try_acquire(change.durable, None) {
            Some(lane) => lane,
            None => {
                pinned = None;
                self.acquire_lane(change.patience, change.durable)?
            }
        };
        // Under the lane's lock: a store that is closed is not written to (`durable.rs`).
        self.check_open()?;
        lane.patience = change.patience;
        let mut stray = Stray::default();
        let changed = self.update_in(&mut lane, change, pinned, &mut stray, decide);
        self.end_stray(&mut lane, change, stray, changed.is_err())?;
        changed
    }

    /// As [`update_pinned`](Self::update_pinned), in a lane. The caller [ends](Self::end_stray) what
    /// has gone astray.
    pub(super) fn update_in<R>(
        &self,
        lane: &mut Held<'_>,
        change: &Change<'_>,
        mut pinned: Option<Guard>,
        stray: &mut Stray,
        mut decide: impl FnMut(Option<&Found<Record<'_>>>, &Guard) -> Result<Decision<R>>,
    ) -> Result<(R, Option<Written>)> {
        let mut room = room_for(change.key.len(), change.value.len());
        if !change.head.is_empty() {
            room += change.head.len() + ALIGN_MAX;
        }
        let (kind, deadline_ms) = change.fate;
        loop {
            self.select(lane, deadline_ms, change.now_ms);
            if !self.is_roomy(lane, room, change.now_ms) {
                pinned = None;
                self.roll_past(stray, lane, room, (kind, change.now_ms))?;
            }
            if lane.writer.as_ref().is_some_and(|writer| writer.segment().tally.is_reserved()) {
                pinned = None;
                self.check_lane(lane, kind)?;
            }
            let guard = &pinned.take().unwrap_or_else(crossbeam_epoch::pin);
            let (survey, slots) = self.survey(change.hash, change.key, guard)?;
            let current = survey.current.as_ref();
            let (draft, result) = match decide(current, guard)? {
                Decision::Write(draft, result) => (draft, result),
                Decision::Leave(result) => {
                    let is_newest = |lost: u64| current.is_some_and(|found| found.seq > lost);
                    if stray.seq.is_none_or(is_newest) {
                        return Ok((result, None));
                    }
                    // Invariant 2.
                    let again = match current {
                        Some(Found { state: SlotState::Value, found, .. }) => {
                            Draft::kept(found, found.header.expires_at_ms)
                        }
                        _ => Draft::REMOVAL,
                    };
                    (again, result)
                }
            };
            let kept = current.map(|current| &current.found);
            if let (Content::Kept, Some(record)) = (draft.content, kept) {
                let needed = record.room();
                if needed > room {
                    room = needed;
                    continue;
                }
            }
            let (seq, in_flight) = lane.enter(self.file.next_seq());
            if !self.passes_gate() {
                drop(in_flight);
                self.await_gate();
                continue;
            }
            let hides = current.is_some() || stray.seq.is_some();
            let (offset, id) = self.append_draft(lane, change, &draft, (kept, hides), seq)?;
            let state = match draft.content {
                Content::Nothing => SlotState::Tombstone,
                _ => SlotState::Value,
            };
            let slot = Slot::new(change.hash, id, offset, state);
            let judge = |slot| self.judge(slot, change.key, guard);
            let changing = self.begin_change(change.hash);
            let published = slots.publish(change.hash, slot, seq, &survey, judge);
            drop(changing);
            let published = match published {
                Ok(published) => published,
                Err(_) => {
                    stray.seq = Some(seq);
                    // From here on there is something to be put right.
                    lane.patience = Patience::Help;
                    continue;
                }
            };
            drop(in_flight);
            stray.seq = None;
            if state == SlotState::Tombstone && self.lanes.none_before(seq) {
                // Nobody is left who could still publish an older value: the slot can go.
                let slots = self.index.for_reading(change.hash, guard);
                slots.swap_place(published.at, slot, |_| Slot::EMPTY);
            }
            if let Some(record) = kept
                && !matches!(draft.content, Content::Kept)
            {
                self.doom_external(record);
            }
            self.note_changed(lane, &published, slots, guard);
            let writer = lane.writer.as_ref().filter(|_| change.durable);
            let segment = writer.map(|writer| Arc::clone(writer.segment()));
            return Ok((result, Some(Written { seq, segment })));
        }
    }

    /// Turns the lane of a change to a new segment. One that ends with a record which has gone
    /// astray is not sealed before the change has come to its end: should the process die, the
    /// next opening decides about the last records of segments that are open (`cut_off.rs`).
    fn roll_past(
        &self,
        stray: &mut Stray,
        lane: &mut Held<'_>,
        room: usize,
        (kind, now_ms): (Kind, u64),
    ) -> Result<()> {
        if stray.seq.is_none() {
            return self.roll(lane, room, kind, now_ms);
        }
        if self.fill_out(lane) && self.is_roomy(lane, room, now_ms) {
            return Ok(());
        }
        let open = lane.writer.take();
        let rolled = self.roll(lane, room, kind, now_ms);
        if lane.writer.is_none() {
            *lane.writer = open;
        } else if let Some(older) = std::mem::replace(&mut stray.open, open) {
            // What it ends with is older than what the other does.
            self.seal_writer(older);
        }
        rolled
    }

    /// Ends what a change left behind, which may have failed.
    pub(super) fn end_stray(
        &self,
        lane: &mut Held<'_>,
        change: &Change<'_>,
        stray: Stray,
        failed: bool,
    ) -> Result<()> {
        let retracts = failed && stray.seq.is_some();
        let ended = if retracts { self.retract(lane, change) } else { Ok(()) };
        if let Some(writer) = stray.open {
            self.seal_writer(writer);
        }
        ended
    }

    #[inline]
    fn append_draft(
        &self,
        lane: &mut Held<'_>,
        change: &Change<'_>,
        draft: &Draft,
        (current, hides): (Option<&Record<'_>>, bool),
        seq: u64,
    ) -> Result<(usize, u64)> {
        let mut steady = Vec::new();
        let current = match (draft.content, current) {
            (Content::Kept | Content::Number(_), Some(record)) => {
                let found = record.steady(&mut steady).ok_or_else(|| self.cut_under(record))?;
                Some(found)
            }
            _ => None,
        };
        let kept_tags: Vec<u64> = match (draft.content, &current) {
            (Content::Kept | Content::Number(_), Some(record)) => record.tags().collect(),
            _ => Vec::new(),
        };
        let (value, tags): (&[u8], &[u64]) = match (&draft.content, &current) {
            (Content::Given, _) => (change.value, change.tags),
            (Content::Kept, Some(record)) => (record.value(), &kept_tags),
            (Content::Number(bytes), _) => (bytes, &kept_tags),
            (Content::FirstNumber(bytes), _) => (bytes, change.tags),
            (Content::Kept, None) | (Content::Nothing, _) => (&[], &[]),
        };
        let head = if matches!(draft.content, Content::Given) { change.head } else { &[] };
        let kind =
            if matches!(draft.content, Content::Nothing) { Kind::Tombstone } else { Kind::Value };
        let flags = if hides { draft.flags.with(Flags::REPLACED) } else { draft.flags };
        self.append(
            lane,
            &NewRecord {
                kind,
                flags,
                seq,
                key_hash: change.hash,
                tags,
                key: change.key,
                head,
                value,
                codec: draft.codec,
                expires_at_ms: draft.expires_at_ms,
                written_at_ms: change.now_ms,
            },
        )
    }

    /// Appends a record to a lane that has room for it; returns where it starts, and in which
    /// segment.
    #[inline]
    pub(super) fn append(
        &self,
        lane: &mut Held<'_>,
        record: &NewRecord<'_>,
    ) -> Result<(usize, u64)> {
        let (offset, id, taken) = self.append_to(lane, record)?;
        self.counters.add(Count::WrittenBytes, taken);
        Ok((offset, id))
    }

    /// As [`append`](Self::append), leaving it to the caller to count the bytes that were
    /// written, which come back last.
    #[inline]
    pub(super) fn append_to(
        &self,
        lane: &mut Held<'_>,
        record: &NewRecord<'_>,
    ) -> Result<(usize, u64, u64)> {
        let Some(writer) = lane.writer.as_mut() else { return Err(Error::Closed) };
        let filled = writer.filled();
        let appended = writer.append(record);
        let (taken, segment) = (writer.filled() - filled, writer.segment());
        let offset = appended.map_err(|error| {
            Error::io("append to", &self.storage.path(&file_name(segment.id())), error)
        })?;
        segment.tally.note_append(record, taken);
        if record.flags.has(Flags::EXTERNAL)
            && let Ok(named) = ExternalRef::decode(record.value)
        {
            // Relaxed: a sum.
            segment.external_bytes().fetch_add(named.data_len, Ordering::Relaxed);
        }
        Ok((offset, segment.id(), taken as u64))
    }

    /// Looks at a key as a writer does. There is a place for it then.
    #[inline]
    pub(super) fn survey<'g>(
        &self,
        hash: u64,
        key: &[u8],
        guard: &'g Guard,
    ) -> Result<Surveyed<'g, Record<'g>>> {
        self.survey_with(hash, |slot| self.judge(slot, key, guard), guard)
    }

    #[inline]
    fn survey_with<'g, T>(
        &self,
        hash: u64,
        mut judge: impl FnMut(Slot) -> Verdict<T>,
        guard: &'g Guard,
    ) -> Result<Surveyed<'g, T>> {
        let unmapped = self.unmapped();
        loop {
            let slots = self.index.for_writing(self.ground(), hash, guard);
            let (survey, entries) = slots.survey(hash, &mut judge);
            self.add_entries(entries);
            self.check_mapped(unmapped)?;
            match survey {
                Ok(survey) if survey.has_place() => return Ok((survey, slots)),
                Ok(_) => self.make_place(hash, guard)?,
                // The page has moved since: the next look finds where.
                Err(_) => self.index.thaw_strays(hash),
            }
        }
    }

    /// Publishes a record that nobody decides about: of a rebuild, or an invalidation. One that
    /// is not newer than what is there is left out.
    pub(super) fn publish_record<T>(
        &self,
        hash: u64,
        slot: Slot,
        seq: u64,
        judge: impl Fn(Slot) -> Verdict<T>,
        guard: &Guard,
    ) -> Result<()> {
        loop {
            let (survey, slots) = self.survey_with(hash, &judge, guard)?;
            if let Some(current) = &survey.current {
                // At equal sequence a tombstone wins over a value; else both are copies.
                let wins = slot.state() == SlotState::Tombstone && current.state != slot.state();
                if current.seq > seq || current.seq == seq && !wins {
                    return Ok(());
                }
            }
            let changing = self.begin_change(hash);
            let published = slots.publish(hash, slot, seq, &survey, &judge);
            drop(changing);
            match published {
                Ok(published) => {
                    self.note_published(&published, guard);
                    return Ok(());
                }
                Err(Blocked::Frozen | Blocked::Full | Blocked::Changed) => {}
            }
        }
    }

    /// As [`note_published`](Self::note_published), for the holder of a lane.
    #[inline]
    pub(super) fn note_changed(
        &self,
        lane: &Held<'_>,
        published: &Published,
        slots: &Generation<Map>,
        guard: &Guard,
    ) {
        if let Some(dead) = published.replaced {
            self.note_dead(dead, guard);
        }
        // Often enough that the index grows in time, also if it is small.
        let most = if self.together.is_some() { 1 } else { ENTRIES_STEP.1 };
        let step = (slots.geometry().slots() as u64 / ENTRIES_STEP.0).clamp(1, most);
        if published.entries != 0
            && let Some(entries) = lane.note_entries(published.entries, step)
        {
            self.add_entries(entries);
            self.grow_if_loaded(guard);
        }
    }

    fn note_published(&self, published: &Published, guard: &Guard) {
        self.add_entries(published.entries);
        if let Some(dead) = published.replaced {
            self.note_dead(dead, guard);
        }
        if published.replaced.is_none() {
            self.grow_if_loaded(guard);
        }
    }

    /// All 16 candidate slots of a key are taken: grow, or give up the coldest.
    pub(super) fn make_place(&self, hash: u64, guard: &Guard) -> Result<()> {
        if self.keeps_all() {
            return self.make_place_keeping(guard);
        }
        let slots = self.index.slot_count(guard);
        let half_full = self.entries() * 2 > slots;
        if half_full && !self.index.is_growing(guard) && self.grow()? {
            return Ok(());
        }
        let generation = self.index.for_writing(self.ground(), hash, guard);
        let may_go = |slot: Slot| match slot.state() {
            SlotState::Value => true,
            // What is pending without a batch under way is left of one that was cut off, unless
            // its record counts. Relaxed: whoever makes a place holds a lane, and a batch all.
            SlotState::Pending => {
                !self.batching.load(Ordering::Relaxed) && self.kind_at(slot, guard).is_none()
            }
            _ => self.is_no_invalidation(slot, guard),
        };
        let chosen = generation.coldest(hash, may_go);
        if !generation.is_full(hash) {
            // Slots of others that were tentative are gone, or the index has grown.
            return Ok(());
        }
        let Some((at, coldest)) = chosen else {
            return if self.grow()? { Ok(()) } else { Err(Error::IndexFull) };
        };
        // Relaxed: a hint; the swap below publishes it with AcqRel.
        self.file.dropped().store(1, Ordering::Relaxed);
        if generation.swap(at, coldest, Slot::EMPTY) && coldest.state() == SlotState::Value {
            self.add_entries(-1);
            self.counters.add(Count::Evictions, 1);
        }
        Ok(())
    }

    /// The kind of the record that a slot leads to; `None` if there is none that counts.
    pub(super) fn kind_at(&self, slot: Slot, guard: &Guard) -> Option<Kind> {
        let segment = self.segment_at(slot.segment(), guard)?;
        segment.record(slot.offset()).ok().map(|record| record.header.kind)
    }

    /// Grows the index if it is loaded, or asks the maintenance to if it soon will be. What took
    /// place has taken place, whether that works or not: the next one tries again, and only when
    /// there is no place at all does it fail.
    pub(super) fn grow_if_loaded(&self, guard: &Guard) {
        let (slots, entries) = (self.index.slot_count(guard), self.entries());
        if !Self::grows_ahead(entries, slots) || self.index.is_growing(guard) {
            return;
        }
        self.upkeep.wish_growth(slots);
        // Whoever makes the next generation already does so for all: nobody waits for it as long
        // as there is a place.
        if entries * 4 > slots * 3 && !self.index.is_locked() {
            let _ = self.grow();
        }
    }

    /// Starts the next index generation. A disk without room for it is no reason to fail: the
    /// index then stays as it is, and gives up slots.
    fn grow(&self) -> Result<bool> {
        if !self.may_grow() {
            // Somebody else may have been first.
            return Ok(self.index.is_growing(&crossbeam_epoch::pin()));
        }
        match self.start_growth() {
            Ok(grown) => Ok(grown),
            Err(Error::StorageFull { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What the index needs of the store to grow.
    pub(super) fn ground(&self) -> Ground<'_> {
        Ground { storage: &*self.storage, generations: self.file.generations() }
    }

    /// Dooms the external file of a value that was replaced.
    #[inline]
    pub(super) fn doom_external(&self, old: &Record<'_>) {
        if old.header.flags.has(Flags::EXTERNAL)
            && let Ok(named) = ExternalRef::decode(old.value())
        {
            self.doomed.lock().push(FileId::named(&named));
            self.upkeep.bell.ring();
        }
    }
}
