//! Inserts, and the room that they need.
//!
//! An insert holds a [`Claim`] on the budget. Under the lock of its own shard it takes what
//! is free, or evicts there; when that shard has given its share, it lets go of the lock and
//! evicts in others, one at a time, then comes back and looks again. Only with enough in hand,
//! and under its own shard's lock, does it ask the caller's condition and link the entry. No
//! thread ever waits for one shard while it holds another.
//!
//! # Which shard gives
//! The own one while it weighs at least seven eighths of a fair share: no second lock, and in
//! a settled cache every shard turns over at its own pace. Below that, another one, drawn with
//! a chance in proportion to its weight, so that entries everywhere have about the same time
//! left: shards that lent room get it back, and one huge entry does not drain its own shard.
//!
//! # Why it ends
//! An insert that finds nothing to evict anywhere meets others that hold room without having
//! linked anything. It gives up its own room, and waits in a line (`crowd`) with no claim; so
//! one of them gets on. Everything fits, because what is heavier than the whole tier was
//! refused before.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::thread;

use super::budget::Claim;
use super::departure::{Cause, Departures};
use super::policy::Arrival;
use super::shard::Shard;
use super::table::Entry;
use super::tier::Tier;
use crate::clock::NEVER;
use crate::engine::Rejection;
use crate::sync::Ordering;

/// Most entries that are evicted from another shard before looking around again.
const BATCH: usize = 8;

/// A key and a value that were not inserted.
pub struct Rejected<K, V> {
    /// The key, given back.
    pub key: K,
    /// The value, given back.
    pub value: V,
    /// Why it was refused.
    pub why: Rejection,
}

impl<K, V> fmt::Debug for Rejected<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Rejected").field("why", &self.why).finish_non_exhaustive()
    }
}

impl<K, V> fmt::Display for Rejected<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Rejection::TooLarge { weight, limit } => write!(
                out,
                "the value weighs {weight}, more than the {limit} that the tier may hold in all"
            ),
            Rejection::Full { budget, .. } => write!(out, "the budget of {budget} is used up"),
            Rejection::WriteBudget { per_second } => {
                write!(out, "more than the {per_second} bytes a second that may be written")
            }
            Rejection::NotWorthIt { better_percent, .. } => {
                write!(out, "{better_percent} % of the values offered of late are worth more")
            }
            Rejection::NoRoom => out.write_str("no room is ready"),
            Rejection::FirstSeen => out.write_str("the key was offered for the first time"),
            Rejection::Disabled => out.write_str("the tier is switched off"),
        }
    }
}

impl<K, V> std::error::Error for Rejected<K, V> {}

/// What an insert needs.
struct Want {
    hash: NonZeroU64,
    weight: u64,
    /// What is missing beyond the weight of the old value; as last seen.
    need: u64,
    /// What the policy said of the newcomer; asked once.
    arrival: Option<Arrival>,
    /// Its own shard has to give even below its share: the others are empty.
    last_resort: bool,
}

impl<K: Hash + Eq, V> Tier<K, V> {
    /// Inserts `value` under `key` until `expires_at_ms` (`u64::MAX` for ever), and replaces
    /// what was there.
    ///
    /// What has expired already is not kept, but replaces what was there all the same; the
    /// listener hears of it as [`Cause::Expired`].
    ///
    /// ```
    /// use larder_engine::Rejection;
    /// use larder_engine::memory::{Capacity, Tier};
    ///
    /// let bytes = Capacity::weight(10);
    /// let tier = Tier::builder(bytes).weigher(|_, text: &String| text.len() as u64).build()?;
    /// tier.insert("key", "small".to_owned(), u64::MAX).unwrap();
    /// let refused = tier.insert("key", "larger than all".to_owned(), u64::MAX).unwrap_err();
    /// assert_eq!(refused.why, Rejection::TooLarge { weight: 15, limit: 10 });
    /// assert_eq!(tier.get("key").as_deref(), Some("small"));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Rejected`] gives key and value back and says why: the value weighs more than the
    /// whole tier may hold, or the tier is [`Disabled`](super::Capacity::Disabled). The old
    /// value is as it was.
    pub fn insert(&self, key: K, value: V, expires_at_ms: u64) -> Result<(), Rejected<K, V>> {
        self.insert_if(key, value, expires_at_ms, |_| true).map(|_| ())
    }

