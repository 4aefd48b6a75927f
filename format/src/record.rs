//! Records: what a segment is made of.
//!
//! ```text
//! | header 32 | expiry 8? | tags 8 × n | key | zeros to alignment | value | chunk CRCs? | zeros to 16 |
//! |<---- header CRC covers -------------->|<-- payload CRC covers, see `payload_crc` -->|
//! ```
//!
//! # Invariants
//! 1. The header CRC is seeded with store, segment and offset: a record is valid in one place.
//! 2. The payload CRC is seeded with the sequence number, not with the place.
//! 3. `kind` is never zero: preallocated space is no record.
//! 4. Newest sequence wins; at equal sequence a tombstone wins over a value.

use crate::bytes::check_crc;
use crate::error::FormatError;
use crate::hash::{Salt, crc_from, spread};
use crate::layout::{
    CHUNK, KEY_LEN_MAX, RECORD_EXTENSION_MAX, RECORD_HEADER_LEN, RECORD_MAGIC, SEGMENT_LEN_MAX,
    TAGS_MAX, UNIT,
};

const WHAT: &str = "record";

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key has this value from here on.
    Value = 1,
    /// The key has no value from here on.
    Tombstone = 2,
    /// Everything written before under the tag that is this record's key is invalid.
    ///
    /// The key is the tag's bytes and the value is empty. Records carry tags as hashes, made
    /// as key hashes are: a record counts only if its sequence number is above that of every
    /// invalidation whose key has the hash of one of its tags.
    TagInvalidation = 3,
    /// The records up to the matching commit count together or not at all.
    BatchBegin = 4,
    /// Ends a batch; the value is a [`Batch`](crate::Batch).
    BatchCommit = 5,
    /// Nothing follows in this segment.
    Seal = 6,
}

impl Kind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Value,
            2 => Self::Tombstone,
            3 => Self::TagInvalidation,
            4 => Self::BatchBegin,
            5 => Self::BatchCommit,
            6 => Self::Seal,
            _ => return None,
        })
    }
}

/// Flag bits of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// An expiry stands behind the header.
    pub const EXPIRES: Self = Self(1);
    /// The key's slot was taken when this was written: it hides an older record.
    pub const REPLACED: Self = Self(1 << 1);
    /// Moved here from an older segment; keeps the sequence it was first written with.
    pub const MOVED: Self = Self(1 << 2);
    /// The value is an [`ExternalRef`](crate::ExternalRef) to a file of its own.
    pub const EXTERNAL: Self = Self(1 << 3);
    /// The value is zstd, behind its decompressed length as a `u64`.
    pub const COMPRESSED: Self = Self(1 << 4);
    /// The value starts with an [`ArrayDescriptor`](crate::ArrayDescriptor).
    pub const ARRAY: Self = Self(1 << 5);
    /// Part of a batch: counts only if the batch's commit is there.
    pub const BATCHED: Self = Self(1 << 6);

    const ALL: u8 = 0x7F;

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits as stored.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// Which codec turned the value into bytes, and which version of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct CodecId {
    /// 0 raw bytes, 1 postcard, 2 JSON, 3 array; from 128 on the user's own.
    pub id: u8,
    /// A codec that changes what it writes counts this up.
    pub version: u8,
}

impl CodecId {
    /// Bytes as they are.
    pub const RAW: Self = Self { id: 0, version: 0 };
    /// An array, which says itself what it is.
    pub const ARRAY: Self = Self { id: 3, version: 0 };
}

/// A record's header, decoded and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the record says.
    pub kind: Kind,
    /// Flag bits. [`Flags::EXPIRES`] follows `expires_at_ms`.
    pub flags: Flags,
    /// Alignment of the value in the file, as a power of two, from 4 to 12.
    pub align_log2: u8,
    /// Number of tags.
    pub tag_count: u8,
    /// Store-wide order of writes.
    pub seq: u64,
    /// Bytes of value as stored, without chunk checksums.
    pub value_len: u32,
    /// Checksum of key and value, or of key and chunk checksums; see [`payload_crc`](fn@payload_crc).
    pub payload_crc: u32,
    /// Bytes of key.
    pub key_len: u16,
    /// The value's codec.
    pub codec: CodecId,
    /// When it was written, in ms after the creation of the segment that it is in.
    pub written_ms: u32,
    /// When it expires, in ms since 1970; `u64::MAX` for never.
    pub expires_at_ms: u64,
}

/// Where a record's parts lie, in bytes from the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first tag.
    pub tags_at: usize,
    /// The key.
    pub key_at: usize,
    /// The value.
    pub value_at: usize,
    /// The chunk checksums; the end of the value where there are none.
    pub chunks_at: usize,
    /// One past the record, a multiple of [`UNIT`].
    pub end: usize,
}

