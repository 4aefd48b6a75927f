//! Every atomic of this crate comes from here, so that a model checker can supply its own.
//!
//! The orderings of the disk store's protocols are named, so that a model can weaken one of
//! them and show that it would notice (`models/`). In a normal build a name costs nothing.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(not(loom))]
pub(crate) use std::hint::spin_loop;

/// Words that live somewhere: in a mapped file, or on the heap under a model checker.
pub(crate) trait Words {
    /// `count` words from `at` bytes on, a multiple of 8.
    fn words(&self, at: usize, count: usize) -> &[AtomicU64];

    /// Asks for the cache line at `at` bytes, without waiting for it. A wish only.
    fn prefetch(&self, _at: usize) {}

    /// The word at `at` bytes, a multiple of 8.
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words(at, 1)[0]
    }
}

/// An ordering that a protocol rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// `index.rs`: loading a slot.
    SlotLoad,
    /// `index.rs`: changing a slot.
    SlotSwap,
    /// `index.rs`: between inserting a slot and looking for another of the same key.
    InsertFence,
    /// `in_flight.rs`: between saying that a writer is under way and drawing its number.
    EnterFence,
    /// `in_flight.rs`: before looking for writers under way.
    LookFence,
    /// `moving.rs`: looking whether a page has moved.
    MovedLoad,
    /// `moving.rs`: declaring a page moved.
    MovedSet,
    /// `committed.rs`: looking how much of a segment counts.
    CommittedLoad,
    /// `committed.rs`: making more of a segment count.
    CommittedStore,
    /// `committed.rs`: taking the right to append.
    AppendTake,
    /// `committed.rs`: giving back the right to append.
    AppendGive,
    /// `cell.rs`: following the pointer.
    CellLoad,
    /// `cell.rs`: replacing the pointer.
    CellReplace,
}

impl Site {
    /// The ordering to use here: the one given, unless a model has weakened it.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) const fn is(self, ordering: Ordering) -> Ordering {
        ordering
    }

    /// The ordering to use here: the one given, unless a model has weakened it.
    #[cfg(loom)]
    pub(crate) fn is(self, ordering: Ordering) -> Ordering {
        match WEAKENED.get() {
            Some((site, weakened)) if site == self => weakened,
            _ => ordering,
        }
    }
}

#[cfg(loom)]
thread_local! {
    /// What the model of this thread has weakened. The threads of a model are coroutines of
    /// the thread that runs it.
    pub(crate) static WEAKENED: std::cell::Cell<Option<(Site, Ordering)>> =
        const { std::cell::Cell::new(None) };
}
