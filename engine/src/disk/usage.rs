//! How many bytes of disk the store holds.
//!
//! Counted are the blocks of all its files: `store` and the lock's note, both generations of
//! a growing index, segments, spares among them, and external files; and what was unlinked but
//! is still mapped. A file counts before it is created and until it is gone. Directories, and
//! files that are not the store's, do not count.

use crate::sync::{AtomicU64, Ordering};

/// Bytes in use, by whether a name still leads to them.
///
/// All orderings are Relaxed: these are sums that no other memory depends on, and the budget
/// is checked by one thread at a time, under the reclaim lock.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    live: AtomicU64,
    retired: AtomicU64,
}

/// The unit that file systems allocate.
const BLOCK: u64 = 4096;

/// Bytes that a file of this length takes.
pub(crate) const fn blocks(len: u64) -> u64 {
    match len.checked_next_multiple_of(BLOCK) {
        Some(bytes) => bytes,
        None => len,
    }
}

impl Usage {
    pub(crate) fn add(&self, bytes: u64) {
        self.live.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, bytes: u64) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The file was unlinked, but is still mapped.
    pub(crate) fn retire(&self, bytes: u64) {
        self.retired.fetch_add(bytes, Ordering::Relaxed);
        self.sub(bytes);
    }

    /// The last mapping of an unlinked file went.
    pub(crate) fn release(&self, bytes: u64) {
        self.retired.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn retired(&self) -> u64 {
        self.retired.load(Ordering::Relaxed)
    }
}
