//! Segments: append-only log files.
//!
//! ```text
//! | header page 4096 | records → | free | ← footer entries | trailer 64 |
//! ```
//!
//! The footer grows while the segment is written, one entry a record, downwards from the
//! trailer's place, so that sealing writes 64 bytes and a dead writer leaves nothing undone.
//! One word in the header page, [`Committed`], says how much of both counts.

use crate::bytes::{Reader, Writer, check_crc, check_magic, check_version};
use crate::error::FormatError;
use crate::hash::{Salt, crc_from};
use crate::layout::{
    ENTRY_LEN, FORMAT_VERSION, SEGMENT_DATA, SEGMENT_HEADER_LEN, SEGMENT_LEN_MAX, SEGMENT_LEN_MIN,
    SEGMENT_MAGIC, TRAILER_LEN, TRAILER_MAGIC, UNIT,
};
use crate::record::Kind;

/// The fixed part of a segment's header, written once before the file gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store that it belongs to.
    pub uuid: [u8; 16],
    /// The segment's id; never used again in this store.
    pub id: u64,
    /// Sequence numbers in the footer are counted from here.
    pub base_seq: u64,
    /// When it was created, in ms since 1970.
    pub created_ms: u64,
    /// Length of the file in bytes.
    pub file_len: u32,
    /// Which of its process's writers appends to it; for people who look at dumps.
    pub lane: u32,
}

impl SegmentHeader {
    /// Encodes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = Writer::<SEGMENT_HEADER_LEN>::new();
        out.skip_to(4).put(&SEGMENT_MAGIC).put(&FORMAT_VERSION.to_le_bytes());
        out.put(&self.file_len.to_le_bytes()).put(&self.id.to_le_bytes());
        out.put(&self.base_seq.to_le_bytes()).put(&self.created_ms.to_le_bytes());
        out.put(&self.lane.to_le_bytes()).skip_to(48).put(&self.uuid);
        out.seal(|body| crc_from(0, body))
    }

    /// Decodes and checks a header that must belong to store `uuid` and be segment `id`.
    ///
    /// # Errors
    /// [`FormatError`] when the bytes are no header, are damaged, newer, or of another store
    /// or segment.
    pub fn decode(bytes: &[u8], uuid: &[u8; 16], id: u64) -> Result<Self, FormatError> {
        let header = Self::decode_any(bytes)?;
        if header.uuid != *uuid {
            return Err(FormatError::Foreign { what: "segment header", found: header.uuid });
        }
        if header.id != id {
            return Err(field("segment id", header.id, "the id in the file's name"));
        }
        Ok(header)
    }

    /// Decodes a header of whatever store and segment, as tools that look at one file do.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), except for belonging.
    pub fn decode_any(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "segment header";
        let mut fields = Reader::new(WHAT, bytes, SEGMENT_HEADER_LEN)?;
        let crc = fields.u32();
        check_magic(WHAT, SEGMENT_MAGIC, fields.array())?;
        let version = fields.u32();
        check_version(WHAT, FORMAT_VERSION, version)?;
        let body = bytes.get(4..SEGMENT_HEADER_LEN).unwrap_or_default();
        check_crc(WHAT, crc, crc_from(0, body))?;
        let file_len = fields.u32();
        let id = fields.u64();
        let base_seq = fields.u64();
        let created_ms = fields.u64();
        let lane = fields.u32();
        let _: [u8; 4] = fields.array();
        let uuid = fields.array();
        if !(SEGMENT_LEN_MIN..=SEGMENT_LEN_MAX).contains(&file_len) || !file_len.is_power_of_two() {
            return Err(field(
                "file length",
                file_len.into(),
                "a power of two from 64 KiB to 64 MiB",
            ));
        }
        Ok(Self { uuid, id, base_seq, created_ms, file_len, lane })
    }
}

const fn field(field: &'static str, found: u64, allowed: &'static str) -> FormatError {
    FormatError::Field { what: "segment header", field, found, allowed }
}

