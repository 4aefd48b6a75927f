//! Walking all entries.
//!
//! The walk goes through the segments that were live when it began, up to what was committed
//! then, in the order of writing. A record is yielded if the index still leads to it, or to a
//! copy of it that was moved since, to where the walk does not come.
//!
//! # Invariants
//! 1. What was committed when the walk began is walked, and nothing else; how much that was is
//!    remembered for each segment. Ids say nothing: a spare has an old one when it is begun.
//! 2. A segment that was being reclaimed when the walk began may hold the original of a copy
//!    that is walked as well, and that may not have its slot yet. Such segments come first, and
//!    what they yielded is not yielded again.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::vec;

use crossbeam_epoch::Guard;
use larder_format::{Committed, FooterEntry, Kind, SegmentState, SlotState};

use super::counters::Count;
use super::segment::{Record, Segment};
use super::store::Store;
use crate::error::Result;
use crate::value::Value;

/// See [`Engine::iter`](crate::Engine::iter).
pub(super) struct Iter<'a> {
    store: &'a Store,
    /// Segments to come, with what counted of them at the beginning.
    segments: vec::IntoIter<(Arc<Segment>, Committed)>,
    current: Option<(Arc<Segment>, vec::IntoIter<FooterEntry>)>,
    /// Where the walk ends in each segment, by id.
    tails: HashMap<u64, usize>,
    /// Segments that were being reclaimed when the walk began.
    retiring: HashSet<u64>,
    /// Numbers of the records that those yielded.
    carried: HashSet<u64>,
}

/// Bytes of a record that is copied before it is shown, where that is needed
/// ([`Record::steady`]).
const STEADY_MAX: usize = 64 << 10;

impl Store {
    pub(super) fn iter(&self) -> Result<Iter<'_>> {
        self.check_open()?;
        let mut live: Vec<_> = {
            let live = self.all_live();
            let with_end = |s: &Arc<Segment>| (Arc::clone(s), s.region().committed());
            live.values().map(with_end).collect()
        };
        let is_retiring = |segment: &Segment| segment.state() == SegmentState::Retiring;
        let retiring: HashSet<_> =
            live.iter().filter(|(s, _)| is_retiring(s)).map(|(s, _)| s.id()).collect();
        live.sort_by_key(|(segment, _)| !retiring.contains(&segment.id()));
        let tails = live.iter().map(|(segment, end)| (segment.id(), end.tail())).collect();
        let (segments, carried) = (live.into_iter(), HashSet::new());
        Ok(Iter { store: self, segments, current: None, tails, retiring, carried })
    }
}

