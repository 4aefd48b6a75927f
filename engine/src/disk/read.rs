//! Reading values: one, or many at once.
//!
//! Most of the time that a read takes is spent waiting for memory: for the key's page of the
//! index, and for its record. Of many keys all buckets are asked for first, and then all records,
//! so that the waits overlap; the reads themselves then find everything near.

use crossbeam_epoch::Guard;
use larder_format::Flags;

use super::counters::Count;
use super::observer::Event;
use super::store::Store;
use crate::error::Result;
use crate::value::{Meta, Value};

/// Keys whose records are asked for at a time: enough to overlap, and few enough that what came
/// first is still near when it is read.
const AT_ONCE: usize = 64;

/// Bytes of a record that are asked for.
const TOUCHED: usize = 192;

impl Store {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        self.upkeep.timings.time_get(|| self.read(hash, key, &crossbeam_epoch::pin()))
    }

    fn read(&self, hash: u64, key: &[u8], guard: &Guard) -> Result<Option<Value>> {
        let Some(found) = self.live(hash, key, guard) else {
            self.counters.add(Count::Misses, 1);
            return Ok(None);
        };
        let value = self.value(&found.found, guard)?;
        if value.is_some() {
            self.index.for_reading(hash, guard).touch(found.at, found.slot);
            self.counters.add(Count::Hits, 1);
        } else {
            self.note_corrupt();
        }
        Ok(value)
    }

    /// Shows a value where it lies.
    pub(crate) fn get_with<R>(
        &self,
        key: &[u8],
        look: impl FnOnce(&[u8], &Meta) -> R,
    ) -> Result<Option<R>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        self.upkeep.timings.time_get(|| self.look(hash, key, look, &crossbeam_epoch::pin()))
    }

    #[inline]
    fn look<R>(
        &self,
        hash: u64,
        key: &[u8],
        look: impl FnOnce(&[u8], &Meta) -> R,
        guard: &Guard,
    ) -> Result<Option<R>> {
        let Some(found) = self.live(hash, key, guard) else {
            self.counters.add(Count::Misses, 1);
            return Ok(None);
        };
        let record = &found.found;
        let flags = record.header.flags;
        if flags.has(Flags::EXTERNAL) || flags.has(Flags::COMPRESSED) {
            return Ok(self.read(hash, key, guard)?.map(|value| look(&value, value.meta())));
        }
        if !record.is_intact() {
            self.note_corrupt();
            return Ok(None);
        }
        self.index.for_reading(hash, guard).touch(found.at, found.slot);
        self.counters.add(Count::Hits, 1);
        Ok(Some(look(record.value(), &Self::meta(record))))
    }

    fn note_corrupt(&self) {
        self.counters.add(Count::Corrupt, 1);
        self.counters.add(Count::Misses, 1);
        self.upkeep.observed.note(|| Event::Corrupt);
        // A lookup holds no lock.
        self.upkeep.observed.tell();
    }

    /// Shows the values of many keys where they lie, in the order of the keys.
    pub(crate) fn get_many_with(
        &self,
        keys: &[impl AsRef<[u8]>],
        mut look: impl FnMut(usize, Option<(&[u8], &Meta)>),
    ) -> Result<()> {
        self.check_open()?;
        let mut number = 0;
        let mut hashes = [0; AT_ONCE];
        for keys in keys.chunks(AT_ONCE) {
            let guard = &crossbeam_epoch::pin();
            self.prefetch_all(keys, &mut hashes, guard)?;
            for (key, hash) in keys.iter().zip(hashes) {
                let shown = self.look(
                    hash,
                    key.as_ref(),
                    |bytes, meta| look(number, Some((bytes, meta))),
                    guard,
                )?;
                if shown.is_none() {
                    look(number, None);
                }
                number += 1;
            }
        }
        Ok(())
    }

    /// The values of many keys, in the order of the keys.
    pub(crate) fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Value>>> {
        self.check_open()?;
        let mut values = Vec::with_capacity(keys.len());
        let mut hashes = [0; AT_ONCE];
        for keys in keys.chunks(AT_ONCE) {
            let guard = &crossbeam_epoch::pin();
            self.prefetch_all(keys, &mut hashes, guard)?;
            for (key, hash) in keys.iter().zip(hashes) {
                values.push(self.read(hash, key.as_ref(), guard)?);
            }
        }
        Ok(values)
    }

    /// Asks for what reading some keys will need.
    pub(crate) fn prefetch(&self, keys: &[impl AsRef<[u8]>]) -> Result<()> {
        self.check_open()?;
        let mut hashes = [0; AT_ONCE];
        for keys in keys.chunks(AT_ONCE) {
            self.prefetch_all(keys, &mut hashes, &crossbeam_epoch::pin())?;
        }
        Ok(())
    }

    fn prefetch_all(
        &self,
        keys: &[impl AsRef<[u8]>],
        hashes: &mut [u64; AT_ONCE],
        guard: &Guard,
    ) -> Result<()> {
        for (key, hash) in keys.iter().zip(hashes.iter_mut()) {
            *hash = self.hash(key.as_ref())?;
            self.index.for_reading(*hash, guard).prefetch(*hash);
        }
        for hash in hashes.iter().take(keys.len()) {
            for slot in self.index.for_reading(*hash, guard).values_of(*hash) {
                if let Some(segment) = self.table.get(slot.segment(), guard) {
                    segment.region().prefetch(slot.offset()..slot.offset() + TOUCHED);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let guard = &crossbeam_epoch::pin();
        Ok(self.live(hash, key, guard).map(|found| found.seq))
    }

    /// What is known about the live value of a key, in one look.
    pub(crate) fn entry(&self, key: &[u8]) -> Result<Option<Meta>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let guard = &crossbeam_epoch::pin();
        Ok(self.live(hash, key, guard).map(|found| Self::meta(&found.found)))
    }
}
