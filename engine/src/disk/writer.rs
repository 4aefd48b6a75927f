//! Writing records: one writer at a time appends to a segment.
//!
//! # Invariants
//! 1. A record is staged before it is committed, and nobody reads it before that.
//! 2. Entries of the footer are staged and committed with their records, by the same word.

use std::io;
use std::sync::Arc;

use larder_format::layout::{CHUNK, ENTRY_LEN, RECORD_HEADER_LEN, TRAILER_LEN, UNIT};
use larder_format::record::{Extent, chunk_crc, payload_crc, plain_extent};
use larder_format::scan::encode_chunk_table;
use larder_format::segment::entry_at;
use larder_format::{
    Alignment, CodecId, Committed, Flags, FooterEntry, Kind, RecordHeader, SegmentHeader,
    SegmentState, Trailer,
};

use super::guard::IS_ON;
use super::map::Appender;
use super::segment::Segment;
use crate::clock::NEVER;

/// What is to be appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRecord<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: Flags,
    pub(crate) seq: u64,
    pub(crate) key_hash: u64,
    /// Hashes of its tags, at most 15.
    pub(crate) tags: &'a [u64],
    pub(crate) key: &'a [u8],
    /// What the value begins with, where its parts lie apart: the descriptor of an array.
    pub(crate) head: &'a [u8],
    /// The value, or what follows its head.
    pub(crate) value: &'a [u8],
    pub(crate) codec: CodecId,
    pub(crate) expires_at_ms: u64,
    pub(crate) written_at_ms: u64,
}

impl NewRecord<'_> {
    /// Bytes of value.
    const fn value_len(&self) -> usize {
        self.head.len() + self.value.len()
    }

    /// What the value's place is a multiple of, as a power of two: an array says so itself,
    /// wherever it is moved to.
    fn align_log2(&self) -> u8 {
        if !self.flags.has(Flags::ARRAY) || self.flags.has(Flags::EXTERNAL) {
            return UNIT_LOG2;
        }
        let start = if self.head.is_empty() { self.value } else { self.head };
        Alignment::of_encoded(start).map_or(UNIT_LOG2, Alignment::log2)
    }
}

/// Alignment of most values, as a power of two.
const UNIT_LOG2: u8 = 4;

/// Bytes that the alignment of an array may take besides.
pub(crate) const ALIGN_MAX: usize = 1 << 12;

/// Most bytes that a record of these lengths takes in a segment, footer entry included.
pub(crate) const fn room_for(key_len: usize, value_len: usize) -> usize {
    let chunks = if value_len > CHUNK { value_len.div_ceil(CHUNK) * 4 } else { 0 };
    larder_format::layout::RECORD_HEADER_LEN
        + larder_format::layout::RECORD_EXTENSION_MAX
        + key_len
        + value_len
        + chunks
        + 2 * UNIT
        + ENTRY_LEN
}

/// The checksums of the chunks of a value.
fn chunk_table(new: &NewRecord<'_>) -> Vec<u8> {
    if new.head.is_empty() {
        return encode_chunk_table(new.seq, new.value);
    }
    let head = new.head.len().min(CHUNK);
    let (first, rest) = new.value.split_at(new.value.len().min(CHUNK - head));
    let together = [new.head, first].concat();
    let first_crc = chunk_crc(new.seq, 0, &together);
    let others = (1..).zip(rest.chunks(CHUNK)).map(|(n, chunk)| chunk_crc(new.seq, n, chunk));
    std::iter::once(first_crc).chain(others).flat_map(u32::to_le_bytes).collect()
}

/// Bytes that a segment keeps for the next records when it gives back blocks.
const SLIM_KEEP: usize = 256 << 10;

/// Most bytes of value that are put together with their header before they are written; larger
/// ones are written from where they are.
const TOGETHER_MAX: usize = 256 << 10;

/// Appends to one segment.
#[derive(Debug)]
pub(crate) struct Writer {
    segment: Arc<Segment>,
    appender: Appender,
    /// How much counts once what is staged is committed.
    staged: Committed,
    /// Where a record is put together.
    record: Vec<u8>,
}

