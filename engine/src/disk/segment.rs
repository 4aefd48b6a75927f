//! A segment: one log file, mapped.
//!
//! # Invariants
//! 1. Records are appended by one [`Writer`] at a time, while it holds its lane's lock; it
//!    publishes each in the index before it lets the lock go. A sealed segment therefore holds
//!    no record that is still to be published.
//! 2. A sealed segment is never written again; its file is only ever unlinked.

mod retired;
mod steady;

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use larder_format::layout::{
    CHUNK, ENTRY_LEN, SEGMENT_COMMITTED, SEGMENT_DATA, SEGMENT_HEADER_LEN, SEGMENT_STATE,
    SEGMENT_SYNCED, TRAILER_LEN,
};
use larder_format::record::{Extent, chunk_crc, payload_crc};
use larder_format::{
    Committed, FooterEntry, FormatError, RecordHeader, Salt, SegmentHeader, SegmentState, Trailer,
};
use parking_lot::Mutex;

use super::chunks::Verified;
use super::group::{Group, Lead, Sight, Synced};
use super::guard::IS_ON;
use super::map::Region;
use super::named::LargeKeys;
use super::storage::{File, Storage, give_birth};
use super::tally::Tally;
use super::usage::Usage;
use super::view::{Owner, View};
use super::writer::room_for;
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The name of a segment's file.
pub(crate) fn file_name(id: u64) -> String {
    format!("seg/{id:016x}.log")
}

/// Records of this length or more are summed once in the life of the mapping. Smaller ones are
/// summed on every read: that costs less than to find them.
pub(super) const BLOCK: usize = 4096;

/// A mapped segment.
#[derive(Debug)]
pub(crate) struct Segment {
    header: SegmentHeader,
    salt: Salt,
    region: Arc<Region>,
    /// One bit for each record of at least [`BLOCK`] bytes that was found intact, by the block of
    /// the file that it starts in: two of them never start in one.
    intact: Box<[AtomicU64]>,
    /// The chunks of long values that were found right, one by one.
    verified: Verified,
    /// Those who wait for a sync, and what is known to be on the disk.
    group: Group,
    /// Bytes of external files that its records refer to.
    external_bytes: AtomicU64,
    pub(super) large_keys: Mutex<LargeKeys>,
    retired: AtomicBool,
    /// The footer of a file that was cut short, as a scan found it; in the order of a footer.
    listed: OnceLock<Box<[u8]>>,
    pub(crate) tally: Tally,
    usage: Arc<Usage>,
}

impl Segment {
    /// Creates the file of a new segment.
    pub(crate) fn create(
        storage: &dyn Storage,
        header: SegmentHeader,
        usage: &Arc<Usage>,
    ) -> Result<Self> {
        let name = file_name(header.id);
        let file = give_birth(storage, &name, header.file_len.into(), true, |file| {
            file.write_at(&header.encode(), 0)?;
            let committed = Committed::EMPTY.to_bits().to_le_bytes();
            file.write_at(&committed, SEGMENT_COMMITTED as u64)?;
            let state = (SegmentState::Open as u64).to_le_bytes();
            file.write_at(&state, SEGMENT_STATE as u64)?;
            // Whatever the file held before: what the word says is believed.
            file.write_at(&[0; 8], SEGMENT_SYNCED as u64)
        })?;
        Self::over(storage, header, file, usage, true)
    }