    /// Inserts if `decide` says so of the live value that is there, in one step with respect
    /// to this key. Whether it was inserted.
    ///
    /// Room is made before `decide` is asked, so a refusal may have cost other entries their
    /// place. `decide` runs under the lock of one shard: it must be quick and must not call
    /// the tier.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// let absent = |current: Option<&i32>| current.is_none();
    /// assert!(tier.insert_if("key", 1, u64::MAX, absent).unwrap());
    /// assert!(!tier.insert_if("key", 2, u64::MAX, absent).unwrap());
    /// assert_eq!(tier.get("key"), Some(1));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`insert`](Self::insert); `decide` is not asked then.
    pub fn insert_if(
        &self,
        key: K,
        value: V,
        expires_at_ms: u64,
        decide: impl FnOnce(Option<&V>) -> bool,
    ) -> Result<bool, Rejected<K, V>> {
        let weight = self.hooks.weigher.as_ref().map_or(1, |weigher| weigher(&key, &value));
        if let Some(why) = self.refusal(weight) {
            // Relaxed: a counter for people.
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return Err(Rejected { key, value, why });
        }
        let hash = self.hash(&key);
        let own = self.cell_at(hash);
        let entry = Entry::new(hash, key, value, weight, expires_at_ms);
        let stillborn = !self.is_live(&entry);
        let weight = if stillborn { 0 } else { weight };
        let mut want = Want { hash, weight, need: 0, arrival: None, last_resort: false };
        // Dropped in reverse: locks, then the claim, then what left is told.
        let mut departures = self.departures();
        let mut claim = Claim::new(&self.budget);
        let mut crowd = None;
        loop {
            {
                let mut locked = self.cells[own].lock();
                let shard = &mut *locked;
                let old = shard.table.find(hash, &entry.key);
                if self.make_room(shard, &mut want, old, &mut claim, &mut departures) {
                    let current = old.and_then(|id| shard.table.get(id));
                    let current = current.filter(|current| self.is_live(current));
                    if !decide(current.map(|current| &current.value)) {
                        return Ok(false);
                    }
                    shard.counts.inserts += 1;
                    match old {
                        _ if stillborn => {
                            self.place_stillborn(shard, old, entry, &mut departures);
                        }
                        Some(id) => self.replace(shard, id, entry, &mut claim, &mut departures),
                        None => self.link(shard, entry, want.arrival, &mut claim),
                    }
                    return Ok(true);
                }
            }
            if self.make_room_elsewhere(own, &want, &mut claim, &mut departures) {
                continue;
            }
            if !want.last_resort {
                want.last_resort = true;
                continue;
            }
            want.last_resort = false;
            claim.give_up();
            match crowd {
                None => crowd = Some(self.crowd.lock()),
                Some(_) => thread::yield_now(),
            }
        }
    }

    fn refusal(&self, weight: u64) -> Option<Rejection> {
        let limit = self.budget.limit();
        if limit == 0 {
            Some(Rejection::Disabled)
        } else if weight > limit {
            Some(Rejection::TooLarge { weight, limit })
        } else {
            None
        }
    }

    /// Gets the claim what it needs from the budget and from this shard, the newcomer's own.
    /// Whether that was enough.
    fn make_room(
        &self,
        shard: &mut Shard<K, V>,
        want: &mut Want,
        old: Option<u32>,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'_, K, V>,
    ) -> bool {
        let old_weight = old.and_then(|id| shard.table.get(id)).map_or(0, |entry| entry.weight);
        want.need = want.weight.saturating_sub(old_weight);
        if old.is_none() && want.arrival.is_none() {
            let (policy, shelf) = shard.split(claim.held() + self.budget.free());
            want.arrival = Some(policy.arrive(want.hash.get(), want.weight, &shelf));
        }
        let arrival = want.arrival.unwrap_or(Arrival::NEW);
        let mut detached = false;
        let enough = loop {
            let no_id = old.is_none() && shard.table.is_full();
            if !no_id && claim.reserve(want.need) {
                break true;
            }
            let others = shard.table.len() - usize::from(old.is_some());
            let can_give = others > 0 && shard.weight > old_weight;
            let gives = can_give && (want.last_resort || shard.weight >= self.share());
            if !gives && !no_id {
                break false;
            }
            let room = claim.held() + self.budget.free();
            let Some(id) = choose(shard, arrival, old, room, &mut detached) else {
                break false;
            };
            claim.gain(self.evict(shard, id, departures));
        };
        if let Some(id) = old.filter(|_| detached) {
            // The policy would have evicted the very entry that is to be replaced. It counts
            // as newly arrived instead.
            let (policy, shelf) = shard.split(claim.held() + self.budget.free());
            let arrival = policy.arrive(want.hash.get(), old_weight, &shelf);
            policy.insert(id, arrival, &shelf);
        }
        enough
    }

