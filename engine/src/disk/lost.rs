//! Records that were on the disk and cannot be read any more: what is still known of them.
//!
//! The entry of a record says which key it is about, by its hash, and when it was written. That
//! is enough to keep older records of the key from showing: after a rebuild the key is a miss.
//!
//! | where the record lies | its entry is believed |
//! |---|---|
//! | sealed and synced, footer whole | always |
//! | anywhere else | below the synced word, which reaches the disk with a later sync |
//!
//! # Invariants
//! 1. An entry of a record that cannot be read stays in the footer for as long as the segment
//!    lives, also where a rebuild writes the footer again; when the segment goes, a tombstone
//!    is left behind (`dying.rs`), and for an invalidation one for each value that it speaks of.
//! 2. Where not even the number is known, all records in segments are younger that were begun
//!    after this one was sealed.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::layout::{ENTRY_LEN, SEGMENT_DATA, TRAILER_LEN};
use larder_format::{Committed, FooterEntry, Kind, Slot, SlotState};

use super::counters::Count;
use super::dying::Dying;
use super::index::Verdict;
use super::lanes::Held;
use super::segment::{Record, Segment};
use super::store::Store;
use super::tags::is_readable;
use crate::clock::NEVER;
use crate::error::Result;

/// The highest sequence numbers of records that cannot be read, by hash of the key or tag.
#[derive(Debug, Default)]
pub(super) struct Lost(HashMap<(bool, u64), u64>);

impl Lost {
    /// Notes a record, by its entry and number, or the most that this can be.
    pub(super) fn note(&mut self, entry: &FooterEntry, seq: u64) {
        let is_tag = match entry.kind {
            Kind::Value | Kind::Tombstone => false,
            Kind::TagInvalidation => true,
            _ => return,
        };
        let newest = self.0.entry((is_tag, entry.key_hash)).or_default();
        *newest = (*newest).max(seq);
    }

    /// The newest record of a key.
    pub(super) fn record(&self, hash: u64) -> Option<u64> {
        self.0.get(&(false, hash)).copied()
    }

    /// The newest invalidation of a tag.
    pub(super) fn invalidation(&self, hash: u64) -> Option<u64> {
        self.0.get(&(true, hash)).copied()
    }
}

impl Segment {
    /// What the footer says of the record at an offset.
    pub(super) fn entry_of(&self, offset: usize) -> Option<FooterEntry> {
        let is_it = |entry: &FooterEntry| entry.offset() == offset;
        // Entries are in the order of the file.
        let (mut low, mut high) = (0, self.entry_count());
        while low < high {
            let middle = low.midpoint(high);
            match self.entry(middle) {
                Some(entry) if entry.offset() <= offset => low = middle + 1,
                Some(_) => high = middle,
                None => break,
            }
        }
        let found = low.checked_sub(1).and_then(|number| self.entry(number)).filter(is_it);
        // Unless one of those that were met is damaged.
        found.or_else(|| self.entries().find(is_it))
    }
}

/// What invalidations of tags speak of that cannot be read, in a segment that is about to go: their
/// tags cannot be named any more, so that the values have to be hidden one by one.
#[derive(Debug, Default)]
pub(super) struct Veiled {
    invalidations: Lost,
    /// Segments and offsets.
    values: Vec<(Arc<Segment>, usize)>,
}

impl Veiled {
    pub(super) fn is_empty(&self) -> bool {
        self.invalidations.0.is_empty()
    }

    /// Notes an invalidation, if it cannot be read.
    pub(super) fn note(&mut self, store: &Store, segment: &Segment, entry: &FooterEntry) {
        if !is_readable(segment, entry.offset()) {
            let up_to = store.number_of(Some(segment), Some(entry));
            self.invalidations.note(entry, up_to);
        }
    }

    /// Looks at a value of another segment.
    pub(super) fn compare(&mut self, segment: &Arc<Segment>, entry: &FooterEntry) {
        if !self.is_empty()
            && let Ok(record) = segment.record(entry.offset())
            && self.speaks_of(&record)
        {
            self.values.push((Arc::clone(segment), entry.offset()));
        }
    }

    fn speaks_of(&self, record: &Record<'_>) -> bool {
        let seq = Some(record.header.seq);
        record.tags().any(|tag| self.invalidations.invalidation(tag) >= seq)
    }
}

/// What is known to have been on the disk of a segment that is scanned.
#[derive(Debug, Default)]
pub(super) struct Synced {
    /// Where it ends.
    pub(super) tail: usize,
    /// What the footer says of it.
    pub(super) entries: Vec<FooterEntry>,
}

