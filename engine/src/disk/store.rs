//! The store: what happens to a key.
//!
//! # Invariants
//! 1. What a caller gets was committed, belongs to this very key (its bytes are compared), and
//!    passed its checksums. The index only says where to look.
//! 2. Of several records of a key the newest counts; at equal sequence all are copies.
//! 3. A `put` has returned once its record is committed and its slot is published; both
//!    survive the death of the process, being in the page cache.
//!
//! Not here: making room (`reclaim.rs`), opening (`open.rs`), checking (`verify.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_epoch::Guard;
use larder_format::layout::KEY_LEN_MAX;
use larder_format::{CodecId, ExternalRef, Flags, KeyHasher, Kind, Slot, SlotState};
use parking_lot::Mutex;

use super::counters::{Count, Counters};
use super::external::Externals;
use super::growth::{Index, Step};
use super::index::{self, Blocked, Found, Published, Verdict};
use super::lanes::{Held, Lanes};
use super::segment::{NewRecord, Record, Segment, file_name, room_for};
use super::session::StoreFile;
use super::storage::Storage;
use super::table::Table;
use super::usage::Usage;
use crate::clock::{Clock, NEVER, is_live};
use crate::engine::{Durability, Outcome, Put, Rejection};
use crate::error::{Error, Result};
use crate::stats::{Recovery, Stats};
use crate::sync::{AtomicBool, Ordering};
use crate::value::{Meta, Value};

/// A value up to this many bytes is copied out; a larger one is a view of the mapping. Many
/// small views would keep whole segments mapped that have long been reclaimed.
const COPY_OUT_MAX: usize = 1 << 10;

/// A record from a segment whose clock was this far ahead of ours is taken for expired, if it
/// can expire at all.
const CLOCK_SLACK_MS: u64 = 60_000;

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) file: StoreFile,
    pub(super) hasher: KeyHasher,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ttl: Option<Duration>,
    /// Bytes that the directory may hold.
    pub(super) budget: u64,
    pub(super) index: Index,
    pub(super) table: Table,
    /// Every live segment by id. Locked last, and never for long.
    pub(super) live: Mutex<BTreeMap<u64, Arc<Segment>>>,
    pub(super) lanes: Lanes,
    /// Held to give a segment its id and to reclaim.
    pub(super) reclaiming: Mutex<()>,
    pub(super) externals: Externals,
    /// External files of replaced values, to be unlinked once their replacement is durable.
    pub(super) doomed: Mutex<Vec<u64>>,
    pub(super) usage: Arc<Usage>,
    pub(super) counters: Counters,
    pub(super) recovery: Recovery,
    pub(super) recovered_records: u64,
    pub(super) open_us: u64,
    /// Whether the shared count of entries is exact; it is not after a process died.
    pub(super) entries_exact: bool,
    pub(super) closed: AtomicBool,
}

/// A change to a key, before it has a sequence number.
#[derive(Debug, Clone, Copy)]
struct Change<'a> {
    kind: Kind,
    flags: Flags,
    hash: u64,
    key: &'a [u8],
    value: &'a [u8],
    codec: CodecId,
    expires_at_ms: u64,
    now_ms: u64,
}

/// What a change did.
#[derive(Debug)]
struct Changed {
    seq: u64,
    segment: Arc<Segment>,
    /// Whether the key had a live value before.
    was_live: bool,
    /// What the key has instead, if that was newer.
    winner: Option<SlotState>,
}

