//! Finding what was invalidated, so that it gives room before what is live.
//!
//! Invalidating looks for nothing (`marks.rs`). So whoever needs room in a shard, and knows that
//! something was invalidated since the shard was last looked through, looks at a few marked
//! entries first: a hand goes around over them, like that of a clock, and takes what it finds dead.
//! That is bounded work for each insert, and none while nothing is invalidated.
//!
//! # Invariants
//! 1. `places` are those of the entries that have marks.
//! 2. What is dead by an invalidation up to `done` has left; a round that has begun makes that
//!    `begun`, once the hand is through.
//!
//! # Orderings
//! Invalidations are counted after they took place (`names.rs`), by Release, and the count is
//! loaded by Acquire: who knows of one finds its cell invalidated.

use std::hash::Hash;

use super::bits::Bits;
use super::departure::{Cause, Departures};
use super::shard::Locked;

/// Marked entries that are looked at before something live is evicted.
const LOOKS: usize = 8;

/// What of a shard is marked, and how far it has been looked through.
#[derive(Debug, Default)]
pub(super) struct Marked {
    places: Bits,
    /// Where the hand is; 0 between two rounds.
    hand: u32,
    /// Invalidations that were counted when the round began.
    begun: u64,
    /// Invalidations that have been looked for.
    done: u64,
}

impl Marked {
    /// Notes whether the entry in a place is marked.
    #[inline]
    pub(super) fn set(&mut self, place: u32, is_marked: bool) {
        if self.places.has(place) != is_marked {
            self.places.flip(place);
        }
    }

    /// Whether all that so many invalidations have killed has been looked for.
    #[inline]
    pub(super) const fn is_done(&self, invalidations: u64) -> bool {
        self.done == invalidations
    }

    /// Places of marked entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.places.next_from(0), |&place| self.places.next_from(place + 1))
    }
}

impl<K, V> Locked<'_, K, V> {
    /// Why an entry is dead, if it is.
    fn death(&self, place: u32, now_ms: impl FnOnce() -> u64) -> Option<Cause> {
        let entry = self.get(place)?;
        self.terms(entry).check(now_ms).err().map(Cause::from)
    }

    /// A dead entry other than `keep` among the next few that are marked, if something of the
    /// `invalidations` that were counted has not been looked for.
    #[inline]
    pub(super) fn next_dead(
        &mut self,
        invalidations: u64,
        keep: Option<u32>,
        now_ms: impl Fn() -> u64,
    ) -> Option<(u32, Cause)> {
        if self.marked.done == invalidations {
            return None;
        }
        self.turn_hand(invalidations, keep, now_ms)
    }

    fn turn_hand(
        &mut self,
        invalidations: u64,
        keep: Option<u32>,
        now_ms: impl Fn() -> u64,
    ) -> Option<(u32, Cause)> {
        for _ in 0..LOOKS {
            let marked = &mut self.marked;
            if marked.hand == 0 {
                if marked.done == invalidations {
                    return None;
                }
                marked.begun = invalidations;
            }
            let Some(place) = marked.places.next_from(marked.hand) else {
                (marked.done, marked.hand) = (marked.begun, 0);
                continue;
            };
            marked.hand = place + 1;
            if Some(place) != keep
                && let Some(cause) = self.death(place, &now_ms)
            {
                return Some((place, cause));
            }
        }
        None
    }

    /// Checks invariant 1.
    pub(super) fn validate_marked(&self) -> Result<(), String> {
        let has_marks =
            |place| self.get(place).is_some_and(|entry| !self.terms(entry).marks().is_empty());
        let marked = self.iter().filter(|&(place, _)| has_marks(place)).count();
        let counted = self.marked.places.count();
        if marked != counted || !self.marked.iter().all(has_marks) {
            return Err(format!(
                "{marked} entries are marked, and others, or {counted}, are noted"
            ));
        }
        Ok(())
    }
}

impl<'a, K: Hash + Eq, V> Locked<'a, K, V> {
    /// Removes all that was invalidated by the `invalidations` that were counted, and says how
    /// many entries that were and what they weighed.
    pub(super) fn sweep(
        &mut self,
        invalidations: u64,
        now_ms: impl Fn() -> u64,
        room: u64,
        departures: &mut Departures<'a, K, V>,
    ) -> (u64, u64) {
        if self.marked.done == invalidations {
            return (0, 0);
        }
        let death = |place| Some((place, self.death(place, &now_ms)?));
        let dead: Vec<_> = self.marked.iter().filter_map(death).collect();
        (self.marked.done, self.marked.hand) = (invalidations, 0);
        let (mut count, mut weight) = (0, 0);
        for (place, cause) in dead {
            weight += self.remove(place, cause, room, departures);
            count += 1;
        }
        (count, weight)
    }
}
