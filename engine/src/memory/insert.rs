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
use std::thread;

use super::budget::Claim;
use super::departure::{Cause, Departures};
use super::extra::Extra;
use super::keep::Keep;
use super::policy::Arrival;
use super::shard::{Cell, Locked};
use super::tier::Tier;
use crate::clock::is_live;
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
    hash: u64,
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
        self.insert_as(key, value, &Keep::until(expires_at_ms))
    }

    /// The same, and says more of the entry than when it expires.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Keep, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// tier.insert_as("key", "hard to get", &Keep::default().cost(1_000)).unwrap();
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_as(&self, key: K, value: V, keep: &Keep) -> Result<(), Rejected<K, V>> {
        self.insert_if_as(key, value, keep, |_| true).map(|_| ())
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
        self.insert_if_as(key, value, &Keep::until(expires_at_ms), decide)
    }

    /// The same, and says more of the entry than when it expires.
    ///
    /// # Errors
    /// As [`insert`](Self::insert); `decide` is not asked then.
    pub fn insert_if_as(
        &self,
        key: K,
        value: V,
        keep: &Keep,
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
        let (extra, now_ms) = self.extra_of((&key, &value), weight, keep);
        let stillborn = now_ms.is_some_and(|now_ms| !is_live(extra.expires_at_ms(), now_ms));
        let weight = if stillborn { 0 } else { weight };
        let mut want = Want { hash, weight, need: 0, arrival: None, last_resort: false };
        // Dropped in reverse: locks, then the claim, then what left is told.
        let mut departures = self.departures();
        let mut claim = Claim::new(&self.budget);
        let mut crowd = None;
        loop {
            {
                let mut shard = self.cells[own].lock();
                let old = shard.find(hash, &key).map(|(place, _)| place);
                if self.make_room(&mut shard, &mut want, old, &mut claim, &mut departures) {
                    let current = old.and_then(|place| shard.get(place));
                    let state = current.map(|current| shard.terms(current).check(|| self.now_ms()));
                    let live = current.filter(|_| state.is_some_and(|state| state.is_ok()));
                    if !decide(live.map(|current| &current.value)) {
                        return Ok(false);
                    }
                    shard.counts.inserts += 1;
                    let cause = match state {
                        Some(Err(dead)) => dead.into(),
                        _ => Cause::Replaced,
                    };
                    match old {
                        _ if stillborn => {
                            if let Some(place) = old {
                                self.drop_entry(&mut shard, place, cause, &mut departures);
                            }
                            shard.counts.count(Cause::Expired);
                            departures.push_owned(key, value, Cause::Expired);
                        }
                        Some(place) => {
                            let old_weight = shard.weight_of(place);
                            claim.gain(old_weight);
                            claim.link(weight);
                            shard.replace(hash, place, (key, value), extra, cause, &mut departures);
                            let (policy, shelf) = shard.split(claim.held() + self.budget.free());
                            policy.overwrite(place, old_weight, &shelf);
                        }
                        None => {
                            let pair = (key, value);
                            self.link(&mut shard, &want, pair, extra, &mut claim, &mut departures);
                        }
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
    fn make_room<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        want: &mut Want,
        old: Option<u32>,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'a, K, V>,
    ) -> bool {
        let old_weight = old.map_or(0, |place| shard.weight_of(place));
        want.need = want.weight.saturating_sub(old_weight);
        if old.is_none() && want.arrival.is_none() {
            let (policy, shelf) = shard.split(claim.held() + self.budget.free());
            want.arrival = Some(policy.arrive(want.hash, want.weight, &shelf));
        }
        let arrival = want.arrival.unwrap_or(Arrival::NEW);
        let mut detached = false;
        let enough = loop {
            let no_id = shard.is_full();
            if !no_id && claim.reserve(want.need) {
                break true;
            }
            let others = shard.len() - usize::from(old.is_some());
            let can_give = others > 0 && shard.weight > old_weight;
            let gives = can_give && (want.last_resort || shard.weight >= self.share);
            if !gives && !no_id {
                break false;
            }
            let room = claim.held() + self.budget.free();
            let Some(place) = choose(shard, arrival, old, room, &mut detached) else {
                break false;
            };
            claim.gain(self.evict(shard, place, departures));
        };
        if let Some(place) = old.filter(|_| detached) {
            // The policy would have evicted the very entry that is to be replaced, which stays.
            let (policy, shelf) = shard.split(claim.held() + self.budget.free());
            policy.spare(place, &shelf);
        }
        enough
    }

    /// Evicts from one of the other shards. Whether there was one with anything in it.
    fn make_room_elsewhere<'a>(
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
        for _ in 0..BATCH {
            if claim.reserve(want.need) {
                break;
            }
            let room = self.budget.free();
            let Some(place) = choose(&mut locked, Arrival::NEW, None, room, &mut false) else {
                break;
            };
            claim.gain(self.evict(&mut locked, place, departures));
        }
        true
    }

    /// Another shard, with a chance in proportion to its weight; `None` if all are empty.
    fn draw_other(&self, own: usize) -> Option<usize> {
        let others = || {
            let weights = self.cells.iter().map(Cell::weight).enumerate();
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
    fn evict<'a>(
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

    fn link<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        want: &Want,
        pair: (K, V),
        extra: Extra,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'a, K, V>,
    ) {
        let weight = extra.weight;
        let room = claim.held() + self.budget.free() - weight;
        let Some(place) = shard.link(want.hash, pair, extra, departures) else {
            debug_assert!(false, "make_room leaves an id");
            return;
        };
        claim.link(weight);
        let (policy, shelf) = shard.split(room);
        policy.insert(place, want.arrival.unwrap_or(Arrival::NEW), &shelf);
    }
}

/// A victim of this shard other than `keep`. If the policy gives up `keep` itself, that is
/// noted in `detached`: the policy no longer knows it then.
fn choose<K: Hash + Eq, V>(
    shard: &mut Locked<'_, K, V>,
    arrival: Arrival,
    keep: Option<u32>,
    room: u64,
    detached: &mut bool,
) -> Option<u32> {
    let (policy, shelf) = shard.split(room);
    loop {
        match policy.victim(arrival, &shelf) {
            Some(place) if Some(place) == keep && !*detached => *detached = true,
            Some(place) if Some(place) != keep && shelf.get(place).is_some() => return Some(place),
            _ => break,
        }
    }
    // A policy that is wrong about its entries must not break the budget.
    let place = shelf.any_but(keep)?;
    policy.remove(place, &shelf);
    Some(place)
}