impl Writer {
    /// Over a segment that has no writer; `None` if it has one or its file was cut short.
    pub(crate) fn new(segment: Arc<Segment>) -> Option<Self> {
        let appender = segment.region().appender()?;
        let staged = appender.committed();
        Some(Self { segment, appender, staged, record: Vec::new() })
    }

    pub(crate) const fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Bytes that records and their entries can still take.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        let footer = self.staged.entries as usize * ENTRY_LEN + TRAILER_LEN;
        if self.appender.is_lean() {
            return self.lean_room();
        }
        if self.segment.region().is_broken() {
            // What is written where the file is gone survives nothing.
            return 0;
        }
        self.segment.len() - self.staged.tail() - footer
    }

    /// As [`room`](Self::room), while blocks are missing between records and entries.
    #[cold]
    fn lean_room(&self) -> usize {
        let tail = self.staged.tail();
        let below = |room: &usize| {
            // As many entries as the smallest records need that could stand there.
            let entries = self.staged.entries as usize + room / RECORD_HEADER_LEN;
            self.appender.is_allocated(tail + room, entry_at(self.segment.len(), entries))
        };
        let mut room = self.segment.len() - tail;
        while room > 0 && !below(&room) {
            room /= 2;
        }
        room
    }

    /// Bytes that records and their entries take.
    #[inline]
    pub(crate) fn filled(&self) -> usize {
        self.staged.tail() + self.staged.entries as usize * ENTRY_LEN
    }

    /// Gives back what blocks are not needed for long.
    pub(crate) fn slim(&mut self) {
        self.appender.slim(SLIM_KEEP);
    }

    /// Allocates what was given back. Whether that was something, and all of it is there again.
    pub(crate) fn fill_out(&mut self) -> bool {
        self.appender.is_lean() && self.appender.fill_out().is_ok()
    }

    /// Appends and commits a record; returns where it starts. The caller has made sure that
    /// there is [`room`](Self::room).
    #[inline]
    pub(crate) fn append(&mut self, new: &NewRecord<'_>) -> io::Result<usize> {
        let offset = match self.stage(new) {
            Ok(offset) => offset,
            Err(error) => {
                self.unstage();
                return Err(error);
            }
        };
        self.commit();
        Ok(offset)
    }

    /// Puts key and value of a plain record where they are to lie, if it can be appended without
    /// further ado. Nothing counts before it is [appended](Self::append_plain); what is there
    /// until then is written over by the next one.
    #[inline]
    pub(crate) fn place_plain(&mut self, key: &[u8], value: &[u8]) -> Option<Extent> {
        let extent = plain_extent(
            u16::try_from(key.len()).ok()?,
            u32::try_from(value.len()).ok().filter(|len| *len as usize <= CHUNK)?,
        );
        let (record, _) = self.appender.places(extent.end)?;
        // Fewer than 16 zeros stand before the value and behind it. Key and value are written
        // over what of the 16 is too much.
        *record.last_chunk_mut()? = [0; UNIT];
        *record.get_mut(..extent.value_at)?.last_chunk_mut()? = [0; UNIT];
        record.get_mut(extent.key_at..)?.get_mut(..key.len())?.copy_from_slice(key);
        record.get_mut(extent.value_at..extent.chunks_at)?.copy_from_slice(value);
        Some(extent)
    }

    /// Appends and commits a plain record whose key and value are in their
    /// [place](Self::place_plain); returns where it starts, and how many bytes it takes with its
    /// entry. `flags` is asked once they are summed. `None`, and nothing was done, if it has none
    /// or the record has to be [appended](Self::append) as any other.
    #[inline]
    pub(crate) fn append_plain(
        &mut self,
        mut header: RecordHeader,
        hash: u64,
        extent: &Extent,
        now_ms: u64,
        flags: impl FnOnce() -> Option<Flags>,
    ) -> Option<(usize, usize)> {
        let &SegmentHeader { base_seq, created_ms, .. } = self.segment.header();
        let written = now_ms.saturating_sub(created_ms);
        header.written_ms = u32::try_from(written).unwrap_or(u32::MAX);
        let delta = header.seq.checked_sub(base_seq)?;
        let seq_delta = u32::try_from(delta).ok().filter(|delta| *delta != u32::MAX)?;
        let Committed { tail_units, .. } = self.appender.committed();
        let offset = self.appender.committed().tail();
        let salt = self.segment.salt();
        let (record, entry) = self.appender.places(extent.end)?;
        let payload = record.get(extent.key_at..extent.chunks_at)?;
        header.payload_crc = payload_crc(header.seq, payload, &[]);
        header.flags = flags()?;
        *record.first_chunk_mut()? = header.encode_plain(salt, offset as u64);
        *entry = FooterEntry {
            key_hash: hash,
            offset_units: tail_units,
            kind: Kind::Value,
            replaced: header.flags.has(Flags::REPLACED),
            external: false,
            seq_delta: Some(seq_delta),
        }
        .encode();
        self.staged = self.appender.commit_one(u32::try_from(extent.end / UNIT).ok()?);
        Some((offset, extent.end + ENTRY_LEN))
    }

    /// The committed word that makes what is staged count.
    pub(crate) const fn staged_bits(&self) -> u64 {
        self.staged.to_bits()
    }

    /// Forgets what is staged.
    pub(crate) const fn unstage(&mut self) {
        self.staged = self.appender.committed();
    }

    /// Makes all that is staged count, at once.
    #[inline]
    pub(crate) fn commit(&mut self) {
        self.appender.commit(self.staged);
    }

    /// Appends a record that does not count yet; returns where it starts.
    #[inline]
    pub(crate) fn stage(&mut self, new: &NewRecord<'_>) -> io::Result<usize> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let &SegmentHeader { base_seq, created_ms, .. } = self.segment.header();
        let written = new.written_at_ms.saturating_sub(created_ms);
        let key_len = u16::try_from(new.key.len()).map_err(too_long)?;
        let value_len = u32::try_from(new.value_len()).map_err(too_long)?;
        let mut header = RecordHeader {
            flags: new.flags,
            align_log2: new.align_log2(),
            codec: new.codec,
            expires_at_ms: new.expires_at_ms,
            tag_count: u8::try_from(new.tags.len()).map_err(too_long)?,
            written_ms: u32::try_from(written).unwrap_or(u32::MAX),
            ..RecordHeader::new(new.kind, new.seq, key_len, value_len)
        };
        let offset = self.staged.tail();
        let extent = header.extent(offset);
        let entry_at = entry_at(self.segment.len(), self.staged.entries as usize);
        if extent.end > entry_at || !self.appender.is_allocated(extent.end, entry_at) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let salt = self.segment.salt();
        let in_place = !header.is_chunked();
        if in_place && let Some(place) = self.appender.place(offset, extent.end - offset) {
            let (record, padding) = place.split_at_mut(extent.chunks_at - offset);
            // The place may hold what was never committed.
            padding.fill(0);
            let (head, payload) = record.split_at_mut(extent.key_at - offset);
            // Key, zeros and value stand in a row, as they are summed.
            let (key, rest) = payload.split_at_mut(new.key.len());
            let (zeros, value) = rest.split_at_mut(extent.value_at - extent.key_at - key.len());
            key.copy_from_slice(new.key);
            zeros.fill(0);
            let (start, rest) = value.split_at_mut(new.head.len());
            start.copy_from_slice(new.head);
            rest.copy_from_slice(new.value);
            header.payload_crc = payload_crc(new.seq, payload, &[]);
            header.encode_into(head, salt, offset as u64, new.tags);
        } else {
            self.write_through(new, header, offset, extent)?;
        }

        let moved = new.flags.has(Flags::MOVED);
        if IS_ON && !moved && new.seq < base_seq {
            // It was drawn from words that are gone.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let delta = new.seq.checked_sub(base_seq).filter(|_| !moved);
        let entry = FooterEntry {
            key_hash: new.key_hash,
            offset_units: self.staged.tail_units,
            kind: new.kind,
            replaced: new.flags.has(Flags::REPLACED),
            external: new.flags.has(Flags::EXTERNAL),
            seq_delta: delta.and_then(|delta| u32::try_from(delta).ok()).filter(|d| *d != u32::MAX),
        };
        self.appender.write_footer(entry_at, &entry.encode());
        let tail_units = u32::try_from(extent.end / UNIT).map_err(too_long)?;
        self.staged = Committed { tail_units, entries: self.staged.entries + 1 };
        Ok(offset)
    }

    /// Writes a record that is not put together in its place: a large one, or where that is a copy.
    #[inline(never)]
    fn write_through(
        &mut self,
        new: &NewRecord<'_>,
        mut header: RecordHeader,
        offset: usize,
        extent: Extent,
    ) -> io::Result<()> {
        let mut table = if header.is_chunked() { chunk_table(new) } else { Vec::new() };
        let [key_from, value_from] = [extent.key_at - offset, extent.value_at - offset];
        let record = &mut self.record;
        record.clear();
        record.resize(key_from, 0);
        record.extend_from_slice(new.key);
        let summed = |record: &[u8], rest: &[u8]| payload_crc(new.seq, &record[key_from..], rest);
        let together = new.value_len() <= TOGETHER_MAX;
        if header.is_chunked() {
            header.payload_crc = summed(record, &table);
        }
        record.resize(value_from, 0);
        record.extend_from_slice(new.head);
        if together {
            record.extend_from_slice(new.value);
        }
        if !header.is_chunked() {
            header.payload_crc = summed(record, &[]);
        }
        let salt = self.segment.salt();
        header.encode_into(&mut record[..key_from], salt, offset as u64, new.tags);
        // The place may hold what was never committed: the padding is written as well.
        if header.is_chunked() {
            table.resize(extent.end - extent.chunks_at, 0);
        } else {
            record.resize(extent.end - offset, 0);
        }
        self.appender.write(offset, record)?;
        if !together {
            self.appender.write(extent.value_at + new.head.len(), new.value)?;
        }
        if !table.is_empty() {
            self.appender.write(extent.chunks_at, &table)?;
        }
        Ok(())
    }

    /// Wipes the header of a record that was written and never committed, so that nobody finds it
    /// who looks beyond what is committed.
    pub(crate) fn scrub(&mut self) -> io::Result<()> {
        let at = self.appender.committed().tail();
        let mut bytes = [0; RECORD_HEADER_LEN];
        if self.room() < bytes.len() {
            return Ok(());
        }
        self.segment.region().read_uncommitted(&mut bytes, at)?;
        if bytes == [0; RECORD_HEADER_LEN] {
            Ok(())
        } else {
            self.appender.write(at, &[0; RECORD_HEADER_LEN])
        }
    }

    /// Whether a footer of this many entries fits above a tail.
    pub(crate) fn can_adopt(&mut self, tail: usize, entries: usize) -> bool {
        self.appender.fill_out().is_ok()
            && tail + entries * ENTRY_LEN + TRAILER_LEN <= self.segment.len()
    }

    /// Writes entries that recovery found, over whatever stood there, and commits them.
    pub(crate) fn adopt(&mut self, tail: usize, entries: &[FooterEntry]) {
        for (number, entry) in entries.iter().enumerate() {
            self.appender.write_footer(entry_at(self.segment.len(), number), &entry.encode());
        }
        let tail_units = u32::try_from(tail / UNIT).unwrap_or(u32::MAX);
        let entries = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.staged = Committed { tail_units, entries };
        self.commit();
    }

    /// Ends the segment: nothing is ever appended again.
    pub(crate) fn seal(mut self, sealed_before: u64) -> Arc<Segment> {
        let segment = Arc::clone(&self.segment);
        let committed = self.appender.committed();
        let (mut min_seq, mut max_seq) = (NEVER, 0);
        for entry in segment.entries() {
            if let Some(delta) = entry.seq_delta {
                let seq = segment.header().base_seq.wrapping_add(delta.into());
                min_seq = min_seq.min(seq);
                max_seq = max_seq.max(seq);
            }
        }
        let entries_crc =
            larder_format::hash::crc_from(0, segment.region().entries().unwrap_or_default());
        let id = segment.id();
        let trailer = Trailer { id, committed, entries_crc, min_seq, max_seq, sealed_before };
        let bytes = trailer.encode(segment.salt(), segment.len());
        self.appender.write_footer(segment.len() - TRAILER_LEN, &bytes);
        segment.set_state(SegmentState::Sealed);
        segment
    }
}
