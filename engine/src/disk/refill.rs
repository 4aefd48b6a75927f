//! What belongs into a page of the index, by what the segments hold.
//!
//! The same as a rebuild would find (`rebuild.rs`): of each key the newest record, in the place
//! of all others. The page is laid out apart, so that a slot may be moved to its other bucket
//! to make room for another.
//!
//! # Invariants
//! 1. A record that cannot be read hides all older ones with its hash: it may be the newest of
//!    its key.
//! 2. A key whose newest record is a tombstone gets no slot: nobody is under way with an older
//!    one. A tag invalidation always gets one.

use std::cmp::Reverse;
use std::sync::Arc;

use larder_format::layout::{BUCKET_SLOTS, SEGMENT_DATA, UNIT};
use larder_format::slot::{buckets, other_bucket};
use larder_format::{FooterEntry, Geometry, KeyHasher, Kind, Slot, SlotState};

use super::index::PAGE_SLOTS;
use super::segment::{Record, Segment};

/// Slots that are filled at most: up to here a place is found for each.
const FILL_MAX: usize = PAGE_SLOTS / 32 * 31;
/// How many slots are moved on at most to make room for one.
const KICKS: usize = 1000;

/// Pages as they should be.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// In the order in which they were asked for.
    pub(super) pages: Vec<Vec<Slot>>,
    /// Values that found no place.
    pub(super) left_out: u64,
    /// Records that could not be read.
    pub(super) unreadable: u64,
}

/// A record that may have to be in one of the pages.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    hash: u64,
    /// All ones if only the record could tell, and cannot be read.
    seq: u64,
    kind: Kind,
    /// Where it is: number of the segment in the list, and offset.
    segment: usize,
    offset: usize,
}

/// What belongs into `pages`, which rise.
pub(super) fn pages(
    segments: &[Arc<Segment>],
    hasher: &KeyHasher,
    geometry: Geometry,
    pages: &[usize],
) -> Filled {
    let mut candidates: Vec<Vec<Candidate>> = vec![Vec::new(); pages.len()];
    for (number, segment) in segments.iter().enumerate().filter(|(_, s)| !s.is_retired()) {
        for_each_record(segment, hasher, |hash, seq, kind, offset| {
            let counts = matches!(kind, Kind::Value | Kind::Tombstone | Kind::TagInvalidation);
            if let Ok(at) = pages.binary_search(&geometry.page(hash))
                && counts
            {
                candidates[at].push(Candidate { hash, seq, kind, segment: number, offset });
            }
        });
    }
    let mut filled = Filled::default();
    for mut candidates in candidates {
        let newest = newest(&mut candidates, segments, hasher, &mut filled.unreadable);
        let (page, left_out) = lay_out(newest);
        filled.pages.push(page);
        filled.left_out += left_out;
    }
    filled
}

/// The record at an offset, if it can be read and is of a key or tag with this hash.
fn record_of<'s>(
    segment: &'s Segment,
    offset: usize,
    hash: u64,
    hasher: &KeyHasher,
) -> Option<Record<'s>> {
    segment.record(offset).ok().filter(|record| hasher.hash(record.key()) == hash)
}

/// Shows hash, sequence, kind and offset of every record of a segment: from its footer if that
/// is as it was when it was sealed, or else from the records themselves.
fn for_each_record(
    segment: &Segment,
    hasher: &KeyHasher,
    mut show: impl FnMut(u64, u64, Kind, usize),
) {
    let is_footer_whole = segment.trailer().is_ok_and(|trailer| {
        let entries = segment.region().entries().unwrap_or_default();
        trailer.committed == segment.region().committed()
            && trailer.entries_crc == larder_format::hash::crc_from(0, entries)
    });
    if is_footer_whole {
        for entry in segment.entries() {
            let seq = segment.entry_seq(&entry).unwrap_or(u64::MAX);
            show(entry.key_hash, seq, entry.kind, entry.offset());
        }
        return;
    }
    // Footer entries that the records deny are still shown: their records cannot be read.
    let is_denied =
        |entry: &FooterEntry| record_of(segment, entry.offset(), entry.key_hash, hasher).is_none();
    for entry in segment.entries().filter(is_denied) {
        let seq = segment.entry_seq(&entry).unwrap_or(u64::MAX);
        show(entry.key_hash, seq, entry.kind, entry.offset());
    }
    let mut offset = SEGMENT_DATA;
    let end = segment.region().committed().tail();
    while offset < end {
        match segment.record(offset) {
            Ok(record) => {
                show(hasher.hash(record.key()), record.header.seq, record.header.kind, offset);
                offset += record.len();
            }
            Err(_) => offset += UNIT,
        }
    }
}

