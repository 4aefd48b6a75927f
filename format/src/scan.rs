//! Finding the records of a segment without its footer, and checking their payloads.
//!
//! A rebuild reads an unsealed segment from front to back. Every valid header says where the
//! next one stands; where none does, the scan moves on by one [`UNIT`] until a header's
//! checksum, seeded with store, segment and offset, says that it belongs exactly there.
//!
//! # Invariants
//! 1. What is yielded covers `from..to` without gap or overlap, in order.
//! 2. Every step advances by at least one unit, so that no bytes can make a scan endless.
//! 3. A yielded record lies wholly before `to`. Only its header is known to be whole:
//!    [`payload_is_intact`] looks at the rest.
//!
//! Not here: what the records mean (which of them wins, whether a batch is complete).

use alloc::vec::Vec;
use core::iter::FusedIterator;

use crate::hash::Salt;
use crate::layout::{CHUNK, RECORD_HEADER_LEN, RECORD_MAGIC, UNIT};
use crate::record::{RecordHeader, chunk_crc, payload_crc};

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// A valid header, and as many bytes behind it as it claims.
    Record {
        /// Where the record starts, in bytes from the start of the file.
        offset: usize,
        /// Its header.
        header: RecordHeader,
    },
    /// Bytes that belong to no record: a writer died here, or nothing was written yet.
    Hole {
        /// The first byte, in bytes from the start of the file.
        from: usize,
        /// One past the last byte: where the next record starts, or the end of the scan.
        to: usize,
    },
}

/// Walks the records between two offsets of a segment, over holes and damage.
///
/// ```
/// use larder_format::{Salt, scan::{Scan, Scanned}};
///
/// let segment = [0; 8192];
/// let salt = Salt::new(&[7; 16], 1);
/// let found: Vec<_> = Scan::new(&segment, salt, 4096, 8192).collect();
/// assert_eq!(found, [Scanned::Hole { from: 4096, to: 8192 }]);
/// ```
#[derive(Debug, Clone)]
pub struct Scan<'a> {
    /// The file up to the end of the scan.
    bytes: &'a [u8],
    salt: Salt,
    at: usize,
    /// The record behind the hole that was yielded last, already decoded.
    ahead: Option<RecordHeader>,
}

impl<'a> Scan<'a> {
    /// A scan of `bytes`, a whole segment file with `salt`, between the offsets `from`
    /// (rounded up to a unit) and `to` (cut to the file).
    #[must_use]
    pub fn new(bytes: &'a [u8], salt: Salt, from: usize, to: usize) -> Self {
        let bytes = bytes.get(..to).unwrap_or(bytes);
        let at = from.checked_next_multiple_of(UNIT).unwrap_or(usize::MAX);
        Self { bytes, salt, at, ahead: None }
    }

    /// The header at `offset`, if a record stands there and ends in time.
    fn header(&self, offset: usize) -> Option<RecordHeader> {
        RecordHeader::decode(self.bytes.get(offset..)?, self.salt, offset as u64).ok()
    }

    /// The first record at or behind `from`.
    fn record_from(&self, from: usize) -> Option<(usize, RecordHeader)> {
        let mut at = from;
        loop {
            at = at.saturating_add(skip(self.bytes.get(at..)?)?);
            if let Some(header) = self.header(at) {
                return Some((at, header));
            }
            at = at.saturating_add(UNIT);
        }
    }

    fn pass(&mut self, offset: usize, header: RecordHeader) -> Scanned {
        self.at = header.extent(offset).end;
        Scanned::Record { offset, header }
    }
}

/// Bytes to skip until a unit looks like a header: its magic byte is the one thing worth
/// reading before the checksum, and zeros fail it without further ado.
fn skip(bytes: &[u8]) -> Option<usize> {
    let empty = bytes.chunks_exact(CHUNK).take_while(|chunk| is_zero(chunk)).count();
    let from = empty.saturating_mul(CHUNK);
    let (units, _) = bytes.get(from..)?.as_chunks::<UNIT>();
    let number = units.iter().position(|unit| unit[4] == RECORD_MAGIC)?;
    Some(from.saturating_add(number.saturating_mul(UNIT)))
}

