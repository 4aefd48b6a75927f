//! Batches: records that count together or not at all.
//!
//! ```text
//! | BatchBegin, value Batch | record | record | … | BatchCommit, the same Batch |
//! |                         |<--- bytes --------->|                            |
//! ```
//!
//! A batch is one reservation in one segment, so its records are neighbours. The records in
//! between carry [`Flags::BATCHED`](crate::Flags::BATCHED); each counts only if both ends are
//! there, say the same, and describe what lies between them. A record that is moved out of a
//! complete batch loses the flag: it has become an ordinary record.

use crate::bytes::{Reader, Writer, check_version};
use crate::error::FormatError;
use crate::hash::crc_from;
use crate::layout::{
    BATCH_LEN, BATCH_MAGIC, BATCH_VERSION, RECORD_HEADER_LEN, SEGMENT_LEN_MAX, UNIT,
};

const WHAT: &str = "batch";

/// The value of the records that begin and commit a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Sequence number of the first record in it.
    pub id: u64,
    /// Number of records between begin and commit.
    pub count: u32,
    /// Bytes of these records, padding included.
    pub bytes: u64,
    /// CRC-32 of their sequence numbers, as little-endian `u64`s in the order of the records.
    pub seqs_crc: u32,
}

impl Batch {
    /// The batch of these records, given as sequence number and length in the segment; `None`
    /// without records. Writers describe with it, readers compare with it.
    ///
    /// ```
    /// use larder_format::Batch;
    ///
    /// let batch = Batch::of([(7, 64), (8, 160)]).expect("two records");
    /// assert_eq!((batch.id, batch.count, batch.bytes), (7, 2, 224));
    /// ```
    #[must_use]
    pub fn of(records: impl IntoIterator<Item = (u64, usize)>) -> Option<Self> {
        let mut batch: Option<Self> = None;
        for (seq, len) in records {
            let sum = batch.get_or_insert(Self { id: seq, count: 0, bytes: 0, seqs_crc: 0 });
            sum.count = sum.count.saturating_add(1);
            sum.bytes = sum.bytes.saturating_add(len as u64);
            sum.seqs_crc = crc_from(sum.seqs_crc, &seq.to_le_bytes());
        }
        batch
    }

    /// Encodes the batch. The record's payload CRC covers it.
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_LEN] {
        let mut out = Writer::<BATCH_LEN>::new();
        out.put(&[BATCH_MAGIC, BATCH_VERSION]).skip_to(4).put(&self.count.to_le_bytes());
        out.put(&self.id.to_le_bytes()).put(&self.bytes.to_le_bytes());
        out.put(&self.seqs_crc.to_le_bytes());
        out.into_bytes()
    }

    /// Decodes and checks a batch.
    ///
    /// # Errors
    /// [`FormatError`] when the bytes are no batch, a newer one, or one that no segment holds.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let field =
            |field, found, allowed| FormatError::Field { what: WHAT, field, found, allowed };
        let mut fields = Reader::new(WHAT, bytes, BATCH_LEN)?;
        let [magic, version] = fields.array();
        if magic != BATCH_MAGIC {
            let expected = BATCH_MAGIC.into();
            return Err(FormatError::Magic { what: WHAT, expected, found: magic.into() });
        }
        check_version(WHAT, BATCH_VERSION.into(), version.into())?;
        let zeros = fields.u16();
        let count = fields.u32();
        let id = fields.u64();
        let bytes = fields.u64();
        let seqs_crc = fields.u32();
        let zeros = u32::from(zeros) | fields.u32();
        if zeros != 0 {
            return Err(field("reserved", zeros.into(), "0"));
        }
        if id == 0 {
            return Err(field("id", 0, "at least 1"));
        }
        if count == 0 {
            return Err(field("count", 0, "at least 1"));
        }
        let least = u64::from(count).saturating_mul(RECORD_HEADER_LEN as u64);
        if bytes < least || bytes > SEGMENT_LEN_MAX.into() || !bytes.is_multiple_of(UNIT as u64) {
            let allowed = "a multiple of 16, at least 32 for each record, at most a segment";
            return Err(field("bytes", bytes, allowed));
        }
        Ok(Self { id, count, bytes, seqs_crc })
    }
}