    /// Maps the file of an existing segment. A damaged header is replaced by what the name
    /// and the superblock say: the records do not need it.
    pub(crate) fn open(
        storage: &dyn Storage,
        id: u64,
        uuid: &[u8; 16],
        file_len: u32,
        usage: &Arc<Usage>,
    ) -> Result<(Self, Option<FormatError>)> {
        let name = file_name(id);
        let path = storage.path(&name);
        let file = storage
            .open(&name)?
            .ok_or_else(|| Error::io("open", &path, io::ErrorKind::NotFound.into()))?;
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        let read = file.read_at(&mut bytes, 0);
        let header = match read {
            Ok(()) => SegmentHeader::decode(&bytes, uuid, id),
            // A disk that cannot be read is not a damaged file: without this segment older
            // records would show.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(Error::io("read", &path, error));
            }
            Err(_) => Err(FormatError::Truncated {
                what: "segment header",
                needed: SEGMENT_HEADER_LEN as u64,
                found: file.len().unwrap_or(0),
            }),
        };
        let (header, damage) = match header {
            Ok(header) => (header, None),
            Err(
                error @ (FormatError::Foreign { .. }
                | FormatError::Version { .. }
                | FormatError::Truncated { .. }),
            ) => return Err(Error::format(&path, error)),
            // Not a byte of ours, as far as can be seen: somebody else's file.
            Err(error) if !has_record(&*file, uuid, id) => {
                return Err(Error::format(&path, error));
            }
            Err(error) => {
                let made_up = SegmentHeader {
                    uuid: *uuid,
                    id,
                    base_seq: 0,
                    created_ms: 0,
                    file_len,
                    lane: 0,
                };
                (made_up, Some(error))
            }
        };
        let segment = Self::over(storage, header, file, usage, false)?;
        segment.region.distrust_blocks();
        Ok((segment, damage))
    }

    fn over(
        storage: &dyn Storage,
        header: SegmentHeader,
        file: Arc<dyn File>,
        usage: &Arc<Usage>,
        is_new: bool,
    ) -> Result<Self> {
        let path = || storage.path(&file_name(header.id));
        let nominal = header.file_len as usize;
        let len = file.len().map_err(|error| Error::io("look at", &path(), error))?;
        let len = usize::try_from(len).unwrap_or(nominal).min(nominal);
        if len < SEGMENT_DATA {
            let (needed, found) = (SEGMENT_DATA as u64, len as u64);
            let source = FormatError::Truncated { what: "segment", needed, found };
            return Err(Error::format(&path(), source));
        }
        let map = file.map(len).map_err(|error| Error::io("map", &path(), error))?;
        let region = Region::new(map, file, nominal);
        if is_new {
            usage.add(len as u64);
        } else {
            usage.meet(len as u64);
        }
        // Relaxed: a hint.
        let synced = region.word(SEGMENT_SYNCED).load(Ordering::Relaxed);
        // What is beyond all that counts is damaged, and would stand in the way of syncs.
        let synced = if synced > region.committed().to_bits() { 0 } else { synced };
        let words = nominal.div_ceil(BLOCK).div_ceil(64);
        Ok(Self {
            salt: Salt::new(&header.uuid, header.id),
            region: Arc::new(region),
            intact: (0..words).map(|_| AtomicU64::new(0)).collect(),
            verified: Verified::of_segment(nominal),
            group: Group::new(synced),
            external_bytes: AtomicU64::new(0),
            large_keys: Mutex::default(),
            retired: AtomicBool::new(false),
            listed: OnceLock::new(),
            tally: Tally::new(header.base_seq),
            usage: Arc::clone(usage),
            header,
        })
    }

    pub(crate) const fn id(&self) -> u64 {
        self.header.id
    }

    pub(crate) const fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(crate) const fn salt(&self) -> Salt {
        self.salt
    }

    pub(super) const fn verified(&self) -> &Verified {
        &self.verified
    }

    pub(crate) const fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Length of the file in bytes.
    pub(crate) const fn len(&self) -> usize {
        self.header.file_len as usize
    }

    pub(crate) fn state(&self) -> SegmentState {
        // Acquire: pairs with `set_state`; what was written before the change is seen.
        let bits = self.region.word(SEGMENT_STATE).load(Ordering::Acquire);
        if IS_ON && bits == 0 && self.region.is_broken() {
            // The word is gone. Nothing is written here any more.
            return SegmentState::Sealed;
        }
        SegmentState::from_bits(bits)
    }

    /// Its id, committed word and state as they are in the file, whatever they say.
    pub(crate) fn raw_words(&self) -> [u64; 3] {
        // Relaxed: for openings and closings, which have the store to themselves.
        let [committed, state] = [SEGMENT_COMMITTED, SEGMENT_STATE]
            .map(|at| self.region.word(at).load(Ordering::Relaxed));
        [self.id(), committed, state]
    }

    pub(crate) fn set_state(&self, state: SegmentState) {
        // Release: pairs with `state`.
        self.region.word(SEGMENT_STATE).store(state as u64, Ordering::Release);
    }

    /// Bytes of external files that records here refer to; counted so that reclaiming knows
    /// what it would free. Relaxed: a sum.
    pub(crate) const fn external_bytes(&self) -> &AtomicU64 {
        &self.external_bytes
    }

    /// The record at `offset`, its header checked, its payload not.
    #[inline(always)]
    pub(crate) fn record(&self, offset: usize) -> Result<Record<'_>, FormatError> {
        let bytes = self.region.committed_from(offset);
        let header = RecordHeader::decode(bytes, self.salt, offset as u64)?;
        Ok(Record { segment: self, offset, bytes, header })
    }

    /// Lists what a scan of a file found that was cut short, and has no footer any more.
    pub(crate) fn list(&self, entries: &[FooterEntry]) {
        let bytes: Vec<u8> = entries.iter().rev().flat_map(FooterEntry::encode).collect();
        let _ = self.listed.set(bytes.into());
    }

    /// Whether its footer is gone and was not listed yet.
    pub(crate) fn is_unlisted(&self) -> bool {
        !self.region.is_whole() && self.listed.get().is_none()
    }

    /// The committed footer entries as they lie in the file, newest first.
    fn entry_bytes(&self) -> &[u8] {
        let listed = || self.listed.get().map(|bytes| &**bytes);
        self.region.entries().or_else(listed).unwrap_or_default()
    }

    /// Number of committed entries.
    pub(crate) fn entry_count(&self) -> usize {
        self.entry_bytes().len() / ENTRY_LEN
    }

    /// A committed entry, by the order of writing.
    pub(crate) fn entry(&self, number: usize) -> Option<FooterEntry> {
        let bytes = self.entry_bytes();
        let end = bytes.len().checked_sub(number * ENTRY_LEN)?;
        let start = end.checked_sub(ENTRY_LEN)?;
        FooterEntry::decode(bytes.get(start..end)?).ok()
    }

    /// The committed footer entries, newest first.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = FooterEntry> + '_ {
        let bytes = self.entry_bytes();
        bytes.chunks_exact(ENTRY_LEN).filter_map(|entry| FooterEntry::decode(entry).ok())
    }

    /// How many entries the footer seems to hold, whatever the committed word says: for the size
    /// of things that are to hold them.
    pub(crate) fn count_entries(&self) -> u64 {
        let mut block = vec![0; CHUNK];
        let (mut count, mut end) = (0, self.len() - TRAILER_LEN);
        while end > SEGMENT_DATA {
            let from = end.saturating_sub(CHUNK).max(SEGMENT_DATA);
            let bytes = &mut block[..end - from];
            if self.region.read_uncommitted(bytes, from).is_err() {
                break;
            }
            let is_entry = |bytes: &[u8]| {
                FooterEntry::decode(bytes)
                    .is_ok_and(|entry| (SEGMENT_DATA..self.len()).contains(&entry.offset()))
            };
            let entries = bytes.rchunks_exact(ENTRY_LEN).take_while(|bytes| is_entry(bytes));
            let found = entries.count();
            count += found as u64;
            if found < (end - from) / ENTRY_LEN {
                break;
            }
            end = from;
        }
        count
    }

    /// The sequence number of the record of a footer entry.
    pub(crate) fn entry_seq(&self, entry: &FooterEntry) -> Option<u64> {
        match entry.seq_delta {
            // Of a damaged header the base is not known.
            Some(delta) if self.header.base_seq != 0 => {
                Some(self.header.base_seq.wrapping_add(delta.into()))
            }
            _ => self.record(entry.offset()).ok().map(|record| record.header.seq),
        }
    }

    /// The trailer, if the segment was sealed and the trailer and entries are whole.
    pub(crate) fn trailer(&self) -> Result<Trailer, FormatError> {
        let mut bytes = [0; TRAILER_LEN];
        let at = self.len() - TRAILER_LEN;
        if self.region.read_uncommitted(&mut bytes, at).is_err() {
            let (needed, found) = (self.len() as u64, 0);
            return Err(FormatError::Truncated { what: "segment trailer", needed, found });
        }
        Trailer::decode(&bytes, self.salt, self.len())
    }

    /// Makes everything committed so far durable. Writers that come while another one syncs
    /// share the next sync (group commit). A failure is remembered for good. Says how many
    /// records it was that were not known to be durable; `None` if nothing was left to do.
    pub(crate) fn sync(&self, storage: &dyn Storage) -> Result<Option<u64>> {
        self.sync_after(storage, |_| ())
    }

    /// As [`sync`](Self::sync), giving those who are `coming` the time to append before.
    pub(crate) fn sync_together(
        &self,
        storage: &dyn Storage,
        coming: &AtomicU64,
    ) -> Result<Option<u64>> {
        self.group.join();
        self.sync_after(storage, |lead| lead.gather(coming))
    }

    fn sync_after(
        &self,
        storage: &dyn Storage,
        prepare: impl FnOnce(&mut Lead<'_>),
    ) -> Result<Option<u64>> {
        let path = || storage.path(&file_name(self.id()));
        let look = || {
            // In this order: sealing commits nothing more.
            let is_sealed = self.state() != SegmentState::Open;
            // Both halves of the word only grow, so that words compare like times.
            Sight { committed: self.region.committed().to_bits(), is_sealed }
        };
        // Release: written after the sync, so that whenever the word itself reaches the disk,
        // what it claims is there.
        let note = |synced| self.region.word(SEGMENT_SYNCED).store(synced, Ordering::Release);
        let sync = || {
            self.region.file().sync()?;
            // What was written to the map there did not reach the file.
            if self.region.is_broken() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
        };
        match self.group.sync(look, prepare, sync, note) {
            Synced::Already => Ok(None),
            Synced::Now(before, now) => {
                let [before, now] = [before, now].map(|bits| Committed::from_bits(bits).entries);
                Ok(Some(now.saturating_sub(before).into()))
            }
            Synced::Lost => Err(Error::SyncLost { path: path() }),
            Synced::Failed(error) => Err(Error::io("sync", &path(), error)),
        }
    }

    /// Makes everything durable, and that it is. For a footer that the next opening has to
    /// believe, whatever comes in between.
    pub(crate) fn settle(&self, storage: &dyn Storage) -> Result<()> {
        self.sync(storage)?;
        let path = || storage.path(&file_name(self.id()));
        self.region.file().sync().map_err(|error| Error::io("sync", &path(), error))
    }

    /// Notes that all of it is durable, if it is sealed: after a clean end, which synced it.
    pub(crate) fn note_clean_end(&self) {
        let committed = self.region.committed().to_bits();
        let is_synced = self.group.synced() == committed;
        let is_sealed = self.state() == SegmentState::Sealed;
        self.group.set_synced_sealed(is_synced && is_sealed);
    }

    /// The committed word that was last known to be durable.
    pub(crate) fn synced_word(&self) -> u64 {
        self.group.synced()
    }

    /// A view of a committed range.
    pub(crate) fn view(self: &Arc<Self>, range: Range<usize>) -> View {
        View::new(Arc::clone(self) as Arc<dyn Owner>, range)
    }
}

