//! What a kill cut off: a record between its writing and its slot, or before it was committed.
//!
//! Whoever made the change was never told that it took place, so that it may have or not; but it
//! is decided by the next opening, and not by a later one that builds the index anew.
//!
//! | the last record of an open segment | then |
//! |---|---|
//! | has its slot, or its key has something newer | nothing |
//! | its key has something older | it takes its place |
//! | its key has nothing, and the log something newer | nothing: that it is gone rests on what is newer, which may be part of something larger |
//! | neither has | a tombstone hides it |
//! | is the end of a batch | its records get the slots for good that are pending |
//! | is not committed | its header is wiped |
//!
//! # Invariants
//! 1. A lane publishes each record before it appends the next, so that only the last one of an open
//!    segment can lack its slot. Where two writers met at a key and the one that begins again has to go
//!    on to another segment, the one that it leaves stays open until the key is settled (`change.rs`).
//! 2. Whatever a session wrote is on the way to the disk before what is decided here.
//!
//! An opening that builds the index anew needs none of this: it finds what is there.

use std::sync::Arc;

use larder_format::layout::{BATCH_LEN, RECORD_HEADER_LEN};
use larder_format::{CodecId, Flags, FooterEntry, Kind, RecordHeader, Slot, SlotState};

use super::segment::Segment;
use super::store::Store;
use super::writer::{NewRecord, room_for};
use crate::clock::NEVER;
use crate::error::Result;

/// The last record of a segment that a process left open.
pub(super) type Last = (Arc<Segment>, FooterEntry);

impl Segment {
    /// Its last record.
    pub(super) fn last_entry(&self) -> Option<FooterEntry> {
        self.entry_count().checked_sub(1).and_then(|number| self.entry(number))
    }

    /// Whether a batch was begun above what is committed.
    pub(crate) fn has_cut_off_batch(&self) -> bool {
        let mut bytes = [0; RECORD_HEADER_LEN + BATCH_LEN];
        let at = self.region().committed().tail();
        self.region().read_uncommitted(&mut bytes, at).is_ok()
            && RecordHeader::decode(&bytes, self.salt(), at as u64)
                .is_ok_and(|header| header.kind == Kind::BatchBegin)
    }
}

