//! Walking all entries.
//!
//! The walk goes through the segments that were live when it began, up to what was committed
//! then, in the order of writing. A record is yielded if the index still leads to it, or to a
//! copy of it that was moved on since.

use std::sync::Arc;
use std::vec;

use crossbeam_epoch::Guard;
use larder_format::{FooterEntry, Kind, SlotState};

use super::segment::{Record, Segment};
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
    /// What `look` makes of an entry's record, if it is live and this is where it is to be
    /// yielded.
    fn resolve<R>(
        &self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
        look: impl FnOnce(&Record<'_>, &Guard) -> R,
    ) -> Option<R> {
        let guard = &crossbeam_epoch::pin();
        let record = segment.record(entry.offset()).ok()?;
        let found = self.store.lookup(entry.key_hash, record.key(), guard)?;
        let there = &found.found;
        let same_place = there.segment.id() == segment.id() && there.offset == record.offset;
        let moved_on = found.seq == record.header.seq && there.segment.id() >= self.begun_before;
        let is_live = found.state == SlotState::Value
            && (same_place || moved_on)
            && self.store.is_live_at(there, || self.store.clock.now_ms(), guard);
        is_live.then(|| look(there, guard))
    }

    /// The entry's key and value.
    fn read(
        &self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
    ) -> Option<Result<(Vec<u8>, Value)>> {
        let item = self.resolve(segment, entry, |record, guard| {
            let value = self.store.value(record, guard)?;
            Ok(value.map(|value| (record.key().to_vec(), value)))
        })?;
        item.transpose()
    }

    /// Shows the record of every live entry, unread.
    pub(super) fn for_each_live(self, mut look: impl FnMut(&Record<'_>)) {
        for (segment, count) in self.segments.as_slice() {
            for entry in segment.entries().rev().take(*count) {
                if entry.kind == Kind::Value {
                    self.resolve(segment, &entry, |record, _| look(record));
                }
            }
        }
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
                    if let Some(item) = self.read(&segment, &entry) {
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
