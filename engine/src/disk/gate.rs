//! Batches of processes that share a store, and what goes on beside them.
//!
//! A batch holds all lanes of its process, so that nobody there changes a key meanwhile (`batch.rs`).
//! Writers of other processes are kept away by one word that all see: the gate.
//!
//! ```text
//!   0 ──batch──► closed ──batch──► committing ──batch, or a writer in its place──► 0
//!                  └──a writer that has waited enough──► 0      (the batch begins anew)
//! ```
//!
//! A writer says that it is under way, and then looks at the gate. A batch closes the gate, and then
//! waits for who is under way. So of a writer and a batch that meet at least one sees the other.
//!
//! # Invariants
//! 1. Who finds the gate closed has not begun to change its key: it says that it is not under way any
//!    more, waits for the gate, and begins anew.
//! 2. A batch writes only while the gate is closed by it, and nobody of another process is under way.
//! 3. It becomes visible after it has gone from *closed* to *committing*, which it can only while nobody
//!    has opened the gate. From then on its committed word is for everybody to store.
//! 4. A word that was in the gate never comes again: each batch counts it up.
//!
//! A batch waits for a writer that was stopped in the middle of its change, which takes a microsecond
//! otherwise; nothing else waits for one that was stopped.
//!
//! # Orderings
//! Saying that a writer is under way and looking at the gate, and closing the gate and looking for
//! writers, are separated by SeqCst fences, in front of which both have just changed memory by a
//! read-modify-write. Who ends being under way does that by Release, for who waits for it.
//!
//! Not here: whose batch it is, and how long one waits (`crossing.rs`).

use super::in_flight::IDLE;
use crate::sync::{AtomicU64, Ordering, Site, fence_behind_swap};

/// What stands in the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    pub(crate) const OPEN: Self = Self(0);
    const COMMITTING: u64 = 2;
    const CLOSED: u64 = 1;
    /// Bits of a count.
    const COUNT: u64 = (1 << 54) - 1;

    /// Of a batch of a process, which counts its words so that none comes twice.
    pub(crate) const fn closed(owner: usize, count: u64) -> Self {
        Self((count & Self::COUNT) << 10 | (owner as u64 & 0xFF) << 2 | Self::CLOSED)
    }

    const fn committing(self) -> Self {
        Self(self.0 & !3 | Self::COMMITTING)
    }

    pub(crate) const fn is_committing(self) -> bool {
        self.0 & 3 == Self::COMMITTING
    }

    pub(crate) fn owner(self) -> usize {
        usize::try_from(self.0 >> 2 & 0xFF).unwrap_or(0)
    }
}

/// The word that all processes see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<'a>(&'a AtomicU64);

impl<'a> Gate<'a> {
    pub(crate) const fn new(word: &'a AtomicU64) -> Self {
        Self(word)
    }

    pub(crate) fn load(self) -> Word {
        // Acquire: who finds it open again sees what the batch did.
        Word(self.0.load(Site::GateLoad.is(Ordering::Acquire)))
    }

    /// Whether a writer may go on, of a process whose own batch it does not meet. It has said that it is
    /// under way, and drawn its number, just before.
    #[inline]
    pub(crate) fn passes(self, me: usize) -> bool {
        // SeqCst: see the module's orderings. The draw was the read-modify-write before it.
        fence_behind_swap(Site::GateFence.is(Ordering::SeqCst));
        let word = self.load();
        word == Word::OPEN || word.owner() == me
    }

    fn swap(self, old: Word, new: Word) -> bool {
        // AcqRel: orders what was written behind the closed gate before what comes after.
        let ok = Site::GateSwap.is(Ordering::AcqRel);
        self.0.compare_exchange(old.0, new.0, ok, Ordering::Relaxed).is_ok()
    }

    /// Closes the gate, if it is open.
    pub(crate) fn close(self, word: Word) -> Option<Closed<'a>> {
        self.swap(Word::OPEN, word).then(|| Closed { gate: self, word })
    }

    /// Opens the gate in place of who has closed it, unless that has gone on.
    pub(crate) fn break_open(self, word: Word) {
        self.swap(word, Word::OPEN);
    }
}

/// A gate that is closed by this process. Opens it when it is dropped.
#[derive(Debug)]
pub(crate) struct Closed<'a> {
    gate: Gate<'a>,
    word: Word,
}

impl Closed<'_> {
    /// Whether none of these writers is under way; who comes later finds the gate closed.
    pub(crate) fn is_alone<'w>(&self, mut writers: impl Iterator<Item = &'w AtomicU64>) -> bool {
        // SeqCst: see the module's orderings.
        fence_behind_swap(Site::GateFence.is(Ordering::SeqCst));
        // Acquire: who was under way has published what it wrote.
        writers.all(|word| word.load(Site::GateIdle.is(Ordering::Acquire)) == IDLE)
    }

    /// Goes on to make the batch count. Whether that may be; if not, a writer has opened the gate, and
    /// the batch has to begin anew.
    pub(crate) fn may_commit(&mut self) -> bool {
        let committing = self.word.committing();
        let may = self.gate.swap(self.word, committing);
        self.word = committing;
        may
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // A writer may have been faster: then it stays as it is.
        self.gate.swap(self.word, Word::OPEN);
    }
}