impl Store {
    /// Decides about the last records of segments that a process which died left open.
    pub(super) fn settle_cut_off(&self, last: Vec<Last>) -> Result<()> {
        for (segment, entry) in last {
            let guard = &crossbeam_epoch::pin();
            let Ok(record) = segment.record(entry.offset()) else { continue };
            let (hash, seq, flags) = (entry.key_hash, record.header.seq, record.header.flags);
            let state = match entry.kind {
                Kind::Value => SlotState::Value,
                Kind::Tombstone | Kind::TagInvalidation => SlotState::Tombstone,
                Kind::BatchCommit => {
                    self.settle_batch(&segment);
                    continue;
                }
                _ => continue,
            };
            // A copy is no change.
            if flags.has(Flags::MOVED) || self.hasher.hash(record.key()) != hash {
                continue;
            }
            let slot = Slot::new(hash, segment.id(), entry.offset(), state);
            if entry.kind == Kind::TagInvalidation {
                let judge = |slot| self.judge_tag(slot, hash, guard);
                self.publish_record(hash, slot, seq, judge, guard)?;
                continue;
            }
            match self.lookup(hash, record.key(), guard) {
                Some(found) if found.seq < seq => {
                    let judge = |slot| self.judge(slot, record.key(), guard);
                    self.publish_record(hash, slot, seq, judge, guard)?;
                }
                None if state == SlotState::Value
                    && self.is_live_at(&record, || self.clock.now_ms(), guard)
                    && !self.log_has_newer(hash, seq) =>
                {
                    // Where there is no room it stays as it is: no reason not to open.
                    let _ = self.bury_cut_off(hash, record.key());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives the keys of the batch that a segment ends with their slots for good. It counts: what is
    /// pending is found, and is not among what is counted.
    fn settle_batch(&self, segment: &Segment) {
        let records = segment.entries().skip(1);
        for entry in records.take_while(|entry| entry.kind != Kind::BatchBegin) {
            let guard = &crossbeam_epoch::pin();
            if let Ok(record) = segment.record(entry.offset()) {
                // What does not work now is done by whoever changes the key next.
                let _ = self.survey(entry.key_hash, record.key(), guard);
            }
        }
    }

    /// Whether the log has something newer of a key, or was cleared since. Looks at all footers.
    fn log_has_newer(&self, hash: u64, seq: u64) -> bool {
        let is_newer = |segment: &Segment, entry: FooterEntry| {
            entry.key_hash == hash
                && matches!(entry.kind, Kind::Value | Kind::Tombstone)
                && segment.entry_seq(&entry).is_some_and(|other| other > seq)
        };
        let segments: Vec<_> = self.all_live().values().cloned().collect();
        seq <= self.file.cleared_seq()
            || segments
                .iter()
                .any(|segment| segment.entries().any(|entry| is_newer(segment, entry)))
    }

    /// Hides what the log has of a key for which the index has nothing.
    fn bury_cut_off(&self, hash: u64, key: &[u8]) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let mut lane = self.lanes.acquire();
        self.make_room(&mut lane, room_for(key.len(), 0), (Kind::Tombstone, NEVER), now_ms)?;
        let (seq, _in_flight) = lane.enter(self.file.next_seq());
        let tombstone = NewRecord {
            kind: Kind::Tombstone,
            flags: Flags::NONE,
            seq,
            key_hash: hash,
            tags: &[],
            key,
            head: &[],
            value: &[],
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            written_at_ms: now_ms,
        };
        self.append(&mut lane, &tombstone).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Disk;
    use super::super::builder::Options;
    use super::super::heap::Heap;
    use super::super::maintenance::Maintenance;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::change::{Change, Content, Decision, Draft};
    use super::super::shortage::Patience;
    use super::*;
    use crate::engine::{Engine, Put};

    const KEY: &[u8] = b"key";

    /// What a writer did before it was killed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Got {
        Written,
        Committed,
    }

    fn open(heap: &Heap) -> Disk {
        let maintenance = Maintenance::Manual;
        let options =
            Options { budget: 4 << 20, writers: Some(2), maintenance, ..Options::default() };
        options.open_in(Arc::new(heap.clone())).unwrap()
    }

    /// Writes a record as a put, a removal or an invalidation does, and no further.
    fn cut_off(disk: &Disk, kind: Kind, key: &[u8], got: Got) {
        let store = &disk.store;
        let mut lane = store.lanes.acquire();
        store.make_room(&mut lane, room_for(key.len(), 3), (kind, NEVER), 0).unwrap();
        let (seq, _in_flight) = lane.enter(store.file.next_seq());
        let record = NewRecord {
            kind,
            flags: Flags::NONE,
            seq,
            key_hash: store.hasher.hash(key),
            tags: &[],
            key,
            head: &[],
            value: if kind == Kind::Value { b"new" } else { b"" },
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            written_at_ms: 0,
        };
        let writer = lane.writer.as_mut().unwrap();
        writer.stage(&record).unwrap();
        if got == Got::Committed {
            writer.commit();
        }
    }

    #[test]
    fn one_that_lost_its_place_and_went_on_to_another_segment_is_decided_about() {
        let heap = Heap::default();
        let disk = open(&heap);
        let store = &disk.store;
        put(&disk, KEY, b"old");
        // Room for the record, which takes 80 bytes with its entry, and not for another; each of those
        // that fill the segment takes 64.
        let room = room_for(KEY.len(), 3);
        let is_nearly_full = || {
            let lane = store.lanes.acquire();
            lane.writer.as_ref().is_some_and(|writer| (room..room + 64).contains(&writer.room()))
        };
        for filler in 0_u32.. {
            if is_nearly_full() {
                break;
            }
            put(&disk, &filler.to_le_bytes(), b"");
        }
        let mut looks = 0;
        let change = Change {
            hash: store.hasher.hash(KEY),
            key: KEY,
            head: &[],
            value: b"new",
            tags: &[],
            fate: (Kind::Value, NEVER),
            now_ms: 0,
            patience: Patience::Help,
            durable: false,
        };
        let (content, flags, codec) = (Content::Given, Flags::NONE, CodecId::RAW);
        let draft = Draft { content, flags, codec, expires_at_ms: NEVER };
        let killed = catch_unwind(AssertUnwindSafe(|| {
            store.update(&change, |_, _| {
                looks += 1;
                assert!(looks == 1, "the process is killed when it looks again");
                // Another writer is faster, and has the lower number.
                put(&disk, KEY, b"other");
                Ok(Decision::Write(draft, ()))
            })
        }));
        assert!(killed.is_err() && looks == 2);
        assert!(store.all_live().len() > 2, "it went on to another segment");
        assert_eq!(found(&heap, disk, KEY).as_deref(), Some(&b"new"[..]));
    }

    fn get(disk: &Disk, key: &[u8]) -> Option<Vec<u8>> {
        disk.get(key).unwrap().map(|value| value.to_vec())
    }

    /// What the next opening finds under a key; whatever is built anew later must find the same.
    fn found(heap: &Heap, disk: Disk, key: &[u8]) -> Option<Vec<u8>> {
        drop(disk);
        let next = open(heap);
        assert_eq!(next.stats().recovery, crate::Recovery::ProcessDied);
        let found = get(&next, key);
        assert_eq!(next.len(), next.iter().count() as u64);
        drop(next);
        heap.reboot();
        let rebuilt = open(heap);
        assert_eq!(get(&rebuilt, key), found, "it shows late");
        assert!(rebuilt.verify().unwrap().is_clean());
        found
    }

    fn put(disk: &Disk, key: &[u8], value: &[u8]) {
        assert!(disk.put(key, value, &Put::default()).unwrap().is_admitted());
    }

    #[test]
    fn a_put_that_was_cut_off_is_decided_about_by_the_next_opening() {
        for (has_old, got) in
            [(true, Got::Committed), (false, Got::Committed), (true, Got::Written)]
        {
            let heap = Heap::default();
            let disk = open(&heap);
            if has_old {
                put(&disk, KEY, b"old");
            }
            cut_off(&disk, Kind::Value, KEY, got);
            let expected: Option<&[u8]> = match (has_old, got) {
                (true, Got::Committed) => Some(b"new"),
                (true, Got::Written) => Some(b"old"),
                (false, _) => None,
            };
            assert_eq!(found(&heap, disk, KEY).as_deref(), expected, "{has_old}, {got:?}");
        }
    }

    #[test]
    fn one_that_was_removed_since_does_not_come_back() {
        let heap = Heap::default();
        let disk = open(&heap);
        put(&disk, KEY, b"new");
        // The removal's tombstone is in the other lane: what was removed is the last record here.
        let held = disk.store.lanes.acquire();
        assert!(disk.remove(KEY).unwrap());
        drop(held);
        assert_eq!(found(&heap, disk, KEY), None);
    }

    #[test]
    fn what_a_batch_left_pending_is_counted() {
        let heap = Heap::default();
        let disk = open(&heap);
        put(&disk, KEY, b"old");
        let mut batch = crate::WriteBatch::new();
        batch.put(KEY, b"new", &Put::default()).put(b"other", b"new", &Put::default());
        assert!(disk.write(&batch, crate::Durability::None).is_ok());
        let store = &disk.store;
        for key in [KEY, b"other"] {
            let (hash, guard) = (store.hasher.hash(key), &crossbeam_epoch::pin());
            let slot = store.lookup(hash, key, guard).unwrap().slot;
            let pending = |slot: Slot| slot.with_state(SlotState::Pending);
            store.replace_place(hash, slot, pending, guard).unwrap();
        }
        drop(disk);
        let next = open(&heap);
        assert_eq!((next.len(), next.iter().count()), (2, 2));
        assert_eq!(get(&next, KEY).as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn a_removal_and_an_invalidation_that_were_cut_off_are_decided_about_as_well() {
        let heap = Heap::default();
        let disk = open(&heap);
        put(&disk, KEY, b"old");
        cut_off(&disk, Kind::Tombstone, KEY, Got::Committed);
        assert_eq!(found(&heap, disk, KEY), None);
        let heap = Heap::default();
        let disk = open(&heap);
        let tagged = Put { tags: &[b"tag"], ..Put::default() };
        assert!(disk.put(KEY, b"old", &tagged).unwrap().is_admitted());
        cut_off(&disk, Kind::TagInvalidation, b"tag", Got::Committed);
        assert_eq!(found(&heap, disk, KEY), None);
    }
}
