//! How many bytes of disk the store holds.
//!
//! Counted are the blocks of all its files: `store` and the lock's note, both generations of
//! a growing index, segments, spares among them, and external files; and what was unlinked but
//! is still mapped. A file counts before it is created and until it is gone. Directories, and
//! files that are not the store's, do not count.
//!
//! Where processes share a store they share one count of the files. What is unlinked and still mapped
//! each of them counts for itself.

use std::sync::{Arc, OnceLock};

use super::share::Share;
use crate::sync::{AtomicU64, Ordering};

/// Bytes in use, by whether a name still leads to them.
///
/// All orderings are Relaxed: these are sums that no other memory depends on, and the budget
/// is checked by one thread at a time, under the reclaim lock.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    live: AtomicU64,
    retired: AtomicU64,
    share: OnceLock<Arc<Share>>,
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
    fn count(&self) -> &AtomicU64 {
        self.share.get().map_or(&self.live, |share| share.live())
    }

    /// Counts together with the other processes from here on; what was counted before is brought
    /// along.
    pub(crate) fn share_with(&self, share: &Arc<Share>) {
        if self.share.set(Arc::clone(share)).is_ok() {
            share.live().fetch_add(self.live.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.count().fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, bytes: u64) {
        self.count().fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A file that was there is mapped: it counts for all who share the store already.
    pub(crate) fn meet(&self, bytes: u64) {
        if self.share.get().is_none() {
            self.add(bytes);
        }
    }

    /// A file that stays there is mapped no more.
    pub(crate) fn part(&self, bytes: u64) {
        if self.share.get().is_none() {
            self.sub(bytes);
        }
    }

    /// Another process has unlinked a file that is mapped here.
    pub(crate) fn retire_elsewhere(&self, bytes: u64) {
        self.retired.fetch_add(bytes, Ordering::Relaxed);
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
        self.count().load(Ordering::Relaxed)
    }

    pub(crate) fn retired(&self) -> u64 {
        self.retired.load(Ordering::Relaxed)
    }
}