/// How much of a segment counts: one word, so that records and footer advance together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Committed {
    /// One past the last record, in [`UNIT`]s from the start of the file.
    pub tail_units: u32,
    /// Number of footer entries.
    pub entries: u32,
}

impl Committed {
    /// Of a segment without records.
    #[expect(clippy::cast_possible_truncation, reason = "4096 / 16")]
    pub const EMPTY: Self = Self { tail_units: (SEGMENT_DATA / UNIT) as u32, entries: 0 };

    /// The word as stored.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.tail_units as u64 | (self.entries as u64) << 32
    }

    /// From the stored word, which may hold anything.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the word")]
    pub const fn from_bits(bits: u64) -> Self {
        Self { tail_units: bits as u32, entries: (bits >> 32) as u32 }
    }

    /// One past the last record, in bytes from the start of the file.
    #[must_use]
    #[inline]
    pub const fn tail(self) -> usize {
        (self.tail_units as usize) << 4
    }

    /// Whether a segment file of `file_len` bytes can hold this much.
    #[must_use]
    #[inline]
    pub const fn fits(self, file_len: usize) -> bool {
        // Nowhere near 64 bits: 36 each.
        let footer = (self.entries as u64).wrapping_mul(ENTRY_LEN as u64);
        let end = ((self.tail_units as u64) << 4).wrapping_add(footer);
        self.tail() >= SEGMENT_DATA && end.wrapping_add(TRAILER_LEN as u64) <= file_len as u64
    }
}

/// Where footer entry `number` starts in a segment of `file_len` bytes. `number` must be less
/// than the committed number of entries of a segment that [fits](Committed::fits).
#[must_use]
#[inline]
pub const fn entry_at(file_len: usize, number: usize) -> usize {
    file_len
        .saturating_sub(TRAILER_LEN)
        .saturating_sub(number.saturating_add(1).saturating_mul(ENTRY_LEN))
}

/// A segment's state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum SegmentState {
    /// A live process appends, or a dead one did.
    Open = 1,
    /// The trailer is written; nothing changes any more.
    Sealed = 2,
    /// Its slots are being cleared; then the file goes.
    Retiring = 3,
}

impl SegmentState {
    /// From the stored word; anything unknown is taken for open, which promises least.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        match bits {
            2 => Self::Sealed,
            3 => Self::Retiring,
            _ => Self::Open,
        }
    }
}

/// Bits of a footer entry's place that hold the offset.
const OFFSET_MASK: u32 = (1 << 27) - 1;

/// A line in a segment's own table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FooterEntry {
    /// Hash of the key.
    pub key_hash: u64,
    /// Where the record starts, in [`UNIT`]s from the start of the file.
    pub offset_units: u32,
    /// What the record says.
    pub kind: Kind,
    /// Whether the record hides an older one ([`Flags::REPLACED`](crate::Flags::REPLACED)).
    pub replaced: bool,
    /// Whether the value lies in a file of its own
    /// ([`Flags::EXTERNAL`](crate::Flags::EXTERNAL)).
    pub external: bool,
    /// Sequence number less the segment's `base_seq`; `None` when only the record knows it
    /// (moved here, or too far from the base).
    pub seq_delta: Option<u32>,
}

impl FooterEntry {
    /// Where the record starts, in bytes from the start of the file.
    #[must_use]
    #[inline]
    pub const fn offset(&self) -> usize {
        (self.offset_units as usize) << UNIT.trailing_zeros()
    }

