//! How much of a segment counts, and who may append to it.
//!
//! # Orderings
//! `advance` is Release, `load` Acquire; they pair on the committed word, also between
//! processes: who sees the word sees every byte below it. The right to append is taken by
//! AcqRel and given back by Release: the next appender goes on where the last one stopped.

use larder_format::Committed;

use crate::sync::{AtomicBool, AtomicU64, Ordering, Site};

/// A segment's committed word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommittedWord<'a>(&'a AtomicU64);

impl<'a> CommittedWord<'a> {
    pub(crate) const fn new(word: &'a AtomicU64) -> Self {
        Self(word)
    }

    /// What the word says, which may be anything.
    #[inline]
    pub(crate) fn load(self) -> Committed {
        // Acquire: pairs with `advance`; whoever sees the word sees the bytes.
        Committed::from_bits(self.0.load(Site::CommittedLoad.is(Ordering::Acquire)))
    }

    /// Makes everything up to `committed` count. For the one who may append.
    #[inline]
    pub(crate) fn advance(self, committed: Committed) {
        // Release: pairs with `load`.
        self.0.store(committed.to_bits(), Site::CommittedStore.is(Ordering::Release));
    }

    /// Makes everything up to `committed` count in place of the one who may append, which has told
    /// everybody that it is about to.
    pub(crate) fn advance_for(self, committed: Committed) {
        // Release: pairs with `load`. Never back: the appender may have gone on.
        self.0.fetch_max(committed.to_bits(), Site::CommittedStore.is(Ordering::Release));
    }

    /// Sets the word, whatever it was. For recovery, which has the segment to itself.
    pub(crate) fn reset(self, committed: Committed) {
        // Relaxed: nobody else looks.
        self.0.store(committed.to_bits(), Ordering::Relaxed);
    }
}

/// The right to append, which one at a time has.
#[derive(Debug)]
pub(crate) struct AppendRight(AtomicBool);

impl AppendRight {
    /// Nobody has it.
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Takes it, unless someone has it.
    pub(crate) fn take(&self) -> bool {
        // AcqRel: the new appender must see what the last one wrote; pairs with `give_back`.
        !self.0.swap(true, Site::AppendTake.is(Ordering::AcqRel))
    }

    /// Gives it back, for the next one to take.
    pub(crate) fn give_back(&self) {
        // Release: pairs with `take`.
        self.0.store(false, Site::AppendGive.is(Ordering::Release));
    }
}
