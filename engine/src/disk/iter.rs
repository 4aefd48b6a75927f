//! Walking all entries.
//!
//! The walk goes through the segments that were live when it began, up to what was committed
//! then, in the order of writing. A record is yielded if the index still leads to it, or to a
//! copy of it that was moved on since.

use std::sync::Arc;
use std::vec;

use larder_format::{FooterEntry, Kind, SlotState};

use super::segment::Segment;
use super::store::Store;
use crate::error::Result;
use crate::value::Value;

/// See [`Engine::iter`](crate::Engine::iter).
pub(super) struct Iter<'a> {
    store: &'a Store,
    /// Segments to come, with the number of entries that counted at the beginning.
    segments: vec::IntoIter<(Arc<Segment>, usize)>,
    current: Option<(Arc<Segment>, vec::IntoIter<FooterEntry>)>,
    /// Ids of the segments above which everything is newer than the walk.
    begun_before: u64,
}

impl Store {
    pub(super) fn iter(&self) -> Result<Iter<'_>> {
        self.check_open()?;
        let live: Vec<_> = self
            .live
            .lock()
            .values()
            .map(|segment| {
                let entries = segment.region().committed().entries as usize;
                (Arc::clone(segment), entries)
            })
            .collect();
        let begun_before = live.last().map_or(0, |(segment, _)| segment.id() + 1);
        Ok(Iter { store: self, segments: live.into_iter(), current: None, begun_before })
    }
}

impl Iter<'_> {
    /// The entry's key and value, if it is live and this is where it is to be yielded.
    fn resolve(
        &self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
    ) -> Result<Option<(Vec<u8>, Value)>> {
        let guard = &crossbeam_epoch::pin();
        let Ok(record) = segment.record(entry.offset()) else { return Ok(None) };
        let Some(found) = self.store.lookup(entry.key_hash, record.key(), guard) else {
            return Ok(None);
        };
        let there = &found.found;
        let same_place = there.segment.id() == segment.id() && there.offset == record.offset;
        let moved_on = found.seq == record.header.seq && there.segment.id() >= self.begun_before;
        if found.slot.state() != SlotState::Value
            || !(same_place || moved_on)
            || !self.store.is_live_at(there, || self.store.clock.now_ms())
        {
            return Ok(None);
        }
        let value = self.store.value(there, guard)?;
        Ok(value.map(|value| (record.key().to_vec(), value)))
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((segment, mut entries)) = self.current.take() {
                while let Some(entry) = entries.next() {
                    if entry.kind != Kind::Value {
                        continue;
                    }
                    if let Some(item) = self.resolve(&segment, &entry).transpose() {
                        self.current = Some((segment, entries));
                        return Some(item);
                    }
                }
            }
            let (segment, count) = self.segments.next()?;
            let entries: Vec<_> = segment.entries().rev().take(count).collect();
            self.current = Some((segment, entries.into_iter()));
        }
    }
}
