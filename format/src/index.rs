//! The header of an index file.
//!
//! ```text
//! | header page | 2^page_bits pages of 64 buckets of 8 slots | moved bits, one a page of the old generation | page checksums | touched bits |
//! ```
//!
//! Slots carry no checksum: each is a hint that the record it points to confirms. After a clean
//! end there is one for each page, so that no slot leads to an older record of its key.

use crate::bytes::{Reader, Writer, check_crc, check_magic, check_version};
use crate::error::FormatError;
use crate::hash::{Salt, crc_from};
use crate::layout::{
    FORMAT_VERSION, INDEX_DATA, INDEX_HEADER_LEN, INDEX_MAGIC, PAGE, PAGE_BITS_MAX, SPLITS_MAX,
};
use crate::slot::{Geometry, Slot};

const WHAT: &str = "index header";

/// The fixed part of an index file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexHeader {
    /// The store that it belongs to.
    pub uuid: [u8; 16],
    /// Which generation of the index this is; never 0.
    pub generation: u32,
    /// How many pages there are.
    pub geometry: Geometry,
}

impl IndexHeader {
    /// Length of the file in bytes.
    #[must_use]
    pub const fn file_len(&self) -> usize {
        let words = self.sum_words().saturating_add(self.touched_words());
        self.sums_at().saturating_add(words.saturating_mul(8).next_multiple_of(PAGE))
    }

    /// Where the page checksums start: 32 bits a page, two in a word, the lower half first.
    #[must_use]
    pub const fn sums_at(&self) -> usize {
        self.moved_at().saturating_add(self.moved_words().saturating_mul(8).next_multiple_of(PAGE))
    }

    /// Words of page checksums.
    #[must_use]
    pub const fn sum_words(&self) -> usize {
        self.geometry.pages().div_ceil(2)
    }

    /// Where the touched bits start: one bit a page, set when somebody met the page after its
    /// checksum was written, and found it right.
    #[must_use]
    pub const fn touched_at(&self) -> usize {
        self.sums_at().saturating_add(self.sum_words().saturating_mul(8))
    }

    /// Words of touched bits.
    #[must_use]
    pub const fn touched_words(&self) -> usize {
        self.geometry.pages().div_ceil(64)
    }

    /// Checksum of the slots of page `page`. Hits do not count: readers change them at any
    /// time, and nothing depends on them.
    #[must_use]
    pub fn page_crc(&self, page: usize, slots: impl IntoIterator<Item = Slot>) -> u32 {
        let mut bytes = [0; PAGE];
        for (eight, slot) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(slots) {
            *eight = slot.with_freq(0).to_bits().to_le_bytes();
        }
        let at = INDEX_DATA.saturating_add(page.saturating_mul(PAGE));
        Salt::new(&self.uuid, self.generation.into()).crc(at as u64, &bytes)
    }

    /// Where the moved bits start: one bit a page of the generation before, set when every
    /// slot of that page is here.
    #[must_use]
    pub const fn moved_at(&self) -> usize {
        INDEX_DATA.saturating_add(self.geometry.pages().saturating_mul(PAGE))
    }

    /// Words of moved bits.
    #[must_use]
    pub const fn moved_words(&self) -> usize {
        self.geometry.pages().div_ceil(128)
    }

    /// Encodes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; INDEX_HEADER_LEN] {
        let mut out = Writer::<INDEX_HEADER_LEN>::new();
        out.skip_to(4).put(&INDEX_MAGIC).put(&FORMAT_VERSION.to_le_bytes());
        out.put(&self.generation.to_le_bytes());
        out.put(&[self.geometry.page_bits, self.geometry.base_bits]).skip_to(24).put(&self.uuid);
        out.seal(|body| crc_from(0, body))
    }

    /// Decodes and checks a header that must belong to store `uuid` and be `generation`.
    ///
    /// # Errors
    /// [`FormatError`] when the bytes are no header, are damaged, newer, or belong elsewhere.
    pub fn decode(bytes: &[u8], uuid: &[u8; 16], generation: u32) -> Result<Self, FormatError> {
        let header = Self::decode_any(bytes)?;
        if header.uuid != *uuid {
            return Err(FormatError::Foreign { what: WHAT, found: header.uuid });
        }
        if header.generation != generation {
            let allowed = "the generation in the file's name";
            let found = header.generation.into();
            return Err(FormatError::Field { what: WHAT, field: "generation", found, allowed });
        }
        Ok(header)
    }

    /// Decodes a header of whatever store and generation, as tools that look at one file do.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), except for belonging.
    pub fn decode_any(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Reader::new(WHAT, bytes, INDEX_HEADER_LEN)?;
        let crc = fields.u32();
        check_magic(WHAT, INDEX_MAGIC, fields.array())?;
        let version = fields.u32();
        check_version(WHAT, FORMAT_VERSION, version)?;
        let body = bytes.get(4..INDEX_HEADER_LEN).unwrap_or_default();
        check_crc(WHAT, crc, crc_from(0, body))?;
        let generation = fields.u32();
        let [page_bits, base_bits] = fields.array();
        let _: [u8; 6] = fields.array();
        let uuid = fields.array();
        if generation == 0 {
            let allowed = "at least 1";
            return Err(FormatError::Field { what: WHAT, field: "generation", found: 0, allowed });
        }
        let geometry = Geometry { page_bits, base_bits };
        if page_bits > PAGE_BITS_MAX || base_bits > page_bits || geometry.splits() > SPLITS_MAX {
            let allowed = "at most 24, and 14 above the base";
            let found = page_bits.into();
            return Err(FormatError::Field { what: WHAT, field: "page bits", found, allowed });
        }
        Ok(Self { uuid, generation, geometry })
    }
}
