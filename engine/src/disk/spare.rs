//! New segments: a spare that is ready before it is needed, or one made on the spot.
//!
//! # Invariants
//! 1. Whoever begins a segment holds the spare's lock from looking for it until the segment is
//!    in the table, so that positions are given out one at a time, and a writer that comes
//!    while the spare is being made waits for it and makes none of its own.
//! 2. A spare is a live segment like any other: open, in the table, and empty. It is never
//!    reclaimed, being open, and its bytes count.
//! 3. A spare has an older id than segments that were begun before it. What needs the order
//!    of ids only needs this: a segment that gets a record has an id below `sealed_before` of
//!    every segment that is sealed afterwards, which holds the sooner the earlier the id.
//!    Age goes by [`Tally::begun`](super::tally::Tally::begun).

use std::sync::Arc;

use larder_format::layout::SEGMENT_DATA;
use larder_format::{Committed, SegmentHeader, SegmentState};

use super::counters::Count;
use super::observer::Event;
use super::segment::Segment;
use super::store::Store;
use crate::error::Result;
use crate::sync::Ordering;

impl Store {
    /// A segment to write to: the spare, or else a new one.
    pub(super) fn begin_segment(&self, lane: u32, now_ms: u64) -> Result<Arc<Segment>> {
        let mut spare = self.upkeep.spare.lock();
        let segment = match spare.take() {
            Some(segment) => {
                self.upkeep.note_spare_used(now_ms);
                segment
            }
            None => {
                let inline = lane != self.lanes.maintenance_number();
                self.counters.add(Count::InlineRolls, inline.into());
                self.create_segment(lane, now_ms)?
            }
        };
        drop(spare);
        self.note_begun(&segment);
        Ok(segment)
    }

    /// Notes that a segment is begun now.
    pub(super) fn note_begun(&self, segment: &Segment) {
        // Relaxed: a lower bound; every number drawn for this segment is drawn later.
        segment.tally.begin(self.file.next_seq().load(Ordering::Relaxed));
        self.upkeep.note_roll();
        self.upkeep.observed.note(|| Event::Rolled { segment: segment.id() });
    }

    /// Makes a spare unless there is one. Whether it did.
    pub(super) fn create_spare(&self, now_ms: u64) -> Result<bool> {
        let mut spare = self.upkeep.spare.lock();
        if spare.is_some() {
            return Ok(false);
        }
        let segment = self.create_segment(self.lanes.maintenance_number(), now_ms)?;
        *spare = Some(Arc::clone(&segment));
        drop(spare);
        self.upkeep.wishes.grant_spare();
        self.upkeep.spare_made.notify_all();
        if self.upkeep.note_spare_made(now_ms) {
            segment.region().populate();
        }
        Ok(true)
    }

    /// Whether a spare is ready.
    pub(super) fn has_spare(&self) -> bool {
        // One that is being made, or begun, is as good as none or one: it is looked at again.
        self.upkeep.spare.try_lock().is_some_and(|spare| spare.is_some())
    }

    /// Gives up the spare, for its bytes. Whether there was one.
    pub(super) fn drop_spare(&self) -> Result<bool> {
        let spare = self.upkeep.spare.lock().take();
        let Some(segment) = spare else { return Ok(false) };
        self.unlink(&segment)?;
        Ok(true)
    }

    /// Takes up one segment that an earlier process had ready, and removes others.
    pub(super) fn take_up_spare(&self, segment: Arc<Segment>) -> Result<()> {
        let mut spare = self.upkeep.spare.lock();
        if spare.is_none() {
            *spare = Some(segment);
            return Ok(());
        }
        drop(spare);
        self.unlink(&segment)
    }

    /// Creates a segment. The caller holds the spare's lock.
    fn create_segment(&self, lane: u32, now_ms: u64) -> Result<Arc<Segment>> {
        let superblock = self.file.superblock();
        let id = loop {
            // Relaxed: only distinctness counts; positions are taken under the lock.
            let id = self.file.next_segment().fetch_add(1, Ordering::Relaxed);
            let is_free = match &self.together {
                None => self.table.is_free(id, &crossbeam_epoch::pin()),
                Some(together) => together.share.reserve(id),
            };
            if is_free {
                break id;
            }
        };
        // An id that was drawn from words that are gone is none.
        self.check_open()?;
        let header = SegmentHeader {
            uuid: superblock.uuid,
            id,
            // Relaxed: every number drawn for this segment is drawn later, by a thread that
            // got the segment from this one.
            base_seq: self.file.next_seq().load(Ordering::Relaxed),
            created_ms: now_ms,
            file_len: superblock.segment_len,
            lane,
        };
        // Counted while it is made, and by itself from then on.
        self.usage.add(header.file_len.into());
        let created = Segment::create(&*self.storage, header, &self.usage);
        self.usage.sub(header.file_len.into());
        let segment = match created {
            Ok(segment) => Arc::new(segment),
            Err(error) => {
                if let Some(together) = &self.together {
                    together.share.forget(id);
                }
                return Err(error);
            }
        };
        let mut live = self.all_live();
        // Another thread may have met it, had it looked at all segments just now.
        let segment = Arc::clone(live.entry(id).or_insert(segment));
        self.table.replace(Arc::clone(&segment), &crossbeam_epoch::pin());
        drop(live);
        if let Some(together) = &self.together {
            together.share.note_change();
        }
        Ok(segment)
    }
}

impl Segment {
    /// Whether it was made and never written to: an earlier process's spare.
    pub(super) fn is_blank(&self) -> bool {
        let mut first = [0; 16];
        self.region().is_whole()
            && self.state() != SegmentState::Retiring
            && self.region().committed() == Committed::EMPTY
            && self.region().read_uncommitted(&mut first, SEGMENT_DATA).is_ok()
            && first == [0; 16]
    }
}