impl RecordHeader {
    /// A header for `kind` with the given lengths and everything else at its default.
    #[must_use]
    pub const fn new(kind: Kind, seq: u64, key_len: u16, value_len: u32) -> Self {
        Self {
            kind,
            flags: Flags::NONE,
            align_log2: 4,
            tag_count: 0,
            seq,
            value_len,
            payload_crc: 0,
            key_len,
            codec: CodecId::RAW,
            written_ms: 0,
            expires_at_ms: u64::MAX,
        }
    }

    /// Bytes that stand between the header and the key.
    #[must_use]
    #[inline]
    pub const fn extension_len(&self) -> usize {
        let expiry = if self.expires_at_ms == u64::MAX { 0 } else { 8_usize };
        expiry.wrapping_add((self.tag_count as usize) << 3)
    }

    /// Whether the value carries a checksum for each chunk.
    #[must_use]
    #[inline]
    pub const fn is_chunked(&self) -> bool {
        self.value_len as usize > CHUNK
    }

    /// Number of chunk checksums.
    #[must_use]
    #[inline]
    pub const fn chunk_count(&self) -> usize {
        if self.is_chunked() { (self.value_len as usize).div_ceil(CHUNK) } else { 0 }
    }

    /// Where the parts lie when the record starts at `offset`. Lengths are bounded by their
    /// widths and `offset` by the largest segment, so nothing here can overflow 64 bits.
    #[must_use]
    #[inline]
    pub const fn extent(&self, offset: usize) -> Extent {
        let tags_len = (self.tag_count as usize) << 3;
        let key_at = offset.wrapping_add(RECORD_HEADER_LEN).wrapping_add(self.extension_len());
        let tags_at = key_at.wrapping_sub(tags_len);
        let key_end = key_at.wrapping_add(self.key_len as usize);
        // An empty value needs no place, and no padding before it.
        let value_at =
            if self.value_len == 0 { key_end } else { round_up(key_end, self.align_log2) };
        let chunks_at = value_at.wrapping_add(self.value_len as usize);
        let end = round_up(chunks_at.wrapping_add(self.chunk_count() << 2), 4);
        Extent { tags_at, key_at, value_at, chunks_at, end }
    }

    /// Encodes the header and the expiry; tags follow them and are covered by the checksum.
    /// Returns the bytes and how many of them count.
    ///
    /// `tags` must be [`tag_count`](Self::tag_count) little-endian hashes.
    #[must_use]
    pub fn encode(&self, salt: Salt, offset: u64, tags: &[u64]) -> EncodedHeader {
        let mut bytes = [0; RECORD_HEADER_LEN + RECORD_EXTENSION_MAX];
        let len = RECORD_HEADER_LEN.saturating_add(self.extension_len());
        if let Some(target) = bytes.get_mut(..len) {
            self.encode_into(target, salt, offset, tags);
        }
        EncodedHeader { bytes, len }
    }

    /// As [`encode`](Self::encode), into a place of just the length that is needed: that of the
    /// header and of [`extension_len`](Self::extension_len).
    #[inline]
    pub fn encode_into(&self, target: &mut [u8], salt: Salt, offset: u64, tags: &[u64]) {
        debug_assert_eq!(tags.len(), usize::from(self.tag_count), "tag count and tags differ");
        debug_assert_eq!(
            target.len(),
            RECORD_HEADER_LEN.saturating_add(self.extension_len()),
            "a header of another length"
        );
        let Some((fixed, extension)) = target.split_first_chunk_mut::<RECORD_HEADER_LEN>() else {
            return;
        };
        for (place, word) in fixed.as_chunks_mut::<8>().0.iter_mut().zip(self.words()) {
            *place = word.to_le_bytes();
        }
        if !extension.is_empty() {
            let expiry = (self.expires_at_ms != u64::MAX).then_some(self.expires_at_ms);
            let places = extension.as_chunks_mut::<8>().0.iter_mut();
            for (place, word) in places.zip(expiry.iter().chain(tags)) {
                *place = word.to_le_bytes();
            }
        }
        let crc = salt.crc(offset, target.get(4..).unwrap_or_default());
        if let Some(head) = target.first_chunk_mut::<4>() {
            *head = crc.to_le_bytes();
        }
    }