/// Whether nothing was ever written here: most of an unsealed segment, as a rule.
fn is_zero(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks.iter().all(|block| *block == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

impl Iterator for Scan<'_> {
    type Item = Scanned;

    fn next(&mut self) -> Option<Scanned> {
        let from = self.at;
        if from >= self.bytes.len() {
            return None;
        }
        if let Some(header) = self.ahead.take().or_else(|| self.header(from)) {
            return Some(self.pass(from, header));
        }
        let to = match self.record_from(from.saturating_add(UNIT)) {
            Some((offset, header)) => {
                self.ahead = Some(header);
                offset
            }
            None => self.bytes.len(),
        };
        self.at = to;
        Some(Scanned::Hole { from, to })
    }
}

impl FusedIterator for Scan<'_> {}

/// Whether key and value of the record at `offset` are what was written; for a chunked value
/// every chunk is read. `bytes` is the file from its start to the end of the record or further.
#[must_use]
pub fn payload_is_intact(bytes: &[u8], offset: usize, header: &RecordHeader) -> bool {
    let extent = header.extent(offset);
    if !header.is_chunked() {
        let payload = bytes.get(extent.key_at..extent.chunks_at);
        return payload.is_some_and(|all| payload_crc(header.seq, all, &[]) == header.payload_crc);
    }
    let key_end = extent.key_at.saturating_add(usize::from(header.key_len));
    let table_end = extent.chunks_at.saturating_add(header.chunk_count().saturating_mul(4));
    let (Some(key), Some(value), Some(table)) = (
        bytes.get(extent.key_at..key_end),
        bytes.get(extent.value_at..extent.chunks_at),
        bytes.get(extent.chunks_at..table_end),
    ) else {
        return false;
    };
    let (sums, _) = table.as_chunks::<4>();
    // The table first: with a torn one there is no point in reading the value.
    payload_crc(header.seq, key, table) == header.payload_crc
        && (0_u64..).zip(value.chunks(CHUNK).zip(sums)).all(|(number, (chunk, sum))| {
            chunk_crc(header.seq, number, chunk).to_le_bytes() == *sum
        })
}

/// The chunk checksums that stand behind a record's value: a little-endian `u32` for each
/// [`CHUNK`] bytes, and none for a value that fits one chunk.
#[must_use]
pub fn encode_chunk_table(seq: u64, value: &[u8]) -> Vec<u8> {
    if value.len() <= CHUNK {
        return Vec::new();
    }
    (0..)
        .zip(value.chunks(CHUNK))
        .flat_map(|(n, chunk)| chunk_crc(seq, n, chunk).to_le_bytes())
        .collect()
}

const _: () = assert!(RECORD_HEADER_LEN.is_multiple_of(UNIT));

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::record::{Flags, Kind};

    const SEQ: u64 = 1 << 40;

    fn salt() -> Salt {
        Salt::new(&[9; 16], 3)
    }

    /// Writes a record at `offset` and returns where it ends.
    fn write(bytes: &mut [u8], offset: usize, key: &[u8], value: &[u8]) -> usize {
        let key_len = u16::try_from(key.len()).unwrap();
        let value_len = u32::try_from(value.len()).unwrap();
        let table = encode_chunk_table(SEQ, value);
        let mut header = RecordHeader::new(Kind::Value, SEQ, key_len, value_len);
        let extent = header.extent(offset);
        let mut put = |at: usize, part: &[u8]| {
            bytes.get_mut(at..at + part.len()).unwrap().copy_from_slice(part);
        };
        put(extent.key_at, key);
        put(extent.value_at, value);
        put(extent.chunks_at, &table);
        let payload =
            if header.is_chunked() { key } else { &bytes[extent.key_at..extent.chunks_at] };
        header.payload_crc = payload_crc(SEQ, payload, &table);
        let encoded = header.encode(salt(), offset as u64, &[]);
        bytes[offset..offset + encoded.as_bytes().len()].copy_from_slice(encoded.as_bytes());
        extent.end
    }

    fn shape(scan: Scan<'_>) -> Vec<(usize, usize, bool)> {
        scan.map(|found| match found {
            Scanned::Record { offset, header } => (offset, header.extent(offset).end, true),
            Scanned::Hole { from, to } => (from, to, false),
        })
        .collect()
    }

    #[test]
    fn a_scan_steps_over_holes_and_says_where_they_are() {
        let mut bytes = vec![0; 16384];
        let a = write(&mut bytes, 4096, b"a", &[1; 100]);
        let b = write(&mut bytes, a, b"b", &[2; 200]);
        let c = write(&mut bytes, b, b"c", &[3; 300]);
        let all = [(4096, a, true), (a, b, true), (b, c, true), (c, 16384, false)];
        assert_eq!(shape(Scan::new(&bytes, salt(), 4096, 16384)), all);
        bytes[a] ^= 1;
        let holed = [(4096, a, true), (a, b, false), (b, c, true), (c, 16384, false)];
        assert_eq!(shape(Scan::new(&bytes, salt(), 4096, 16384)), holed);
        assert_eq!(shape(Scan::new(&bytes, salt(), 4096, c)), holed[..3]);
        // A record that reaches past the end of the scan is none.
        assert_eq!(shape(Scan::new(&bytes, salt(), b, c - 16)), [(b, c - 16, false)]);
    }

    #[test]
    fn a_record_is_one_only_in_its_own_place() {
        let mut bytes = vec![0; 16384];
        let end = write(&mut bytes, 4096, b"key", b"value");
        bytes.copy_within(4096..end, 8192);
        let found = shape(Scan::new(&bytes, salt(), 0, 16384));
        assert_eq!(found, [(0, 4096, false), (4096, end, true), (end, 16384, false)]);
        let elsewhere = Salt::new(&[9; 16], 4);
        assert_eq!(shape(Scan::new(&bytes, elsewhere, 0, 16384)), [(0, 16384, false)]);
    }

    #[test]
    fn odd_bounds_are_rounded_and_cut() {
        let bytes = vec![0; 100];
        assert_eq!(shape(Scan::new(&bytes, salt(), 5, 1000)), [(16, 100, false)]);
        assert_eq!(shape(Scan::new(&bytes, salt(), 99, 100)), []);
        assert_eq!(shape(Scan::new(&bytes, salt(), usize::MAX, usize::MAX)), []);
        assert_eq!(shape(Scan::new(&[], salt(), 0, 0)), []);
    }

    #[test]
    fn any_damaged_byte_of_a_payload_is_noticed() {
        let mut bytes = vec![0; 4 * CHUNK];
        let value: Vec<u8> = (0..=255).cycle().take(2 * CHUNK + 77).collect();
        let end = write(&mut bytes, 4096, b"key", &value);
        let Some(Scanned::Record { offset, header }) = Scan::new(&bytes, salt(), 4096, end).next()
        else {
            panic!("no record");
        };
        assert!(payload_is_intact(&bytes, offset, &header));
        assert!(!payload_is_intact(&bytes[..end - 16], offset, &header));
        let extent = header.extent(offset);
        let middle = extent.value_at + CHUNK;
        for at in [extent.key_at, extent.value_at, middle - 1, middle, extent.chunks_at - 1] {
            bytes[at] ^= 0x10;
            assert!(!payload_is_intact(&bytes, offset, &header), "byte {at}");
            bytes[at] ^= 0x10;
        }
        for at in extent.chunks_at..extent.chunks_at + 12 {
            bytes[at] ^= 1;
            assert!(!payload_is_intact(&bytes, offset, &header), "byte {at}");
            bytes[at] ^= 1;
        }
        assert!(payload_is_intact(&bytes, offset, &header));
    }

    #[test]
    fn a_value_of_one_chunk_has_no_table() {
        assert!(encode_chunk_table(SEQ, &[0; CHUNK]).is_empty());
        assert_eq!(encode_chunk_table(SEQ, &[0; CHUNK + 1]).len(), 8);
    }

    #[test]
    fn flags_do_not_move_the_payload() {
        let header = RecordHeader::new(Kind::Value, SEQ, 3, 5);
        let moved = RecordHeader { flags: Flags::MOVED, ..header };
        assert_eq!(header.extent(4096), moved.extent(4096));
    }
}
