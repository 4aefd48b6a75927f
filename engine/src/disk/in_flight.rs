//! Which writers are under way: what a remover has to know before it lets a tombstone go.
//!
//! # Invariants
//! 1. From before a writer draws its sequence number until after it has published its slot,
//!    its word is no larger than the number.
//! 2. One writer uses a word at a time.
//!
//! # Orderings
//! `enter` stores the word and then draws by AcqRel; so does the remover that looks. Numbers are
//! given out in the order of the draws: a writer whose number is lower has drawn before the
//! remover, which therefore sees its word, or a later one. A writer that the remover misses has
//! drawn after it. Leaving and looking are Relaxed: a writer that is done publishes
//! nothing more, and what it published the slots tell by themselves (`index.rs`, invariant 4).

use crate::sync::{AtomicU64, Ordering, Site};

/// The word of nobody.
const IDLE: u64 = u64::MAX;

/// Where one writer at a time says that it is under way.
#[derive(Debug)]
pub(crate) struct WriterWord(AtomicU64);

impl WriterWord {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(IDLE))
    }

    /// Draws a sequence number. Until the guard is dropped, others know that a writer with
    /// this number is under way.
    #[inline]
    pub(crate) fn enter(&self, next_seq: &AtomicU64) -> (u64, InFlight<'_>) {
        // Relaxed: the draw orders it. The value is a lower bound of what is drawn below.
        self.0.store(next_seq.load(Ordering::Relaxed), Ordering::Relaxed);
        // AcqRel: Release shows the word to who draws later, Acquire shows those of who drew
        // before to `none_before`. Draws of others, even if Relaxed, break no chain of these.
        (next_seq.fetch_add(1, Site::Draw.is(Ordering::AcqRel)), InFlight(self))
    }
}

/// Whether none of these writers is under way with a number below `seq`, which this thread has
/// drawn by [`WriterWord::enter`].
pub(crate) fn none_before<'a>(mut writers: impl Iterator<Item = &'a WriterWord>, seq: u64) -> bool {
    // Relaxed: see the module's orderings.
    writers.all(|writer| writer.0.load(Ordering::Relaxed) > seq)
}

/// Says that a writer is under way.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a WriterWord);

impl Drop for InFlight<'_> {
    #[inline]
    fn drop(&mut self) {
        // Relaxed: see the module's orderings. Coherence keeps it behind the store of `enter`.
        self.0.0.store(IDLE, Ordering::Relaxed);
    }
}
