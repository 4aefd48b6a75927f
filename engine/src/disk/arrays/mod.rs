//! Arrays in a store: where they go, and how they are found.
//!
//! | array | record | file |
//! |---|---|---|
//! | below the threshold | descriptor and data, aligned | |
//! | at or above it | a reference | `arr/`, a NumPy file |
//! | compressed | descriptor and chunks, aligned | |
//! | compressed, and still large | a reference | `big/`, descriptor and chunks |
//!
//! # Invariants
//! 1. Data lies in its file at a multiple of the alignment that its descriptor states, wherever
//!    its record is moved to (`writer.rs`), and files are mapped from their beginning.
//! 2. A descriptor is decoded, and so checked, before anything is made of the data; where the
//!    policy says to check, its checksum is compared first.

mod append;
mod file;
mod pour;
mod put;
mod reserve;
#[cfg(test)]
mod tests;

pub use append::ArrayAppender;
pub use reserve::ReservedArray;

use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::{
    ArrayDescriptor, CodecId, Compression, ExternalClass, ExternalRef, Flags, Slot, SlotState,
};

use super::Disk;
use super::chunks::{Chunks, RecordChunks};
use super::segment::Record;
use super::space::plain;
use super::store::Store;
use crate::array::{AnyArray, ArrayError, ArrayView, Check, Element, of_bytes, of_stored};
use crate::error::{Error, Result};
use crate::value::{Meta, Value};

impl Disk {
    /// The live array of `key`, to be looked at where it lies. Counts as a use, and costs no
    /// look at the data, however much that is: see [`ArrayView`] for when it is checked.
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine); [`Error::Array`] if the value is no array, or one of
    /// other elements ([`ArrayError`]).
    pub fn get_array<T: Element>(&self, key: &[u8]) -> Result<Option<ArrayView<T>>> {
        self.get_array_with(key, Check::default())
    }

    /// As [`get_array`](Self::get_array), checked as often as `check` says.
    ///
    /// # Errors
    /// As of [`get_array`](Self::get_array).
    pub fn get_array_with<T: Element>(
        &self,
        key: &[u8],
        check: Check,
    ) -> Result<Option<ArrayView<T>>> {
        let array = self.store.get_array(&plain(key), check)?;
        Ok(array.map(AnyArray::typed).transpose()?)
    }

    /// As [`get_array_with`](Self::get_array_with), of an array whose type is not known.
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine); [`Error::Array`] if the value is no array.
    pub fn get_any_array(&self, key: &[u8], check: Check) -> Result<Option<AnyArray>> {
        self.store.get_array(&plain(key), check)
    }
}

