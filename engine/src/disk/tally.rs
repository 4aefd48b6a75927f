//! What the store remembers of a segment while it is open, and nowhere else.
//!
//! All orderings are Relaxed: these are sums and hints that no other memory depends on.

use crate::sync::{AtomicU64, Ordering};

/// Notes on one segment.
#[derive(Debug)]
pub(crate) struct Tally {
    /// A lower bound of the numbers that its own records carry, drawn when it was begun: what
    /// segments are old or young by. Ids are not, as a spare gets its id before it is used.
    begun: AtomicU64,
}

impl Tally {
    /// Of a segment whose header says `base_seq`.
    pub(crate) fn new(base_seq: u64) -> Self {
        Self { begun: AtomicU64::new(base_seq) }
    }

    /// Notes that the segment is begun now, when `next_seq` is the next number.
    pub(crate) fn begin(&self, next_seq: u64) {
        self.begun.store(next_seq, Ordering::Relaxed);
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}
