//! Which segments are live, by the 16 bits of their id that slots hold.
//!
//! # Invariants
//! 1. The ids of live segments differ in `id & mask`; [`Table::is_free`] says whether a new
//!    id would keep it so. Ids are never used again, positions are.
//! 2. A reader that finds a segment here may use it while its guard is pinned; to keep it, it
//!    clones the `Arc`.

use std::sync::Arc;

use crossbeam_epoch::Guard;

use super::cell::EpochCell;
use super::segment::Segment;

/// Most segments that can be live at once: what 16 bits tell apart.
pub(crate) const SEGMENTS_MAX: usize = 1 << 16;

/// Live segments, found without a lock.
#[derive(Debug)]
pub(crate) struct Table {
    cells: Box<[EpochCell<Arc<Segment>>]>,
}

impl Table {
    /// A table for at least `live` segments at a time.
    pub(crate) fn new(live: usize) -> Self {
        let len = live.saturating_mul(2).clamp(64, SEGMENTS_MAX).next_power_of_two();
        Self { cells: (0..len).map(|_| EpochCell::empty()).collect() }
    }

    /// A table of so many positions, a power of two.
    pub(crate) fn with_len(len: usize) -> Self {
        Self { cells: (0..len.clamp(1, SEGMENTS_MAX)).map(|_| EpochCell::empty()).collect() }
    }

    /// Whether the segment with this id is here.
    pub(crate) fn holds(&self, id: u64, guard: &Guard) -> bool {
        self.cells[self.position(id)].load(guard).is_some_and(|segment| segment.id() == id)
    }

    /// How many positions there are.
    pub(crate) const fn len(&self) -> usize {
        self.cells.len()
    }

    fn position(&self, id: u64) -> usize {
        usize::try_from(id & (self.cells.len() as u64 - 1)).unwrap_or(0)
    }

    /// The live segment whose id ends in these 16 bits.
    #[inline]
    pub(crate) fn get<'g>(&self, low_bits: u16, guard: &'g Guard) -> Option<&'g Arc<Segment>> {
        let cell = &self.cells[usize::from(low_bits) & (self.cells.len() - 1)];
        cell.load(guard).filter(|segment| segment.id() & 0xFFFF == u64::from(low_bits))
    }

    /// Whether a segment with this id could be added.
    pub(crate) fn is_free(&self, id: u64, guard: &Guard) -> bool {
        self.cells[self.position(id)].load(guard).is_none()
    }

    /// Adds a segment whose position is free.
    pub(crate) fn insert(&self, segment: Arc<Segment>, guard: &Guard) {
        debug_assert!(self.is_free(segment.id(), guard), "two live segments in one position");
        self.cells[self.position(segment.id())].replace(Some(segment), guard);
    }

    /// Puts a segment where another was that is gone.
    pub(crate) fn replace(&self, segment: Arc<Segment>, guard: &Guard) {
        self.cells[self.position(segment.id())].replace(Some(segment), guard);
    }

    /// Removes a segment; readers that have it go on.
    pub(crate) fn remove(&self, id: u64, guard: &Guard) {
        self.cells[self.position(id)].replace(None, guard);
    }
}
