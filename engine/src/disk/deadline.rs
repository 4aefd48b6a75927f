//! Values that expire soon share segments, so that those die whole.
//!
//! A lane keeps a second segment open for such values. It is begun for one class, by the
//! order of magnitude of the time that is left, and takes what belongs to it or to a shorter
//! one. Once its last value has expired it goes first, and nothing of it is moved.
//!
//! How long a segment of an earlier process has to live is read from its records, in steps,
//! as soon as this process has begun a segment.

use std::sync::Arc;

use larder_format::{Kind, SegmentState, Slot, SlotState};

use super::counters::Count;
use super::dying::Step;
use super::lanes::Held;
use super::segment::Segment;
use super::store::Store;
use crate::clock::{NEVER, is_live};
use crate::error::Result;

/// Times left, in ms, that the classes end with: a minute, an hour, a day.
const CLASSES: [u64; 3] = [60_000, 3_600_000, 86_400_000];
/// Segments that the budget must have for each writer, and at least, so that a second open
/// one is a small part of it.
const SEGMENTS_A_WRITER: u64 = 8;
const SEGMENTS_MIN: u64 = 16;
/// Records that a step looks at.
const STEP_RECORDS: usize = 4 << 10;

/// What expires about as soon: a minute, an hour or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(usize);

impl Class {
    fn of(deadline_ms: u64, now_ms: u64) -> Option<Self> {
        let left = deadline_ms.saturating_sub(now_ms);
        CLASSES.iter().position(|end| left <= *end).map(Self)
    }
}

/// A look at the deadlines of a segment, as far as it has come.
#[derive(Debug)]
pub(super) struct Look {
    segment: Arc<Segment>,
    next: usize,
    newest: u64,
}

impl Store {
    /// Turns a lane to the segment that a record belongs to.
    pub(super) fn select(&self, lane: &mut Held<'_>, deadline_ms: u64, now_ms: u64) {
        let has_room = || {
            let writers = u64::from(self.lanes.maintenance_number());
            self.budget() / self.segment_len() >= (SEGMENTS_A_WRITER * writers).max(SEGMENTS_MIN)
        };
        let class = match deadline_ms {
            NEVER => None,
            _ if !has_room() => None,
            _ => Class::of(deadline_ms, now_ms),
        };
        lane.writer.select(class);
    }

    /// The sealed segment of which everything has expired longest.
    pub(super) fn expired_segment(&self, now_ms: u64) -> Option<Arc<Segment>> {
        let live = self.all_live();
        let sealed = live
            .values()
            .filter(|segment| segment.state() != SegmentState::Open && self.is_free_to_go(segment));
        // One without any value says nothing: its tombstones may be needed.
        let dead = sealed.filter(|segment| {
            let deadline = segment.tally.deadline();
            deadline != 0 && !is_live(deadline, now_ms)
        });
        dead.min_by_key(|segment| segment.tally.deadline()).cloned()
    }

    /// The next time at which a whole segment has expired, if that is known.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let live = self.all_live();
        let deadlines = live.values().map(|segment| segment.tally.deadline());
        deadlines.filter(|deadline| !matches!(*deadline, 0 | NEVER)).min()
    }

    /// Ends the segments of lanes in which everything has expired, unless their writers are
    /// busy. Returns how many that were.
    pub(super) fn seal_expired(&self, now_ms: u64) -> u64 {
        let expired = |segment: &Segment| {
            let deadline = segment.tally.deadline();
            deadline != 0 && !is_live(deadline, now_ms)
        };
        let writers = self.lanes.take_due(expired);
        let count = writers.len() as u64;
        writers.into_iter().for_each(|writer| self.seal_writer(writer));
        count
    }

    /// Looks at some records of a segment whose deadline is not known. Whether there is one.
    pub(super) fn step_look(&self, look: &mut Option<Look>) -> bool {
        if look.is_none() {
            let live = self.all_live();
            let unknown = live.values().find(|segment| {
                segment.state() == SegmentState::Sealed && !segment.tally.knows_deadline()
            });
            *look = unknown.map(|s| Look { segment: Arc::clone(s), next: 0, newest: 0 });
        }
        let Some(Look { segment, next, newest }) = look else { return false };
        let count = segment.entry_count();
        let end = count.min(*next + STEP_RECORDS);
        let values = (*next..end).filter_map(|number| segment.entry(number));
        for entry in values.filter(|entry| entry.kind == Kind::Value) {
            // One that cannot be read is served to nobody.
            let Ok(record) = segment.record(entry.offset()) else { continue };
            *newest = (*newest).max(record.header.expires_at_ms);
            if *newest == NEVER {
                break;
            }
        }
        *next = end;
        if end == count || *newest == NEVER {
            // Of what cannot be read nothing is known.
            let readable = count > 0 && segment.region().is_whole();
            segment.tally.set_deadline(if readable { *newest } else { NEVER });
            *look = None;
        }
        true
    }

    /// Removes everything that has expired.
    pub(crate) fn purge(&self) -> Result<u64> {
        let mut progress = self.upkeep.progress.lock();
        self.check_open()?;
        let now_ms = self.clock.now_ms();
        let segments: Vec<_> = self.all_live().values().cloned().collect();
        let gone = segments.iter().map(|segment| self.purge_segment(segment, now_ms)).sum();
        self.seal_expired(now_ms);
        self.seal_full();
        while self.step_look(progress.look()) {}
        while self.expired_segment(now_ms).is_some() {
            let mut lane = self.lanes.acquire_maintenance();
            let mut reclaiming = self.reclaiming.lock();
            let step =
                self.step_next(&mut reclaiming, Some(&mut lane), || self.expired_segment(now_ms))?;
            if matches!(step, Some(Step::Stuck) | None) {
                break;
            }
        }
        Ok(gone)
    }

    /// Empties the slots of a segment's expired values, and says how many there were.
    fn purge_segment(&self, segment: &Arc<Segment>, now_ms: u64) -> u64 {
        let mut gone = 0;
        for number in 0..segment.entry_count() {
            let Some(entry) = segment.entry(number) else { continue };
            if entry.kind != Kind::Value {
                continue;
            }
            let guard = &crossbeam_epoch::pin();
            let Ok(record) = segment.record(entry.offset()) else { continue };
            if self.is_live_at(&record, || now_ms, guard) {
                continue;
            }
            let hash = entry.key_hash;
            let place = Slot::new(hash, segment.id(), entry.offset(), SlotState::Value);
            if let Some(old) = self.replace_place(hash, place, |_| Slot::EMPTY, guard) {
                self.add_entries(-1);
                self.note_dead(old, guard);
                self.counters.add(Count::Expired, 1);
                gone += 1;
            }
        }
        gone
    }
}
