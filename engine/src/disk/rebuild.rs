//! Building the index anew from the segments.
//!
//! Every record of every segment is offered to the index, newest sequence wins. Of a segment
//! that was sealed and synced the footer says all there is to know; any other is scanned, and
//! a record counts only if its payload is whole: one that was never synced may be there in
//! part, and must not hide an older one that was. The same goes for a record whose value lies
//! in a file of its own that may never have been synced: sealed or not, it counts only if the
//! file is there and whole, and with it the batch that it is part of (`collect.rs`). What does
//! not count is not in the footer either, so that nobody takes it for what hides another record.
//! What was on the disk and cannot be read any more hides what is older (`lost.rs`).
//!
//! # Invariants
//! 1. A rebuild changes nothing that a second rebuild would not change in the same way: it
//!    writes footers for what it found, and removes large values that are not whole.
//! 2. A moved record counts like any other: it is a copy, and says so by its sequence.
//! 3. After a failed write-back the system takes the pages for clean, and a later sync passes
//!    them over. What is read then, and not known to be on the disk, is written once more.
//! 4. What was decided about batches and large values stays decided: the footers that say so are
//!    believed from here on. Otherwise the next rebuild would decide anew, with what came later
//!    before its eyes: a batch that was cut off would count once a newer value of one of its keys
//!    explains why a large value of it is not there.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::layout::SEGMENT_DATA;
use larder_format::record::{Kind, RecordHeader};
use larder_format::scan::{Scan, Scanned, payload_is_intact};
use larder_format::{ExternalRef, Flags, FooterEntry, SegmentState, Slot, SlotState};

use super::collect::{self, Collected, Missing, Newest};
use super::counters::Count;
use super::external::{FileId, PLACES};
use super::lost::{Lost, synced_part};
use super::segment::{Record, Segment, file_name};
use super::storage::File;
use super::store::Store;
use super::writer::Writer;
use crate::clock::is_live;
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// Records whose slots are asked for at a time.
const AHEAD: usize = 32;
/// Bytes that are written again at once.
const STEP: usize = 1 << 20;

/// What a rebuild knows about large values, and keeps from segment to segment.
pub(super) struct Large {
    /// Records from this sequence number on may name files that are not whole, unless they say so
    /// themselves.
    unsettled_from: u64,
    /// Whether some were not, and were removed.
    torn: bool,
    /// Records that cannot be read.
    lost: Lost,
    /// Where segments are read to that have to be scanned.
    buffer: Vec<u8>,
}

impl Large {
    pub(super) fn new(unsettled_from: u64) -> Self {
        Self { unsettled_from, torn: false, lost: Lost::default(), buffer: Vec::new() }
    }
}

impl Store {
    /// Fills the empty index. Returns the highest sequence number seen. With `words` the
    /// committed words are trusted, and only the index was lost.
    pub(super) fn rebuild(&mut self, words: bool) -> Result<u64> {
        // Relaxed: nobody else has the store yet. That slots were given up stays noted: records
        // that were written then lack their flag for as long as they are there (`dying.rs`).
        self.file.entries().store(0, Ordering::Relaxed);
        let segments: Vec<_> = self.all_live().values().cloned().collect();
        let mut large = Large::new(self.file.unsettled_from());
        let mut highest = 0;
        let (mut held_back, mut decided) = (Vec::new(), Vec::new());
        for segment in segments {
            let entries = match (words, has_durable_entries(&segment)) {
                (true, _) if segment.region().is_whole() => {
                    Some(self.collect(&segment, &mut large.lost))
                }
                (false, true) => {
                    // The trailer may have reached the disk, and the state not.
                    segment.set_state(SegmentState::Sealed);
                    Some(self.collect(&segment, &mut large.lost))
                }
                _ => None,
            };
            let entries = match entries {
                Some(entries) if self.are_whole(&segment, &entries, &mut large)? => {
                    // What says that its footer is synced may be in the page cache alone, where a
                    // recovery died just then; nobody noted that there was one.
                    if !words {
                        decided.push(segment.clone());
                    }
                    entries
                }
                listed => {
                    let (found, tail) = match listed {
                        Some(entries) => self.sift(&segment, entries, &mut large)?,
                        None => self.scan(&segment, &mut large)?,
                    };
                    if found.is_doubtful() {
                        held_back.push((segment, found, tail));
                        continue;
                    }
                    let entries = found.entries;
                    self.adopt(&segment, tail, &entries);
                    entries
                }
            };
            highest = highest.max(self.offer_all(&segment, entries, &mut large.lost)?);
        }
        let now_ms = self.clock.now_ms();
        let mut found: Vec<_> = held_back.iter_mut().map(|(_, found, _)| found).collect();
        let lost = &large.lost;
        collect::decide(&mut found, |missing, others| {
            self.may_be_gone(missing, (others, lost), now_ms)
        });
        for (segment, found, tail) in held_back {
            self.adopt(&segment, tail, &found.entries);
            highest = highest.max(self.offer_all(&segment, found.entries, &mut large.lost)?);
            decided.push(segment);
        }
        self.hide_older(&large.lost);
        self.forget_torn(&large)?;
        // Invariant 4.
        decided.iter().try_for_each(|segment| segment.settle(&*self.storage))?;
        Ok(highest)
    }

