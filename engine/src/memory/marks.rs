//! Marks of entries, which all become invalid at once: what tags and namespaces are made of.
//!
//! A [`TagCell`] counts how often it was invalidated. An entry that is marked with it notes the
//! count once, and is live as long as the count is the same. So an invalidation is one addition,
//! whatever the number of entries, and nobody looks for them.
//!
//! # When an entry takes its count
//! Not before it can be found: whoever finds it first without a count gives it the count of that
//! moment, and the insert itself does so before it returns. So
//! - an invalidation that has returned before the insert began is counted already, and does not
//!   touch the entry;
//! - one that begins after the insert has returned finds the count taken, and kills it;
//! - one at the same time comes before the insert if nobody saw the entry before the
//!   invalidation, and else after it.
//!
//! Had the insert taken its count before it linked the entry, an invalidation could pass in
//! between, and a lookup after that could still find the value that is about to be replaced; then
//! nothing would be found, though nothing was invalidated since.
//!
//! # Invariants
//! 1. A count only grows. A mark's count is taken once, and never changes then.
//! 2. So an invalid mark stays invalid.
//!
//! # Orderings
//! Taking a count is Release, and looking whether it was taken Acquire: whoever compares the cell
//! with what another thread took sees the cell as that thread did, or later; an older count would
//! look like an invalidation. Invalidating is Release, and loading the cell Acquire: who misses
//! an entry sees what was done before it was invalidated, so that what it makes anew is made of
//! that. That an invalidation is seen by all who begin later needs neither: it is one word.

use std::ptr;
use std::sync::Arc;

use crate::sync::{AtomicU64, Ordering, Site, Turn};

/// How often something was invalidated.
#[derive(Debug, Default)]
pub(crate) struct TagCell {
    count: AtomicU64,
    /// It stands for a namespace, to which the keys of its entries belong (`space.rs`).
    is_space: bool,
    turn: Turn,
}

impl TagCell {
    /// The cell of a namespace; that of a tag is the default.
    pub(crate) fn of_space() -> Self {
        Self { is_space: true, ..Self::default() }
    }

    /// Whether it is the cell of a namespace.
    pub(crate) const fn is_space(&self) -> bool {
        self.is_space
    }

    /// Makes all entries invalid that are marked with this and were inserted before.
    pub(crate) fn invalidate(&self) {
        self.turn.take();
        // Release: pairs with the Acquire in `count`. An addition, so that it also hands on what
        // earlier ones released.
        self.count.fetch_add(1, Site::TagAdd.is(Ordering::Release));
    }

    fn count(&self) -> u64 {
        self.turn.take();
        // Acquire: pairs with the Release in `invalidate`.
        self.count.load(Site::TagLoad.is(Ordering::Acquire))
    }
}

/// A namespace (`space.rs`); `None` for plain keys.
pub(crate) type Space<'a> = Option<&'a TagCell>;

/// Whether both are the same.
#[inline]
pub(crate) fn is_same(one: Space<'_>, other: Space<'_>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => ptr::eq(one, other),
        _ => false,
    }
}

/// No count was taken yet. A cell would have to be invalidated 2⁶⁴ − 1 times to reach it.
const NOT_TAKEN: u64 = u64::MAX;

/// That an entry dies with a cell.
#[derive(Debug)]
pub(crate) struct Mark {
    cell: Arc<TagCell>,
    taken: AtomicU64,
    turn: Turn,
}

impl Mark {
    /// A mark for an entry that is to be inserted.
    pub(crate) fn new(cell: Arc<TagCell>) -> Self {
        Self { cell, taken: AtomicU64::new(NOT_TAKEN), turn: Turn::default() }
    }

    /// The cell that it belongs to.
    pub(crate) const fn cell(&self) -> &Arc<TagCell> {
        &self.cell
    }

    /// Whether the cell was not invalidated since the count was taken. Takes it, if nobody has.
    pub(crate) fn is_valid(&self) -> bool {
        self.turn.take();
        // Acquire: pairs with the Release below.
        let mut taken = self.taken.load(Site::TakenLoad.is(Ordering::Acquire));
        if taken == NOT_TAKEN {
            let count = self.cell.count();
            self.turn.take();
            // Release: what was seen of the cell. Acquire, where another thread was faster: as
            // above.
            match self.taken.compare_exchange(
                NOT_TAKEN,
                count,
                Site::TakenSet.is(Ordering::Release),
                Site::TakenLoad.is(Ordering::Acquire),
            ) {
                Ok(_) => return true,
                Err(other) => taken = other,
            }
        }
        self.cell.count() == taken
    }
}

/// All marks of an entry; most have none.
pub(crate) type Marks = Option<Box<[Mark]>>;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_valid_until_its_cell_is_invalidated_once() {
        let cells: [Arc<TagCell>; 2] = std::array::from_fn(|_| Arc::default());
        let mark = |at: usize| Mark::new(Arc::clone(&cells[at]));
        cells[0].invalidate();
        let (first, second, untaken) = (mark(0), mark(1), mark(0));
        assert!(first.is_valid() && second.is_valid());
        cells[0].invalidate();
        assert!(!first.is_valid() && second.is_valid());
        assert!(untaken.is_valid(), "its count is taken when it is looked at first");
        cells[0].invalidate();
        assert!(!untaken.is_valid() && !first.is_valid());
        assert!(Arc::ptr_eq(first.cell(), untaken.cell()));
    }
}
