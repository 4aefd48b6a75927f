//! The room that an insert needs: from which shard it comes, and whose.
//!
//! # Who leaves first
//! What has expired in the shard: an insert moves its wheel on by a few steps (`expiry.rs`) before
//! it asks the policy. Then what the policy says.
//!
//! # Which shard gives
//! The own one while it weighs at least seven eighths of a fair share: no second lock, and in
//! a settled cache every shard turns over at its own pace. Below that, another one, drawn with
//! a chance in proportion to its weight, so that entries everywhere have about the same time
//! left: shards that lent room get it back, and one huge entry does not drain its own shard.
//!
//! What is dead leaves first, as far as it is known, or found by a short look (`sweep.rs`).
//!
//! # Why it ends
//! Under the lock of its own shard, an insert asks first whether it fits beside all that is pinned
//! in the tier, but for the value that it replaces. If not, all that is dead goes, in all shards, since
//! dead entries may be pinned; and then it is refused. This looks at one word, which the
//! pins of all shards change in single steps: so there is a moment between call and return at
//! which there is indeed no room. Nothing is evicted for what is refused.
//!
//! A search for a victim ends, because the policy forgets each one that it names, and those that
//! are pinned, which are parked then, do not come back before they are unpinned (`pins.rs`). What
//! is parked is passed by no later search.
//!
//! An insert that finds nothing to evict anywhere meets others that hold room without having
//! linked anything: it fits beside what is pinned, and what is not pinned is gone. It gives up its
//! own room, and waits in a line (`crowd`) with no claim; so one of them gets on. If it does not,
//! something was pinned since it asked, and it is on its way to ask again. So inserts go round only
//! as long as others succeed, or pin.

use std::hash::Hash;

use super::budget::Claim;
use super::departure::{Cause, Departures};
use super::policy::Arrival;
use super::shard::{Cell, Locked};
use super::tier::Tier;
use crate::engine::Rejection;
use crate::sync::Ordering;

/// Most entries that are evicted from another shard before looking around again.
const BATCH: usize = 8;

/// What an insert needs.
pub(super) struct Want {
    pub(super) hash: u64,
    pub(super) weight: u64,
    /// What is missing beyond the weight of the old value; as last seen.
    pub(super) need: u64,
    /// What the policy said of the newcomer; asked once.
    pub(super) arrival: Option<Arrival>,
    /// Its own shard has to give even below its share: the others are empty.
    pub(super) last_resort: bool,
    /// What is dead was removed, as it may have been pinned.
    pub(super) purged: bool,
}

impl Want {
    pub(super) const fn new(hash: u64, weight: u64) -> Self {
        Self { hash, weight, need: 0, arrival: None, last_resort: false, purged: false }
    }
}

/// Whether an insert has what it needs.
pub(super) enum Room {
    Enough,
    Short,
    /// And will not get it, because of what is pinned.
    Never(Rejection),
}

