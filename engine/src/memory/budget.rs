//! One weight budget for the whole tier, borrowed by its shards.
//!
//! Every unit of weight in use is either linked (it belongs to an entry in a table) or held
//! (an insert under way has it). A [`Claim`] gets units from the budget, or from the victims
//! that it evicts, and gives back what it does not link.
//!
//! # Invariants
//! 1. `used` = linked + held ≤ `limit`, at all times: `reserve` never passes the limit, and
//!    what a victim frees goes from linked to held without touching `used`. (Where less is allowed,
//!    what was held for that counts a moment longer than the limit that it is taken from.)
//! 2. So what is linked never exceeds the limit, not even for a moment.
//! 3. `pinned` is what pinned entries weigh together, whenever no shard is locked. It changes under
//!    the lock of the shard whose entry it is, in one step for each change of one entry.
//!
//! # Orderings
//! All Relaxed. `used` and `pinned` are counts; their updates are atomic steps on one word, which
//! have one order, and that is all that the invariants need. What the weight belongs to is guarded
//! by the locks of the shards.

use crate::sync::{AtomicU64, Ordering};

/// Capacities above this count as this, so that no sum of weights can overflow.
pub(crate) const LIMIT_MAX: u64 = 1 << 56;

/// What a tier may hold, and how much of it is taken.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Budget {
    used: AtomicU64,
    pinned: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        let limit = limit.min(LIMIT_MAX);
        Self { used: AtomicU64::new(0), pinned: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }

    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Allows more. One at a time.
    pub(crate) fn raise(&self, limit: u64) {
        self.limit.store(limit.min(LIMIT_MAX), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn free(&self) -> u64 {
        // For a moment while less is allowed, what is given up counts still.
        self.limit().saturating_sub(self.used())
    }

    /// What pinned entries weigh.
    pub(crate) fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Relaxed)
    }

    /// A pinned entry, or none, weighs something else from now on.
    pub(crate) fn repin(&self, old: u64, new: u64) {
        if old != new {
            // Wraps where it is less than before, and so does the sum.
            self.pinned.fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
        }
    }

    /// Takes back what was linked or held.
    #[inline]
    pub(crate) fn give_back(&self, weight: u64) {
        if weight > 0 {
            self.used.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    fn take(&self, weight: u64) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (weight <= self.limit().saturating_sub(used)).then(|| used + weight)
        });
        taken.is_ok()
    }
}

/// Weight that one insert holds.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    budget: &'a Budget,
    held: u64,
}

impl<'a> Claim<'a> {
    #[inline]
    pub(crate) const fn new(budget: &'a Budget) -> Self {
        Self { budget, held: 0 }
    }

    #[inline]
    pub(crate) const fn held(&self) -> u64 {
        self.held
    }

    /// Whether `need` units are held, after taking what is missing if the budget has it all.
    #[inline]
    pub(crate) fn reserve(&mut self, need: u64) -> bool {
        if self.held < need {
            if !self.budget.take(need - self.held) {
                return false;
            }
            self.held = need;
        }
        true
    }

    /// Takes over the weight of an entry that was unlinked.
    #[inline]
    pub(crate) const fn gain(&mut self, weight: u64) {
        self.held += weight;
    }

    /// Hands over weight, which must be held, to an entry that is being linked.
    #[inline]
    pub(crate) const fn link(&mut self, weight: u64) {
        self.held -= weight;
    }

    /// Gives up weight, which must be held, for good: so much less is allowed from now on.
    pub(crate) fn retire(&mut self, weight: u64) {
        // In this order, so that nobody takes it in between.
        self.budget.limit.fetch_sub(weight, Ordering::Relaxed);
        self.budget.give_back(weight);
        self.held -= weight;
    }

    /// Gives everything back.
    #[inline]
    pub(crate) fn give_up(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.held));
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_claim_takes_all_or_nothing_and_gives_back_what_it_did_not_link() {
        let budget = Budget::new(100);
        let mut first = Claim::new(&budget);
        assert!(first.reserve(60) && first.reserve(50));
        assert_eq!((first.held(), budget.used()), (60, 60));
        first.link(50);
        let mut second = Claim::new(&budget);
        assert!(!second.reserve(41));
        assert_eq!(budget.used(), 60);
        drop(first);
        assert_eq!(budget.used(), 50);
        // An entry of 50 is evicted for the second: what it weighed stays in use.
        second.gain(50);
        assert!(second.reserve(41));
        assert_eq!(budget.used(), 50);
        second.link(41);
        drop(second);
        assert_eq!(budget.free(), 100 - 41);
    }

    #[test]
    fn two_threads_never_take_more_than_there_is() {
        let budget = Budget::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut claim = Claim::new(&budget);
                        claim.reserve(2);
                        assert!(budget.used() <= 3);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
