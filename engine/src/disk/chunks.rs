//! Which chunks of what is mapped are as they were written: summed when they are first needed,
//! and remembered.
//!
//! ```text
//! value of a record, of more than 64 KiB     | chunk 0 | chunk 1 | … | last |
//! where its bits stand, by 32 KiB of the file:    ·middle   ·middle       ·start
//! ```
//!
//! # Invariants
//! 1. A bit says that the chunk agreed with its checksum once. No committed byte ever changes, so
//!    it does for as long as the file is mapped.
//! 2. In a segment no two chunks share a bit. All but the last one of a value are 64 KiB long, and
//!    have the bit of their middle; the last one has that of its start, 32 KiB behind the middle
//!    before it, and 32 KiB or more before the middle of the next record's first chunk.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use larder_format::RecordHeader;
use larder_format::layout::CHUNK;
use larder_format::record::chunk_crc;

use super::backing::Hint;
use super::external::{External, FileId};
use super::segment::{Record, Segment, file_name};
use super::view::{Owner, View};
use crate::sync::{AtomicU64, Ordering};

/// Bytes of a segment that a bit stands for.
const SPAN: usize = CHUNK / 2;

/// A bit for each of some chunks.
#[derive(Debug)]
pub(crate) struct Verified(Box<[AtomicU64]>);

impl Verified {
    /// Bits for so many chunks, none of which was looked at.
    pub(crate) fn new(count: u64) -> Self {
        let words = usize::try_from(count.div_ceil(64)).unwrap_or(0);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Bits for the chunks of a segment of this length.
    pub(crate) fn of_segment(len: usize) -> Self {
        Self::new(len.div_ceil(SPAN) as u64)
    }

    #[inline]
    fn place(&self, number: u64) -> Option<(&AtomicU64, u64)> {
        let word = usize::try_from(number / 64).ok().and_then(|at| self.0.get(at));
        word.map(|word| (word, 1 << (number % 64)))
    }

    #[inline]
    pub(crate) fn has(&self, number: u64) -> bool {
        // Relaxed, here and below: the bit only spares work; the bytes that it speaks of were
        // committed before, which whoever got this far has seen.
        self.place(number).is_some_and(|(word, mask)| word.load(Ordering::Relaxed) & mask != 0)
    }

    #[inline]
    pub(crate) fn note(&self, number: u64) {
        if let Some((word, mask)) = self.place(number) {
            word.fetch_or(mask, Ordering::Relaxed);
        }
    }
}

/// Something that keeps bytes as they are, and can tell of each chunk of them whether it is what
/// was written.
pub(crate) trait Chunks: Owner + fmt::Debug {
    /// Bytes of a chunk; the last one may be shorter.
    fn chunk_len(&self) -> usize;

    /// How many there are.
    fn chunk_count(&self) -> u64;

    /// Whether a chunk was found right before.
    fn is_known(&self, number: u64) -> bool;

    /// Sums a chunk, and remembers if it is right. Whether it is.
    fn sum(&self, number: u64) -> bool;

    /// Whether something of the file was found to be gone: then nothing that was found right before
    /// need be so still.
    fn is_broken(&self) -> bool;

    /// Whether the file still has its length, so that reading it raises no signal.
    fn is_whole(&self) -> bool {
        true
    }

    /// Tells the system what will be done with some chunks. Whether all of their pages are there,
    /// if that was asked: they are not if the file was cut short behind our back.
    fn advise(&self, numbers: Range<u64>, hint: Hint) -> bool;

    /// The file, and where in it a chunk begins.
    fn place(&self, number: u64) -> (String, u64);
}

impl Chunks for External {
    fn chunk_len(&self) -> usize {
        CHUNK
    }

    fn chunk_count(&self) -> u64 {
        self.footer().chunk_count()
    }

    #[inline]
    fn is_known(&self, number: u64) -> bool {
        self.verified().has(number) && !self.is_broken()
    }

    fn is_broken(&self) -> bool {
        self.frozen().is_broken()
    }

    fn sum(&self, number: u64) -> bool {
        let (Some((data, _)), Some(tail)) = (self.parts(), self.tail()) else { return false };
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let chunk = at.checked_mul(CHUNK).and_then(|from| data.get(from..));
        let (Some(chunk), Some(crc)) = (chunk, tail.as_chunks::<4>().0.get(at)) else {
            return false;
        };
        let chunk = &chunk[..chunk.len().min(CHUNK)];
        let is_right = chunk_crc(self.footer().seq, number, chunk) == u32::from_le_bytes(*crc);
        if is_right {
            self.verified().note(number);
        }
        is_right
    }

