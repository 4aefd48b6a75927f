//! Counters that threads do not share.
//!
//! Each thread counts in a stripe of its own, a cache line; those beyond the last but one share
//! the last. So a count is a load and a store for all but them, and yet exact: who owns a stripe
//! is decided by the number of a thread's record, which one thread has at a time
//! (`readers.rs`), and which is handed on under a lock.

use crate::sync::{AtomicU64, Ordering};

/// Stripes of a tier.
const STRIPES: usize = 32;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Hits and misses.
#[derive(Debug, Default)]
pub(super) struct Lookups([Stripe; STRIPES]);

impl Lookups {
    #[inline]
    pub(super) fn hit(&self, record: usize) {
        add(record, |stripe| &stripe.hits, &self.0);
    }

    #[inline]
    pub(super) fn miss(&self, record: usize) {
        add(record, |stripe| &stripe.misses, &self.0);
    }

    /// Hits and misses so far.
    pub(super) fn sum(&self) -> (u64, u64) {
        // Relaxed: counters for people.
        self.0.iter().fold((0, 0), |(hits, misses), stripe| {
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            (hits + load(&stripe.hits), misses + load(&stripe.misses))
        })
    }
}

#[inline]
fn add(record: usize, counter: impl Fn(&Stripe) -> &AtomicU64, stripes: &[Stripe; STRIPES]) {
    const SHARED: usize = STRIPES - 1;
    // Relaxed: a counter for people; see the header.
    if record < SHARED {
        let counter = counter(&stripes[record]);
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    } else {
        counter(&stripes[SHARED]).fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_however_many_threads_count() {
        let lookups = Lookups::default();
        std::thread::scope(|scope| {
            for record in 0..STRIPES + 2 {
                let lookups = &lookups;
                scope.spawn(move || {
                    for _ in 0..100 {
                        lookups.hit(record);
                    }
                    lookups.miss(record);
                });
            }
        });
        assert_eq!(lookups.sum(), (100 * (STRIPES as u64 + 2), STRIPES as u64 + 2));
    }
}
