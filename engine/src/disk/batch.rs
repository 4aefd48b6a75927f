//! Batches: records that become visible, and survive, together or not at all.
//!
//! The records of a batch lie side by side in one segment, between a begin and a commit, and
//! are staged: written, but not covered by the committed word. Each gets a pending slot beside
//! the slot that its key has. Then one store of the committed word makes all of them count:
//! from there on every reader that meets a pending slot prefers it. At last each pending slot
//! takes the place of its key's older one.
//!
//! # Invariants
//! 1. All lanes of writers are held meanwhile: nobody else changes a key. Readers go on, and so does
//!    reclaiming, which moves and empties slots but writes nothing new.
//! 2. Every pending slot is in the index before the committed word covers its record.
//! 3. A segment whose batch was cut off by a kill is never appended to again (`open.rs`): no
//!    other record ever comes to stand where a pending slot of that batch points to.

use std::borrow::Cow;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::layout::{BATCH_LEN, SEGMENT_DATA};
use larder_format::{Batch, CodecId, ExternalRef, Flags, Kind, RecordHeader, Slot, SlotState};

use super::change::Change;
use super::counters::Count;
use super::external::FileId;
use super::lanes::Held;
use super::segment::{Segment, file_name};
use super::shortage::Patience;
use super::store::Store;
use super::writer::{NewRecord, room_for};
use crate::batch::{BatchChange, BatchOutcome, WriteBatch};
use crate::clock::{NEVER, is_live};
use crate::engine::{Durability, Rejection};
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// A change of a batch, ready to be staged.
struct Step<'a> {
    key: &'a [u8],
    hash: u64,
    /// The value as stored, or nothing to remove the key.
    value: Option<Cow<'a, [u8]>>,
    external: Option<ExternalRef>,
    /// What was done to the value to store it.
    flags: Flags,
    /// Bytes that packing it saved.
    saved: u64,
    tags: Vec<u64>,
    codec: CodecId,
    expires_at_ms: u64,
}

impl Step<'_> {
    const fn kind(&self) -> Kind {
        if self.value.is_some() { Kind::Value } else { Kind::Tombstone }
    }

    fn stored(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    fn room(&self) -> usize {
        room_for(self.key.len(), self.stored().len())
    }

    /// Bytes that its record takes.
    fn record_len(&self) -> usize {
        let key_len = u16::try_from(self.key.len()).unwrap_or(u16::MAX);
        let value_len = u32::try_from(self.stored().len()).unwrap_or(u32::MAX);
        let header = RecordHeader {
            expires_at_ms: self.expires_at_ms,
            tag_count: u8::try_from(self.tags.len()).unwrap_or(u8::MAX),
            ..RecordHeader::new(self.kind(), 1, key_len, value_len)
        };
        header.extent(SEGMENT_DATA).end - SEGMENT_DATA
    }
}

impl Store {
    pub(crate) fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<BatchOutcome> {
        let _gate = self.enter_gate()?;
        let now_ms = self.clock.now_ms();
        let changes = batch.last_changes();
        let weight: u64 = changes.iter().map(|change| weight(change)).sum();
        let limit = self.largest_value();
        let rejected = |limit| {
            self.counters.add(Count::Rejected, 1);
            Ok(BatchOutcome::Rejected(Rejection::TooLarge { weight, limit }))
        };
        if weight > limit {
            return rejected(limit);
        }
        let durable = durability == Durability::Sync;
        let mut steps = Vec::with_capacity(changes.len());
        let mut room = 2 * room_for(0, BATCH_LEN);
        for change in changes {
            let step = self.prepare(change, now_ms, durable)?;
            room += step.room();
            steps.push(step);
        }
        let most = self.file.superblock().segment_len as usize - SEGMENT_DATA - 256;
        if room > most {
            self.discard(&steps)?;
            return rejected(most as u64);
        }
        let outcome = self.write_steps(batch, &steps, room, now_ms);
        match outcome {
            Ok((BatchOutcome::Committed { version }, segment)) => {
                if let (true, Some(segment)) = (durable, segment) {
                    self.sync_segment(&segment)?;
                }
                self.counters.add(Count::Inserts, steps.len() as u64);
                self.counters.add(Count::PutBytes, weight);
                let saved = steps.iter().map(|step| step.saved).sum();
                self.counters.add(Count::CompressedSaved, saved);
                Ok(BatchOutcome::Committed { version })
            }
            Ok((outcome, _)) => {
                self.discard(&steps)?;
                Ok(outcome)
            }
            Err(error) => {
                // The error that brought us here is what the caller gets.
                let _ = self.discard(&steps);
                Err(error)
            }
        }
    }

