//! External files: values and arrays too large for a segment, one file each.
//!
//! ```text
//! big/<id>.val   | data                     | chunk CRCs | key |            | trailer 96 |
//! arr/<id>.npy   | NumPy header 4096 | data | chunk CRCs | key | descriptor | trailer 96 |
//!                                           |<--- tail, one CRC ---------->|
//! ```
//!
//! The record that names the file holds an [`ExternalRef`] as its value. The file says for
//! itself whose it is, so that a stray one can be told from a needed one, and an array is a
//! NumPy file to everybody else: what stands behind the data is ours.
//!
//! # Invariants
//! 1. The lengths in the trailer add up to the file's length, exactly.
//! 2. The trailer's CRC is seeded with store, file and offset: a file cut short or renamed fails.
//! 3. The NumPy header is never read back: it follows from the descriptor.

use alloc::vec::Vec;

use crate::bytes::{Reader, Writer, check_crc, check_magic, check_version};
use crate::error::FormatError;
use crate::hash::Salt;
use crate::layout::{
    ARRAY_DESCRIPTOR_MAX, ARRAY_HEAD_LEN, CHUNK, EXTERNAL_DATA_MAX, EXTERNAL_MAGIC,
    EXTERNAL_REF_LEN, EXTERNAL_REF_MAGIC, EXTERNAL_REF_VERSION, EXTERNAL_TRAILER_LEN,
    FORMAT_VERSION, KEY_LEN_MAX, NPY_HEADER_LEN,
};
use crate::record::chunk_crc;

/// What an external file holds; decides its directory, its name and where its data starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExternalClass {
    /// A value: `big/<id>.val`.
    Value = 1,
    /// An array: `arr/<id>.npy`.
    Array = 2,
}

impl ExternalClass {
    /// The class with this number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Value),
            2 => Some(Self::Array),
            _ => None,
        }
    }

    /// Where the data starts in a file of this class, in bytes.
    #[must_use]
    pub const fn data_at(self) -> u64 {
        match self {
            Self::Value => 0,
            Self::Array => NPY_HEADER_LEN as u64,
        }
    }
}

/// The value of a record with [`Flags::EXTERNAL`](crate::Flags::EXTERNAL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExternalRef {
    /// What the file holds.
    pub class: ExternalClass,
    /// The file's id; never used again in this store.
    pub id: u64,
    /// Bytes of data in the file.
    pub data_len: u64,
    /// Whether the file was on the disk, whole, before the reference was written.
    pub settled: bool,
}

impl ExternalRef {
    /// Encodes the reference. The record's payload CRC covers it.
    #[must_use]
    pub fn encode(&self) -> [u8; EXTERNAL_REF_LEN] {
        let mut out = Writer::<EXTERNAL_REF_LEN>::new();
        let [class, settled] = [self.class as u8, u8::from(self.settled)];
        out.put(&[EXTERNAL_REF_MAGIC, EXTERNAL_REF_VERSION, class, settled]).skip_to(8);
        out.put(&self.id.to_le_bytes()).put(&self.data_len.to_le_bytes());
        out.into_bytes()
    }

    /// Decodes and checks the value of an external record.
    ///
    /// # Errors
    /// [`FormatError`] when the bytes are no reference, or one of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "external reference";
        let field =
            |field, found, allowed| FormatError::Field { what: WHAT, field, found, allowed };
        let mut fields = Reader::new(WHAT, bytes, EXTERNAL_REF_LEN)?;
        let [magic, version, class, settled] = fields.array();
        if magic != EXTERNAL_REF_MAGIC {
            let expected = EXTERNAL_REF_MAGIC.into();
            return Err(FormatError::Magic { what: WHAT, expected, found: magic.into() });
        }
        check_version(WHAT, EXTERNAL_REF_VERSION.into(), version.into())?;
        let zeros = u64::from(fields.u32());
        let id = fields.u64();
        let data_len = fields.u64();
        if zeros | fields.u64() != 0 {
            return Err(field("reserved", zeros, "0"));
        }
        if data_len > EXTERNAL_DATA_MAX {
            return Err(field("data length", data_len, "at most 2^48"));
        }
        let class = ExternalClass::from_u8(class)
            .ok_or_else(|| field("class", class.into(), "1 (value) or 2 (array)"))?;
        if settled > 1 {
            return Err(field("settled", settled.into(), "0 or 1"));
        }
        Ok(Self { class, id, data_len, settled: settled == 1 })
    }
}

