//! The file by which processes share a store while it is open: who they are, which segments there
//! are, and what each of them is doing.
//!
//! ```text
//! | header page | a page for each process | a word for each segment | two words for each stripe of keys |
//! ```
//!
//! All but the header are words that change; they are worth nothing once no process has the store
//! open, so that the first one to open it begins with a new file.

use crate::bytes::{Reader, Writer, check_crc, check_magic, check_version};
use crate::error::FormatError;
use crate::hash::crc_from;
use crate::layout::{
    FORMAT_VERSION, PAGE, SHARE_HEADER_LEN, SHARE_MAGIC, SHARE_PROCESSES, SHARE_SLOTS,
    SHARE_STRIPES,
};

const WHAT: &str = "share header";

/// The fixed part of the file, which all who have the store open go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareHeader {
    /// The store that it belongs to.
    pub uuid: [u8; 16],
    /// Bytes that the directory may hold.
    pub budget: u64,
    /// Whether nothing is evicted.
    pub retains_all: bool,
    /// Words for segments: a power of two, at most 2^16.
    pub positions: u32,
    /// Lanes of each process, the maintenance's included.
    pub lanes: u32,
}

impl ShareHeader {
    /// Where the words for segments begin.
    pub const TABLE_AT: usize = SHARE_SLOTS.saturating_add(SHARE_PROCESSES.saturating_mul(PAGE));

    /// Where the words that tell of changes begin.
    #[must_use]
    pub const fn stripes_at(&self) -> usize {
        let table = (self.positions as usize).saturating_mul(8);
        Self::TABLE_AT.saturating_add(table.next_multiple_of(PAGE))
    }

    /// Length of the file in bytes.
    #[must_use]
    pub const fn file_len(&self) -> usize {
        self.stripes_at().saturating_add(SHARE_STRIPES.saturating_mul(16))
    }

    /// Encodes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; SHARE_HEADER_LEN] {
        let mut out = Writer::<SHARE_HEADER_LEN>::new();
        out.skip_to(4).put(&SHARE_MAGIC).put(&FORMAT_VERSION.to_le_bytes());
        out.put(&self.positions.to_le_bytes()).put(&self.uuid).put(&self.budget.to_le_bytes());
        out.put(&self.lanes.to_le_bytes()).put(&u32::from(self.retains_all).to_le_bytes());
        out.seal(|body| crc_from(0, body))
    }

    /// Decodes and checks a header that must belong to store `uuid`.
    ///
    /// # Errors
    /// [`FormatError`] when the bytes are no header, are damaged, newer, or belong elsewhere.
    pub fn decode(bytes: &[u8], uuid: &[u8; 16]) -> Result<Self, FormatError> {
        let mut fields = Reader::new(WHAT, bytes, SHARE_HEADER_LEN)?;
        let crc = fields.u32();
        check_magic(WHAT, SHARE_MAGIC, fields.array())?;
        let version = fields.u32();
        check_version(WHAT, FORMAT_VERSION, version)?;
        let body = bytes.get(4..SHARE_HEADER_LEN).unwrap_or_default();
        check_crc(WHAT, crc, crc_from(0, body))?;
        let positions = fields.u32();
        if !positions.is_power_of_two() || positions > 1 << 16 {
            let allowed = "a power of two up to 65536";
            let found = positions.into();
            return Err(FormatError::Field { what: WHAT, field: "positions", found, allowed });
        }
        let found: [u8; 16] = fields.array();
        if found != *uuid {
            return Err(FormatError::Foreign { what: WHAT, found });
        }
        let budget = fields.u64();
        let lanes = fields.u32();
        if !(1..=crate::layout::SHARE_LANES_MAX).contains(&lanes) {
            let allowed = "1 to 48";
            let found = lanes.into();
            return Err(FormatError::Field { what: WHAT, field: "lanes", found, allowed });
        }
        let retains_all = fields.u32() != 0;
        Ok(Self { uuid: found, budget, retains_all, positions, lanes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: ShareHeader =
        ShareHeader { uuid: [3; 16], budget: 1 << 30, retains_all: true, positions: 64, lanes: 3 };

    #[test]
    fn a_header_comes_back_and_a_damaged_one_does_not() {
        let bytes = HEADER.encode();
        assert_eq!(ShareHeader::decode(&bytes, &[3; 16]), Ok(HEADER));
        assert!(matches!(ShareHeader::decode(&bytes, &[4; 16]), Err(FormatError::Foreign { .. })));
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 1;
            }
            assert!(ShareHeader::decode(&damaged, &[3; 16]).is_err(), "byte {at}");
        }
    }
}