/// What the synced word says of a segment.
pub(super) fn synced_part(segment: &Segment) -> Synced {
    let synced = Committed::from_bits(segment.synced_word());
    let end = segment.len() - TRAILER_LEN;
    let is_any = synced.tail() > SEGMENT_DATA && synced.fits(segment.len());
    if !is_any || !segment.region().is_whole() {
        return Synced::default();
    }
    let len = synced.entries as usize * ENTRY_LEN;
    let mut bytes = vec![0; len];
    if segment.region().read_uncommitted(&mut bytes, end - len).is_err() {
        return Synced::default();
    }
    let entries = bytes.rchunks_exact(ENTRY_LEN);
    let entries = entries.filter_map(|entry| FooterEntry::decode(entry).ok());
    let counts = |kind| matches!(kind, Kind::Value | Kind::Tombstone | Kind::TagInvalidation);
    let is_here = |entry: &FooterEntry| (SEGMENT_DATA..synced.tail()).contains(&entry.offset());
    let entries = entries.filter(|entry| counts(entry.kind) && is_here(entry)).collect();
    Synced { tail: synced.tail(), entries }
}

impl Store {
    /// The most that the number of a record can be whose entry does not know it.
    pub(super) fn seq_bound(&self, segment: &Segment) -> u64 {
        let Ok(trailer) = segment.trailer() else { return NEVER };
        let live = self.all_live();
        let younger = live.range(trailer.sealed_before..).map(|(_, other)| other.header().base_seq);
        younger.filter(|base| *base != 0).min().unwrap_or(NEVER)
    }

    /// Takes out of the index, which is new, what records hide that cannot be read.
    pub(super) fn hide_older(&self, lost: &Lost) {
        for ((is_tag, hash), seq) in &lost.0 {
            if !is_tag {
                self.hide_hash(*hash, *seq);
            }
        }
        if lost.0.keys().any(|(is_tag, _)| *is_tag) {
            let segments: Vec<_> = self.all_live().values().cloned().collect();
            segments.iter().for_each(|segment| self.hide_tagged(segment, lost));
        }
    }

    /// Empties the slots of records with a hash that are older.
    fn hide_hash(&self, hash: u64, seq: u64) {
        let guard = &crossbeam_epoch::pin();
        let judge = |slot: Slot| {
            let Some(segment) = self.segment_at(slot.segment(), guard) else {
                return Verdict::Gone;
            };
            let Ok(record) = segment.record(slot.offset()) else { return Verdict::Other };
            let state = match record.header.kind {
                Kind::Value => SlotState::Value,
                Kind::Tombstone => SlotState::Tombstone,
                _ => return Verdict::Other,
            };
            if record.header.seq < seq && self.hasher.hash(record.key()) == hash {
                Verdict::Same { seq: record.header.seq, state, found: () }
            } else {
                Verdict::Other
            }
        };
        let slots = || self.index.for_reading(hash, guard);
        while let Some(found) = super::lookup::lookup(slots, hash, judge) {
            if self.empty(hash, found.slot, guard).is_none() {
                return;
            }
        }
    }

    /// Empties the slots of a segment's values that an invalidation speaks of.
    fn hide_tagged(&self, segment: &Arc<Segment>, lost: &Lost) {
        for entry in segment.entries().filter(|entry| entry.kind == Kind::Value) {
            let guard = &crossbeam_epoch::pin();
            let Ok(record) = segment.record(entry.offset()) else { continue };
            let seq = record.header.seq;
            if record.tags().any(|tag| lost.invalidation(tag) > Some(seq)) {
                let place =
                    Slot::new(entry.key_hash, segment.id(), entry.offset(), SlotState::Value);
                self.empty(entry.key_hash, place, guard);
            }
        }
    }

    /// Hides for good what invalidations of a dying segment speak of that cannot be read: empties
    /// the slots, and leaves tombstones behind. Whether there was room for all of them.
    pub(super) fn bury_veiled(
        &self,
        dying: &mut Dying,
        mut lane: Option<&mut Held<'_>>,
        guard: &mut Guard,
    ) -> Result<bool> {
        while let Some((segment, offset)) = dying.veiled.values.last().cloned() {
            if let Ok(record) = segment.record(offset) {
                let (hash, seq) = (self.hasher.hash(record.key()), record.header.seq);
                let place = Slot::new(hash, segment.id(), offset, SlotState::Value);
                if self.empty(hash, place, guard).is_some() {
                    dying.dropped += 1;
                    self.counters.add(Count::Expired, 1);
                }
                if !self.is_hidden_for_good(hash, record.key(), seq, guard) {
                    if !self.append_tombstone(
                        dying.keep,
                        &record,
                        seq,
                        lane.as_deref_mut(),
                        guard,
                    )? {
                        return Ok(false);
                    }
                    dying.wrote = true;
                }
            }
            dying.veiled.values.pop();
        }
        Ok(true)
    }

    fn empty(&self, hash: u64, place: Slot, guard: &Guard) -> Option<Slot> {
        let emptied = self.replace_place(hash, place, |_| Slot::EMPTY, guard)?;
        if emptied.state() == SlotState::Value {
            self.add_entries(-1);
        }
        Some(emptied)
    }
}
