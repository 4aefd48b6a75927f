//! The dump of a segment: header, records and holes, footer.

use core::fmt;

use super::printer::{Printed, Printer, is_zero, kind_name, number};
use crate::batch::Batch;
use crate::external::ExternalRef;
use crate::fields::{BATCH, ENTRY, EXTERNAL_REF, RECORD, SEGMENT_HEADER, SEGMENT_WORDS, TRAILER};
use crate::hash::{Salt, crc_from};
use crate::layout::{
    ENTRY_LEN, RECORD_HEADER_LEN, SEGMENT_COMMITTED, SEGMENT_DATA, SEGMENT_HEADER_LEN, TRAILER_LEN,
};
use crate::record::{Flags, Kind, RecordHeader};
use crate::scan::{Scan, Scanned, payload_is_intact};
use crate::segment::{Committed, FooterEntry, SegmentHeader, Trailer, entry_at};

impl<W: fmt::Write> Printer<'_, W> {
    pub(super) fn segment(&mut self) -> Printed {
        self.title(format_args!("segment file, {} bytes", self.bytes.len()))?;
        self.structure(&SEGMENT_HEADER, 0)?;
        let header = self.check(SegmentHeader::decode_any(self.bytes))?;
        self.words_of_segment()?;
        if header.is_some_and(|header| header.file_len as usize != self.bytes.len()) {
            self.bad("the file has another length than its header says")?;
        }
        // Taken as they stand: with a damaged header, records may still prove them right.
        let salt = Salt::new(&self.uuid_at(48), number(self.slice(16, 24)));
        let file_len = self.bytes.len();
        let trailer_at = file_len.saturating_sub(TRAILER_LEN).max(SEGMENT_DATA);
        let trailer = Trailer::decode(self.slice(trailer_at, file_len), salt, file_len);
        let word = SEGMENT_COMMITTED..SEGMENT_COMMITTED.saturating_add(8);
        let committed = match &trailer {
            Ok(trailer) => trailer.committed,
            Err(_) => Committed::from_bits(number(self.slice(word.start, word.end))),
        };
        let committed = if committed.fits(file_len) {
            committed
        } else {
            self.bad("the committed word is impossible")?;
            Committed::EMPTY
        };
        let entries_at = match (committed.entries as usize).checked_sub(1) {
            Some(last) => entry_at(file_len, last),
            None => trailer_at,
        };
        // A sealed segment says where its records end; in an open one a dead writer may have
        // left some that were never committed.
        let records_end = if trailer.is_ok() { committed.tail() } else { entries_at };
        for found in Scan::new(self.bytes, salt, SEGMENT_DATA, records_end) {
            match found {
                Scanned::Record { offset, header } => self.record(offset, &header)?,
                Scanned::Hole { from, to } => self.hole(from, to, salt)?,
            }
        }
        self.zeros(records_end, entries_at)?;
        self.entries(entries_at, committed.entries as usize)?;
        if is_zero(self.slice(trailer_at, file_len)) {
            return self.title(format_args!("never sealed"));
        }
        self.title(format_args!("trailer"))?;
        self.structure(&TRAILER, trailer_at)?;
        if let Some(trailer) = self.check(trailer)?
            && trailer.entries_crc != crc_from(0, self.slice(entries_at, trailer_at))
        {
            self.bad("the footer entries fail their checksum")?;
        }
        Ok(())
    }

    /// The header page behind the header: three words on cache lines of their own.
    fn words_of_segment(&mut self) -> Printed {
        let mut end = SEGMENT_HEADER_LEN;
        for field in SEGMENT_WORDS.fields {
            self.zeros(end, field.offset)?;
            self.field(field, 0)?;
            end = field.offset.saturating_add(field.len);
        }
        self.zeros(end, SEGMENT_DATA)
    }

    fn hole(&mut self, from: usize, to: usize, salt: Salt) -> Printed {
        let bytes = self.slice(from, to);
        self.title(format_args!("no record at {from:#x}: {} bytes", bytes.len()))?;
        self.raw(from, to)?;
        if !is_zero(bytes) {
            self.check(RecordHeader::decode(bytes, salt, from as u64))?;
        }
        Ok(())
    }

    fn record(&mut self, offset: usize, header: &RecordHeader) -> Printed {
        let extent = header.extent(offset);
        let len = extent.end.saturating_sub(offset);
        self.title(format_args!("record at {offset:#x}: {}, {len} bytes", kind_name(header.kind)))?;
        self.structure(&RECORD, offset)?;
        let expiry_at = offset.saturating_add(RECORD_HEADER_LEN);
        if extent.tags_at > expiry_at {
            self.line(expiry_at, 8, format_args!("expires {}", header.expires_at_ms))?;
        }
        for tag_at in (extent.tags_at..extent.key_at).step_by(8) {
            let tag = number(self.slice(tag_at, tag_at.saturating_add(8)));
            self.line(tag_at, 8, format_args!("tag {tag:#x}"))?;
        }
        self.key(extent.key_at, header.key_len.into())?;
        self.zeros(extent.key_at.saturating_add(header.key_len.into()), extent.value_at)?;
        self.value(header, extent.value_at)?;
        for (number, at) in (extent.chunks_at..extent.end).step_by(4).enumerate() {
            if number < header.chunk_count() {
                self.line(at, 4, format_args!("chunk {number} crc"))?;
            }
        }
        let chunks_len = header.chunk_count().saturating_mul(4);
        self.zeros(extent.chunks_at.saturating_add(chunks_len), extent.end)?;
        if !payload_is_intact(self.bytes, offset, header) {
            self.bad("key or value fail their checksum")?;
        }
        Ok(())
    }

    fn value(&mut self, header: &RecordHeader, at: usize) -> Printed {
        let len = header.value_len as usize;
        let value = self.slice(at, at.saturating_add(len));
        match header.kind {
            Kind::BatchBegin | Kind::BatchCommit => {
                self.structure(&BATCH, at)?;
                self.check(Batch::decode(value))?;
                Ok(())
            }
            _ if header.flags.has(Flags::EXTERNAL) => {
                self.structure(&EXTERNAL_REF, at)?;
                self.check(ExternalRef::decode(value))?;
                Ok(())
            }
            _ if header.flags.has(Flags::ARRAY) => self.array(at, len),
            _ => self.data("value", at, len),
        }
    }

    fn entries(&mut self, from: usize, count: usize) -> Printed {
        if count == 0 {
            return Ok(());
        }
        self.title(format_args!("footer, last entry first"))?;
        for (at, number) in (from..).step_by(ENTRY_LEN).zip((0..count).rev()) {
            let bytes = self.slice(at, at.saturating_add(ENTRY_LEN));
            let entry = FooterEntry::decode(bytes);
            let Ok(found) = &entry else {
                self.line(at, ENTRY_LEN, format_args!("entry {number}"))?;
                self.check(entry)?;
                continue;
            };
            let kind = kind_name(found.kind);
            let place = u64::from(found.offset_units) << 4;
            let replaced = if found.replaced { ", replaced" } else { "" };
            let hash = found.key_hash;
            match found.seq_delta {
                Some(delta) => self.line(
                    at,
                    ENTRY_LEN,
                    format_args!(
                        "entry {number}: {kind} at {place:#x}, hash {hash:#018x}, base + {delta}{replaced}"
                    ),
                )?,
                None => self.line(
                    at,
                    ENTRY_LEN,
                    format_args!(
                        "entry {number}: {kind} at {place:#x}, hash {hash:#018x}, sequence in the record{replaced}"
                    ),
                )?,
            }
        }
        debug_assert_eq!(ENTRY.len, ENTRY_LEN, "one line holds an entry");
        Ok(())
    }
}
