//! Pins: entries that are not evicted.
//!
//! A pin is a bit by place, on the writers' side. No policy knows of it. Where one names a pinned
//! entry as its victim, the entry is parked, and the policy asked for the next: it does not know
//! what is parked, until that is unpinned and comes back by [`Policy::spare`], as if it had been
//! evicted and had come back at once. So all searches together pass a pinned entry once. If it
//! came back after each search, a policy that evicts what came last (MRU), or what was used least
//! (LFU), would name all that is pinned again in every search.
//!
//! # Life of a pin
//! It stays while one value replaces another, and ends with the entry: what comes after one that is
//! dead is not pinned, whether anybody has noticed the death or not.
//!
//! # Invariants
//! 1. What is pinned is linked, and what is parked is pinned.
//! 2. The policy knows what is not parked.
//! 3. The two weights are sums, and [`Budget::pinned`](super::budget::Budget::pinned) is the sum
//!    over all shards that are not locked.
//!
//! [`Policy::spare`]: super::Policy::spare

use std::borrow::Borrow;
use std::hash::Hash;

use super::bits::Bits;
use super::shard::Locked;
use super::space::Seek;
use super::tier::Tier;

/// What is pinned in one shard, by places.
#[derive(Debug, Default)]
pub(super) struct Pins {
    pinned: Bits,
    parked: Bits,
    count: usize,
    weight: u64,
    parked_weight: u64,
}

impl Pins {
    /// Whether nothing is pinned.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    pub(super) fn is_pinned(&self, place: u32) -> bool {
        self.pinned.has(place)
    }

    /// Whether the policy does not know it.
    #[inline]
    pub(super) fn is_parked(&self, place: u32) -> bool {
        self.parked.has(place)
    }

    /// What all that is pinned weighs.
    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    /// What the policy does not know weighs.
    pub(super) const fn parked_weight(&self) -> u64 {
        self.parked_weight
    }
}

impl<K, V> Locked<'_, K, V> {
    /// What may be evicted weighs.
    pub(super) fn loose(&self) -> u64 {
        self.weight - self.pins.weight
    }

    /// Pins an entry.
    pub(super) fn pin(&mut self, place: u32) {
        if !self.pins.is_pinned(place) {
            let weight = self.weight_of(place);
            self.pins.pinned.flip(place);
            self.pins.count += 1;
            self.pins.weight += weight;
            self.cell.budget.repin(0, weight);
        }
    }

    /// Keeps a pinned entry that the policy has just named as its victim.
    pub(super) fn park(&mut self, place: u32) {
        let weight = self.weight_of(place);
        self.pins.parked.flip(place);
        self.pins.parked_weight += weight;
    }

    /// The entry in this place is going.
    #[inline]
    pub(super) fn forget_pin(&mut self, place: u32, weight: u64) {
        if self.pins.is_pinned(place) {
            self.pins.pinned.flip(place);
            self.pins.count -= 1;
            self.pins.weight -= weight;
            self.cell.budget.repin(weight, 0);
            if self.pins.is_parked(place) {
                self.pins.parked.flip(place);
                self.pins.parked_weight -= weight;
            }
        }
    }

    /// All entries are going.
    pub(super) fn forget_pins(&mut self) {
        self.cell.budget.repin(self.pins.weight, 0);
        self.pins = Pins::default();
    }

    /// The entry in this place weighs something else.
    #[inline]
    pub(super) fn reweigh_pin(&mut self, place: u32, old: u64, new: u64) {
        if self.pins.is_pinned(place) {
            self.pins.weight = self.pins.weight - old + new;
            self.cell.budget.repin(old, new);
            if self.pins.is_parked(place) {
                self.pins.parked_weight = self.pins.parked_weight - old + new;
            }
        }
    }

    /// Checks the three invariants, and says how many entries are parked.
    pub(super) fn validate_pins(&self) -> Result<usize, String> {
        let Pins { pinned, parked, count, weight, parked_weight } = &self.pins;
        let (mut pins, mut parks, mut pin_weight, mut park_weight) = (0, 0, 0, 0);
        for (place, entry) in self.iter() {
            let weight = self.terms(entry).weight();
            if pinned.has(place) {
                (pins, pin_weight) = (pins + 1, pin_weight + weight);
            }
            if parked.has(place) {
                (parks, park_weight) = (parks + 1, park_weight + weight);
                if !pinned.has(place) {
                    return Err(format!("place {place} is parked and not pinned"));
                }
            }
        }
        let counted = (pinned.count(), parked.count(), *weight, *parked_weight);
        if (pins, parks, pin_weight, park_weight) != counted || pins != *count {
            return Err(format!(
                "{pins} entries weighing {pin_weight} are pinned, {parks} weighing {park_weight} \
                 parked, and counted are {counted:?}"
            ));
        }
        Ok(parks)
    }
}

