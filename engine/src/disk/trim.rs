//! Removing the oldest on request.
//!
//! Whole segments go wherever all that lives in one is to go. Of the one segment in which the
//! limit is met, entries are removed one by one, like any other, so that no later opening
//! finds them again.

use std::sync::Arc;
use std::time::Duration;

use larder_format::{Kind, Slot, SlotState};

use super::dying::{Dying, Keep, Step};
use super::segment::Segment;
use super::store::Store;
use crate::error::Result;

/// What [`Disk::trim`](crate::Disk::trim) is to leave; what is `None` is not limited.
///
/// ```
/// # use larder_engine::Limits;
/// let half_a_gigabyte = Limits { bytes: Some(512 << 20), ..Limits::default() };
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that the directory holds.
    pub bytes: Option<u64>,
    /// Most entries.
    pub items: Option<u64>,
    /// Entries written this long ago, or longer, go. Zero empties the store. A value that was
    /// moved to keep it counts from then.
    pub age: Option<Duration>,
}

impl Store {
    pub(crate) fn trim(&self, limits: Limits) -> Result<u64> {
        if limits.age == Some(Duration::ZERO) {
            return self.clear();
        }
        let _progress = self.upkeep.progress.lock();
        self.check_open()?;
        let exceeded = || limits.bytes.is_some_and(|bytes| self.usage.live() > bytes);
        if exceeded() {
            self.free_doomed()?;
        }
        if exceeded() {
            self.drop_spare()?;
        }
        let ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let written_by = limits.age.and_then(|age| self.clock.now_ms().checked_sub(ms(age)));
        let mut too_many = limits.items.map_or(0, |items| self.len().saturating_sub(items));
        if !exceeded() && too_many == 0 && written_by.is_none() {
            return Ok(0);
        }
        self.lanes.acquire_all().iter_mut().for_each(|lane| self.seal(lane));
        self.seal_full();
        let mut gone = 0;
        for segment in self.sealed_by_age() {
            let is_old = written_by.is_some_and(|time| segment.header().created_ms <= time);
            if !exceeded() && too_many == 0 && !is_old {
                continue;
            }
            let live = self.live_entries(&segment);
            let old =
                live.iter().take_while(|number| self.is_written_by(&segment, **number, written_by));
            let most = usize::try_from(too_many).unwrap_or(usize::MAX);
            let count = old.count().max(most).min(live.len());
            let removed = if exceeded() || count == live.len() {
                self.drop_segment(&segment)?
            } else {
                self.remove_entries(&segment, &live[..count])?
            };
            gone += removed;
            too_many = too_many.saturating_sub(removed);
        }
        Ok(gone)
    }

    /// Numbers of the entries that a slot leads to.
    fn live_entries(&self, segment: &Segment) -> Vec<usize> {
        let guard = &crossbeam_epoch::pin();
        let lives = |number: &usize| {
            segment.entry(*number).is_some_and(|entry| {
                let (hash, offset) = (entry.key_hash, entry.offset());
                let place = Slot::new(hash, segment.id(), offset, SlotState::Value);
                entry.kind == Kind::Value && self.find_place(hash, place, guard).is_some()
            })
        };
        (0..segment.entry_count()).filter(lives).collect()
    }

    fn is_written_by(&self, segment: &Segment, number: usize, time_ms: Option<u64>) -> bool {
        let record = segment.entry(number).map(|entry| segment.record(entry.offset()));
        match (record, time_ms) {
            (Some(Ok(record)), Some(time_ms)) => record.written_at_ms() <= time_ms,
            _ => false,
        }
    }

    /// Removes entries one by one, unless they were changed since. Returns how many went.
    fn remove_entries(&self, segment: &Segment, numbers: &[usize]) -> Result<u64> {
        let mut gone = 0;
        for number in numbers {
            let entry = segment.entry(*number);
            let record = entry.and_then(|entry| segment.record(entry.offset()).ok());
            let Some(record) = record else { continue };
            let current = {
                let guard = &crossbeam_epoch::pin();
                let hash = self.hash(record.key())?;
                self.lookup(hash, record.key(), guard).map(|found| found.seq)
            };
            // One that has expired goes as well, but was no entry any more for its reader.
            if current == Some(record.header.seq) {
                self.remove(record.key())?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Drops a sealed segment with all that lives in it. Returns how many entries went.
    fn drop_segment(&self, segment: &Arc<Segment>) -> Result<u64> {
        let before = self.entries();
        loop {
            let mut lane = self.lanes.acquire_maintenance();
            let mut reclaiming = self.reclaiming.lock();
            if self.all_live().get(&segment.id()).is_none() || !self.claim_segment(segment) {
                // A writer was faster: what went then can only be told by the count.
                return Ok(before.saturating_sub(self.entries()));
            }
            if let Some(dying) = &mut *reclaiming
                && dying.segment.id() == segment.id()
            {
                dying.keep_nothing();
            }
            let is_ours =
                reclaiming.as_ref().is_none_or(|dying| dying.segment.id() == segment.id());
            let dying = reclaiming
                .get_or_insert_with(|| Dying::new(self, Arc::clone(segment), Keep::Nothing));
            match self.step(dying, Some(&mut lane))? {
                Step::More => {}
                Step::Gone => {
                    let gone = dying.dropped();
                    *reclaiming = None;
                    if is_ours {
                        return Ok(gone);
                    }
                }
                Step::Stuck => return Ok(dying.dropped()),
            }
        }
    }
}
