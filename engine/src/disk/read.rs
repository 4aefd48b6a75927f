//! Reading values: one, or many at once.
//!
//! Most of the time that a read takes is spent waiting for memory: for the key's page of the
//! index, and for its record. Of many keys all buckets are asked for first, and then all records,
//! so that the waits overlap; the reads themselves then find everything near.

use crossbeam_epoch::Guard;
use larder_format::{Flags, Slot, SlotState};

use super::counters::Count;
use super::guard::IS_ON;
use super::index::Found;
use super::lookup::Glance;
use super::observer::Event;
use super::segment::Record;
use super::store::{COPY_OUT_MAX, Store};
use crate::clock::NEVER;
use crate::engine::WithTags;
use crate::error::Result;
use crate::value::{Meta, Value};

/// Keys whose records are asked for at a time: enough to overlap, and few enough that what came
/// first is still near when it is read.
const AT_ONCE: usize = 64;

/// Cache lines of a record that are asked for.
const TOUCHED: usize = 3;

/// What the usual way to look for a value found.
enum Sought<'g> {
    /// There is none.
    Nothing,
    /// This.
    Usual(&'g [u8], Meta),
    /// It has to be looked for as any other.
    Unclear,
}

impl Store {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        self.upkeep.timings.time_get(|| {
            self.index.ask_ahead(hash);
            let guard = &crossbeam_epoch::pin();
            match self.seek::<COPY_OUT_MAX>(hash, key, guard) {
                Sought::Nothing => Ok(None),
                Sought::Usual(bytes, meta) => Ok(Some(Value::new(bytes, meta))),
                Sought::Unclear => self.read(self.glance(hash, guard), hash, key, guard),
            }
        })
    }

    /// As [`get`](Self::get), with the hashes of the value's tags.
    pub(crate) fn get_tagged(&self, key: &[u8]) -> Result<Option<(Value, Vec<u64>)>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        self.upkeep.timings.time_get(|| {
            let guard = &crossbeam_epoch::pin();
            let seen = match self.seek::<COPY_OUT_MAX>(hash, key, guard) {
                Sought::Nothing => return Ok(None),
                Sought::Usual(bytes, meta) => {
                    return Ok(Some((Value::new(bytes, meta), Vec::new())));
                }
                Sought::Unclear => self.glance(hash, guard),
            };
            let mut tags = Vec::new();
            let value = self.read_noting(seen, hash, key, guard, |record| {
                tags.extend(record.tags());
            })?;
            Ok(value.map(|value| (value, tags)))
        })
    }

    /// Looks for the value of a key, of at most `MAX` bytes, in the usual way: one slot, and a small
    /// record that expires never, has no tags and is not packed.
    #[inline(always)]
    fn seek<'g, const MAX: usize>(&self, hash: u64, key: &[u8], guard: &'g Guard) -> Sought<'g> {
        match self.index.for_reading(hash, guard).glance(hash) {
            Glance::Nothing => {
                self.counters.add(Count::Misses, 1);
                Sought::Nothing
            }
            seen => self.seek_from::<MAX>(seen, hash, key, guard),
        }
    }

    /// As [`seek`](Self::seek), after a first look under the same guard that found something.
    #[inline(always)]
    fn seek_from<'g, const MAX: usize>(
        &self,
        seen: Glance,
        hash: u64,
        key: &[u8],
        guard: &'g Guard,
    ) -> Sought<'g> {
        let Glance::One(at, slot) = seen else { return Sought::Unclear };
        // Where files that are cut short are guarded against, what is copied out has to be looked at
        // once more after that.
        if slot.state() != SlotState::Value || IS_ON {
            return Sought::Unclear;
        }
        let Some(segment) = self.segment_at(slot.segment(), guard) else { return Sought::Unclear };
        segment.region().prefetch::<TOUCHED>(slot.offset());
        let Some(plain) = segment.plain(slot.offset(), key) else { return Sought::Unclear };
        let Some(bytes) = plain.value().filter(|bytes| bytes.len() <= MAX) else {
            return Sought::Unclear;
        };
        if plain.header.seq <= self.cleared() {
            return Sought::Unclear;
        }
        if slot.freq() < Slot::FREQ_MAX {
            self.index.for_reading(hash, guard).touch(at, slot);
        }
        self.counters.add(Count::Hits, 1);
        let header = &plain.header;
        let meta = Meta {
            codec: header.codec,
            expires_at_ms: NEVER,
            written_at_ms: segment.header().created_ms.saturating_add(header.written_ms.into()),
            version: header.seq,
        };
        Sought::Usual(bytes, meta)
    }

    /// A first look at a key, which asks for its record.
    #[inline]
    fn glance(&self, hash: u64, guard: &Guard) -> Glance {
        let seen = self.index.for_reading(hash, guard).glance(hash);
        if let Glance::One(_, slot) = seen
            && let Some(segment) = self.segment_at(slot.segment(), guard)
        {
            segment.region().prefetch::<TOUCHED>(slot.offset());
        }
        seen
    }

    /// Reads the live record of a key, and counts what became of it.
    pub(super) fn read_with<R>(
        &self,
        hash: u64,
        key: &[u8],
        guard: &Guard,
        read: impl FnOnce(&Record<'_>) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let Some(found) = self.live(hash, key, guard) else {
            self.counters.add(Count::Misses, 1);
            return Ok(None);
        };
        let result = read(&found.found)?;
        if result.is_some() {
            self.note_hit(&found, hash, guard);
        } else {
            self.note_corrupt();
        }
        Ok(result)
    }

    fn read(&self, seen: Glance, hash: u64, key: &[u8], guard: &Guard) -> Result<Option<Value>> {
        self.read_noting(seen, hash, key, guard, |_| ())
    }

    fn read_noting(
        &self,
        seen: Glance,
        hash: u64,
        key: &[u8],
        guard: &Guard,
        note: impl FnOnce(&Record<'_>),
    ) -> Result<Option<Value>> {
        let Some(found) = self.live_from(seen, hash, key, guard) else {
            self.counters.add(Count::Misses, 1);
            return Ok(None);
        };
        let value = self.value(&found.found, guard)?;
        if value.is_some() {
            note(&found.found);
            self.note_hit(&found, hash, guard);
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
        self.upkeep.timings.time_get(|| {
            self.index.ask_ahead(hash);
            let guard = &crossbeam_epoch::pin();
            match self.seek::<{ usize::MAX }>(hash, key, guard) {
                Sought::Nothing => Ok(None),
                Sought::Usual(bytes, meta) => Ok(Some(look(bytes, &meta))),
                Sought::Unclear => self.look(self.glance(hash, guard), hash, key, look, guard),
            }
        })
    }

    fn look<R>(
        &self,
        seen: Glance,
        hash: u64,
        key: &[u8],
        look: impl FnOnce(&[u8], &Meta) -> R,
        guard: &Guard,
    ) -> Result<Option<R>> {
        let Some(found) = self.live_from(seen, hash, key, guard) else {
            self.counters.add(Count::Misses, 1);
            return Ok(None);
        };
        let record = &found.found;
        let flags = record.header.flags;
        let is_copied = IS_ON && record.value().len() <= COPY_OUT_MAX;
        let lies_elsewhere =
            flags.has(Flags::EXTERNAL) || flags.has(Flags::COMPRESSED) || flags.has(Flags::ARRAY);
        if lies_elsewhere || is_copied {
            return Ok(self.read(seen, hash, key, guard)?.map(|value| look(&value, value.meta())));
        }
        if !record.can_be_served() {
            self.note_corrupt();
            return Ok(None);
        }
        self.note_hit(&found, hash, guard);
        let seen = look(record.value(), &Self::meta(record));
        // What was made of bytes that were gone meanwhile is nothing.
        Ok(Some(seen).filter(|_| !record.segment.region().is_broken()))
    }

    #[inline]
    fn note_hit(&self, found: &Found<Record<'_>>, hash: u64, guard: &Guard) {
        if found.slot.freq() < Slot::FREQ_MAX {
            self.index.for_reading(hash, guard).touch(found.at, found.slot);
        }
        self.counters.add(Count::Hits, 1);
    }

    #[cold]
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
        let mut number = 0;
        self.for_each(keys, |seen, hash, key, guard| {
            let usual = self.seek_from::<{ usize::MAX }>(seen, hash, key, guard);
            let mut show = |bytes: &[u8], meta: &Meta| look(number, Some((bytes, meta)));
            if let Sought::Usual(bytes, meta) = usual {
                show(bytes, &meta);
            } else if self.look(seen, hash, key, show, guard)?.is_none() {
                look(number, None);
            }
            number += 1;
            Ok(())
        })
    }

    /// The values of many keys, in the order of the keys.
    pub(crate) fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Value>>> {
        let mut values = Vec::with_capacity(keys.len());
        self.for_each(keys, |seen, hash, key, guard| {
            values.push(match self.seek_from::<COPY_OUT_MAX>(seen, hash, key, guard) {
                Sought::Usual(bytes, meta) => Some(Value::new(bytes, meta)),
                _ => self.read(seen, hash, key, guard)?,
            });
            Ok(())
        })?;
        Ok(values)
    }

    /// The same, with the hashes of the values' tags.
    pub(crate) fn get_many_tagged(
        &self,
        keys: &[impl AsRef<[u8]>],
    ) -> Result<Vec<Option<WithTags>>> {
        let mut values = Vec::with_capacity(keys.len());
        self.for_each(keys, |seen, hash, key, guard| {
            values.push(match self.seek_from::<COPY_OUT_MAX>(seen, hash, key, guard) {
                Sought::Usual(bytes, meta) => Some((Value::new(bytes, meta), Vec::new())),
                _ => {
                    let mut tags = Vec::new();
                    let note = |record: &Record<'_>| tags.extend(record.tags());
                    let value = self.read_noting(seen, hash, key, guard, note)?;
                    value.map(|value| (value, tags))
                }
            });
            Ok(())
        })?;
        Ok(values)
    }

    /// Does something with each of many keys, for which all that it needs was asked before.
    #[inline]
    fn for_each(
        &self,
        keys: &[impl AsRef<[u8]>],
        mut act: impl FnMut(Glance, u64, &[u8], &Guard) -> Result<()>,
    ) -> Result<()> {
        self.check_open()?;
        let mut looks = [(0, Glance::Nothing); AT_ONCE];
        for keys in keys.chunks(AT_ONCE) {
            let guard = &crossbeam_epoch::pin();
            self.look_ahead(keys, &mut looks, guard)?;
            for (key, (hash, seen)) in keys.iter().zip(looks) {
                act(seen, hash, key.as_ref(), guard)?;
            }
        }
        Ok(())
    }

    /// Asks for what reading some keys will need.
    pub(crate) fn prefetch(&self, keys: &[impl AsRef<[u8]>]) -> Result<()> {
        self.for_each(keys, |_, _, _, _| Ok(()))
    }

    /// Looks at some keys for the first time: asks for the buckets of all, and then for the
    /// records of all.
    fn look_ahead(
        &self,
        keys: &[impl AsRef<[u8]>],
        looks: &mut [(u64, Glance); AT_ONCE],
        guard: &Guard,
    ) -> Result<()> {
        for (key, (hash, _)) in keys.iter().zip(looks.iter_mut()) {
            *hash = self.hash(key.as_ref())?;
            self.index.for_reading(*hash, guard).prefetch(*hash);
        }
        for (hash, seen) in looks.iter_mut().take(keys.len()) {
            *seen = self.glance(*hash, guard);
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