    /// Decodes and checks the header at `offset` of a segment; `bytes` starts there and
    /// reaches to the end of what is committed.
    ///
    /// # Errors
    /// [`FormatError`] when the bytes are no record of this segment at this offset, or when
    /// the record would reach past `bytes`.
    #[inline]
    pub fn decode(bytes: &[u8], salt: Salt, offset: u64) -> Result<Self, FormatError> {
        let Some(fixed) = bytes.first_chunk::<RECORD_HEADER_LEN>() else {
            return Err(truncated(RECORD_HEADER_LEN, bytes));
        };
        // In words: most fields of a record are looked at whenever it is read.
        let [first, seq, lengths, last] = words(fixed);
        let [_, _, _, _, magic, kind, flags, layout] = first.to_le_bytes();
        if magic != RECORD_MAGIC {
            return Err(FormatError::Magic {
                what: WHAT,
                expected: RECORD_MAGIC.into(),
                found: magic.into(),
            });
        }
        let tag_count = layout >> 4;
        let expires = flags & Flags::EXPIRES.bits() != 0;
        let covered = RECORD_HEADER_LEN
            .wrapping_add(usize::from(expires) << 3)
            .wrapping_add(usize::from(tag_count) << 3);
        let Some(body) = bytes.get(4..covered) else { return Err(truncated(covered, bytes)) };
        check_crc(WHAT, low(first), salt.crc(offset, body))?;
        // From here on the bytes are what some larder wrote; the rest guards against another
        // version's and our own mistakes.
        let mut expires_at_ms = u64::MAX;
        if expires {
            if let Some(ms) = bytes.get(RECORD_HEADER_LEN..).and_then(<[u8]>::first_chunk) {
                expires_at_ms = u64::from_le_bytes(*ms);
            }
            if expires_at_ms == u64::MAX {
                // "Never" is written by leaving the expiry out; `extension_len` relies on it.
                return Err(field("expiry", expires_at_ms, "less than u64::MAX"));
            }
        }
        let [key_len_0, key_len_1, codec, codec_version, _, _, _, _] = last.to_le_bytes();
        let Some(kind) = Kind::from_u8(kind) else {
            return Err(field("kind", kind.into(), "1 to 6"));
        };
        let header = Self {
            kind,
            flags: Flags(flags),
            align_log2: layout & 0xF,
            tag_count,
            seq,
            value_len: low(lengths),
            payload_crc: low(lengths >> 32),
            key_len: u16::from_le_bytes([key_len_0, key_len_1]),
            codec: CodecId { id: codec, version: codec_version },
            written_ms: low(last >> 32),
            expires_at_ms,
        };
        header.check()?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let needed = header.extent(start).end.wrapping_sub(start);
        if needed > bytes.len() { Err(truncated(needed, bytes)) } else { Ok(header) }
    }

    /// Decodes and checks the header at `offset` of a segment if it is a plain one: of a value
    /// that has no expiry, no tags, no file of its own and the least alignment, and is not packed.
    /// `None` if it is another, or no header of this place; [`decode`](Self::decode) says which.
    ///
    /// Whether key and value lie in what is committed is left to the caller, who has to cut them
    /// out, at [`plain_extent`].
    #[must_use]
    #[inline(always)]
    pub fn decode_plain(fixed: &[u8; RECORD_HEADER_LEN], salt: Salt, offset: u64) -> Option<Self> {
        let [first, seq, lengths, last] = words(fixed);
        if first >> 32 & PLAIN_MASK != PLAIN || seq == 0 {
            return None;
        }
        let [_, _, _, _, body @ ..] = fixed;
        if salt.crc(offset, body) != low(first) {
            return None;
        }
        let [_, _, _, _, _, _, flags, _] = first.to_le_bytes();
        let [key_len_0, key_len_1, codec, codec_version, _, _, _, _] = last.to_le_bytes();
        Some(Self {
            flags: Flags(flags),
            payload_crc: low(lengths >> 32),
            codec: CodecId { id: codec, version: codec_version },
            written_ms: low(last >> 32),
            ..Self::new(Kind::Value, seq, u16::from_le_bytes([key_len_0, key_len_1]), low(lengths))
        })
    }

