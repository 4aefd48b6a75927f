//! Records that nobody can change any more.

use larder_format::RecordHeader;

use super::Record;
use crate::disk::guard::IS_ON;

impl Record<'_> {
    /// The record, for who copies it and believes the copy. Where files that are cut short are
    /// guarded against, of a copy of its own, which is compared with its checksums: the bytes in
    /// the map may change between two looks. `None` if they have.
    pub(crate) fn steady<'c>(&'c self, copy: &'c mut Vec<u8>) -> Option<Record<'c>> {
        if !IS_ON {
            return Some(*self);
        }
        copy.extend_from_slice(self.bytes.get(..self.len())?);
        let header = RecordHeader::decode(copy, self.segment.salt, self.offset as u64).ok()?;
        let record = Record { segment: self.segment, offset: self.offset, bytes: copy, header };
        record.is_intact().then_some(record)
    }
}