    /// Prepares a change: hashes, deadline, and the file of a large value.
    fn prepare<'a>(&self, change: &'a BatchChange, now_ms: u64, durable: bool) -> Result<Step<'a>> {
        let hash = self.hash(&change.key)?;
        let mut step = Step {
            key: &change.key,
            hash,
            value: None,
            external: None,
            flags: Flags::NONE,
            saved: 0,
            tags: Vec::new(),
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
        };
        let Some(put) = &change.put else { return Ok(step) };
        let expires_at_ms = put.ttl.deadline_ms(now_ms, self.ttl);
        if !is_live(expires_at_ms, now_ms) {
            return Ok(step);
        }
        let tags: Vec<&[u8]> = put.tags.iter().map(Vec::as_slice).collect();
        step.tags = self.tag_hashes(&tags)?;
        step.codec = put.codec;
        step.expires_at_ms = expires_at_ms;
        let mut stored: Cow<'a, [u8]> = (&*put.value).into();
        if let Some(packed) = self.packer.pack(&stored) {
            step.flags = step.flags.with(Flags::COMPRESSED);
            step.saved = put.value.len().saturating_sub(packed.len()) as u64;
            stored = packed.into();
        }
        if stored.len() >= self.file.superblock().external_min as usize {
            let (key, value) = (&*change.key, &*stored);
            let fate = (Kind::Value, expires_at_ms);
            let (patience, is_durable) = (Patience::Help, false);
            let change = Change {
                hash,
                key,
                head: &[],
                value,
                tags: &[],
                fate,
                now_ms,
                patience,
                durable: is_durable,
            };
            let named = self.put_external(&change, None, durable)?;
            step.flags = step.flags.with(Flags::EXTERNAL);
            step.external = Some(named);
            stored = named.encode().to_vec().into();
        }
        step.value = Some(stored);
        Ok(step)
    }

    fn write_steps(
        &self,
        batch: &WriteBatch,
        steps: &[Step<'_>],
        room: usize,
        now_ms: u64,
    ) -> Result<(BatchOutcome, Option<Arc<Segment>>)> {
        loop {
            if let Some(outcome) = self.try_steps(batch, steps, room, now_ms)? {
                return Ok(outcome);
            }
        }
    }

    /// As [`write_steps`](Self::write_steps); `None` if a writer of another process has had to wait too
    /// long for it.
    fn try_steps(
        &self,
        batch: &WriteBatch,
        steps: &[Step<'_>],
        room: usize,
        now_ms: u64,
    ) -> Result<Option<(BatchOutcome, Option<Arc<Segment>>)>> {
        let mut lanes = self.lanes.acquire_writers();
        let Some(lane) = lanes.first_mut() else { return Err(Error::Closed) };
        self.make_room(lane, room, (Kind::Value, NEVER), now_ms)?;
        // The maintenance's lane is not held: what it writes changes no key.
        let mut gate = self.close_gate()?;
        let guard = &crossbeam_epoch::pin();
        for (key, expected) in &batch.expected {
            let live = self.live_in_index(key, now_ms, guard)?;
            if !expected.is_met_by(live) {
                return Ok(Some((
                    BatchOutcome::Conflict { key: key.clone(), version: live },
                    None,
                )));
            }
        }
        // What is removed gets a tombstone even where nothing is there: that may be by a removal
        // which is not durable, and then the batch would be so in part.
        let mut replaced = Vec::with_capacity(steps.len());
        for step in steps {
            let (survey, _) = self.survey(step.hash, step.key, guard)?;
            replaced.push(survey.current.map(|current| current.found));
        }
        // Relaxed: only distinctness and growth count.
        let first_seq = self.file.next_seq().fetch_add(steps.len() as u64 + 2, Ordering::Relaxed);
        if steps.is_empty() {
            return Ok(Some((BatchOutcome::Committed { version: first_seq }, None)));
        }
        let hides: Vec<bool> = replaced.iter().map(Option::is_some).collect();
        let slots = self.stage(lane, steps, &hides, first_seq, now_ms)?;
        // Relaxed: see `Store::batching`.
        self.batching.store(true, Ordering::Relaxed);
        let pending = self.insert_all_pending(steps, &slots, guard);
        self.batching.store(false, Ordering::Relaxed);
        let changing: Vec<_> =
            steps.iter().filter_map(|step| self.begin_change(step.hash)).collect();
        let broken = match (&pending, &mut gate, lane.writer.as_ref()) {
            (Ok(()), Some(gate), Some(writer)) => {
                !gate.may_commit(writer.segment(), writer.staged_bits())
            }
            _ => false,
        };
        if broken || pending.is_err() {
            for (step, slot) in steps.iter().zip(&slots) {
                self.withdraw(step, *slot, guard);
            }
            // Nothing else may come to stand where the slots pointed to (invariant 3), and nobody may
            // find the batch there later, as all of it was written.
            if let Some(writer) = lane.writer.as_mut() {
                writer.unstage();
                let _ = writer.scrub();
            }
            self.seal(lane);
            return pending.map(|()| None);
        }
        let Some(writer) = lane.writer.as_mut() else { return Err(Error::Closed) };
        let segment = Arc::clone(writer.segment());
        segment.tally.note_batch();
        writer.commit();
        for (step, slot) in steps.iter().zip(&slots) {
            self.settle_step(step, *slot, guard);
        }
        drop(changing);
        for old in replaced.iter().flatten() {
            self.doom_external(old);
        }
        Ok(Some((BatchOutcome::Committed { version: first_seq + 1 }, Some(segment))))
    }

    /// Stages begin, records and commit; returns the slots that point to the records. On
    /// failure nothing is staged.
    fn stage(
        &self,
        lane: &mut Held<'_>,
        steps: &[Step<'_>],
        hides: &[bool],
        first_seq: u64,
        now_ms: u64,
    ) -> Result<Vec<Slot>> {
        let Some(writer) = lane.writer.as_mut() else { return Err(Error::Closed) };
        let segment = Arc::clone(writer.segment());
        let lens = (first_seq + 1..).zip(steps.iter().map(Step::record_len));
        let Some(batch) = Batch::of(lens) else { return Ok(Vec::new()) };
        let batch = batch.encode();
        let end = NewRecord {
            kind: Kind::BatchBegin,
            flags: Flags::NONE,
            seq: first_seq,
            key_hash: self.hasher.hash(&[]),
            tags: &[],
            key: &[],
            head: &[],
            value: &batch,
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            written_at_ms: now_ms,
        };
        let filled = writer.filled();
        let mut slots = Vec::with_capacity(steps.len());
        let mut stage = || {
            writer.stage(&end)?;
            for ((seq, step), hides) in (first_seq + 1..).zip(steps).zip(hides) {
                let mut flags = step.flags.with(Flags::BATCHED);
                if *hides {
                    flags = flags.with(Flags::REPLACED);
                }
                if let Some(named) = &step.external {
                    // Relaxed: a sum.
                    segment.external_bytes().fetch_add(named.data_len, Ordering::Relaxed);
                }
                let record = NewRecord {
                    kind: step.kind(),
                    flags,
                    seq,
                    key_hash: step.hash,
                    tags: &step.tags,
                    key: step.key,
                    head: &[],
                    value: step.stored(),
                    codec: step.codec,
                    expires_at_ms: step.expires_at_ms,
                    written_at_ms: now_ms,
                };
                let offset = writer.stage(&record)?;
                slots.push(Slot::new(step.hash, segment.id(), offset, SlotState::Pending));
            }
            let seq = first_seq + steps.len() as u64 + 1;
            writer.stage(&NewRecord { kind: Kind::BatchCommit, seq, ..end })
        };
        match stage() {
            Ok(_) => {
                self.counters.add(Count::WrittenBytes, (writer.filled() - filled) as u64);
                Ok(slots)
            }
            Err(error) => {
                writer.unstage();
                let path = self.storage.path(&file_name(segment.id()));
                Err(Error::io("append to", &path, error))
            }
        }
    }

    fn insert_all_pending(&self, steps: &[Step<'_>], slots: &[Slot], guard: &Guard) -> Result<()> {
        let mut both = steps.iter().zip(slots);
        both.try_for_each(|(step, slot)| self.insert_pending(step, *slot, guard))
    }

    /// Puts a pending slot beside the slot that its key has.
    fn insert_pending(&self, step: &Step<'_>, slot: Slot, guard: &Guard) -> Result<()> {
        loop {
            let (survey, slots) = self.survey(step.hash, step.key, guard)?;
            if !survey.has_free_place() {
                self.make_place(step.hash, guard)?;
                continue;
            }
            if slots.insert_pending(slot, &survey).is_ok() {
                return Ok(());
            }
        }
    }

    /// Takes a pending slot out again.
    fn withdraw(&self, step: &Step<'_>, slot: Slot, guard: &Guard) {
        loop {
            let slots = self.index.for_writing(self.ground(), step.hash, guard);
            let Some((at, found)) = slots.slot_of(step.hash, slot) else { return };
            if slots.swap(at, found, Slot::EMPTY) {
                return;
            }
            self.index.thaw_strays(step.hash);
        }
    }

    /// Gives a key its new slot for good. The batch has taken place: where that does not work,
    /// it is done by whoever changes the key next.
    fn settle_step(&self, step: &Step<'_>, slot: Slot, guard: &Guard) {
        let _ = self.survey(step.hash, step.key, guard);
        if step.kind() == Kind::Tombstone {
            // All lanes are held: nobody is left who could publish an older value.
            let slots = self.index.for_writing(self.ground(), step.hash, guard);
            if let Some((at, found)) = slots.slot_of(step.hash, slot) {
                slots.swap_place(at, found, |_| Slot::EMPTY);
            }
        } else {
            self.grow_if_loaded(guard);
        }
    }

    /// Settles the key of a pending slot that a process which died has left committed.
    pub(super) fn settle_pending(&self, place: Slot, guard: &Guard) -> Result<()> {
        if let Some(segment) = self.segment_at(place.segment(), guard)
            && let Ok(record) = segment.record(place.offset())
        {
            self.survey(self.hasher.hash(record.key()), record.key(), guard)?;
        }
        Ok(())
    }

    fn live_in_index(&self, key: &[u8], now_ms: u64, guard: &Guard) -> Result<Option<u64>> {
        let found = self.lookup(self.hash(key)?, key, guard);
        Ok(self.live_version(found.as_ref(), now_ms, guard))
    }

    fn discard(&self, steps: &[Step<'_>]) -> Result<()> {
        let guard = &crossbeam_epoch::pin();
        let named = steps.iter().filter_map(|step| step.external.as_ref());
        named.into_iter().try_for_each(|named| {
            self.externals.remove(&*self.storage, FileId::named(named), guard)
        })
    }
}

fn weight(change: &BatchChange) -> u64 {
    let value_len = change.put.as_ref().map_or(0, |put| put.value.len());
    (change.key.len() + value_len) as u64
}
