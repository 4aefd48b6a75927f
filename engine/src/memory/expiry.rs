//! What time does to a shard: what has expired leaves before anything else has to.
//!
//! Whoever inserts into a shard moves its wheel (`wheel.rs`) on, by a few steps at a time; so does
//! a purge, until nothing is left that is due. The clock is asked only where something can
//! expire.
//!
//! What a lookup moves is the deadline of an entry (`extra.rs`), not its place in the wheel: when
//! the time comes that the wheel knows, the entry is put in again.

use std::hash::Hash;

use super::departure::Departures;
use super::shard::{Cell, Locked, Shard};
use super::tier::Tier;
use crate::clock::NEVER;

/// Steps of the wheel in one insert: more than it takes, on average, to get rid of as many entries
/// as come.
const STEPS: usize = 16;
/// Steps of a purge before it lets others have the shard.
const PURGE_STEPS: usize = 1_024;

impl<'a, K: Hash + Eq, V> Locked<'a, K, V> {
    /// Whether anything has a deadline.
    pub(super) fn can_expire(&self) -> bool {
        !self.wheel.is_empty()
    }

    /// Removes what has expired, as far as the steps reach; says how many entries that were and
    /// what they weighed. There are steps left if nothing is left that is due.
    fn expire(
        &mut self,
        now_ms: u64,
        room: u64,
        steps: &mut usize,
        departures: &mut Departures<'a, K, V>,
    ) -> (u64, u64) {
        let (mut count, mut weight) = (0, 0);
        while let Some(place) = self.next_due(now_ms, steps) {
            let Some(entry) = self.get(place) else { continue };
            // It is final: nobody finds it live again (`extra.rs`).
            if let Err(dead) = self.terms(entry).check(|| now_ms) {
                weight += self.remove(place, dead.into(), room, departures);
                count += 1;
            }
        }
        (count, weight)
    }

    fn next_due(&mut self, now_ms: u64, steps: &mut usize) -> Option<u32> {
        let table = self.table();
        let Shard { side, places, wheel, .. } = &mut **self;
        wheel.next_due(now_ms, steps, |place| {
            let entry = table.get(side, places.id(place)?)?;
            let terms = table.terms(entry);
            terms.check(|| now_ms).ok().map(|()| terms.expires_at_ms())
        })
    }

    /// Notes the deadline of the entry in a place.
    pub(super) fn note_deadline(&mut self, place: u32, expires_at_ms: u64) {
        if expires_at_ms == NEVER {
            self.wheel.remove(place);
        } else {
            self.wheel.put(place, expires_at_ms);
        }
    }
}

impl<K: Hash + Eq, V> Tier<K, V> {
    /// Removes some of what has expired in a shard, and says what it weighed.
    pub(super) fn expire_some<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        now_ms: u64,
        departures: &mut Departures<'a, K, V>,
    ) -> u64 {
        shard.expire(now_ms, self.budget.free(), &mut { STEPS }, departures).1
    }

    /// Removes more of it, and says how many entries that were, and whether that was all.
    pub(super) fn purge_some<'a>(
        &'a self,
        cell: &'a Cell<K, V>,
        departures: &mut Departures<'a, K, V>,
    ) -> (u64, bool) {
        let mut shard = cell.lock();
        if !shard.can_expire() {
            return (0, true);
        }
        let mut steps = PURGE_STEPS;
        let (now_ms, room) = (self.now_ms(), self.budget.free());
        let (count, weight) = shard.expire(now_ms, room, &mut steps, departures);
        self.budget.give_back(weight);
        (count, steps > 0)
    }
}
