//! The records that nearly all are: small values that expire never, have no tags and no file of
//! their own, and are not packed. Reading one decodes only what has to be known of it.

use larder_format::RecordHeader;
use larder_format::record::{payload_crc, plain_extent};

use super::segment::{BLOCK, Segment};

impl Segment {
    /// The record at `offset` if it is a plain and small one of a key: its header checked, the key
    /// compared, its payload not checked. `None` of any other, and of one that fails a check.
    #[inline(always)]
    pub(crate) fn plain(&self, offset: usize, key: &[u8]) -> Option<Plain<'_>> {
        let bytes = self.region().committed_from(offset);
        let header = RecordHeader::decode_plain(bytes.first_chunk()?, self.salt(), offset as u64)?;
        let extent = plain_extent(header.key_len, header.value_len);
        let payload = bytes.get(extent.key_at..extent.chunks_at)?;
        let value_at = extent.value_at - extent.key_at;
        let same = usize::from(header.key_len) == key.len() && payload.starts_with(key);
        (same && extent.end < BLOCK).then_some(Plain { header, payload, value_at })
    }
}

/// A value in a mapped segment whose record is plain and small, its header checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain<'a> {
    pub(crate) header: RecordHeader,
    /// Key, zeros and value.
    payload: &'a [u8],
    value_at: usize,
}

impl<'a> Plain<'a> {
    /// The value, if it and the key agree with their checksum.
    #[inline(always)]
    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        let is_intact = payload_crc(self.header.seq, self.payload, &[]) == self.header.payload_crc;
        if is_intact { self.payload.get(self.value_at..) } else { None }
    }
}