    /// Large values that were removed must be gone for good before a session begins that takes
    /// what it finds for settled.
    pub(super) fn forget_torn(&self, large: &Large) -> Result<()> {
        for (_, dir, _) in PLACES.iter().filter(|_| large.torn) {
            let io = |error| Error::io("sync", &self.storage.path(dir), error);
            self.storage.sync_dir(dir).map_err(io)?;
        }
        Ok(())
    }

    /// Offers what was found in a segment. Returns the highest sequence number of it.
    fn offer_all(
        &mut self,
        segment: &Arc<Segment>,
        found: Vec<(FooterEntry, u64)>,
        lost: &mut Lost,
    ) -> Result<u64> {
        self.recovered_records += found.len() as u64;
        let mut highest = 0;
        let cleared = self.file.cleared_seq();
        for entries in found.chunks(AHEAD) {
            // Where their slots will be is all over the index: it is asked for before.
            let guard = &crossbeam_epoch::pin();
            for (entry, _) in entries {
                self.index.for_reading(entry.key_hash, guard).prefetch(entry.key_hash);
            }
            let mut values = 0;
            for (entry, seq) in entries {
                highest = highest.max(*seq);
                if *seq <= cleared {
                    continue;
                }
                match self.offer(segment, entry, *seq, guard)? {
                    Some(value) => values += i64::from(value),
                    None => {
                        self.counters.add(Count::Corrupt, 1);
                        lost.note(entry, *seq);
                    }
                }
            }
            self.add_entries(values);
            self.grow_if_loaded(guard);
        }
        Ok(highest)
    }

    /// Whether a large value that is not there can have been removed since it was complete: it
    /// has expired, or its key or a tag says so, here or in `others`.
    fn may_be_gone(
        &self,
        missing: &Missing,
        (others, lost): (&Newest, &Lost),
        now_ms: u64,
    ) -> bool {
        let guard = &crossbeam_epoch::pin();
        let key = self.lookup(missing.hash, &missing.key, guard);
        let is_invalid = |tag: &u64| {
            let newest = self.invalidated_at(*tag, guard).max(others.invalidation(*tag));
            let newest = newest.max(lost.invalidation(*tag));
            newest.is_some_and(|seq| seq > missing.seq)
        };
        !is_live(missing.expires_at_ms, now_ms)
            || key.map(|found| found.seq).max(others.record(missing.hash)) > Some(missing.seq)
            || lost.record(missing.hash) > Some(missing.seq)
            || missing.tags.iter().any(is_invalid)
    }