    /// What a shard may weigh before others have to give instead.
    const fn share(&self) -> u64 {
        match self.cells.len() {
            0 | 1 => 0,
            shards => {
                let fair = self.budget.limit() / shards as u64;
                fair - fair / 8
            }
        }
    }

    /// Evicts from one of the other shards. Whether there was one with anything in it.
    fn make_room_elsewhere(
        &self,
        own: usize,
        want: &Want,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'_, K, V>,
    ) -> bool {
        let Some(at) = self.draw_other(own) else {
            return false;
        };
        let mut locked = self.cells[at].lock();
        for _ in 0..BATCH {
            if claim.reserve(want.need) {
                break;
            }
            let room = self.budget.free();
            let Some(id) = choose(&mut locked, Arrival::NEW, None, room, &mut false) else {
                break;
            };
            claim.gain(self.evict(&mut locked, id, departures));
        }
        true
    }

    /// Another shard, with a chance in proportion to its weight; `None` if all are empty.
    fn draw_other(&self, own: usize) -> Option<usize> {
        let others = || {
            let weights = self.cells.iter().map(super::shard::Cell::weight).enumerate();
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
    fn evict(
        &self,
        shard: &mut Shard<K, V>,
        id: u32,
        departures: &mut Departures<'_, K, V>,
    ) -> u64 {
        let Some(entry) = shard.table.get(id) else {
            return 0;
        };
        let mut cause = Cause::Expired;
        if self.is_live(entry) {
            cause = Cause::Capacity;
            if let Some(hook) = &self.hooks.before_evict {
                departures.defer_panic(|| hook(&entry.key, &entry.value, cause));
            }
        }
        shard.unlink(id, cause, departures)
    }

    fn link(
        &self,
        shard: &mut Shard<K, V>,
        entry: Entry<K, V>,
        arrival: Option<Arrival>,
        claim: &mut Claim<'_>,
    ) {
        let room = claim.held() + self.budget.free() - entry.weight;
        claim.link(entry.weight);
        let id = shard.link(entry).expect("make_room leaves an id");
        let (policy, shelf) = shard.split(room);
        policy.insert(id, arrival.unwrap_or(Arrival::NEW), &shelf);
    }

    fn replace(
        &self,
        shard: &mut Shard<K, V>,
        id: u32,
        entry: Entry<K, V>,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'_, K, V>,
    ) {
        let (weight, expires_at_ms) = (entry.weight, entry.expires_at_ms);
        let Some(slot) = shard.table.get_mut(id) else {
            return;
        };
        let old = std::mem::replace(slot, entry);
        let old_weight = old.weight;
        let cause = if self.is_live(&old) { Cause::Replaced } else { Cause::Expired };
        slot.hits = old.hits;
        departures.push(old.key, old.value, cause);
        claim.gain(old_weight);
        claim.link(weight);
        shard.weight = shard.weight - old_weight + weight;
        shard.soonest_ms = shard.soonest_ms.min(expires_at_ms);
        shard.count(cause);
        let (policy, shelf) = shard.split(claim.held() + self.budget.free());
        policy.overwrite(id, old_weight, &shelf);
    }

    /// Lets an entry that has expired already replace the old one, and leave at once.
    fn place_stillborn(
        &self,
        shard: &mut Shard<K, V>,
        old: Option<u32>,
        entry: Entry<K, V>,
        departures: &mut Departures<'_, K, V>,
    ) {
        debug_assert_ne!(entry.expires_at_ms, NEVER);
        if let Some(id) = old {
            let live = shard.table.get(id).is_some_and(|entry| self.is_live(entry));
            let cause = if live { Cause::Replaced } else { Cause::Expired };
            self.drop_entry(shard, id, cause, departures);
        }
        shard.count(Cause::Expired);
        departures.push(entry.key, entry.value, Cause::Expired);
    }
}

/// A victim of this shard other than `keep`. If the policy gives up `keep` itself, that is
/// noted in `detached`: the policy no longer knows it then.
fn choose<K, V>(
    shard: &mut Shard<K, V>,
    arrival: Arrival,
    keep: Option<u32>,
    room: u64,
    detached: &mut bool,
) -> Option<u32> {
    let (policy, shelf) = shard.split(room);
    loop {
        match policy.victim(arrival, &shelf) {
            Some(id) if Some(id) == keep && !*detached => *detached = true,
            Some(id) if Some(id) != keep && shelf.table.get(id).is_some() => return Some(id),
            _ => break,
        }
    }
    // A policy that is wrong about its entries must not break the budget.
    let id = shelf.table.iter().map(|(id, _)| id).find(|&id| Some(id) != keep)?;
    policy.remove(id, &shelf);
    Some(id)
}
