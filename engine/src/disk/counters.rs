//! Counters that many threads count up at once.

use crate::stats::Stats;
use crate::sync::{AtomicU64, Ordering};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Count {
    Hits,
    Misses,
    Inserts,
    Rejected,
    Removes,
    Evictions,
    Expired,
    Corrupt,
    PutBytes,
    WrittenBytes,
    MovedBytes,
    InlineRolls,
    InlineReclaims,
    CompressedSaved,
    Syncs,
    SyncedRecords,
    Blocked,
}

const COUNTS: usize = Count::Blocked as usize + 1;
const STRIPES: usize = 8;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTS]);

/// Counters in stripes, so that threads rarely share a cache line.
///
/// All orderings are Relaxed: a count orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Counters([Stripe; STRIPES]);

impl Counters {
    #[inline]
    pub(crate) fn add(&self, count: Count, by: u64) {
        let stripe = super::lanes::thread_number() % STRIPES;
        self.0[stripe].0[count as usize].fetch_add(by, Ordering::Relaxed);
    }

    fn sum(&self, count: Count) -> u64 {
        self.0.iter().map(|stripe| stripe.0[count as usize].load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn fill(&self, stats: &mut Stats) {
        stats.hits = self.sum(Count::Hits);
        stats.misses = self.sum(Count::Misses);
        stats.inserts = self.sum(Count::Inserts);
        stats.rejected = self.sum(Count::Rejected);
        stats.blocked = self.sum(Count::Blocked);
        stats.removes = self.sum(Count::Removes);
        stats.evictions = self.sum(Count::Evictions);
        stats.expired = self.sum(Count::Expired);
        stats.corrupt = self.sum(Count::Corrupt);
        stats.put_bytes = self.sum(Count::PutBytes);
        stats.written_bytes = self.sum(Count::WrittenBytes);
        stats.moved_bytes = self.sum(Count::MovedBytes);
        stats.inline_rolls = self.sum(Count::InlineRolls);
        stats.inline_reclaims = self.sum(Count::InlineReclaims);
        stats.compressed_saved_bytes = self.sum(Count::CompressedSaved);
        stats.syncs = self.sum(Count::Syncs);
        stats.synced_records = self.sum(Count::SyncedRecords);
    }
}