    /// Encodes the entry.
    #[must_use]
    #[inline]
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        let place = self.offset_units & OFFSET_MASK
            | u32::from(self.external) << 27
            | (self.kind as u32) << 28
            | u32::from(self.replaced) << 31;
        let [h0, h1, h2, h3, h4, h5, h6, h7] = self.key_hash.to_le_bytes();
        let [p0, p1, p2, p3] = place.to_le_bytes();
        let [d0, d1, d2, d3] = self.seq_delta.unwrap_or(u32::MAX).to_le_bytes();
        [h0, h1, h2, h3, h4, h5, h6, h7, p0, p1, p2, p3, d0, d1, d2, d3]
    }

    /// Decodes an entry. The record that it points to has to be checked as any other.
    ///
    /// # Errors
    /// [`FormatError`] when there are fewer than 16 bytes or the kind is unknown.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "footer entry";
        let mut fields = Reader::new(WHAT, bytes, ENTRY_LEN)?;
        let key_hash = fields.u64();
        let place = fields.u32();
        let delta = fields.u32();
        let [.., top] = place.to_le_bytes();
        let kind = top >> 4 & 7;
        Ok(Self {
            key_hash,
            offset_units: place & OFFSET_MASK,
            kind: Kind::from_u8(kind).ok_or(FormatError::Field {
                what: WHAT,
                field: "kind",
                found: kind.into(),
                allowed: "1 to 6",
            })?,
            replaced: place >> 31 == 1,
            external: place >> 27 & 1 == 1,
            seq_delta: (delta != u32::MAX).then_some(delta),
        })
    }
}

/// The last 64 bytes of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The segment's id, once more.
    pub id: u64,
    /// What was committed when it was sealed.
    pub committed: Committed,
    /// CRC-32 of all footer entries, as they lie in the file.
    pub entries_crc: u32,
    /// Lowest sequence number first written here, as far as the footer tells; `u64::MAX` if
    /// it tells none.
    pub min_seq: u64,
    /// Highest sequence number first written here, as far as the footer tells; 0 if it tells
    /// none.
    pub max_seq: u64,
    /// The next segment id at the time of sealing: every segment with this id or a higher one
    /// was begun after the last record here was written.
    pub sealed_before: u64,
}

impl Trailer {
    /// Encodes the trailer of a segment with `salt` and `file_len` bytes.
    #[must_use]
    pub fn encode(&self, salt: Salt, file_len: usize) -> [u8; TRAILER_LEN] {
        let mut out = Writer::<TRAILER_LEN>::new();
        out.skip_to(4).put(&TRAILER_MAGIC).put(&self.id.to_le_bytes());
        out.put(&self.committed.to_bits().to_le_bytes()).put(&self.entries_crc.to_le_bytes());
        out.put(&FORMAT_VERSION.to_le_bytes()).put(&self.min_seq.to_le_bytes());
        out.put(&self.max_seq.to_le_bytes()).put(&self.sealed_before.to_le_bytes());
        out.seal(|body| salt.crc(trailer_at(file_len), body))
    }

    /// Decodes and checks the trailer of a segment with `salt` and `file_len` bytes.
    ///
    /// # Errors
    /// [`FormatError`] when the segment was never sealed, or the trailer is damaged, newer or
    /// of another segment.
    pub fn decode(bytes: &[u8], salt: Salt, file_len: usize) -> Result<Self, FormatError> {
        const WHAT: &str = "segment trailer";
        let mut fields = Reader::new(WHAT, bytes, TRAILER_LEN)?;
        let crc = fields.u32();
        check_magic(WHAT, TRAILER_MAGIC, fields.array())?;
        let id = fields.u64();
        let committed = Committed::from_bits(fields.u64());
        let entries_crc = fields.u32();
        let version = fields.u32();
        check_version(WHAT, FORMAT_VERSION, version)?;
        let body = bytes.get(4..TRAILER_LEN).unwrap_or_default();
        check_crc(WHAT, crc, salt.crc(trailer_at(file_len), body))?;
        if !committed.fits(file_len) {
            return Err(FormatError::Field {
                what: WHAT,
                field: "committed",
                found: committed.to_bits(),
                allowed: "what fits the file",
            });
        }
        let min_seq = fields.u64();
        let max_seq = fields.u64();
        let sealed_before = fields.u64();
        Ok(Self { id, committed, entries_crc, min_seq, max_seq, sealed_before })
    }
}

const fn trailer_at(file_len: usize) -> u64 {
    file_len.saturating_sub(TRAILER_LEN) as u64
}