    fn is_whole(&self) -> bool {
        self.has_length()
    }

    fn advise(&self, numbers: Range<u64>, hint: Hint) -> bool {
        let at = |number: u64| {
            let data = number.saturating_mul(CHUNK as u64).min(self.footer().data_len);
            usize::try_from(self.footer().data_at().saturating_add(data)).unwrap_or(usize::MAX)
        };
        self.frozen().advise(at(numbers.start)..at(numbers.end), hint)
    }

    fn place(&self, number: u64) -> (String, u64) {
        let at = self.footer().data_at().saturating_add(number.saturating_mul(CHUNK as u64));
        (FileId::of(self.footer()).name(), at)
    }
}

/// The value of a record, to be looked at chunk by chunk.
#[derive(Debug)]
pub(crate) struct RecordChunks {
    segment: Arc<Segment>,
    offset: usize,
    header: RecordHeader,
}

impl RecordChunks {
    /// Over a record of a segment. `None` if the checksums of its chunks are not what was written.
    pub(crate) fn new(segment: &Arc<Segment>, record: &Record<'_>) -> Option<Arc<Self>> {
        if record.header.is_chunked() && !record.has_right_table() {
            return None;
        }
        let (offset, header) = (record.offset, record.header);
        Some(Arc::new(Self { segment: Arc::clone(segment), offset, header }))
    }

    /// A view of a part of the value, unchecked.
    pub(crate) fn view(self: &Arc<Self>, part: Range<usize>) -> View {
        let at = self.header.extent(self.offset).value_at;
        View::new(Arc::clone(self) as Arc<dyn Owner>, at + part.start..at + part.end)
    }

    fn record(&self) -> Option<Record<'_>> {
        self.segment.record(self.offset).ok()
    }

    /// Which bit of the segment stands for a chunk.
    fn bit(&self, number: u64) -> u64 {
        let extent = self.header.extent(self.offset);
        let start = extent.value_at as u64 + number * CHUNK as u64;
        let is_last = start + CHUNK as u64 >= extent.chunks_at as u64;
        let place = if is_last { start } else { start + SPAN as u64 };
        place / SPAN as u64
    }
}

impl Owner for RecordChunks {
    fn committed_bytes(&self, range: Range<usize>) -> &[u8] {
        self.segment.committed_bytes(range)
    }

    fn pinned_len(&self) -> u64 {
        self.segment.pinned_len()
    }
}

impl Chunks for RecordChunks {
    fn chunk_len(&self) -> usize {
        if self.header.is_chunked() { CHUNK } else { usize::MAX }
    }

    fn chunk_count(&self) -> u64 {
        self.header.chunk_count().max(1) as u64
    }

    fn is_known(&self, number: u64) -> bool {
        if self.header.is_chunked() {
            return self.segment.verified().has(self.bit(number)) && !self.is_broken();
        }
        self.record().is_some_and(|record| record.is_known_intact())
    }

    fn is_broken(&self) -> bool {
        self.segment.region().is_broken()
    }

    fn sum(&self, number: u64) -> bool {
        let Some(record) = self.record() else { return false };
        if !self.header.is_chunked() {
            return record.is_intact() && record.note_intact();
        }
        let is_right = record.is_chunk_intact(number);
        if is_right {
            self.segment.verified().note(self.bit(number));
        }
        is_right
    }

    fn advise(&self, numbers: Range<u64>, hint: Hint) -> bool {
        let extent = self.header.extent(self.offset);
        let at = |number: u64| {
            let from = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(CHUNK);
            extent.value_at.saturating_add(from).min(extent.chunks_at)
        };
        self.segment.region().advise(at(numbers.start)..at(numbers.end), hint)
    }

    fn place(&self, number: u64) -> (String, u64) {
        let at = self.header.extent(self.offset).value_at as u64;
        (file_name(self.segment.id()), at + number.saturating_mul(CHUNK as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_remembered_one_by_one() {
        let verified = Verified::new(130);
        assert!((0..130).all(|number| !verified.has(number)));
        verified.note(64);
        verified.note(129);
        verified.note(1 << 40);
        let known: Vec<u64> = (0..300).filter(|number| verified.has(*number)).collect();
        assert_eq!(known, [64, 129]);
    }
}
