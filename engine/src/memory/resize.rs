//! More room, or less, while the tier is in use.
//!
//! To allow less is an insert that links nothing: it evicts until it holds the difference, and gives
//! that up together with the limit (`Claim::retire`). So the tier is within its limit all the while.
//!
//! What a policy remembers of the past, and how many shards there are, stays as it was set up.

use std::hash::Hash;

use super::budget::{Claim, LIMIT_MAX};
use super::builder::Capacity;
use super::room::Want;
use super::tier::{Tier, share};
use crate::error::{Error, Result};
use crate::sync::Ordering;

impl<K: Hash + Eq, V> Tier<K, V> {
    /// Changes what the tier may hold, in the unit that it was set up with. If that is less than it
    /// holds, entries leave by its policy ([`Cause::Capacity`](super::Cause::Capacity)) before this
    /// returns.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Tier};
    /// let tier = Tier::builder(Capacity::items(100)).build()?;
    /// (0..100).for_each(|key| tier.insert(key, "value", u64::MAX).unwrap());
    /// tier.resize(Capacity::items(10))?;
    /// assert_eq!((tier.len(), tier.capacity()), (10, Capacity::items(10)));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for another unit, for nothing at all, and if what is pinned does not fit.
    pub fn resize(&self, capacity: Capacity) -> Result<()> {
        let refuse = |accepted| {
            Err(Error::Config { option: "capacity", value: format!("{capacity:?}"), accepted })
        };
        let limit = match (self.capacity(), capacity) {
            (Capacity::Weight(_), Capacity::Weight(limit))
            | (Capacity::Items(_), Capacity::Items(limit)) => limit.get().min(LIMIT_MAX),
            (now, then) if now == then => return Ok(()),
            _ => return refuse("the unit that the tier was set up with, and at least 1 of it"),
        };
        let _alone = self.resizing.lock();
        let fair = share(limit, self.cells.len() as u64);
        if limit >= self.budget.limit() {
            self.budget.raise(limit);
            // Relaxed: a rule of thumb.
            self.share.store(fair, Ordering::Relaxed);
            return Ok(());
        }
        // First, so that shards give what they will have to.
        // Relaxed: as above.
        let before = self.share.swap(fair, Ordering::Relaxed);
        let less = self.budget.limit() - limit;
        let mut want = Want::new(0, less);
        want.need = less;
        let mut claim = Claim::new(&self.budget);
        while !claim.reserve(less) {
            // Listeners are told after each step.
            let mut departures = self.departures();
            let is_stuck = self.budget.pinned() > limit;
            let anyone = usize::MAX;
            if is_stuck || !self.make_room_elsewhere(anyone, &want, &mut claim, &mut departures) {
                // Relaxed: as above.
                self.share.store(before, Ordering::Relaxed);
                return refuse("at least what is pinned, or held by inserts at this moment");
            }
        }
        claim.retire(less);
        Ok(())
    }

    /// What a shard may weigh before others have to give instead.
    #[inline]
    pub(super) fn share(&self) -> u64 {
        // Relaxed: as above.
        self.share.load(Ordering::Relaxed)
    }
}
