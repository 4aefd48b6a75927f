//! Tags: what was put under one can be invalidated at once.
//!
//! A record carries the hashes of its tags. Invalidating a tag appends one record that says so
//! and publishes it in the index under the tag's hash, as a tombstone; so it survives
//! whatever keys survive: a kill, a rebuild, the growth of the index. A record counts only if
//! its sequence number is above that of the last invalidation of each of its tags.
//!
//! A key whose slot leads to damage is a miss. A tag whose slot does is the other way round: what
//! was invalidated must not come back. So whatever may be the slot of an invalidation counts as one:
//!
//! | what the slot leads to | what counts |
//! |---|---|
//! | a record that cannot be read, its footer entry can | that tag is invalid up to the entry's number |
//! | the same, and the entry does not know its number | up to the least that it can be known to be below |
//! | nothing that can be read, or no segment | every tag that the slot may stand for is |
//!
//! Where no number is known, everything counts as invalidated that was put before the damage was
//! met for the first time; what is put under the tag from then on can be read.
//!
//! # Invariants
//! 1. An invalidation stays, in the log and in the index, for as long as a segment is live
//!    that was begun before it, or that holds a copy of a record that was: only there can records
//!    be that it speaks of. One that cannot be read leaves tombstones for them (`dying.rs`).
//! 2. The slot of an invalidation, or of what may be one, is never given up to make a place.

use std::collections::HashMap;

use crossbeam_epoch::Guard;
use larder_format::layout::{KEY_LEN_MAX, TAGS_MAX};
use larder_format::{CodecId, Flags, FooterEntry, Kind, Slot, SlotState};
use parking_lot::Mutex;

use super::counters::Count;
use super::index::Verdict;
use super::lookup;
use super::observer::Event;
use super::segment::{Record, Segment};
use super::store::Store;
use super::writer::{NewRecord, room_for};
use crate::clock::NEVER;
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// Slots that may be those of invalidations, and lead to damage: what is known of them since they
/// were met. By the segment's id, or by the low bits that the slot has if the segment is gone.
#[derive(Debug, Default)]
pub(super) struct LostTags(Mutex<HashMap<(u64, usize), Known>>);

/// What is known of an invalidation that cannot be read.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The hash of its tag, if that is known.
    tag: Option<u64>,
    /// Records up to this number count as invalidated.
    up_to: u64,
}

/// Stands in for the high bits of the id of a segment that is gone.
const GONE: u64 = !0xFFFF;

/// What a slot may say about a tag.
enum Claim {
    Nothing,
    /// It is the tag's invalidation, for all that is known of it.
    Is(Known),
    /// Nobody knows.
    MayBe(Known),
}

impl Store {
    /// Whether no tag of a record was invalidated since it was written.
    pub(super) fn has_valid_tags(&self, record: &Record<'_>, guard: &Guard) -> bool {
        let seq = record.header.seq;
        record.tags().all(|tag| self.invalidated_at(tag, guard).is_none_or(|at| at < seq))
    }

    /// The sequence number of the last invalidation of a tag, by the tag's hash; at least that,
    /// where it cannot be known.
    pub(super) fn invalidated_at(&self, tag: u64, guard: &Guard) -> Option<u64> {
        let slots = || self.index.for_reading(tag, guard);
        let mut unreadable = None;
        let mut gone: Option<Slot> = None;
        let found = lookup::lookup(slots, tag, |slot| {
            let verdict = self.judge_tag(slot, tag, guard);
            let is_lost = match verdict {
                Verdict::Same { .. } => false,
                Verdict::Other => true,
                // Once it may have moved on: a segment goes after its slots have changed.
                Verdict::Gone => gone.replace(slot).is_some_and(|before| before.same_place(slot)),
            };
            if is_lost && let Claim::Is(known) | Claim::MayBe(known) = self.claim(slot, tag, guard)
            {
                unreadable = unreadable.max(Some(known.up_to));
            }
            verdict
        });
        found.map(|found| found.seq).max(unreadable)
    }

    /// What a slot may say about a tag that leads to nothing that can be read.
    fn claim(&self, slot: Slot, tag: u64, guard: &Guard) -> Claim {
        // Whoever published it as what it is has written its record in full before.
        if slot.state() != SlotState::Tombstone {
            return Claim::Nothing;
        }
        let segment = self.segment_at(slot.segment(), guard);
        if segment.is_some_and(|segment| is_readable(segment, slot.offset())) {
            return Claim::Nothing;
        }
        // An entry that says something else may be damaged as well: the slot fits the tag.
        let is_it =
            |entry: &FooterEntry| entry.kind == Kind::TagInvalidation && entry.key_hash == tag;
        let entry = segment.and_then(|segment| segment.entry_of(slot.offset())).filter(is_it);
        let id = segment.map_or(GONE | u64::from(slot.segment()), |segment| segment.id());
        let known = self.known(id, slot.offset(), || Known {
            tag: entry.map(|entry| entry.key_hash),
            up_to: self.number_of(segment.map(|segment| &**segment), entry.as_ref()),
        });
        if known.tag == Some(tag) { Claim::Is(known) } else { Claim::MayBe(known) }
    }