impl<K: Hash + Eq, V> Tier<K, V> {
    /// Gets the claim what it needs from the budget and from this shard, the newcomer's own.
    pub(super) fn make_room<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        want: &mut Want,
        old: Option<u32>,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'a, K, V>,
    ) -> Room {
        let old_weight = old.map_or(0, |place| shard.weight_of(place));
        let old_pinned = old.is_some_and(|place| shard.pins.is_pinned(place));
        let (old_pinned, old_loose) = if old_pinned { (old_weight, 0) } else { (0, old_weight) };
        let (pinned, limit) = (self.budget.pinned() - old_pinned, self.budget.limit());
        let never = Rejection::Pinned { weight: want.weight, pinned, limit };
        if want.weight > limit.saturating_sub(pinned) {
            return Room::Never(never);
        }
        want.need = want.weight.saturating_sub(old_weight);
        if old.is_none() && want.arrival.is_none() {
            let (policy, shelf) = shard.split(claim.held() + self.budget.free());
            want.arrival = Some(policy.arrive(want.hash, want.weight, &shelf));
        }
        let arrival = want.arrival.unwrap_or(Arrival::NEW);
        let mut detached = false;
        let room = loop {
            let no_id = shard.is_full();
            if !no_id && claim.reserve(want.need) {
                break Room::Enough;
            }
            let can_give = shard.loose() > old_loose;
            let gives = can_give && (want.last_resort || shard.weight >= self.share());
            if !gives && !no_id {
                break Room::Short;
            }
            let room = claim.held() + self.budget.free();
            if let Some(weight) = self.drop_dead(shard, old, room, departures) {
                claim.gain(weight);
                continue;
            }
            let Some(place) = self.choose(shard, arrival, old, room, &mut detached) else {
                // All ids of the shard are pinned, or on their way out.
                break if no_id { Room::Never(never) } else { Room::Short };
            };
            claim.gain(self.evict(shard, place, departures));
        };
        if let Some(place) = old.filter(|_| detached) {
            // The policy would have evicted the very entry that is to be replaced, which stays.
            let (policy, shelf) = shard.split(claim.held() + self.budget.free());
            policy.any_mut().spare(place, &shelf);
        }
        room
    }

    /// Evicts from one of the other shards. Whether there was one that had anything to give.
    pub(super) fn make_room_elsewhere<'a>(
        &'a self,
        own: usize,
        want: &Want,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'a, K, V>,
    ) -> bool {
        let Some(at) = self.draw_other(own) else {
            return false;
        };
        let mut locked = self.cells[at].lock();
        if locked.can_expire() {
            claim.gain(self.expire_some(&mut locked, self.now_ms(), departures));
        }
        for _ in 0..BATCH {
            if claim.reserve(want.need) {
                break;
            }
            let room = self.budget.free();
            if let Some(weight) = self.drop_dead(&mut locked, None, room, departures) {
                claim.gain(weight);
                continue;
            }
            let Some(place) = self.choose(&mut locked, Arrival::NEW, None, room, &mut false) else {
                break;
            };
            claim.gain(self.evict(&mut locked, place, departures));
        }
        true
    }

    /// Removes something that was invalidated, if a short look finds any, and says what it weighed.
    fn drop_dead<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        keep: Option<u32>,
        room: u64,
        departures: &mut Departures<'a, K, V>,
    ) -> Option<u64> {
        let invalidations = self.names.invalidations();
        let (place, cause) = shard.next_dead(invalidations, keep, || self.now_ms())?;
        Some(shard.remove(place, cause, room, departures))
    }

    /// Another shard, with a chance in proportion to what it could give; `None` if none could.
    fn draw_other(&self, own: usize) -> Option<usize> {
        let others = || {
            let weights = self.cells.iter().map(Cell::loose).enumerate();
            weights.filter(|&(at, weight)| at != own && weight > 0)
        };
        let total: u64 = others().map(|(_, weight)| weight).sum();
        // Relaxed: every number gives a fair draw; they only have to differ.
        let number = self.draws.fetch_add(1, Ordering::Relaxed);
        let random = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // Below `total`, evenly: the numbers are spread by the golden ratio.
        let mut left = (u128::from(random) * u128::from(total)) >> 64;
        let mut drawn = None;
        for (at, weight) in others() {
            drawn = Some(at);
            if left < u128::from(weight) {
                break;
            }
            left -= u128::from(weight);
        }
        drawn
    }

    /// Unlinks an entry that the policy has given up, and says what it weighed.
    pub(super) fn evict<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        place: u32,
        departures: &mut Departures<'a, K, V>,
    ) -> u64 {
        let Some(entry) = shard.get(place) else {
            return 0;
        };
        let state = shard.terms(entry).check(|| self.now_ms());
        let cause = state.map_or_else(Cause::from, |()| Cause::Capacity);
        if state.is_ok()
            && let Some(hook) = &self.hooks.before_evict
        {
            departures.defer_panic(|| hook(&entry.key, &entry.value, cause));
        }
        shard.unlink(place, cause, departures)
    }

    /// A victim of a shard other than `keep`, and not one that is pinned. If the policy gives up
    /// `keep` itself, that is noted in `detached`: the policy no longer knows it then.
    fn choose(
        &self,
        shard: &mut Locked<'_, K, V>,
        arrival: Arrival,
        keep: Option<u32>,
        room: u64,
        detached: &mut bool,
    ) -> Option<u32> {
        loop {
            let (policy, shelf) = shard.split(room);
            let Some(place) = policy.victim(arrival, &shelf) else { break };
            if Some(place) == keep && !*detached {
                *detached = true;
                continue;
            }
            let Some(entry) = shard.get(place).filter(|_| Some(place) != keep) else { break };
            if !shard.pins.is_pinned(place) || !shard.terms(entry).is_live(|| self.now_ms()) {
                return Some(place);
            }
            if shard.pins.is_parked(place) {
                break;
            }
            shard.park(place);
        }
        // A policy that is wrong about its entries must not break the budget.
        let (policy, shelf) = shard.split(room);
        let place = shelf.any_but(keep)?;
        policy.remove(place, &shelf);
        Some(place)
    }
}