impl Owner for Segment {
    fn committed_bytes(&self, range: Range<usize>) -> &[u8] {
        self.region.committed_from(range.start).get(..range.len()).unwrap_or_default()
    }

    fn pinned_len(&self) -> u64 {
        self.len() as u64
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let len = self.len() as u64;
        if *self.retired.get_mut() { self.usage.release(len) } else { self.usage.part(len) }
    }
}

/// A record in a mapped segment, its header checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) segment: &'a Segment,
    pub(crate) offset: usize,
    /// From the record's start to the end of what is committed.
    bytes: &'a [u8],
    pub(crate) header: RecordHeader,
}

impl<'a> Record<'a> {
    #[inline]
    const fn extent(&self) -> Extent {
        self.header.extent(self.offset)
    }

    #[inline]
    fn slice(&self, from: usize, to: usize) -> &'a [u8] {
        self.bytes.get(from - self.offset..to - self.offset).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn key(&self) -> &'a [u8] {
        let at = self.extent().key_at;
        self.slice(at, at + usize::from(self.header.key_len))
    }

    /// The value as stored.
    #[inline]
    pub(crate) fn value(&self) -> &'a [u8] {
        let extent = self.extent();
        self.slice(extent.value_at, extent.chunks_at)
    }

    /// Where the value lies in the file.
    pub(crate) const fn value_range(&self) -> Range<usize> {
        let extent = self.extent();
        extent.value_at..extent.chunks_at
    }

    /// Hashes of its tags.
    pub(crate) fn tags(&self) -> impl Iterator<Item = u64> + 'a {
        let extent = self.extent();
        let (tags, _) = self.slice(extent.tags_at, extent.key_at).as_chunks::<8>();
        tags.iter().map(|tag| u64::from_le_bytes(*tag))
    }

    /// When it was written, in ms since 1970.
    pub(crate) fn written_at_ms(&self) -> u64 {
        self.segment.header.created_ms.saturating_add(self.header.written_ms.into())
    }

    /// Most bytes that a copy of it takes in a segment, footer entry included.
    pub(crate) fn room(&self) -> usize {
        let align = 1 << self.header.align_log2;
        room_for(usize::from(self.header.key_len), self.value().len()) + align
    }

    /// Length of the record in the file.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.extent().end - self.offset
    }

    /// Whether key and value agree with their checksums, as far as a read has to know: a long
    /// record that was found intact is so for as long as the file is mapped, as no committed byte
    /// ever changes.
    #[inline]
    pub(crate) fn can_be_served(&self) -> bool {
        if self.len() < BLOCK {
            return self.is_intact();
        }
        self.is_known_intact() || self.is_intact() && self.note_intact()
    }

    /// Whether the record is long, and was found intact before.
    #[inline]
    pub(crate) fn is_known_intact(&self) -> bool {
        let block = self.offset / BLOCK;
        let (word, mask) = (&self.segment.intact[block / 64], 1 << (block % 64));
        // Relaxed, here and below: the bit only spares work; the bytes that it speaks of were
        // committed before, which whoever got this far has seen.
        let is_known = self.len() >= BLOCK && word.load(Ordering::Relaxed) & mask != 0;
        is_known && !self.segment.region.is_broken()
    }

    /// Remembers that the record was found intact, if it is long; always true.
    #[inline]
    pub(crate) fn note_intact(&self) -> bool {
        if self.len() >= BLOCK {
            let block = self.offset / BLOCK;
            self.segment.intact[block / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
        true
    }

    /// Whether key and value agree with their checksums now.
    #[inline]
    pub(crate) fn is_intact(&self) -> bool {
        let (header, extent) = (&self.header, self.extent());
        if header.is_chunked() {
            return self.are_chunks_intact();
        }
        let payload = self.slice(extent.key_at, extent.chunks_at);
        payload_crc(header.seq, payload, &[]) == header.payload_crc
    }

    /// As [`is_intact`](Self::is_intact), of a value that has a checksum for each chunk.
    fn are_chunks_intact(&self) -> bool {
        let count = self.header.chunk_count() as u64;
        self.has_right_table() && (0..count).all(|number| self.is_chunk_intact(number))
    }

    /// The checksums of the chunks.
    fn table(&self) -> &'a [u8] {
        let extent = self.extent();
        self.slice(extent.chunks_at, extent.chunks_at + self.header.chunk_count() * 4)
    }

    /// Whether key and checksums of the chunks agree with their own checksum.
    pub(crate) fn has_right_table(&self) -> bool {
        payload_crc(self.header.seq, self.key(), self.table()) == self.header.payload_crc
    }

    /// Whether a chunk agrees with its checksum, if that is right.
    pub(crate) fn is_chunk_intact(&self, number: u64) -> bool {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let crc = self.table().as_chunks::<4>().0.get(at);
        let chunk = at.checked_mul(CHUNK).and_then(|from| self.value().get(from..));
        crc.zip(chunk).is_some_and(|(crc, chunk)| {
            let chunk = &chunk[..chunk.len().min(CHUNK)];
            chunk_crc(self.header.seq, number, chunk) == u32::from_le_bytes(*crc)
        })
    }
}

/// Whether a segment's file begins with a record of this very segment.
fn has_record(file: &dyn File, uuid: &[u8; 16], id: u64) -> bool {
    let mut bytes =
        [0; larder_format::layout::RECORD_HEADER_LEN + larder_format::layout::RECORD_EXTENSION_MAX];
    let at = SEGMENT_DATA as u64;
    // The checksum is looked at first; that the rest is not in the buffer is found after it.
    file.read_at(&mut bytes, at).is_ok()
        && matches!(
            RecordHeader::decode(&bytes, Salt::new(uuid, id), at),
            Ok(_) | Err(FormatError::Truncated { .. })
        )
}
