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
pub(crate) const IDLE: u64 = u64::MAX;

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
        enter(&self.0, next_seq)
    }

    pub(crate) const fn word(&self) -> &AtomicU64 {
        &self.0
    }
}

/// As [`WriterWord::enter`], with a word that stands anywhere: in a file that processes share, say.
#[inline]
pub(crate) fn enter<'a>(word: &'a AtomicU64, next_seq: &AtomicU64) -> (u64, InFlight<'a>) {
    // Relaxed: the draw orders it. The value is a lower bound of what is drawn below.
    word.store(next_seq.load(Ordering::Relaxed), Ordering::Relaxed);
    // AcqRel: Release shows the word to who draws later, Acquire shows those of who drew
    // before to `none_before`. Draws of others, even if Relaxed, break no chain of these.
    (next_seq.fetch_add(1, Site::Draw.is(Ordering::AcqRel)), InFlight(word))
}

/// Whether none of these writers is under way with a number below `seq`, which this thread has
/// drawn by [`WriterWord::enter`].
pub(crate) fn none_before<'a>(writers: impl Iterator<Item = &'a WriterWord>, seq: u64) -> bool {
    all_after(writers.map(WriterWord::word), seq)
}

/// As [`none_before`], of words that stand anywhere.
pub(crate) fn all_after<'a>(mut words: impl Iterator<Item = &'a AtomicU64>, seq: u64) -> bool {
    // Relaxed: see the module's orderings.
    words.all(|word| word.load(Ordering::Relaxed) > seq)
}

/// Says that a writer is under way.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a AtomicU64);

impl Drop for InFlight<'_> {
    #[inline]
    fn drop(&mut self) {
        // Coherence keeps it behind the store of `enter`. Release: for a batch that waits for it
        // (`gate.rs`); whoever only compares numbers needs no more than Relaxed.
        self.0.store(IDLE, Site::Leave.is(Ordering::Release));
    }
}