impl Store {
    /// The live array of a key as it is stored.
    pub(super) fn get_array(&self, key: &[u8], check: Check) -> Result<Option<AnyArray>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        self.upkeep.timings.time_get(|| {
            let guard = &crossbeam_epoch::pin();
            self.read_with(hash, key, guard, |record| self.array(record, check, guard))
        })
    }

    /// The array of a record; `None` if what says what it is is missing or damaged.
    pub(super) fn array(
        &self,
        record: &Record<'_>,
        check: Check,
        guard: &Guard,
    ) -> Result<Option<AnyArray>> {
        let flags = record.header.flags;
        let meta = Self::meta(record);
        if !flags.has(Flags::ARRAY) {
            return match meta.codec == CODEC {
                true => {
                    Ok(self.value(record, guard)?.map(|it| AnyArray::of_value(&it)).transpose()?)
                }
                false => Err(ArrayError::NotAnArray.into()),
            };
        }
        if flags.has(Flags::EXTERNAL) {
            return self.array_in_file(record, check, meta, guard);
        }
        let place = Slot::new(0, record.segment.id(), 0, SlotState::Value);
        let Some(segment) = self.segment_at(place.segment(), guard) else {
            // Reclaimed since it was looked up: the record stays while the guard is pinned.
            return Ok(match record.is_intact() {
                true => Some(of_bytes(record.value(), meta)?),
                false => None,
            });
        };
        let Some(chunks) = RecordChunks::new(segment, record) else { return Ok(None) };
        // It stands in the first chunk.
        if check != Check::Never && !chunks.is_known(0) && !chunks.sum(0) {
            return Ok(None);
        }
        let Ok((descriptor, data)) = ArrayDescriptor::split(record.value()) else {
            return Ok(None);
        };
        let at = descriptor.encoded_len();
        let view = chunks.view(at..at + data.len());
        Ok(Some(of_stored(descriptor, (view, chunks, at), meta, check)?))
    }

    fn array_in_file(
        &self,
        record: &Record<'_>,
        check: Check,
        meta: Meta,
        guard: &Guard,
    ) -> Result<Option<AnyArray>> {
        let named = ExternalRef::decode(record.value()).ok();
        let Some(named) = named.filter(|_| record.can_be_served()) else { return Ok(None) };
        let Some(file) = self.externals.get(&*self.storage, &named, guard)? else {
            return Ok(None);
        };
        let len = usize::try_from(named.data_len).unwrap_or(usize::MAX);
        let chunks = Arc::clone(&file) as Arc<dyn Chunks>;
        if named.class == ExternalClass::Array {
            let Some(descriptor) = file.array() else { return Ok(None) };
            let view = file.view(0..len);
            return Ok(Some(of_stored(*descriptor, (view, chunks, 0), meta, check)?));
        }
        if !file.has_right_tail() || check != Check::Never && !file.is_known(0) && !file.sum(0) {
            return Ok(None);
        }
        let all = file.view(0..len);
        let Ok((descriptor, _)) = ArrayDescriptor::split(all.bytes()) else { return Ok(None) };
        let at = descriptor.encoded_len();
        Ok(Some(of_stored(descriptor, (all.part(at..len), chunks, at), meta, check)?))
    }

    /// The bytes of an array: descriptor and data, or the NumPy file that it is. What is
    /// compressed is decoded. `None` if something of it is missing or damaged.
    pub(super) fn array_value(&self, record: &Record<'_>, guard: &Guard) -> Result<Option<Value>> {
        let array = match self.array(record, Check::FirstTouch, guard) {
            Err(Error::Array(_)) => None,
            array => array?,
        };
        let Some(array) = array else { return Ok(None) };
        let Ok(data) = array.data() else { return Ok(None) };
        let mut bytes = Vec::new();
        let descriptor = array.descriptor().encode();
        if bytes.try_reserve_exact(descriptor.len() + data.len()).is_err() {
            return Err(ArrayError::NoMemory { len: data.len() as u64 }.into());
        }
        bytes.extend_from_slice(&descriptor);
        bytes.extend_from_slice(data);
        Ok(Some(Value::owned(bytes, Self::meta(record))))
    }

    /// Whether an array's record in a segment, or in a file of a value, is compressed.
    pub(super) fn is_packed_array(record: &Record<'_>) -> bool {
        let header = &record.header;
        if !header.flags.has(Flags::ARRAY) {
            return false;
        }
        if header.flags.has(Flags::EXTERNAL) {
            return ExternalRef::decode(record.value())
                .is_ok_and(|named| named.class == ExternalClass::Value);
        }
        ArrayDescriptor::decode(record.value())
            .is_ok_and(|array| array.compression() != Compression::None)
    }

    /// What is wrong with the array of an intact record, by name; `None` if nothing is.
    pub(super) fn array_damage(
        &self,
        record: &Record<'_>,
        guard: &Guard,
    ) -> Result<Option<String>> {
        let gone = "its array is missing, or does not say what it is";
        let array = match self.array(record, Check::Always, guard) {
            Err(Error::Array(why)) => return Ok(Some(why.to_string())),
            array => array?,
        };
        let Some(array) = array else { return Ok(Some(gone.to_owned())) };
        Ok(array.data().err().map(|why| why.to_string()))
    }
}

/// The codec that arrays have.
pub(super) const CODEC: CodecId = CodecId::ARRAY;
