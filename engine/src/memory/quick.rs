//! The usual insert, in a straight line: of what has a key, a value and a weight, and nothing else,
//! into a shard in which nothing else is to be looked at either.
//!
//! It does what `insert.rs` and `room.rs` do, where these come to the same: nothing is pinned, has
//! a deadline or was invalidated, so room comes from what the policy names, and what is there is
//! live. One lock; one hash for the newcomer and one for each victim; an entry is looked up once.
//! Whatever it meets that is not so, it leaves to the insert that can do everything, under another
//! lock: nothing has happened by then but evictions that are as good for that one.

use std::hash::Hash;

use super::buckets::{Spot, Tag};
use super::budget::Claim;
use super::departure::{Cause, Departures};
use super::entry::{Entry, Packed};
use super::policy::Arrival;
use super::shard::{Locked, Shard, linked_before};
use super::table::Table;
use super::tier::Tier;
use crate::clock::NEVER;

/// What became of an insert.
pub(super) enum Quick<K, V, D> {
    /// Whether it was inserted.
    Done(bool),
    /// It is not as usual; and what the policy said, which is asked once.
    Unusual { pair: (K, V), decide: D, arrival: Option<Arrival> },
}

impl<K: Hash + Eq, V> Tier<K, V> {
    /// Inserts what weighs so much, if `decide` says so.
    #[inline(always)]
    pub(super) fn insert_quickly<D: FnOnce(Option<&V>) -> bool>(
        &self,
        hash: u64,
        pair: (K, V),
        weight: u64,
        decide: D,
    ) -> Quick<K, V, D> {
        // Dropped in reverse, as in `insert.rs`.
        let mut departures = self.departures();
        let mut claim = Claim::new(&self.budget);
        let mut shard = self.cells[self.cell_at(hash)].lock();
        let unusual = |pair, decide, arrival| Quick::Unusual { pair, decide, arrival };
        let is_bare = shard.is_bare(self.names.invalidations()) && self.budget.pinned() == 0;
        let Some(packed) = Packed::new(weight, NEVER).filter(|_| is_bare && !shard.is_full())
        else {
            return unusual(pair, decide, None);
        };
        let table = shard.table();
        if let Some((spot, old)) = table.search(&shard.side, Tag::of(hash), None, &pair.0) {
            if old.packed.plain_weight() != Some(weight) {
                return unusual(pair, decide, None);
            }
            if !decide(Some(&old.value)) {
                return Quick::Done(false);
            }
            shard.counts.inserts += 1;
            if let Some(place) = shard.replace_bare(spot, pair, packed, weight, &mut departures) {
                let (policy, shelf) = shard.split(self.budget.free());
                policy.overwrite_alike(place, weight, &shelf);
            }
            drop(shard);
            departures.end();
            return Quick::Done(true);
        }
        let (policy, shelf) = shard.split(self.budget.free());
        let arrival = policy.arrive(hash, weight, &shelf);
        while !claim.reserve(weight) {
            // What the own shard has to give less of: `room.rs`.
            if shard.weight < self.share()
                || !self.evict_quickly(&mut shard, arrival, &mut claim, &mut departures)
            {
                return unusual(pair, decide, Some(arrival));
            }
        }
        if !decide(None) {
            return Quick::Done(false);
        }
        shard.counts.inserts += 1;
        let room = claim.held() + self.budget.free() - weight;
        let place = shard.link_bare(Tag::of(hash), pair, packed, weight, &mut departures);
        debug_assert!(place.is_some(), "there was an id");
        if let Some(place) = place {
            claim.link(weight);
            let (policy, shelf) = shard.split(room);
            policy.insert(place, arrival, &shelf);
        }
        drop(shard);
        drop(claim);
        departures.end();
        Quick::Done(true)
    }

    /// Evicts what the policy names. Whether it named something.
    #[inline]
    fn evict_quickly<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        arrival: Arrival,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'a, K, V>,
    ) -> bool {
        let (policy, shelf) = shard.split(claim.held() + self.budget.free());
        let Some(place) = policy.victim(arrival, &shelf) else { return false };
        // A policy that is wrong is dealt with elsewhere.
        let Some(entry) = shelf.get(place) else { return false };
        if let Some(weight) = entry.packed.plain_weight()
            && self.hooks.before_evict.is_none()
        {
            let hash = shelf.hash_of(place, entry);
            if shard.unlink_bare(place, hash, weight, Cause::Capacity, departures) {
                claim.gain(weight);
            }
        } else {
            claim.gain(self.evict(shard, place, departures));
        }
        true
    }
}

impl<'a, K: Hash + Eq, V> Locked<'a, K, V> {
    /// Whether nothing here is pinned, or has a deadline, and nothing waits for being found dead.
    #[inline]
    fn is_bare(&self, invalidations: u64) -> bool {
        self.wheel.is_empty() && self.pins.is_empty() && self.marked.is_done(invalidations)
    }

    /// [`link`](Self::link) for what has a weight and nothing else.
    #[inline]
    fn link_bare(
        &mut self,
        tag: Tag,
        pair: (K, V),
        packed: Packed,
        weight: u64,
        departures: &mut Departures<'a, K, V>,
    ) -> Option<u32> {
        let cell = self.cell;
        let tag_of = |entry: &Entry<K, V>| Tag::of(cell.hash_of(entry));
        let Shard { side, places, .. } = &mut **self;
        let id = cell.table().insert_packed(side, tag, pair, packed, tag_of)?;
        let place = places.settle(id);
        self.weight += weight;
        if Table::<K, V>::has_grown(&self.side) {
            self.let_go(departures);
        }
        Some(place)
    }

    /// [`replace`](Self::replace) for two that have the same weight and nothing else, in a shard
    /// that is [bare](Self::is_bare). The place of both, if there was an id.
    #[inline(always)]
    fn replace_bare(
        &mut self,
        spot: Spot,
        pair: (K, V),
        packed: Packed,
        weight: u64,
        departures: &mut Departures<'a, K, V>,
    ) -> Option<u32> {
        let (table, old) = (self.table(), spot.id());
        let Shard { side, places, .. } = &mut **self;
        let (id, departed) = table.replace_packed(side, spot, pair, packed)?;
        let place = places.place(old);
        places.replace(place, id, || linked_before(table, side, id, old));
        self.depart_weighing(departed, weight, Cause::Replaced, departures);
        Some(place)
    }

    /// [`unlink`](Self::unlink) for what has a weight and nothing else, and is not pinned.
    #[inline]
    fn unlink_bare(
        &mut self,
        place: u32,
        hash: u64,
        weight: u64,
        cause: Cause,
        departures: &mut Departures<'a, K, V>,
    ) -> bool {
        let Some(id) = self.places.id(place) else { return false };
        let Some(departed) = self.cell.table().unlink(&mut self.side, Tag::of(hash), id) else {
            return false;
        };
        self.places.give_back(place);
        self.weight -= weight;
        self.depart_weighing(departed, weight, cause, departures);
        true
    }
}
