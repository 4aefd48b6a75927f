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
/// Stripes that belong to one thread each.
const OWN: usize = 32;
/// Stripes that the other threads share.
const SHARED: usize = 8;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTS]);

/// Counters in stripes. A thread that has one of its own counts without a locked instruction,
/// which would cost a read more than what it counts.
///
/// # Invariants
/// 1. A stripe that is owned is changed by its owner only. Who had it before is done with it, and
///    gave it back by Release before it was taken by Acquire.
///
/// The other orderings are Relaxed: a count orders nothing.
#[derive(Debug)]
pub(crate) struct Counters([Stripe; OWN + SHARED]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Stripe::default()))
    }
}

/// Which stripe of each store is the current thread's own, if any.
struct Seat(Option<usize>);

/// Which stripes are owned, one bit each.
static TAKEN: AtomicU64 = AtomicU64::new(0);

impl Seat {
    fn take() -> Self {
        // Relaxed: only the exchange counts.
        let mut taken = TAKEN.load(Ordering::Relaxed);
        loop {
            let free = taken.trailing_ones() as usize;
            if free >= OWN {
                return Self(None);
            }
            // Acquire: pairs with `drop`; what the last owner counted is seen.
            let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
            match TAKEN.compare_exchange_weak(taken, taken | 1 << free, acquire, relaxed) {
                Ok(_) => return Self(Some(free)),
                Err(now) => taken = now,
            }
        }
    }
}

thread_local! {
    static SEAT: Seat = Seat::take();
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seat) = self.0 {
            // Release: pairs with `take`.
            TAKEN.fetch_and(!(1 << seat), Ordering::Release);
        }
    }
}

impl Counters {
    #[inline]
    pub(crate) fn add(&self, count: Count, by: u64) {
        // A thread that is ending has given its seat back.
        if let Ok(Some(seat)) = SEAT.try_with(|seat| seat.0) {
            let word = &self.0[seat % OWN].0[count as usize];
            // No other thread changes it (invariant 1).
            word.store(word.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        } else {
            self.add_shared(count, by);
        }
    }

    /// Counts several things, none of them twice.
    #[inline]
    pub(crate) fn add_all<const N: usize>(&self, counts: [(Count, u64); N]) {
        if let Ok(Some(seat)) = SEAT.try_with(|seat| seat.0) {
            let stripe = &self.0[seat % OWN].0;
            for (count, by) in counts {
                let word = &stripe[count as usize];
                // No other thread changes it (invariant 1).
                word.store(word.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
            }
        } else {
            counts.into_iter().for_each(|(count, by)| self.add_shared(count, by));
        }
    }

    #[cold]
    fn add_shared(&self, count: Count, by: u64) {
        let stripe = OWN + super::lanes::thread_number() % SHARED;
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