impl Store {
    pub(super) fn check_open(&self) -> Result<()> {
        // Acquire: pairs with `close`; a call that begins after it returned sees it.
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    fn hash(&self, key: &[u8]) -> Result<u64> {
        if key.len() > KEY_LEN_MAX {
            return Err(Error::KeyTooLong { len: key.len(), max: KEY_LEN_MAX });
        }
        Ok(self.hasher.hash(key))
    }

    /// What the record that a slot points to says about a key.
    #[inline]
    pub(super) fn judge<'g>(
        &self,
        slot: Slot,
        key: &[u8],
        guard: &'g Guard,
    ) -> Verdict<Record<'g>> {
        let Some(segment) = self.table.get(slot.segment(), guard) else { return Verdict::Gone };
        let Ok(record) = segment.record(slot.offset()) else { return Verdict::Other };
        let fits = match record.header.kind {
            Kind::Value => slot.state() == SlotState::Value,
            Kind::Tombstone => slot.state() == SlotState::Tombstone,
            _ => false,
        };
        if fits && record.key() == key {
            Verdict::Same { seq: record.header.seq, found: record }
        } else {
            Verdict::Other
        }
    }

    /// The newest record of a key.
    #[inline]
    pub(super) fn lookup<'g>(
        &self,
        hash: u64,
        key: &[u8],
        guard: &'g Guard,
    ) -> Option<Found<Record<'g>>> {
        let slots = || self.index.for_reading(hash, guard);
        index::lookup(slots, hash, |slot| self.judge(slot, key, guard))
    }

    /// Whether a record's value may be served at this time.
    pub(super) fn is_live_at(&self, record: &Record<'_>, now_ms: impl FnOnce() -> u64) -> bool {
        let deadline = record.header.expires_at_ms;
        if deadline == NEVER {
            return true;
        }
        let now_ms = now_ms();
        is_live(deadline, now_ms) && record.written_at_ms() <= now_ms.saturating_add(CLOCK_SLACK_MS)
    }

    /// The live value of a key, its slot and record, or `None` with what was missed counted.
    fn live<'g>(&self, hash: u64, key: &[u8], guard: &'g Guard) -> Option<Found<Record<'g>>> {
        let found = self.lookup(hash, key, guard)?;
        if found.slot.state() != SlotState::Value {
            return None;
        }
        if self.is_live_at(&found.found, || self.clock.now_ms()) {
            return Some(found);
        }
        // The deadline stands in the record: whoever rebuilds the index sees it as well, so
        // the slot can go without a tombstone.
        let slots = self.index.for_reading(hash, guard);
        if slots.swap_place(found.at, found.slot, |_| Slot::EMPTY).is_some() {
            self.add_entries(-1);
            self.counters.add(Count::Expired, 1);
        }
        None
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let guard = &crossbeam_epoch::pin();
        let Some(found) = self.live(hash, key, guard) else {
            self.counters.add(Count::Misses, 1);
            return Ok(None);
        };
        let value = self.value(&found.found, guard)?;
        if value.is_some() {
            self.index.for_reading(hash, guard).touch(found.at, found.slot);
            self.counters.add(Count::Hits, 1);
        } else {
            self.counters.add(Count::Corrupt, 1);
            self.counters.add(Count::Misses, 1);
        }
        Ok(value)
    }

    /// The value of a record, if all of it passes its checksums.
    pub(super) fn value(&self, record: &Record<'_>, guard: &Guard) -> Result<Option<Value>> {
        if !record.is_intact() {
            return Ok(None);
        }
        let meta = Meta {
            codec: record.header.codec,
            expires_at_ms: record.header.expires_at_ms,
            written_at_ms: record.written_at_ms(),
            version: record.header.seq,
        };
        if record.header.flags.has(Flags::EXTERNAL) {
            let Ok(named) = ExternalRef::decode(record.value()) else { return Ok(None) };
            let external = self.externals.get(&*self.storage, &named, guard)?;
            return Ok(external
                .and_then(|file| file.value())
                .map(|view| Value::mapped(view, meta)));
        }
        let bytes = record.value();
        if bytes.len() <= COPY_OUT_MAX {
            return Ok(Some(Value::new(bytes, meta)));
        }
        let place = Slot::new(0, record.segment.id(), 0, SlotState::Value);
        Ok(Some(match self.table.get(place.segment(), guard) {
            Some(segment) => Value::mapped(segment.view(record.value_range()), meta),
            // Reclaimed since it was looked up: the record stays while the guard is pinned.
            None => Value::new(bytes, meta),
        }))
    }

    pub(crate) fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let guard = &crossbeam_epoch::pin();
        Ok(self.live(hash, key, guard).map(|found| found.seq))
    }

    pub(crate) fn put(&self, key: &[u8], value: &[u8], options: &Put) -> Result<Outcome> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let now_ms = self.clock.now_ms();
        let expires_at_ms = options.ttl.deadline_ms(now_ms, self.ttl);
        let mut change = Change {
            kind: Kind::Value,
            flags: Flags::NONE,
            hash,
            key,
            value,
            codec: options.codec,
            expires_at_ms,
            now_ms,
        };
        if !is_live(expires_at_ms, now_ms) {
            // Dead on arrival: what counts is that the old value goes.
            change = Change { kind: Kind::Tombstone, value: &[], expires_at_ms: NEVER, ..change };
        }
        let weight = (key.len() as u64).saturating_add(value.len() as u64);
        let limit = self.largest_value();
        if weight > limit {
            self.counters.add(Count::Rejected, 1);
            return Ok(Outcome::Rejected(Rejection::TooLarge { weight, limit }));
        }
        let encoded;
        let durable = options.durability == Durability::Sync;
        if change.kind == Kind::Value && value.len() >= self.file.superblock().external_min as usize
        {
            let named = self.put_external(&change, durable)?;
            encoded = named.encode();
            change = Change { value: &encoded, flags: Flags::EXTERNAL, ..change };
        }
        let changed = self.change(&change)?;
        if durable {
            changed.segment.sync(&*self.storage).inspect_err(|_| self.note_suspect())?;
        }
        self.counters.add(Count::Inserts, 1);
        self.counters.add(Count::PutBytes, weight);
        Ok(Outcome::Admitted { version: changed.seq })
    }

    fn put_external(&self, change: &Change<'_>, durable: bool) -> Result<ExternalRef> {
        let (key, value) = (change.key, change.value);
        self.make_space_for(value.len() as u64, change.now_ms)?;
        // Relaxed: only distinctness counts.
        let id = self.file.next_external().fetch_add(1, Ordering::Relaxed);
        let seq = self.file.next_seq().fetch_add(1, Ordering::Relaxed);
        let guard = &crossbeam_epoch::pin();
        let identity = (id, seq, change.hash);
        let named = self.externals.put(&*self.storage, identity, key, value, durable, guard)?;
        self.counters.add(Count::WrittenBytes, value.len() as u64);
        Ok(named)
    }

    /// Most bytes of key and value that the store takes: what is left of the budget when all
    /// lanes have a segment and everything else is evicted.
    fn largest_value(&self) -> u64 {
        let fixed = u64::from(self.file.superblock().segment_len) * 2 + (256 << 10);
        self.budget.saturating_sub(fixed)
    }

    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let known = self.lookup(hash, key, &crossbeam_epoch::pin()).is_some();
        // Relaxed: a hint that is set before any record can be unknown because of it.
        if !known && self.file.dropped().load(Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        let change = Change {
            kind: Kind::Tombstone,
            flags: Flags::NONE,
            hash,
            key,
            value: &[],
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            now_ms: self.clock.now_ms(),
        };
        let changed = self.change(&change)?;
        if changed.was_live {
            self.counters.add(Count::Removes, 1);
        }
        Ok(changed.was_live)
    }

    /// Changes a key. A put that is late for a newer put was replaced at once, and that is
    /// that. One that is late for a newer removal may not be lost, as that removal may have
    /// said that there was nothing; and a removal that is late for a newer put has to remove
    /// it: both are done again, as newest.
    fn change(&self, change: &Change<'_>) -> Result<Changed> {
        loop {
            let changed = self.change_once(change)?;
            let own =
                if change.kind == Kind::Value { SlotState::Value } else { SlotState::Tombstone };
            if changed.winner.is_none_or(|winner| winner == own) {
                return Ok(changed);
            }
        }
    }

    /// Appends and publishes a record (see the invariants of `lanes.rs`).
    fn change_once(&self, change: &Change<'_>) -> Result<Changed> {
        let mut lane = self.lanes.acquire();
        self.make_room(&mut lane, room_for(change.key.len(), change.value.len()), change.now_ms)?;
        let guard = &crossbeam_epoch::pin();
        let (seq, in_flight) = lane.enter(self.file.next_seq());
        let before = self.lookup(change.hash, change.key, guard);
        let flags = match before {
            Some(_) => change.flags.with(Flags::REPLACED),
            None => change.flags,
        };
        let record = NewRecord {
            kind: change.kind,
            flags,
            seq,
            key_hash: change.hash,
            key: change.key,
            value: change.value,
            codec: change.codec,
            expires_at_ms: change.expires_at_ms,
            written_at_ms: change.now_ms,
        };
        let (offset, segment) = self.append(&mut lane, &record)?;
        let state =
            if change.kind == Kind::Value { SlotState::Value } else { SlotState::Tombstone };
        let slot = Slot::new(change.hash, segment.id(), offset, state);
        let published = self.publish(change.hash, change.key, slot, seq, guard)?;
        drop(in_flight);
        if published.winner.is_none()
            && state == SlotState::Tombstone
            && self.lanes.none_before(seq)
        {
            // Nobody is left who could still publish an older value: the slot can go at once.
            let slots = self.index.for_reading(change.hash, guard);
            slots.swap_place(published.at, slot, |_| Slot::EMPTY);
        }
        // What was replaced may be newer than what was looked up before. It is looked at while
        // the lane is held: a clear has to wait, and takes nothing away from under this.
        let was_live = published.replaced.is_some_and(|old| {
            old.state() == SlotState::Value
                && match self.judge(old, change.key, guard) {
                    Verdict::Same { found, .. } => self.is_live_at(&found, || change.now_ms),
                    Verdict::Gone | Verdict::Other => false,
                }
        });
        drop(lane);
        if let Some(old) = published.replaced {
            self.forget_external(old, change.hash, change.key, guard);
        }
        Ok(Changed { seq, segment, was_live, winner: published.winner })
    }

    /// Appends a record to a lane that has room for it.
    pub(super) fn append(
        &self,
        lane: &mut Held<'_>,
        record: &NewRecord<'_>,
    ) -> Result<(usize, Arc<Segment>)> {
        let Some(writer) = lane.writer.as_mut() else { return Err(Error::Closed) };
        let segment = Arc::clone(writer.segment());
        let room = writer.room();
        let offset = writer.append(record).map_err(|error| {
            Error::io("append to", &self.storage.path(&file_name(segment.id())), error)
        })?;
        self.counters.add(Count::WrittenBytes, (room - writer.room()) as u64);
        if record.flags.has(Flags::EXTERNAL)
            && let Ok(named) = ExternalRef::decode(record.value)
        {
            // Relaxed: a sum.
            segment.external_bytes().fetch_add(named.data_len, Ordering::Relaxed);
        }
        Ok((offset, segment))
    }

    /// Publishes a slot in the index, making a place for it if need be.
    pub(super) fn publish(
        &self,
        hash: u64,
        key: &[u8],
        slot: Slot,
        seq: u64,
        guard: &Guard,
    ) -> Result<Published> {
        let published = loop {
            let (slots, step) = self.index.for_writing(&*self.storage, hash, guard);
            self.note_step(step);
            match slots.publish(hash, slot, seq, |slot| self.judge(slot, key, guard)) {
                Ok(published) => break published,
                // The page has moved since: the next look finds where.
                Err(Blocked::Frozen) => {}
                Err(Blocked::Full) => self.make_place(hash, guard)?,
            }
        };
        self.add_entries(published.entries);
        if published.entries > 0 {
            self.grow_if_loaded(guard)?;
        }
        Ok(published)
    }

    /// All 16 candidate slots of a key are taken: grow, or give up the coldest.
    fn make_place(&self, hash: u64, guard: &Guard) -> Result<()> {
        let slots = self.index.slot_count(guard);
        let half_full = self.entries() * 2 > slots;
        if half_full && !self.index.is_growing(guard) && self.grow(guard)? {
            return Ok(());
        }
        let (generation, step) = self.index.for_writing(&*self.storage, hash, guard);
        self.note_step(step);
        let Some((at, coldest)) = generation.coldest(hash) else { return Ok(()) };
        // Relaxed: a hint; the swap below publishes it with AcqRel.
        self.file.dropped().store(1, Ordering::Relaxed);
        if generation.swap(at, coldest, Slot::EMPTY) && coldest.state() == SlotState::Value {
            self.add_entries(-1);
            self.counters.add(Count::Evictions, 1);
        }
        Ok(())
    }

    fn grow_if_loaded(&self, guard: &Guard) -> Result<()> {
        let slots = self.index.slot_count(guard);
        if self.entries() * 4 > slots * 3 && !self.index.is_growing(guard) {
            self.grow(guard)?;
        }
        Ok(())
    }

    /// Starts the next index generation. A disk without room for it is no reason to fail: the
    /// index then stays as it is, and gives up slots.
    fn grow(&self, guard: &Guard) -> Result<bool> {
        match self.index.grow(&*self.storage, guard) {
            Ok(Step::Same) => Ok(false),
            Ok(step) => {
                self.note_step(step);
                Ok(true)
            }
            Err(Error::StorageFull { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells later openings which index files count.
    pub(super) fn note_step(&self, step: Step) {
        if let Step::Changed(new, old) = step {
            let word = u64::from(new) | u64::from(old) << 32;
            // Release: who reads the word finds the files; both have their names by now.
            self.file.generations().store(word, Ordering::Release);
        }
    }

    pub(super) fn add_entries(&self, by: i64) {
        if by != 0 {
            // Relaxed: a count. Wrapping: adding a negative number.
            self.file.entries().fetch_add(by.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Number of value slots, as counted; may be off after a process died.
    pub(super) fn entries(&self) -> u64 {
        // Relaxed: a count. A dead process can leave it slightly off, even below zero.
        let entries = self.file.entries().load(Ordering::Relaxed);
        if entries.cast_signed() < 0 { 0 } else { entries }
    }

    pub(crate) fn len(&self) -> u64 {
        if self.entries_exact {
            return self.entries();
        }
        self.index.count_values(&crossbeam_epoch::pin())
    }

    /// Dooms the external file of a value that was replaced.
    fn forget_external(&self, old: Slot, hash: u64, key: &[u8], guard: &Guard) {
        let Verdict::Same { found, .. } = self.judge(old, key, guard) else { return };
        if found.header.flags.has(Flags::EXTERNAL)
            && let Ok(named) = ExternalRef::decode(found.value())
            && !self.is_named(&found, named.id, hash, guard)
        {
            self.doomed.lock().push(named.id);
        }
    }

    /// Whether the live record of a dead one's key names the same external file: it is a copy.
    fn is_named(&self, record: &Record<'_>, id: u64, hash: u64, guard: &Guard) -> bool {
        self.lookup(hash, record.key(), guard).is_some_and(|found| {
            found.slot.state() == SlotState::Value
                && found.found.header.flags.has(Flags::EXTERNAL)
                && ExternalRef::decode(found.found.value()).is_ok_and(|named| named.id == id)
        })
    }

    /// Unlinks the external file that a dead record names, unless the live one names it too.
    pub(super) fn drop_external(&self, record: &Record<'_>, hash: u64, guard: &Guard) {
        let Ok(named) = ExternalRef::decode(record.value()) else { return };
        if !self.is_named(record, named.id, hash, guard) {
            // What cannot be unlinked now is swept by the next opening.
            let _ = self.externals.remove(&*self.storage, named.id, guard);
            // Relaxed: a sum.
            let bytes = record.segment.external_bytes();
            bytes.fetch_sub(named.data_len.min(bytes.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.check_open()?;
        self.sync_all()
    }

    fn sync_all(&self) -> Result<()> {
        self.externals.sync(&*self.storage).inspect_err(|_| self.note_suspect())?;
        self.sync_segments()?;
        self.free_doomed()
    }

    /// Makes the records of all segments durable; all are tried, the first failure counts.
    pub(super) fn sync_segments(&self) -> Result<()> {
        let segments: Vec<_> = self.live.lock().values().cloned().collect();
        let mut result = Ok(());
        for segment in segments {
            let synced = segment.sync(&*self.storage);
            result = result.and(synced);
        }
        result.inspect_err(|_| self.note_suspect())
    }

    /// Remembers durably, as far as the disk still goes along, that write-back failed: what
    /// the page cache holds cannot be trusted to be on disk.
    fn note_suspect(&self) {
        if let Some(session) = self.file.session()
            && !session.suspect
        {
            let session = larder_format::Session { suspect: true, ..session };
            // The error that brought us here is what the caller gets.
            let _ = self.file.write_session(&*self.storage, session);
        }
    }

    pub(crate) fn clear(&self) -> Result<u64> {
        self.check_open()?;
        let mut lanes = self.lanes.acquire_all();
        lanes.iter_mut().for_each(|lane| self.seal(lane));
        // Relaxed: all lanes are held, so that nobody begins a segment meanwhile.
        let gone = self.drop_before(self.file.next_segment().load(Ordering::Relaxed))?;
        drop(lanes);
        Ok(gone)
    }

    pub(crate) fn close(&self) -> Result<()> {
        // AcqRel: pairs with `check_open`; only one caller closes.
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::Closed);
        }
        // Writers that were under way finish first.
        let lanes = self.lanes.acquire_all();
        self.sync_all()?;
        self.index.sync(&*self.storage, &crossbeam_epoch::pin())?;
        drop(lanes);
        let Some(session) = self.file.session() else { return Ok(()) };
        self.file.write_session(&*self.storage, larder_format::Session { clean: true, ..session })
    }

    pub(crate) fn stats(&self) -> Stats {
        let guard = &crossbeam_epoch::pin();
        let mut stats = Stats {
            entries: self.entries(),
            used_bytes: self.usage.live() + self.usage.retired(),
            retired_bytes: self.usage.retired(),
            budget_bytes: self.budget,
            segments: self.live.lock().len() as u64,
            index_slots: self.index.slot_count(guard),
            recovery: self.recovery,
            recovered_records: self.recovered_records,
            open_us: self.open_us,
            ..Stats::default()
        };
        self.counters.fill(&mut stats);
        stats
    }
}
