//! The file of a large value that comes in pieces.
//!
//! It is written under a temporary name as the pieces come, and gets its own with the last one.
//! Where the length is not known, it grows by doubling, and is cut to its length at the end.
//!
//! # Invariants
//! 1. What the file takes counts before it is taken, and until it is gone.
//! 2. Dropped before it is finished, it leaves nothing behind; what a death leaves is swept by
//!    the next opening.
//! 3. Nothing is mapped before the file has its name and its length (`storage.rs`); but for an
//!    array that is computed in place: its file has its length from the start, and one map, which
//!    is gone before the file has its name.

use std::io;
use std::sync::Arc;

use larder_format::layout::CHUNK;
use larder_format::record::chunk_crc;
use larder_format::{ArrayDescriptor, ExternalClass, ExternalFooter, ExternalRef};

use super::counters::Count;
use super::external::FileId;
use super::storage::{File, christen, create_anew, temporary_name};
use super::store::Store;
use super::usage::blocks;
use super::whole::Unborn;
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// A large value on its way into a file.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    store: &'a Store,
    /// Of the file if it ended here.
    footer: ExternalFooter,
    /// What the value is, if it is an array.
    array: Option<ArrayDescriptor>,
    temporary: String,
    file: Option<Arc<dyn File>>,
    /// Length of the file so far; all of it counts.
    file_len: u64,
    /// Bytes of value that the file has room for.
    room: u64,
    /// Bytes of value that are still to be written: less than a chunk.
    rest: Vec<u8>,
    /// Checksums of the chunks that are written.
    table: Vec<u8>,
}

impl<'a> Incoming<'a> {
    /// Begins a file with room for `room` bytes.
    pub(super) fn begin(store: &'a Store, hash: u64, key: &[u8], room: u64) -> Result<Self> {
        Self::begin_as(store, hash, key, None, room)
    }

    /// As [`begin`](Self::begin), of an array if that is said, of which all but the length of the
    /// first axis has to be right.
    pub(super) fn begin_as(
        store: &'a Store,
        hash: u64,
        key: &[u8],
        array: Option<ArrayDescriptor>,
        room: u64,
    ) -> Result<Self> {
        let descriptor_len = array.as_ref().map_or(0, ArrayDescriptor::encoded_len);
        // Relaxed: only distinctness counts.
        let id = store.file.next_external().fetch_add(1, Ordering::Relaxed);
        let seq = store.file.next_seq().fetch_add(1, Ordering::Relaxed);
        let footer = ExternalFooter {
            uuid: store.file.superblock().uuid,
            id,
            class: if array.is_some() { ExternalClass::Array } else { ExternalClass::Value },
            seq,
            key_hash: hash,
            data_len: 0,
            key_len: u32::try_from(key.len()).unwrap_or(u32::MAX),
            descriptor_len: u32::try_from(descriptor_len).unwrap_or(u32::MAX),
            tail_crc: 0,
        };
        let temporary = temporary_name(&FileId::of(&footer).name());
        let rest = Vec::with_capacity(CHUNK);
        let (file_len, table) = (0, Vec::new());
        let mut incoming =
            Self { store, footer, array, temporary, file: None, file_len, room: 0, rest, table };
        incoming.make_room(room)?;
        Ok(incoming)
    }

    /// Appends to the value.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let fits = bytes.len().min(CHUNK - self.rest.len());
            let (now, later) = bytes.split_at(fits);
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Says what the array is that was pushed.
    pub(super) const fn describe(&mut self, array: ArrayDescriptor) {
        self.array = Some(array);
    }

    /// All of the file, to be written to; of an array nothing of which is pushed.
    pub(super) fn map(&self) -> Result<Unborn> {
        let Some(file) = &self.file else { return Err(Error::Closed) };
        let len = usize::try_from(self.file_len).unwrap_or(usize::MAX);
        let map = file.map(len).map_err(|error| self.failed("map", error))?;
        Ok(Unborn::new(map))
    }

    /// Takes what stands in the file for the value.
    pub(super) fn take(&mut self, value: &[u8]) {
        for (number, chunk) in (0..).zip(value.chunks(CHUNK)) {
            self.table.extend(chunk_crc(self.footer.seq, number, chunk).to_le_bytes());
        }
        self.footer.data_len = value.len() as u64;
    }

