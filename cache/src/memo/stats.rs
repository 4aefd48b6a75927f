//! Figures of one function.

use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering};

/// What calls of a function came to, in this process and since it was set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionStats {
    /// Calls whose result was in the cache, in either tier.
    pub hits: u64,
    /// Calls whose result was not: `runs`, `waits`, and what another thread had stored just then.
    pub misses: u64,
    /// Times that the body was run, forced ones included.
    pub runs: u64,
    /// Runs that were forced by `call_fresh`.
    pub fresh: u64,
    /// Calls that waited for the run of another thread.
    pub waits: u64,
    /// Runs that ended with an error, a `None` or a panic.
    pub failures: u64,
    /// Runs whose results `cache_if` refused.
    pub skipped: u64,
    /// Results in the cache that `valid_if` refused.
    pub invalid: u64,
    /// Runs whose results could not be kept: of calls within the same call, of values too large,
    /// and whatever the cache could not do.
    pub uncached: u64,
}

impl FunctionStats {
    /// The share of calls that found a result, from 0 to 1; 0 before the first.
    ///
    /// ```
    /// use larder::{Cache, Memo};
    ///
    /// let square = Memo::new(Cache::<u64, u64>::builder().build()?, |n: &u64| n * n);
    /// for _ in 0..4 {
    ///     square.call(&7);
    /// }
    /// assert_eq!(square.stats().hit_ratio(), 0.75);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
    pub fn hit_ratio(&self) -> f64 {
        let calls = self.hits + self.misses;
        if calls == 0 { 0.0 } else { self.hits as f64 / calls as f64 }
    }
}

/// Stripes of a counter; threads share one if there are more of them.
const STRIPES: usize = 16;

/// A counter that threads add to without taking a cache line from each other.
#[derive(Debug, Default)]
struct Striped([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Striped {
    #[inline]
    fn add(&self) {
        thread_local! {
            static STRIPE: usize = {
                static NEXT: AtomicU64 = AtomicU64::new(0);
                // Relaxed: only has to spread.
                usize::try_from(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(0) % STRIPES
            };
        }
        // A thread that is being torn down may have no stripe any more.
        let stripe = STRIPE.try_with(|stripe| *stripe).unwrap_or(0);
        // Relaxed: a figure orders nothing.
        self.0[stripe].0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // Relaxed: as above.
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    hits: Striped,
    pub(super) misses: Counter,
    pub(super) runs: Counter,
    pub(super) fresh: Counter,
    pub(super) waits: Counter,
    pub(super) failures: Counter,
    pub(super) skipped: Counter,
    pub(super) invalid: Counter,
    pub(super) uncached: Counter,
}

impl Counters {
    #[inline]
    pub(super) fn hit(&self) {
        self.hits.add();
    }

    pub(super) fn stats(&self) -> FunctionStats {
        FunctionStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            runs: self.runs.get(),
            fresh: self.fresh.get(),
            waits: self.waits.get(),
            failures: self.failures.get(),
            skipped: self.skipped.get(),
            invalid: self.invalid.get(),
            uncached: self.uncached.get(),
        }
    }
}