impl<K: Hash + Eq, V> Locked<'_, K, V> {
    /// Lets an entry be evicted again; `room` is what the shard could get beyond what it holds.
    /// Whether it was pinned.
    pub(super) fn unpin(&mut self, place: u32, room: u64) -> bool {
        let (was_pinned, was_parked) = (self.pins.is_pinned(place), self.pins.is_parked(place));
        self.forget_pin(place, self.weight_of(place));
        if was_parked {
            let (policy, shelf) = self.split(room);
            policy.any_mut().spare(place, &shelf);
        }
        was_pinned
    }

    /// Tells the policy that an entry has a new value.
    pub(super) fn overwrite(&mut self, place: u32, old_weight: u64, room: u64) {
        if !self.pins.is_parked(place) {
            let (policy, shelf) = self.split(room);
            policy.overwrite(place, old_weight, &shelf);
        }
    }
}

/// # Pins
/// What is pinned is not evicted to make room. It still expires, and it can be replaced, removed
/// and cleared. A value that replaces a pinned one is pinned as well; what is inserted after it
/// has left, or has died, is not. What is pinned counts in the weight, and an insert for which
/// it leaves no room is refused ([`Rejection::Pinned`](crate::Rejection::Pinned)).
impl<K: Hash + Eq, V> Tier<K, V> {
    /// Keeps the value of `key`, and what replaces it, from being evicted until it is
    /// [`unpin`](Self::unpin)ned or leaves. Whether there is a live value. Not a use.
    ///
    /// ```
    /// use larder_engine::memory::{Capacity, Tier};
    ///
    /// let tier = Tier::builder(Capacity::items(10)).build()?;
    /// tier.insert(0, "kept", u64::MAX).unwrap();
    /// assert!(tier.pin(&0));
    /// (1..1_000).for_each(|key| tier.insert(key, "passes", u64::MAX).unwrap());
    /// assert_eq!((tier.get(&0), tier.pinned_weight()), (Some("kept"), 1));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    pub fn pin<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.change_at(self.seek(None, key), |shard, place| shard.pin(place)).is_some()
    }

    /// Lets the value of `key` be evicted again. Whether there is a live value that was pinned.
    /// To the policy it is one that has just come back, if it would have been evicted meanwhile.
    pub fn unpin<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.unpin_at(self.seek(None, key))
    }

    /// Whether `key` has a live value that is pinned.
    pub fn is_pinned<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.is_pinned_at(self.seek(None, key))
    }

    /// What pinned entries weigh, dead ones included until they are noticed. Takes no lock.
    #[must_use]
    pub fn pinned_weight(&self) -> u64 {
        self.budget.pinned()
    }

    /// See [`unpin`](Self::unpin).
    pub(super) fn unpin_at<Q>(&self, seek: Seek<'_, Q>) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let room = || self.budget.free();
        self.change_at(seek, |shard, place| shard.unpin(place, room())).unwrap_or(false)
    }

    /// See [`is_pinned`](Self::is_pinned).
    pub(super) fn is_pinned_at<Q>(&self, seek: Seek<'_, Q>) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.change_at(seek, |shard, place| shard.pins.is_pinned(place)).unwrap_or(false)
    }
}