    /// Ends the value, and gives the file its name. The caller then writes the record that
    /// names it, or removes the file.
    pub(super) fn finish(mut self, key: &[u8], durable: bool) -> Result<ExternalRef> {
        let durable = durable || self.store.externals.syncs_first();
        self.flush()?;
        let mut tail = std::mem::take(&mut self.table);
        tail.extend_from_slice(key);
        tail.extend(self.array.as_ref().map(ArrayDescriptor::encode).unwrap_or_default());
        let footer = ExternalFooter { tail_crc: self.footer.tail_crc(&tail), ..self.footer };
        self.resize(footer.file_len())?;
        let Some(file) = self.file.clone() else { return Err(Error::Closed) };
        let name = FileId::of(&footer).name();
        let storage = &*self.store.storage;
        let header = self.array.as_ref().map(ArrayDescriptor::npy_header);
        header
            .map_or(Ok(()), |header| file.write_at(&header, 0))
            .and_then(|()| file.write_at(&tail, footer.table_at()))
            .and_then(|()| file.write_at(&footer.encode(), footer.trailer_at()))
            .map_err(|error| self.failed("write", error))?;
        // Where that fails, neither name is left.
        self.file = None;
        christen(storage, &*file, &self.temporary, &name, durable)
            .map_err(|error| self.failed("create", error))?;
        let named = self.store.externals.adopt(storage, footer, file, durable)?;
        // It counts as a file of the store from here on.
        self.file_len = 0;
        self.store.counters.add(Count::WrittenBytes, footer.data_len);
        Ok(named)
    }

    /// Writes what is still to be written.
    fn flush(&mut self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let at = self.footer.data_at().saturating_add(self.footer.data_len);
        let number = self.footer.data_len / CHUNK as u64;
        let len = self.footer.data_len.saturating_add(self.rest.len() as u64);
        if len > self.room {
            let double = self.room.saturating_mul(2).min(self.store.largest_value());
            match self.make_room(double.max(len)) {
                // Half of what is left may do.
                Err(Error::Full { .. } | Error::StorageFull { .. }) if double > len => {
                    self.make_room(len)?;
                }
                made => made?,
            }
        }
        let Some(file) = &self.file else { return Err(Error::Closed) };
        file.write_at(&self.rest, at).map_err(|error| self.failed("write", error))?;
        let crc = chunk_crc(self.footer.seq, number, &self.rest);
        self.table.extend_from_slice(&crc.to_le_bytes());
        self.footer.data_len = len;
        self.rest.clear();
        Ok(())
    }

    fn make_room(&mut self, room: u64) -> Result<()> {
        self.resize(ExternalFooter { data_len: room, ..self.footer }.file_len())?;
        self.room = room;
        Ok(())
    }

    /// Gives the file another length.
    fn resize(&mut self, len: u64) -> Result<()> {
        let store = self.store;
        store.check_open()?;
        let (before, after) = (blocks(self.file_len), blocks(len));
        if let Some(more) = after.checked_sub(before).filter(|more| *more > 0) {
            store.make_space_for(more, store.clock.now_ms())?;
            store.usage.add(more);
        }
        let storage = &*store.storage;
        let resized = match &self.file {
            None => create_anew(storage, &self.temporary, len),
            // Asked for even if nothing changes: a growth that failed may have left more.
            Some(_) => storage.resize(&self.temporary, len),
        };
        match resized {
            Ok(file) => {
                self.file = Some(file);
                self.file_len = len;
                store.usage.sub(before.saturating_sub(after));
                Ok(())
            }
            Err(error) => {
                store.usage.sub(after.saturating_sub(before));
                Err(self.failed("create", error))
            }
        }
    }

    /// That it was cut short while it was computed.
    pub(super) fn cut_short(&self) -> Error {
        self.failed("read", io::ErrorKind::UnexpectedEof.into())
    }

    fn failed(&self, op: &'static str, error: io::Error) -> Error {
        Error::io(op, &self.store.storage.path(&FileId::of(&self.footer).name()), error)
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: what stays is swept by the next opening.
            let _ = self.store.storage.remove(&self.temporary);
        }
        self.store.usage.sub(blocks(self.file_len));
    }
}
