//! Inserts.
//!
//! An insert holds a [`Claim`] on the budget. Under the lock of its own shard it takes what
//! is free, or evicts there; when that shard has given its share, it lets go of the lock and
//! evicts in others, one at a time, then comes back and looks again (`room.rs`). Only with enough in
//! hand, and under its own shard's lock, does it ask the caller's condition and link the entry. No
//! thread ever waits for one shard while it holds another.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::thread;

use super::budget::Claim;
use super::departure::{Cause, Departures};
use super::extra::Extra;
use super::keep::Keep;
use super::marks::TagCell;
use super::policy::Arrival;
use super::quick::Quick;
use super::room::{Room, Want};
use super::shard::Locked;
use super::space::Seek;
use super::tier::Tier;
use crate::clock::is_live;
use crate::engine::Rejection;
use crate::sync::Ordering;

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
            Rejection::Pinned { weight, pinned, limit } => write!(
                out,
                "the value weighs {weight}, and {pinned} of the {limit} that the tier may hold is \
                 pinned"
            ),
            Rejection::NoRoom => out.write_str("no room is ready"),
            Rejection::FirstSeen => out.write_str("the key was offered for the first time"),
            Rejection::Disabled => out.write_str("the tier is switched off"),
        }
    }
}

impl<K, V> std::error::Error for Rejected<K, V> {}

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
    pub fn insert_as(&self, key: K, value: V, keep: &Keep<'_>) -> Result<(), Rejected<K, V>> {
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
        keep: &Keep<'_>,
        decide: impl FnOnce(Option<&V>) -> bool,
    ) -> Result<bool, Rejected<K, V>> {
        self.insert_at(None, (key, value), keep, decide)
    }

    /// The same, in a namespace or not.
    #[inline(always)]
    pub(super) fn insert_at<D: FnOnce(Option<&V>) -> bool>(
        &self,
        space: Option<&Arc<TagCell>>,
        pair: (K, V),
        keep: &Keep<'_>,
        decide: D,
    ) -> Result<bool, Rejected<K, V>> {
        let weight = self.hooks.weigher.as_ref().map_or(1, |weigher| weigher(&pair.0, &pair.1));
        if let Some(why) = self.refusal(weight) {
            let (key, value) = pair;
            return Err(self.rejected(key, value, why));
        }
        let hash = self.seek(space.map(|cell| &**cell), &pair.0).hash;
        if space.is_none() && self.is_bare && keep.is_bare() {
            return match self.insert_quickly(hash, pair, weight, decide) {
                Quick::Done(inserted) => Ok(inserted),
                Quick::Unusual { pair, decide, arrival } => {
                    let want = Want { arrival, ..Want::new(hash, weight) };
                    self.insert_anyhow(None, pair, keep, decide, want)
                }
            };
        }
        self.insert_anyhow(space, pair, keep, decide, Want::new(hash, weight))
    }

    #[cold]
    fn rejected(&self, key: K, value: V, why: Rejection) -> Rejected<K, V> {
        // Relaxed: a counter for people.
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Rejected { key, value, why }
    }

    /// The same, whatever it takes.
    #[inline(never)]
    fn insert_anyhow<D: FnOnce(Option<&V>) -> bool>(
        &self,
        space: Option<&Arc<TagCell>>,
        (key, value): (K, V),
        keep: &Keep<'_>,
        decide: D,
        mut want: Want,
    ) -> Result<bool, Rejected<K, V>> {
        let (hash, weight) = (want.hash, want.weight);
        let own = self.cell_at(hash);
        let (extra, mut now_ms) = self.extra_of((&key, &value), weight, keep);
        let extra = extra.with_marks(self.names.marks(space, keep.tags));
        let stillborn = now_ms.is_some_and(|now_ms| !is_live(extra.expires_at_ms(), now_ms));
        if stillborn {
            want.weight = 0;
        }
        // Dropped in reverse: locks, then the claim, then what left is told.
        let mut departures = self.departures();
        let mut claim = Claim::new(&self.budget);
        let mut crowd = None;
        loop {
            let room = {
                let mut shard = self.cells[own].lock();
                // With the first deadline, so that the wheel begins with the time.
                if now_ms.is_some() || shard.can_expire() {
                    let now_ms = *now_ms.get_or_insert_with(|| self.now_ms());
                    claim.gain(self.expire_some(&mut shard, now_ms, &mut departures));
                }
                let seek = Seek { space: space.map(|cell| &**cell), hash, key: &key };
                let old = shard.find(seek).map(|(place, _)| place);
                let room = self.make_room(&mut shard, &mut want, old, &mut claim, &mut departures);
                if matches!(room, Room::Enough) {
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
                            if cause != Cause::Replaced {
                                shard.unpin(place, claim.held() + self.budget.free());
                            }
                            let old_weight = shard.weight_of(place);
                            claim.gain(old_weight);
                            claim.link(want.weight);
                            shard.replace(hash, place, (key, value), extra, cause, &mut departures);
                            shard.overwrite(place, old_weight, claim.held() + self.budget.free());
                            if keep.pinned {
                                shard.pin(place);
                            }
                        }
                        None => {
                            let pair = (key, value);
                            let place = self.link(
                                &mut shard,
                                &want,
                                pair,
                                extra,
                                &mut claim,
                                &mut departures,
                            );
                            if let Some(place) = place.filter(|_| keep.pinned) {
                                shard.pin(place);
                            }
                        }
                    }
                    return Ok(true);
                }
                room
            };
            if let Room::Never(why) = room {
                if std::mem::replace(&mut want.purged, true) {
                    return Err(self.rejected(key, value, why));
                }
                for cell in &self.cells {
                    self.purge_dead(cell, &mut departures);
                }
                continue;
            }
            // It has waited for locks, or is going to.
            now_ms = None;
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

    fn link<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        want: &Want,
        pair: (K, V),
        extra: Extra,
        claim: &mut Claim<'_>,
        departures: &mut Departures<'a, K, V>,
    ) -> Option<u32> {
        let weight = extra.weight;
        let room = claim.held() + self.budget.free() - weight;
        let Some(place) = shard.link(want.hash, pair, extra, departures) else {
            debug_assert!(false, "make_room leaves an id");
            return None;
        };
        claim.link(weight);
        let (policy, shelf) = shard.split(room);
        policy.insert(place, want.arrival.unwrap_or(Arrival::NEW), &shelf);
        Some(place)
    }
}