    /// The number of an invalidation that cannot be read, or the most that it can be.
    pub(super) fn number_of(&self, segment: Option<&Segment>, entry: Option<&FooterEntry>) -> u64 {
        if let (Some(segment), Some(entry)) = (segment, entry)
            && let Some(seq) = segment.entry_seq(entry)
        {
            return seq;
        }
        // Relaxed: a number that is drawn from here on belongs to a record that comes later.
        let drawn = self.file.next_seq().load(Ordering::Relaxed).saturating_sub(1);
        segment.map_or(drawn, |segment| drawn.min(self.seq_bound(segment)))
    }

    /// What is known of an invalidation that cannot be read, as it was when that was found out.
    fn known(&self, id: u64, offset: usize, find_out: impl FnOnce() -> Known) -> Known {
        if let Some(known) = self.lost_tags.0.lock().get(&(id, offset)) {
            return *known;
        }
        let known = find_out();
        let mut all = self.lost_tags.0.lock();
        let entry = all.entry((id, offset));
        *entry.or_insert_with(|| {
            self.counters.add(Count::Corrupt, 1);
            self.upkeep.observed.note(|| Event::Corrupt);
            // Slots are given up that the records deserve, for all that they say. Relaxed: set
            // before any of them is.
            self.file.dropped().store(1, Ordering::Relaxed);
            known
        })
    }

    /// Whether a slot that is no value's may be given up.
    pub(super) fn is_no_invalidation(&self, slot: Slot, guard: &Guard) -> bool {
        if slot.state() != SlotState::Tombstone {
            return self.kind_at(slot, guard) != Some(Kind::TagInvalidation);
        }
        let Some(segment) = self.segment_at(slot.segment(), guard) else { return false };
        let kind = match segment.record(slot.offset()) {
            Ok(record) => Some(record.header.kind),
            Err(_) => segment.entry_of(slot.offset()).map(|entry| entry.kind),
        };
        kind == Some(Kind::Tombstone)
    }

    /// What the record that a slot points to says about a tag, if it can be read.
    pub(super) fn judge_tag<'g>(
        &self,
        slot: Slot,
        tag: u64,
        guard: &'g Guard,
    ) -> Verdict<Record<'g>> {
        let Some(segment) = self.segment_at(slot.segment(), guard) else { return Verdict::Gone };
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

    /// As [`judge_tag`](Self::judge_tag), for who has something newer to say: what cannot be read
    /// and is known to be the tag's gives way.
    fn judge_older(&self, slot: Slot, tag: u64, guard: &Guard) -> Verdict<()> {
        match self.judge_tag(slot, tag, guard) {
            Verdict::Same { seq, state, .. } => Verdict::Same { seq, state, found: () },
            Verdict::Gone => Verdict::Gone,
            Verdict::Other => match self.claim(slot, tag, guard) {
                Claim::Is(_) => Verdict::Same { seq: 0, state: SlotState::Tombstone, found: () },
                _ => Verdict::Other,
            },
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
        let (seq, _in_flight) = loop {
            let entered = lane.enter(self.file.next_seq());
            if self.passes_gate() {
                break entered;
            }
            drop(entered);
            self.await_gate();
        };
        let record = NewRecord {
            kind: Kind::TagInvalidation,
            flags: Flags::NONE,
            seq,
            key_hash: hash,
            tags: &[],
            key: tag,
            head: &[],
            value: &[],
            codec: CodecId::RAW,
            expires_at_ms: NEVER,
            written_at_ms: now_ms,
        };
        let (offset, id) = self.append(&mut lane, &record)?;
        let slot = Slot::new(hash, id, offset, SlotState::Tombstone);
        self.publish_record(hash, slot, seq, |slot| self.judge_older(slot, hash, guard), guard)
    }
}

/// Whether records may be in a segment that are older than `seq` and have tags. For the holder of
/// the reclaim lock, who alone makes copies.
pub(super) fn may_hold_tagged_before(segment: &Segment, seq: u64) -> bool {
    if segment.header().base_seq < seq {
        return true;
    }
    let tally = &segment.tally;
    if tally.oldest_tagged_copy().is_none() {
        let is_copy = |entry: &FooterEntry| entry.seq_delta.is_none() && entry.kind == Kind::Value;
        let copies = segment.entries().filter(is_copy);
        let copies = copies.filter_map(|entry| segment.record(entry.offset()).ok());
        let tagged = copies.filter(|record| record.header.tag_count > 0);
        tally.set_oldest_tagged_copy(tagged.map(|record| record.header.seq).min());
    }
    tally.oldest_tagged_copy().is_none_or(|oldest| oldest < seq)
}

/// Whether the record at a place is there, as far as its key goes.
pub(super) fn is_readable(segment: &Segment, offset: usize) -> bool {
    let record = segment.record(offset);
    // An invalidation has no value: its key is all that its checksum is about.
    record.is_ok_and(|it| it.header.kind != Kind::TagInvalidation || it.is_intact())
}