    /// Whether all large values that a segment names are there and whole.
    fn are_whole(
        &self,
        segment: &Segment,
        entries: &[(FooterEntry, u64)],
        large: &mut Large,
    ) -> Result<bool> {
        for (entry, seq) in entries.iter().filter(|(entry, _)| entry.external) {
            let Ok(record) = segment.record(entry.offset()) else { continue };
            if !self.is_whole(record.value(), (entry.key_hash, *seq), large)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a record with a large value counts: the file that it names is there, and whole if it
    /// may never have been synced. One that is torn goes: the next opening would take it for
    /// settled. Where it is known that the file was on the disk, the record counts whatever has
    /// become of it: a damaged value is a miss, and no older one.
    fn is_whole(&self, value: &[u8], owner: (u64, u64), large: &mut Large) -> Result<bool> {
        if self.upkeep.repairs || owner.1 < large.unsettled_from {
            return Ok(true);
        }
        let Ok(named) = ExternalRef::decode(value) else { return Ok(false) };
        if named.settled {
            return Ok(true);
        }
        let name = FileId::named(&named).name();
        let Some(file) = self.storage.open(&name)? else { return Ok(false) };
        if !self.externals.is_whole(&*self.storage, &named, owner)? {
            self.counters.add(Count::Corrupt, 1);
            let io = |error| Error::io("remove", &self.storage.path(&name), error);
            self.storage.remove(&name).map_err(io)?;
            large.torn = true;
            return Ok(false);
        }
        if self.file.is_stranded(&*self.storage) {
            let io = |error| Error::io("write again", &self.storage.path(&name), error);
            write_again(&*file).map_err(io)?;
        }
        Ok(true)
    }

    /// Offers a record to the index. Whether that took a value in that is still to be counted;
    /// `None` if the record cannot be read, as far as its key goes.
    fn offer(
        &self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
        seq: u64,
        guard: &Guard,
    ) -> Result<Option<bool>> {
        let state = match entry.kind {
            Kind::Value => SlotState::Value,
            Kind::Tombstone | Kind::TagInvalidation => SlotState::Tombstone,
            _ => return Ok(Some(false)),
        };
        let record = segment.record(entry.offset());
        let of_key = |record: &Record<'_>| self.hasher.hash(record.key()) == entry.key_hash;
        let Some(record) = record.ok().filter(of_key) else { return Ok(None) };
        let hash = entry.key_hash;
        let slot = Slot::new(hash, segment.id(), entry.offset(), state);
        if self.index.for_writing(self.ground(), hash, guard).insert_alone(hash, slot) {
            return Ok(Some(state == SlotState::Value));
        }
        if entry.kind == Kind::TagInvalidation {
            let judge = |slot| self.judge_tag(slot, hash, guard);
            self.publish_record(hash, slot, seq, judge, guard)?;
        } else {
            let judge = |slot| self.judge(slot, record.key(), guard);
            self.publish_record(hash, slot, seq, judge, guard)?;
        }
        Ok(Some(false))
    }

    /// The committed entries of a segment in the order of writing, with their sequence numbers.
    fn collect(&self, segment: &Segment, lost: &mut Lost) -> Vec<(FooterEntry, u64)> {
        let mut found = Vec::with_capacity(segment.entry_count());
        for entry in segment.entries().rev() {
            match segment.entry_seq(&entry) {
                Some(seq) => found.push((entry, seq)),
                None => {
                    self.counters.add(Count::Corrupt, 1);
                    lost.note(&entry, self.seq_bound(segment));
                }
            }
        }
        found
    }

    /// Finds the records of a segment that says nothing reliable about itself, and where they
    /// end.
    pub(super) fn scan(
        &self,
        segment: &Arc<Segment>,
        large: &mut Large,
    ) -> Result<(Collected, usize)> {
        let io = |error| Error::io("read", &self.storage.path(&file_name(segment.id())), error);
        let len = if segment.region().is_whole() { segment.len() } else { segment.region().len() };
        let mut bytes = std::mem::take(&mut large.buffer);
        bytes.resize(len, 0);
        segment.region().read_uncommitted(&mut bytes, 0).map_err(io)?;
        if self.file.is_stranded(&*self.storage) {
            let io = |error| {
                Error::io("write again", &self.storage.path(&file_name(segment.id())), error)
            };
            segment.region().file().write_at(&bytes, 0).map_err(io)?;
        }
        let salt = segment.salt();
        let mut found = Collected::default();
        let (mut met, synced) = (HashSet::new(), synced_part(segment));
        let mut tail = SEGMENT_DATA.max(synced.tail);
        for scanned in Scan::new(&bytes, salt, SEGMENT_DATA, len) {
            let Scanned::Record { offset, header } = scanned else {
                found.end_batch();
                continue;
            };
            let extent = header.extent(offset);
            tail = tail.max(extent.end);
            if !payload_is_intact(&bytes, offset, &header) {
                self.counters.add(Count::Corrupt, 1);
                found.end_batch();
                continue;
            }
            met.insert(offset);
            let entry = self.entry_of(&bytes, offset, &header);
            let value = bytes.get(extent.value_at..extent.chunks_at).unwrap_or_default();
            let is_missing =
                entry.external && !self.is_whole(value, (entry.key_hash, header.seq), large)?;
            let part = |range| bytes.get(range).unwrap_or_default();
            let missing = is_missing.then(|| Missing {
                hash: entry.key_hash,
                seq: header.seq,
                key: part(extent.key_at..extent.key_at + usize::from(header.key_len)).to_vec(),
                tags: tags(part(extent.tags_at..extent.key_at)),
                expires_at_ms: header.expires_at_ms,
            });
            found.add(&header, (value, extent.end - offset), entry, missing);
        }
        found.end_batch();
        found.take_torn(synced.tail);
        for entry in synced.entries {
            // Its record was on the disk, and is not there: what it says about its key still
            // counts (`lost.rs`).
            if !met.contains(&entry.offset()) {
                match segment.entry_seq(&entry) {
                    Some(seq) => found.entries.push((entry, seq)),
                    None => large.lost.note(&entry, self.seq_bound(segment)),
                }
            }
        }
        // A footer is in the order of writing.
        found.entries.sort_by_key(|(entry, _)| entry.offset_units);
        large.buffer = bytes;
        Ok((found, tail))
    }

    /// Which of the records count that the footer of a segment lists, and where they end. What it
    /// does not list was decided about before.
    fn sift(
        &self,
        segment: &Segment,
        entries: Vec<(FooterEntry, u64)>,
        large: &mut Large,
    ) -> Result<(Collected, usize)> {
        let mut found = Collected::default();
        for (entry, seq) in entries {
            let Ok(record) = segment.record(entry.offset()) else {
                found.add_listed(true, (entry, seq), None);
                continue;
            };
            let owner = (entry.key_hash, seq);
            let is_missing = entry.external && !self.is_whole(record.value(), owner, large)?;
            let missing = is_missing.then(|| Missing {
                hash: entry.key_hash,
                seq,
                key: record.key().to_vec(),
                tags: record.tags().collect(),
                expires_at_ms: record.header.expires_at_ms,
            });
            let is_batched = record.header.flags.has(Flags::BATCHED);
            found.add_listed(is_batched, (entry, seq), missing);
        }
        found.end_batch();
        Ok((found, segment.region().committed().tail()))
    }

    /// Writes the footer of a segment that was scanned.
    pub(super) fn adopt(
        &self,
        segment: &Arc<Segment>,
        tail: usize,
        entries: &[(FooterEntry, u64)],
    ) {
        segment.region().distrust();
        let plain: Vec<_> = entries.iter().map(|(entry, _)| *entry).collect();
        let mut writer = Writer::new(Arc::clone(segment));
        let can_adopt = writer.as_mut().is_some_and(|writer| writer.can_adopt(tail, plain.len()));
        match writer {
            Some(mut writer) if can_adopt => {
                writer.adopt(tail, &plain);
                // Relaxed: nobody else has the store yet.
                writer.seal(self.file.next_segment().load(Ordering::Relaxed));
            }
            // Cut short, or so damaged that its footer does not fit: it can still be read.
            _ => {
                segment.region().trust_up_to(tail, plain.len());
                segment.list(&plain);
                segment.set_state(SegmentState::Sealed);
            }
        }
    }

    fn entry_of(&self, bytes: &[u8], offset: usize, header: &RecordHeader) -> FooterEntry {
        let key_at = header.extent(offset).key_at;
        let key = bytes.get(key_at..key_at + usize::from(header.key_len)).unwrap_or_default();
        FooterEntry {
            key_hash: self.hasher.hash(key),
            offset_units: u32::try_from(offset / larder_format::layout::UNIT).unwrap_or(0),
            kind: header.kind,
            replaced: header.flags.has(Flags::REPLACED),
            external: header.flags.has(Flags::EXTERNAL),
            seq_delta: None,
        }
    }
}

/// Writes a file over itself, so that the system takes it for changed.
fn write_again(file: &dyn File) -> io::Result<()> {
    let len = file.len()?;
    let mut bytes = vec![0; STEP.min(usize::try_from(len).unwrap_or(STEP))];
    let mut at = 0;
    while at < len {
        let step = usize::try_from(len - at).unwrap_or(STEP).min(STEP);
        file.read_at(&mut bytes[..step], at)?;
        file.write_at(&bytes[..step], at)?;
        at += step as u64;
    }
    Ok(())
}

/// The hashes of tags, as a record carries them.
fn tags(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|tag| u64::from_le_bytes(*tag)).collect()
}

/// Whether a segment was sealed and synced, and its entries are as they were then.
fn has_durable_entries(segment: &Segment) -> bool {
    let Ok(trailer) = segment.trailer() else { return false };
    let committed = trailer.committed;
    segment.synced_word() == committed.to_bits()
        && segment.region().committed() == committed
        && segment
            .region()
            .entries()
            .is_some_and(|entries| larder_format::hash::crc_from(0, entries) == trailer.entries_crc)
}