impl Iter<'_> {
    /// What `look` makes of an entry's record, if it is live and this is where it is to be
    /// yielded.
    fn resolve<R>(
        &mut self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
        look: impl FnOnce(&Record<'_>, &Guard) -> R,
    ) -> Option<R> {
        let guard = &crossbeam_epoch::pin();
        let record = segment.record(entry.offset()).ok()?;
        let found = self.store.lookup(entry.key_hash, record.key(), guard)?;
        let there = &found.found;
        let same_place = there.segment.id() == segment.id() && there.offset == record.offset;
        let end = self.tails.get(&there.segment.id()).copied().unwrap_or(0);
        let moved_on = found.seq == record.header.seq && there.offset >= end;
        if found.state != SlotState::Value
            || !(same_place || moved_on)
            || !self.store.is_live_at(there, || self.store.clock.now_ms(), guard)
        {
            return None;
        }
        if self.carried.contains(&found.seq) {
            return None;
        }
        if self.retiring.contains(&segment.id()) {
            self.carried.insert(found.seq);
        }
        if there.len() > STEADY_MAX {
            return Some(look(there, guard));
        }
        let mut copy = Vec::new();
        let steady = there.steady(&mut copy)?;
        Some(look(&steady, guard))
    }

    /// What `key_of` makes of the entry's record, and its value, which is read only if that is
    /// something.
    fn read<K>(
        &mut self,
        segment: &Arc<Segment>,
        entry: &FooterEntry,
        key_of: &impl Fn(&Record<'_>) -> Option<K>,
    ) -> Option<Result<(K, Value)>> {
        let store = self.store;
        let item = self.resolve(segment, entry, |record, guard| {
            let Some(key) = key_of(record) else { return Ok(None) };
            let value = store.value(record, guard)?;
            if value.is_none() {
                store.counters.add(Count::Corrupt, 1);
            }
            Ok(value.map(|value| (key, value)))
        })?;
        item.transpose()
    }

    /// Shows the record of every live entry, unread.
    pub(super) fn for_each_live(self, mut look: impl FnMut(&Record<'_>)) {
        self.try_for_each_live(|record| {
            look(record);
            ControlFlow::Continue(())
        });
    }

    /// As [`for_each_live`](Self::for_each_live), until `look` breaks off.
    pub(super) fn try_for_each_live(
        mut self,
        mut look: impl FnMut(&Record<'_>) -> ControlFlow<()>,
    ) {
        while let Some((segment, end)) = self.segments.next() {
            for entry in segment.entries().rev().take(end.entries as usize) {
                if entry.kind == Kind::Value
                    && let Some(flow) = self.resolve(&segment, &entry, |record, _| look(record))
                    && flow.is_break()
                {
                    return;
                }
            }
        }
    }
}

impl Iter<'_> {
    /// The next live entry of which `key_of` makes something.
    pub(super) fn next_with<K>(
        &mut self,
        key_of: impl Fn(&Record<'_>) -> Option<K>,
    ) -> Option<Result<(K, Value)>> {
        loop {
            if let Some((segment, mut entries)) = self.current.take() {
                while let Some(entry) = entries.next() {
                    if entry.kind != Kind::Value {
                        continue;
                    }
                    if let Some(item) = self.read(&segment, &entry, &key_of) {
                        self.current = Some((segment, entries));
                        return Some(item);
                    }
                }
            }
            let (segment, count) = self.segments.next()?;
            let entries: Vec<_> = segment.entries().rev().take(count.entries as usize).collect();
            self.current = Some((segment, entries.into_iter()));
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_format::{CodecId, Flags, Slot};

    use super::super::builder::Options;
    use super::super::heap::Heap;
    use super::super::maintenance::Maintenance;
    use super::super::writer::{NewRecord, room_for};
    use super::*;
    use crate::clock::NEVER;
    use crate::engine::{Engine, Put};

    const KEY: &[u8] = b"key";

    #[test]
    fn a_copy_that_gets_its_slot_meanwhile_is_not_a_second_entry() {
        let maintenance = Maintenance::Manual;
        let options =
            Options { budget: 4 << 20, writers: Some(2), maintenance, ..Options::default() };
        let disk = options.open_in(Arc::new(Heap::default())).unwrap();
        assert!(disk.put(KEY, b"value", &Put::default()).unwrap().is_admitted());
        let store = &disk.store;
        let hash = store.hasher.hash(KEY);
        let (from, at, seq) = {
            let guard = &crossbeam_epoch::pin();
            let found = store.lookup(hash, KEY, guard).unwrap();
            let from = Arc::clone(&store.all_live()[&found.found.segment.id()]);
            (from, found.found.offset, found.seq)
        };
        from.set_state(SegmentState::Retiring);
        // A copy in another lane, whose slot is still to come.
        let own = store.lanes.acquire();
        let mut lane = store.lanes.acquire();
        store.make_room(&mut lane, room_for(KEY.len(), 5), (Kind::Value, NEVER), 0).unwrap();
        let copy = NewRecord {
            kind: Kind::Value,
            flags: Flags::MOVED,
            seq,
            key_hash: hash,
            tags: &[],
            key: KEY,
            head: &[],
            value: b"value",
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            written_at_ms: 0,
        };
        let (offset, to) = store.append(&mut lane, &copy).unwrap();
        drop((own, lane));
        assert_ne!(from.id(), to);

        let mut walk = disk.iter();
        assert_eq!(walk.next().unwrap().unwrap().0, KEY);
        let place = Slot::new(hash, from.id(), at, SlotState::Value);
        let moved = Slot::new(hash, to, offset, SlotState::Value);
        store.replace_place(hash, place, |_| moved, &crossbeam_epoch::pin());
        assert!(disk.get(KEY).unwrap().is_some());
        assert!(walk.next().is_none(), "the same entry twice");
        assert_eq!(disk.iter().count(), 1);
    }
}
