//! Changing a key: put and remove.
//!
//! A change appends a record to a lane's segment and publishes its slot, both under the lane's
//! lock (see the invariants of `lanes.rs`). Whoever publishes also makes the place for it: the
//! index doubles when it is loaded, and gives up the coldest slot when it cannot.

use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::{CodecId, ExternalRef, Flags, Kind, Slot, SlotState};

use super::counters::Count;
use super::growth::Ground;
use super::index::{Blocked, Published, Verdict};
use super::lanes::Held;
use super::segment::{NewRecord, Record, Segment, file_name, room_for};
use super::store::Store;
use crate::clock::{NEVER, is_live};
use crate::engine::{Durability, Outcome, Put, Rejection};
use crate::error::{Error, Result};
use crate::sync::Ordering;

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
        let orphan = |_: &Error| self.doom_orphan(change.flags, change.value);
        let changed = self.change(&change).inspect_err(orphan)?;
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
        let identity = (id, seq, change.hash);
        let named = self.externals.put(&*self.storage, identity, key, value, durable)?;
        self.counters.add(Count::WrittenBytes, value.len() as u64);
        Ok(named)
    }

    /// Most bytes of key and value that the store takes: what is left of the budget when all
    /// lanes have a segment and everything else is evicted.
    pub(super) fn largest_value(&self) -> u64 {
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
        let needed = room_for(change.key.len(), change.value.len());
        let fate = (change.kind, change.expires_at_ms);
        self.make_room(&mut lane, needed, fate, change.now_ms)?;
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
        let published = self
            .publish(change.hash, change.key, slot, seq, guard)
            .or_else(|error| self.retract(&mut lane, &record, error))?;
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
        segment.tally.note_append(record, room - writer.room());
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
            let slots = self.index.for_writing(self.ground(), hash, guard);
            match slots.publish(hash, slot, seq, |slot| self.judge(slot, key, guard)) {
                Ok(published) => break published,
                // The page has moved since: the next look finds where.
                Err(Blocked::Frozen) => self.index.thaw_strays(hash),
                Err(Blocked::Full) => self.make_place(hash, guard)?,
            }
        };
        self.add_entries(published.entries);
        self.note_published(&published, slot, guard);
        if published.entries > 0 {
            self.grow_if_loaded(guard)?;
        }
        Ok(published)
    }

    /// All 16 candidate slots of a key are taken: grow, or give up the coldest.
    fn make_place(&self, hash: u64, guard: &Guard) -> Result<()> {
        if self.keeps_all() {
            return self.make_place_keeping(guard);
        }
        let slots = self.index.slot_count(guard);
        let half_full = self.entries() * 2 > slots;
        if half_full && !self.index.is_growing(guard) && self.grow()? {
            return Ok(());
        }
        let generation = self.index.for_writing(self.ground(), hash, guard);
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
            self.grow()?;
        }
        Ok(())
    }

    /// Starts the next index generation. A disk without room for it is no reason to fail: the
    /// index then stays as it is, and gives up slots.
    fn grow(&self) -> Result<bool> {
        if !self.may_grow() {
            // Somebody else may have been first.
            return Ok(self.index.is_growing(&crossbeam_epoch::pin()));
        }
        match self.index.grow(self.ground()) {
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
    fn forget_external(&self, old: Slot, hash: u64, key: &[u8], guard: &Guard) {
        let Verdict::Same { found, .. } = self.judge(old, key, guard) else { return };
        if found.header.flags.has(Flags::EXTERNAL)
            && let Ok(named) = ExternalRef::decode(found.value())
            && !self.is_named(&found, named.id, hash, guard)
        {
            self.doomed.lock().push(named.id);
            self.upkeep.bell.ring();
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
}