    /// Encodes the header of a plain value, as [`encode`](Self::encode) does.
    #[must_use]
    #[inline(always)]
    pub fn encode_plain(&self, salt: Salt, offset: u64) -> [u8; RECORD_HEADER_LEN] {
        debug_assert!(self.tag_count == 0 && self.expires_at_ms == u64::MAX, "not a plain one");
        let mut bytes = [0; RECORD_HEADER_LEN];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.words()) {
            *place = word.to_le_bytes();
        }
        let [_, _, _, _, body @ ..] = &bytes;
        let crc = salt.crc(offset, body);
        if let Some(head) = bytes.first_chunk_mut::<4>() {
            *head = crc.to_le_bytes();
        }
        bytes
    }

    /// The words of the header, without the checksum.
    #[inline(always)]
    fn words(&self) -> [u64; RECORD_HEADER_LEN / 8] {
        let flags = if self.expires_at_ms == u64::MAX {
            self.flags.without(Flags::EXPIRES)
        } else {
            self.flags.with(Flags::EXPIRES)
        };
        let layout = self.align_log2 | self.tag_count << 4;
        let [k0, k1] = self.key_len.to_le_bytes();
        let [w0, w1, w2, w3] = self.written_ms.to_le_bytes();
        [
            u64::from_le_bytes([0, 0, 0, 0, RECORD_MAGIC, self.kind as u8, flags.bits(), layout]),
            self.seq,
            u64::from(self.value_len) | u64::from(self.payload_crc) << 32,
            u64::from_le_bytes([k0, k1, self.codec.id, self.codec.version, w0, w1, w2, w3]),
        ]
    }

    #[inline]
    fn check(&self) -> Result<(), FormatError> {
        if self.flags.bits() & !Flags::ALL != 0 {
            return Err(field("flags", self.flags.bits().into(), "bits 0 to 6"));
        }
        if !(4..=12).contains(&self.align_log2) {
            return Err(field("alignment", self.align_log2.into(), "4 to 12 (a power of two)"));
        }
        if usize::from(self.key_len) > KEY_LEN_MAX {
            return Err(field("key length", self.key_len.into(), "at most 32768"));
        }
        if self.value_len > SEGMENT_LEN_MAX {
            return Err(field("value length", self.value_len.into(), "at most a segment"));
        }
        if self.seq == 0 {
            return Err(field("sequence", 0, "at least 1"));
        }
        Ok(())
    }
}

/// What stands in bytes 4 to 8 of a plain header, and which of their bits have to.
const PLAIN: u64 = RECORD_MAGIC as u64 | (Kind::Value as u64) << 8 | 4 << 24;
const PLAIN_MASK: u64 = 0xFFFF
    | ((Flags::EXPIRES.0 | Flags::EXTERNAL.0 | Flags::COMPRESSED.0 | !Flags::ALL) as u64) << 16
    | 0xFF << 24;

/// Where the parts of a plain record lie, in bytes from its own start, by the lengths of its key and
/// value.
#[must_use]
#[inline]
pub const fn plain_extent(key_len: u16, value_len: u32) -> Extent {
    RecordHeader::new(Kind::Value, 1, key_len, value_len).extent(0)
}

/// The words of a header.
#[inline]
const fn words(fixed: &[u8; RECORD_HEADER_LEN]) -> [u64; RECORD_HEADER_LEN / 8] {
    let [a, b, c, d] = *fixed.as_chunks::<8>().0 else { return [0; RECORD_HEADER_LEN / 8] };
    [u64::from_le_bytes(a), u64::from_le_bytes(b), u64::from_le_bytes(c), u64::from_le_bytes(d)]
}

/// The low half of a word.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low(word: u64) -> u32 {
    word as u32
}

#[cold]
const fn truncated(needed: usize, bytes: &[u8]) -> FormatError {
    FormatError::Truncated { what: WHAT, needed: needed as u64, found: bytes.len() as u64 }
}

#[cold]
const fn field(field: &'static str, found: u64, allowed: &'static str) -> FormatError {
    FormatError::Field { what: WHAT, field, found, allowed }
}

/// A header with its extension, as it is written.
#[derive(Debug, Clone, Copy)]
pub struct EncodedHeader {
    bytes: [u8; RECORD_HEADER_LEN + RECORD_EXTENSION_MAX],
    len: usize,
}

impl EncodedHeader {
    /// The bytes to write.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// `at` rounded up to a multiple of `1 << log2`.
#[must_use]
#[inline]
const fn round_up(at: usize, log2: u8) -> usize {
    let mask = (1_usize << (log2 & 15)).wrapping_sub(1);
    at.wrapping_add(mask) & !mask
}

/// Checksum of a record's payload, seeded with the sequence number. Up to [`CHUNK`] bytes of
/// value, `payload` is everything from the first byte of the key to the last of the value, the
/// zeros between them included; above, it is the key, and the encoded chunk checksums follow
/// as `chunks`.
#[must_use]
#[inline]
pub fn payload_crc(seq: u64, payload: &[u8], chunks: &[u8]) -> u32 {
    let crc = crc_from(spread(seq), payload);
    if chunks.is_empty() { crc } else { crc_from(crc, chunks) }
}

/// Checksum of chunk `number` of a value, counted from 0.
#[must_use]
#[inline]
pub fn chunk_crc(seq: u64, number: u64, chunk: &[u8]) -> u32 {
    crc_from(spread(seq) ^ spread(number.wrapping_add(1)), chunk)
}

const _: () = assert!(UNIT == 1 << 4);
const _: () = assert!(TAGS_MAX == 0xF);