/// The slots of the newest records with their hashes, tag invalidations first, and then from new to old.
fn newest(
    candidates: &mut [Candidate],
    segments: &[Arc<Segment>],
    hasher: &KeyHasher,
    bad: &mut u64,
) -> Vec<(u64, Slot)> {
    // Of equal numbers a tombstone counts, or else the copy in the younger segment.
    candidates.sort_unstable_by_key(|c| {
        (c.hash, Reverse(c.seq), c.kind == Kind::Value, Reverse(segments[c.segment].id()))
    });
    let mut found = Vec::new();
    for same in candidates.chunk_by(|a, b| a.hash == b.hash) {
        let mut seen: Vec<(bool, &[u8])> = Vec::new();
        // Of keys and of tags: what is older than a record that cannot be read is hidden by it.
        let mut hidden = [false; 2];
        for candidate in same {
            let segment = &segments[candidate.segment];
            let is_tag = candidate.kind == Kind::TagInvalidation;
            if hidden[usize::from(is_tag)] {
                continue;
            }
            let record = record_of(segment, candidate.offset, candidate.hash, hasher);
            if record.is_none() {
                *bad += 1;
                hidden[usize::from(is_tag)] = true;
            } else if let Some(record) = &record {
                if seen.contains(&(is_tag, record.key())) {
                    continue;
                }
                seen.push((is_tag, record.key()));
            }
            let state = match candidate.kind {
                Kind::Value if record.is_some() => SlotState::Value,
                // One that cannot be read still counts (`tags.rs`).
                Kind::TagInvalidation => SlotState::Tombstone,
                _ => continue,
            };
            let slot = Slot::new(candidate.hash, segment.id(), candidate.offset, state);
            found.push((!is_tag, Reverse(candidate.seq), candidate.hash, slot));
        }
    }
    found.sort_unstable_by_key(|&(is_value, seq, hash, _)| (is_value, seq, hash));
    found.into_iter().map(|(_, _, hash, slot)| (hash, slot)).collect()
}

/// A page with these slots, and how many values found no place in it.
fn lay_out(found: Vec<(u64, Slot)>) -> (Vec<Slot>, u64) {
    let mut page = vec![Slot::EMPTY; PAGE_SLOTS];
    let (mut filled, mut left_out) = (0, 0);
    for (hash, slot) in found {
        if slot.state() == SlotState::Value && filled == FILL_MAX {
            left_out += 1;
            continue;
        }
        match place(&mut page, buckets(hash)[0], slot) {
            None => filled += 1,
            Some(_) => left_out += 1,
        }
    }
    (page, left_out)
}

/// Puts a slot into its bucket or its other one, moving others on to theirs. Returns the slot
/// that is left without a place, which is a value if any of its bucket is.
fn place(page: &mut [Slot], mut bucket: usize, mut slot: Slot) -> Option<Slot> {
    let free = |page: &[Slot], bucket: usize| {
        let slots = &page[bucket * BUCKET_SLOTS..(bucket + 1) * BUCKET_SLOTS];
        slots.iter().filter(|slot| **slot == Slot::EMPTY).count()
    };
    for kick in 0..KICKS {
        let other = other_bucket(bucket, slot);
        // The emptier one, as writers do.
        let target = if free(page, other) > free(page, bucket) { other } else { bucket };
        let slots = &mut page[target * BUCKET_SLOTS..(target + 1) * BUCKET_SLOTS];
        if let Some(empty) = slots.iter_mut().find(|slot| **slot == Slot::EMPTY) {
            *empty = slot;
            return None;
        }
        let slots = &mut page[other * BUCKET_SLOTS..(other + 1) * BUCKET_SLOTS];
        std::mem::swap(&mut slots[kick % BUCKET_SLOTS], &mut slot);
        bucket = other;
    }
    if slot.state() != SlotState::Value {
        let slots = &mut page[bucket * BUCKET_SLOTS..(bucket + 1) * BUCKET_SLOTS];
        if let Some(value) = slots.iter_mut().find(|slot| slot.state() == SlotState::Value) {
            std::mem::swap(value, &mut slot);
        }
    }
    Some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_slots_up_to_the_limit_find_a_place_of_theirs() {
        let hasher = KeyHasher::new([7; 16]);
        for round in 0..200_u64 {
            let hashes = (0..FILL_MAX as u64 + 30)
                .map(|n| hasher.hash(&[round, n].map(u64::to_le_bytes).concat()));
            let found: Vec<_> = hashes
                .enumerate()
                .map(|(n, hash)| (hash, Slot::new(hash, 1, 4096 + n * UNIT, SlotState::Value)))
                .collect();
            let (page, left_out) = lay_out(found.clone());
            assert_eq!(left_out, 30, "round {round}");
            for (hash, slot) in &found[..FILL_MAX] {
                let at = page.iter().position(|there| there == slot).expect("a place");
                assert!(buckets(*hash).contains(&(at / BUCKET_SLOTS)), "a place of its own");
            }
        }
    }
}
