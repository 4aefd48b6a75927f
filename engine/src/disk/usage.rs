//! How many bytes of disk the store holds.

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
