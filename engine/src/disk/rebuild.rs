//! Building the index anew from the segments.
//!
//! Every record of every segment is offered to the index, newest sequence wins. Of a segment
//! that was sealed and synced the footer says all there is to know; any other is scanned, and
//! a record counts only if its payload is whole: one that was never synced may be there in
//! part, and must not hide an older one that was.
//!
//! # Invariants
//! 1. A rebuild changes nothing that a second rebuild would not change in the same way: it
//!    writes footers for what it found, and nothing else.
//! 2. A moved record counts like any other: it is a copy, and says so by its sequence.

use std::sync::Arc;

use larder_format::layout::SEGMENT_DATA;
use larder_format::record::{Kind, RecordHeader};
use larder_format::scan::{Scan, Scanned, payload_is_intact};
use larder_format::{Flags, FooterEntry, SegmentState, Slot, SlotState};

use super::counters::Count;
use super::external;
use super::segment::{Segment, Writer, file_name};
use super::storage::File;
use super::store::Store;
use crate::error::{Error, Result};
use crate::sync::Ordering;

impl Store {
    /// Fills the empty index. Returns the highest sequence number seen. With `words` the
    /// committed words are trusted, and only the index was lost.
    pub(super) fn rebuild(&mut self, words: bool) -> Result<u64> {
        // Relaxed: nobody else has the store yet. That slots were given up stays noted: records
        // that were written then lack their flag for as long as they are there (`dying.rs`).
        self.file.entries().store(0, Ordering::Relaxed);
        let segments: Vec<_> = self.live.lock().values().cloned().collect();
        let mut highest = 0;
        for segment in segments {
            let entries = match (words, durable_entries(&segment)) {
                (true, _) if segment.region().is_whole() => collect(&segment),
                (false, Some(entries)) => entries,
                _ => self.scan(&segment)?,
            };
            self.recovered_records += entries.len() as u64;
            for (entry, seq) in entries {
                highest = highest.max(seq);
                self.offer(&segment, &entry, seq)?;
            }
        }
        Ok(highest)
    }

    /// Offers a record to the index.
    fn offer(&self, segment: &Arc<Segment>, entry: &FooterEntry, seq: u64) -> Result<()> {
        let state = match entry.kind {
            Kind::Value => SlotState::Value,
            Kind::Tombstone => SlotState::Tombstone,
            _ => return Ok(()),
        };
        let Ok(record) = segment.record(entry.offset()) else {
            self.counters.add(Count::Corrupt, 1);
            return Ok(());
        };
        let guard = &crossbeam_epoch::pin();
        let slot = Slot::new(entry.key_hash, segment.id(), entry.offset(), state);
        self.publish(entry.key_hash, record.key(), slot, seq, guard).map(drop)
    }

    /// Finds the records of a segment that says nothing reliable about itself, and writes it
    /// a footer.
    fn scan(&self, segment: &Arc<Segment>) -> Result<Vec<(FooterEntry, u64)>> {
        let io = |error| Error::io("read", &self.storage.path(&file_name(segment.id())), error);
        let len = if segment.region().is_whole() { segment.len() } else { segment.region().len() };
        let mut bytes = vec![0; len];
        segment.region().read_uncommitted(&mut bytes, 0).map_err(io)?;
        let salt = segment.salt();
        let mut entries = Vec::new();
        let mut tail = SEGMENT_DATA;
        for scanned in Scan::new(&bytes, salt, SEGMENT_DATA, len) {
            let Scanned::Record { offset, header } = scanned else { continue };
            if !payload_is_intact(&bytes, offset, &header) {
                self.counters.add(Count::Corrupt, 1);
                continue;
            }
            tail = tail.max(header.extent(offset).end);
            entries.push((self.entry_of(&bytes, offset, &header), header.seq));
        }
        segment.region().distrust();
        let plain: Vec<_> = entries.iter().map(|(entry, _)| *entry).collect();
        match Writer::new(Arc::clone(segment)) {
            Some(mut writer) if writer.can_adopt(tail, plain.len()) => {
                writer.adopt(tail, &plain);
                // Relaxed: nobody else has the store yet.
                writer.seal(self.file.next_segment().load(Ordering::Relaxed));
            }
            // Cut short, or so damaged that its footer does not fit: it can still be read.
            _ => {
                segment.region().trust_up_to(tail);
                segment.set_state(SegmentState::Sealed);
            }
        }
        Ok(entries)
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

    /// Whether the live record of an external file's key names the file.
    pub(super) fn names_external(
        &self,
        file: &dyn File,
        id: u64,
        guard: &crossbeam_epoch::Guard,
    ) -> bool {
        let Some(footer) = external::read_footer(file, &self.file.superblock().uuid, id) else {
            return false;
        };
        let mut key = vec![0; footer.key_len as usize];
        if file.read_at(&mut key, footer.key_at()).is_err() {
            return false;
        }
        self.lookup(self.hasher.hash(&key), &key, guard).is_some_and(|found| {
            larder_format::ExternalRef::decode(found.found.value())
                .is_ok_and(|named| named.id == id)
        })
    }
}

/// The entries of a segment that was sealed and synced, with their sequence numbers; `None`
/// if it was not, or if they are damaged.
fn durable_entries(segment: &Arc<Segment>) -> Option<Vec<(FooterEntry, u64)>> {
    let trailer = segment.trailer().ok()?;
    let synced = segment.synced_word();
    if synced != trailer.committed.to_bits() || segment.region().committed() != trailer.committed {
        return None;
    }
    let crc = larder_format::hash::crc_from(0, segment.region().entries()?);
    (crc == trailer.entries_crc).then(|| collect(segment))
}

/// The committed entries in the order of writing, with their sequence numbers.
fn collect(segment: &Segment) -> Vec<(FooterEntry, u64)> {
    let entries = segment.entries().rev();
    entries.filter_map(|entry| Some((entry, segment.entry_seq(&entry)?))).collect()
}