/// The end of an external file: what it holds and where the parts lie.
///
/// Encoded as the file's last 96 bytes, the trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExternalFooter {
    /// The store that it belongs to.
    pub uuid: [u8; 16],
    /// The file's id.
    pub id: u64,
    /// What the file holds.
    pub class: ExternalClass,
    /// A sequence number drawn for the file, before that of the record that names it; seeds
    /// the chunk checksums.
    pub seq: u64,
    /// Hash of the key.
    pub key_hash: u64,
    /// Bytes of data, at most 2^48.
    pub data_len: u64,
    /// Bytes of key.
    pub key_len: u32,
    /// Bytes of array descriptor; 0 for values.
    pub descriptor_len: u32,
    /// Checksum of chunk CRCs, key and descriptor; see [`tail_crc`](Self::tail_crc).
    pub tail_crc: u32,
}

const WHAT: &str = "external trailer";

impl ExternalFooter {
    /// Where the data starts.
    #[must_use]
    pub const fn data_at(&self) -> u64 {
        self.class.data_at()
    }

    /// Number of chunks: every external file has checksums, even of a single chunk.
    #[must_use]
    pub const fn chunk_count(&self) -> u64 {
        self.data_len.div_ceil(CHUNK as u64)
    }

    /// Where the chunk checksums start, right behind the data.
    ///
    /// Offsets saturate instead of overflowing; a decoded footer's are all within the file.
    #[must_use]
    pub const fn table_at(&self) -> u64 {
        self.data_at().saturating_add(self.data_len)
    }

    /// Where the key starts.
    #[must_use]
    pub const fn key_at(&self) -> u64 {
        self.table_at().saturating_add(self.chunk_count().saturating_mul(4))
    }

    /// Where the array descriptor starts.
    #[must_use]
    pub const fn descriptor_at(&self) -> u64 {
        self.key_at().saturating_add(self.key_len as u64)
    }

    /// Where the trailer starts.
    #[must_use]
    pub const fn trailer_at(&self) -> u64 {
        self.descriptor_at().saturating_add(self.descriptor_len as u64)
    }

