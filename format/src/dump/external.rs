//! The dump of external files and of array descriptors.

use core::fmt;

use super::printer::{Printed, Printer};
use crate::array::ArrayDescriptor;
use crate::external::{ExternalClass, ExternalFooter};
use crate::fields::{ARRAY_HEAD, EXTERNAL_TRAILER};
use crate::layout::{ARRAY_HEAD_LEN, CHUNK, EXTERNAL_TRAILER_LEN, NPY_HEADER_LEN};
use crate::record::chunk_crc;

impl<W: fmt::Write> Printer<'_, W> {
    pub(super) fn external(&mut self) -> Printed {
        let file_len = self.bytes.len();
        self.title(format_args!("external file, {file_len} bytes"))?;
        let trailer_at = file_len.saturating_sub(EXTERNAL_TRAILER_LEN);
        let trailer = self.slice(trailer_at, file_len);
        let footer = ExternalFooter::decode_any(trailer, file_len as u64);
        match &footer {
            // Every part lies within the file, so it lies within the address space too.
            Ok(footer) => self.parts(footer)?,
            Err(_) => self.raw(0, trailer_at)?,
        }
        self.title(format_args!("trailer"))?;
        self.structure(&EXTERNAL_TRAILER, trailer_at)?;
        if let Some(footer) = self.check(footer)? {
            let tail = self.slice(as_usize(footer.table_at()), trailer_at);
            self.check(footer.check_tail(tail))?;
        }
        Ok(())
    }

    fn parts(&mut self, footer: &ExternalFooter) -> Printed {
        let descriptor_at = as_usize(footer.descriptor_at());
        let descriptor_len = footer.descriptor_len as usize;
        if footer.class == ExternalClass::Array {
            self.title(format_args!("NumPy header"))?;
            self.npy_header(
                self.slice(descriptor_at, descriptor_at.saturating_add(descriptor_len)),
            )?;
        }
        let data_at = as_usize(footer.data_at());
        self.title(format_args!("data"))?;
        self.data("data", data_at, as_usize(footer.data_len))?;
        self.title(format_args!("chunks"))?;
        let data = self.slice(data_at, as_usize(footer.table_at()));
        let table = (as_usize(footer.table_at())..).step_by(4);
        for ((number, chunk), at) in (0_u64..).zip(data.chunks(CHUNK)).zip(table) {
            self.line(at, 4, format_args!("chunk {number} crc"))?;
            let sum = chunk_crc(footer.seq, number, chunk).to_le_bytes();
            if self.slice(at, at.saturating_add(4)) != sum {
                self.bad(format_args!("chunk {number} fails its checksum"))?;
            }
        }
        self.key(as_usize(footer.key_at()), footer.key_len as usize)?;
        if descriptor_len > 0 {
            self.descriptor(descriptor_at, descriptor_len)?;
        }
        Ok(())
    }

    fn npy_header(&mut self, descriptor: &[u8]) -> Printed {
        let header = self.slice(0, NPY_HEADER_LEN);
        let padding = header.iter().rev().skip(1).take_while(|byte| **byte == b' ').count();
        let text_len = header.len().saturating_sub(padding).saturating_sub(1);
        self.raw(0, text_len)?;
        self.elided(text_len, format_args!("{padding} spaces and a newline"))?;
        if ArrayDescriptor::decode(descriptor).is_ok_and(|array| array.npy_header() != header) {
            self.bad("differs from what the descriptor gives")?;
        }
        Ok(())
    }

    /// An array descriptor with its data behind it, as in a record.
    pub(super) fn array(&mut self, at: usize, len: usize) -> Printed {
        let value = self.slice(at, at.saturating_add(len));
        let descriptor_len = match ArrayDescriptor::split(value) {
            Ok((array, _)) => array.encoded_len(),
            Err(_) => len.min(ARRAY_HEAD_LEN),
        };
        self.descriptor(at, descriptor_len)?;
        let data_at = at.saturating_add(descriptor_len);
        self.data("data", data_at, len.saturating_sub(descriptor_len))
    }

    pub(super) fn descriptor(&mut self, at: usize, len: usize) -> Printed {
        self.title(format_args!("array descriptor"))?;
        self.structure(&ARRAY_HEAD, at)?;
        let bytes = self.slice(at, at.saturating_add(len));
        let mut end = at.saturating_add(ARRAY_HEAD_LEN);
        if let Some(array) = self.check(ArrayDescriptor::decode(bytes))? {
            for axis in array.shape() {
                self.line(end, 8, format_args!("axis of {axis}"))?;
                end = end.saturating_add(8);
            }
        }
        self.zeros(end, at.saturating_add(len))
    }
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
