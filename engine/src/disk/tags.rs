//! Tags: what was put under one can be invalidated at once.
//!
//! A record carries the hashes of its tags. Invalidating a tag appends one record that says so
//! and publishes it in the index under the tag's hash, as a tombstone; so it survives
//! whatever keys survive: a kill, a rebuild, the growth of the index. A record counts only if
//! its sequence number is above that of the last invalidation of each of its tags.
//!
//! # Invariants
//! 1. An invalidation stays, in the log and in the index, for as long as a segment is live
//!    that was begun before it: only there can records be that it speaks of.
//! 2. The slot of an invalidation is never given up to make a place.

use crossbeam_epoch::Guard;
use larder_format::layout::{KEY_LEN_MAX, TAGS_MAX};
use larder_format::{CodecId, Flags, Kind, Slot, SlotState};

use super::index::Verdict;
use super::lookup;
use super::segment::Record;
use super::store::Store;
use super::writer::{NewRecord, room_for};
use crate::clock::NEVER;
use crate::error::{Error, Result};

impl Store {
    /// Whether no tag of a record was invalidated since it was written.
    pub(super) fn has_valid_tags(&self, record: &Record<'_>, guard: &Guard) -> bool {
        let seq = record.header.seq;
        record.tags().all(|tag| self.invalidated_at(tag, guard).is_none_or(|at| at < seq))
    }

    /// The sequence number of the last invalidation of a tag, by the tag's hash.
    pub(super) fn invalidated_at(&self, tag: u64, guard: &Guard) -> Option<u64> {
        let slots = || self.index.for_reading(tag, guard);
        lookup::lookup(slots, tag, |slot| self.judge_tag(slot, tag, guard)).map(|found| found.seq)
    }

    /// What the record that a slot points to says about a tag.
    pub(super) fn judge_tag<'g>(
        &self,
        slot: Slot,
        tag: u64,
        guard: &'g Guard,
    ) -> Verdict<Record<'g>> {
        let Some(segment) = self.table.get(slot.segment(), guard) else { return Verdict::Gone };
        let Ok(record) = segment.record(slot.offset()) else { return Verdict::Other };
        let is_it = record.header.kind == Kind::TagInvalidation
            && slot.state() != SlotState::Value
            && self.hasher.hash(record.key()) == tag;
        if is_it {
            Verdict::Same { seq: record.header.seq, state: SlotState::Tombstone, found: record }
        } else {
            Verdict::Other
        }
    }

    /// The hashes of some tags, as records carry them.
    pub(super) fn tag_hashes(&self, tags: &[&[u8]]) -> Result<Vec<u64>> {
        if tags.len() > TAGS_MAX {
            return Err(Error::TooManyTags { count: tags.len(), max: TAGS_MAX });
        }
        tags.iter().map(|tag| self.tag_hash(tag)).collect()
    }

    pub(super) fn tag_hash(&self, tag: &[u8]) -> Result<u64> {
        if tag.len() > KEY_LEN_MAX {
            return Err(Error::KeyTooLong { len: tag.len(), max: KEY_LEN_MAX });
        }
        Ok(self.hasher.hash(tag))
    }

    /// Makes everything invalid that was put under a tag before.
    pub(crate) fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        self.check_open()?;
        let hash = self.tag_hash(tag)?;
        let now_ms = self.clock.now_ms();
        let mut lane = self.lanes.acquire();
        let fate = (Kind::Tombstone, NEVER);
        self.make_room(&mut lane, room_for(tag.len(), 0), fate, now_ms)?;
        let guard = &crossbeam_epoch::pin();
        let (seq, _in_flight) = lane.enter(self.file.next_seq());
        let record = NewRecord {
            kind: Kind::TagInvalidation,
            flags: Flags::NONE,
            seq,
            key_hash: hash,
            tags: &[],
            key: tag,
            value: &[],
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            written_at_ms: now_ms,
        };
        let (offset, id) = self.append(&mut lane, &record)?;
        let slot = Slot::new(hash, id, offset, SlotState::Tombstone);
        self.publish_record(hash, slot, seq, |slot| self.judge_tag(slot, hash, guard), guard)
    }
}