    /// Length of the whole file.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.trailer_at().saturating_add(EXTERNAL_TRAILER_LEN as u64)
    }

    /// The salt of the file's checksums.
    #[must_use]
    pub fn salt(&self) -> Salt {
        Salt::new(&self.uuid, self.id)
    }

    /// Checksum of everything between data and trailer: chunk checksums, key, descriptor.
    #[must_use]
    pub fn tail_crc(&self, tail: &[u8]) -> u32 {
        self.salt().crc(self.table_at(), tail)
    }

    /// Checks everything between data and trailer.
    ///
    /// # Errors
    /// [`FormatError`] when `tail` has another length or checksum.
    pub fn check_tail(&self, tail: &[u8]) -> Result<(), FormatError> {
        const WHAT: &str = "external tail";
        let needed = self.trailer_at().saturating_sub(self.table_at());
        if tail.len() as u64 != needed {
            return Err(FormatError::Truncated { what: WHAT, needed, found: tail.len() as u64 });
        }
        check_crc(WHAT, self.tail_crc, self.tail_crc(tail))
    }

    /// Encodes the trailer.
    #[must_use]
    pub fn encode(&self) -> [u8; EXTERNAL_TRAILER_LEN] {
        let mut out = Writer::<EXTERNAL_TRAILER_LEN>::new();
        out.skip_to(4).put(&EXTERNAL_MAGIC).put(&FORMAT_VERSION.to_le_bytes());
        out.put(&[self.class as u8]).skip_to(16);
        out.put(&self.id.to_le_bytes()).put(&self.seq.to_le_bytes());
        out.put(&self.key_hash.to_le_bytes()).put(&self.data_len.to_le_bytes());
        out.put(&self.chunk_count().to_le_bytes()).put(&self.key_len.to_le_bytes());
        out.put(&self.descriptor_len.to_le_bytes()).put(&self.tail_crc.to_le_bytes());
        out.skip_to(80).put(&self.uuid);
        out.seal(|body| self.salt().crc(self.trailer_at(), body))
    }

    /// Decodes and checks the trailer of a file with `salt` and `file_len` bytes; `bytes`
    /// starts [`EXTERNAL_TRAILER_LEN`] bytes before the file's end.
    ///
    /// # Errors
    /// [`FormatError`] when the file is cut short, or the trailer is damaged, newer, of
    /// another file or store, or does not describe a file of this length.
    pub fn decode(bytes: &[u8], salt: Salt, file_len: u64) -> Result<Self, FormatError> {
        let (crc, footer, chunk_count) = Self::read(bytes)?;
        let at = file_len.saturating_sub(EXTERNAL_TRAILER_LEN as u64);
        let body = bytes.get(4..EXTERNAL_TRAILER_LEN).unwrap_or_default();
        check_crc(WHAT, crc, salt.crc(at, body))?;
        footer.check(chunk_count, file_len)?;
        Ok(footer)
    }

    /// Decodes a trailer of whatever store and file, as tools that look at one file do.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), except for belonging.
    pub fn decode_any(bytes: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let (_, claimed, _) = Self::read(bytes)?;
        Self::decode(bytes, claimed.salt(), file_len)
    }

    /// The fields as they stand, with the checksum and the number of chunks.
    fn read(bytes: &[u8]) -> Result<(u32, Self, u64), FormatError> {
        let mut fields = Reader::new(WHAT, bytes, EXTERNAL_TRAILER_LEN)?;
        let crc = fields.u32();
        check_magic(WHAT, EXTERNAL_MAGIC, fields.array())?;
        check_version(WHAT, FORMAT_VERSION, fields.u32())?;
        let [class, _, _, _] = fields.array();
        let class = ExternalClass::from_u8(class)
            .ok_or_else(|| field("class", class.into(), "1 (value) or 2 (array)"))?;
        let [id, seq, key_hash] = [fields.u64(), fields.u64(), fields.u64()];
        let [data_len, chunk_count] = [fields.u64(), fields.u64()];
        let [key_len, descriptor_len, tail_crc] = [fields.u32(), fields.u32(), fields.u32()];
        let _: [u8; 12] = fields.array();
        let uuid = fields.array();
        let footer =
            Self { uuid, id, class, seq, key_hash, data_len, key_len, descriptor_len, tail_crc };
        Ok((crc, footer, chunk_count))
    }

    fn check(&self, chunk_count: u64, file_len: u64) -> Result<(), FormatError> {
        if self.seq == 0 {
            return Err(field("sequence", 0, "at least 1"));
        }
        if self.data_len > EXTERNAL_DATA_MAX {
            return Err(field("data length", self.data_len, "at most 2^48"));
        }
        if chunk_count != self.chunk_count() {
            return Err(field("chunk count", chunk_count, "a chunk for each 64 KiB of data"));
        }
        if self.key_len as usize > KEY_LEN_MAX {
            return Err(field("key length", self.key_len.into(), "at most 32768"));
        }
        let descriptor = self.descriptor_len as usize;
        let fits = match self.class {
            ExternalClass::Value => descriptor == 0,
            ExternalClass::Array => (ARRAY_HEAD_LEN..=ARRAY_DESCRIPTOR_MAX).contains(&descriptor),
        };
        if !fits {
            let allowed = "0 for a value, 32 to 4096 for an array";
            return Err(field("descriptor length", self.descriptor_len.into(), allowed));
        }
        // Every part is bounded by now, so the sum is exact.
        if self.file_len() != file_len {
            return Err(field("file length", self.file_len(), "the length of the file"));
        }
        Ok(())
    }
}

/// The chunk checksums of an external file: a little-endian `u32` for each [`CHUNK`] bytes of
/// its data.
#[must_use]
pub fn encode_table(seq: u64, data: &[u8]) -> Vec<u8> {
    (0..)
        .zip(data.chunks(CHUNK))
        .flat_map(|(n, chunk)| chunk_crc(seq, n, chunk).to_le_bytes())
        .collect()
}

const fn field(field: &'static str, found: u64, allowed: &'static str) -> FormatError {
    FormatError::Field { what: WHAT, field, found, allowed }
}
