//! What leaves when room is needed.
//!
//! A policy orders the entries of one shard. It knows them by dense ids, so that its links
//! are arrays of integers, and asks [`Entries`] for what is stored once anyway: weight, hash
//! and hit counter. The tier drives it, and so can a simulator: nothing here knows of keys,
//! values, locks or time.
//!
//! # The two sides of a hit
//! [`OnHit`] says what a hit does, as data. Counting touches one byte of the entry itself,
//! needs no lock, and writes nothing once the byte is saturated; that is all that queue
//! policies need (CLOCK, SIEVE, S3-FIFO). Replaying calls [`Policy::hit`] under the shard's
//! lock, in the order of the hits as far as that is known; list policies need it (LRU, ARC).
//! Replayed hits may be late, and some may be lost. A policy that counts may have the hits of a
//! few keys replayed besides, see [`Policy::sample`].
//!
//! # Life of an entry
//! ```text
//! arrive ─► victim* ─► insert ─► hit* / overwrite* ─► remove, or returned by victim
//! ```
//! `arrive` comes first, so that a policy may consult and adjust its ghosts before it says
//! who has to make room for the newcomer.
//!
//! # Entries that may not leave
//! No policy knows of pins. Whoever must keep a victim asks for more until one may leave, and
//! gives the others back with [`Policy::spare`], once they may leave again or the search is over:
//! to every policy, that is an entry that was evicted and came back at once. Until then they are
//! no residents of the policy, so the search ends, at the latest when there is no victim any more.
//!
//! What each policy chooses where implementations differ, and how all of them compare with
//! those of others: `docs/policies.md`.

mod adaptive;
mod arc;
mod chosen;
mod climber;
mod clock;
mod fifo;
mod gdsf;
mod ghost;
pub(super) mod heap;
mod lfu;
mod lirs;
mod list;
mod lru;
#[cfg(test)]
mod model;
mod mru;
mod random;
mod s3fifo;
mod sieve;
mod sketch;
mod two_q;
mod w_tiny_lfu;

use std::fmt;
use std::str::FromStr;

pub use adaptive::Adaptive;
pub use arc::ArcPolicy;
pub(super) use chosen::Chosen;
pub use clock::Clock;
pub use fifo::Fifo;
pub use gdsf::Gdsf;
pub use lfu::Lfu;
pub use lirs::Lirs;
pub use lru::Lru;
pub use mru::Mru;
pub use random::Random;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;
pub use two_q::TwoQ;
pub use w_tiny_lfu::WTinyLfu;

use crate::error::Error;
use crate::sync::{AtomicU8, Ordering};

/// Chooses what leaves one shard.
///
/// Ids are dense: they start at 0, stay below `u32::MAX`, and are used again after the entry
/// has left. An id passed in is resident, except in [`insert`](Self::insert), where it
/// becomes so. All methods that take `&mut self` run under the shard's lock and have to be
/// quick.
///
/// A tier survives a policy that is wrong (it evicts some other entry, so that the budget
/// holds), but not one that panics.
///
/// ```
/// use larder_engine::memory::{Arrival, Capacity, Entries, OnHit, Policy, Tier};
/// use std::num::NonZeroU64;
///
/// /// Evicts what came last.
/// #[derive(Debug, Default)]
/// struct Lifo(Vec<u32>);
///
/// impl Policy for Lifo {
///     fn on_hit(&self) -> OnHit {
///         OnHit::NOTHING
///     }
///     fn insert(&mut self, id: u32, _: Arrival, _: &dyn Entries) {
///         self.0.push(id);
///     }
///     fn overwrite(&mut self, _: u32, _: u64, _: &dyn Entries) {}
///     fn remove(&mut self, id: u32, _: &dyn Entries) {
///         self.0.retain(|&other| other != id);
///     }
///     fn victim(&mut self, _: Arrival, _: &dyn Entries) -> Option<u32> {
///         self.0.pop()
///     }
///     fn len(&self) -> usize {
///         self.0.len()
///     }
///     fn clear(&mut self) {
///         self.0.clear();
///     }
/// }
///
/// let two = Capacity::Items(NonZeroU64::new(2).unwrap());
/// let tier = Tier::builder(two).policy_with(|| Box::<Lifo>::default()).build().unwrap();
/// for key in 0..3 {
///     tier.insert(key, "value", u64::MAX).unwrap();
/// }
/// assert!(tier.contains(&0) && tier.contains(&2) && !tier.contains(&1));
/// ```
pub trait Policy: Send + fmt::Debug {
    /// What a hit does. Must always be the same for one policy.
    fn on_hit(&self) -> OnHit;

    /// Something that is not resident, with this hash and weight, is about to be inserted.
    ///
    /// What is returned comes back in `victim` and `insert`. The insert may yet not happen.
    fn arrive(&mut self, hash: u64, weight: u64, entries: &dyn Entries) -> Arrival {
        let _ = (hash, weight, entries);
        Arrival::NEW
    }

    /// `id` is resident from now on; its hit counter is 0.
    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries);

    /// Of which keys hits are replayed although [`on_hit`](Self::on_hit) asks for none: of
    /// those whose hash has none of these bits; `None` for no keys at all. In a sample this
    /// small, what costs too much for every hit may be learnt from.
    ///
    /// May change whenever a method that takes `&mut self` was called, so whoever drives the
    /// policy asks again then. A policy that ever samples does so from the beginning.
    fn sample(&self) -> Option<u64> {
        None
    }

    /// A replayed hit. Only if [`on_hit`](Self::on_hit) asks for it, or the key is in the
    /// [`sample`](Self::sample).
    fn hit(&mut self, id: u32, entries: &dyn Entries) {
        let _ = (id, entries);
    }

    /// `id` has a new value. `entries` already knows its new weight.
    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries);

    /// `id` leaves for another reason than eviction: forget it, ghosts included.
    fn remove(&mut self, id: u32, entries: &dyn Entries);

    /// Chooses what leaves next to make room for `arrival`, and forgets it as resident (it
    /// may keep its hash as a ghost). `None`: nothing is resident.
    fn victim(&mut self, arrival: Arrival, entries: &dyn Entries) -> Option<u32>;

    /// Number of resident entries.
    fn len(&self) -> usize;

    /// Whether nothing is resident.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries and ghosts.
    fn clear(&mut self);

    /// Takes back a victim: `id`, which [`victim`](Self::victim) has named, stays after all,
    /// because it is pinned or about to be replaced.
    ///
    /// It comes back as something evicted would, so a policy with ghosts finds its own, and its
    /// hit counter begins at 0. Whoever skips victims asks for all that it needs before it
    /// gives any back; otherwise a policy may name the same one for ever (MRU does).
    fn spare(&mut self, id: u32, entries: &dyn Entries) {
        let arrival = self.arrive(entries.hash(id), entries.weight(id), entries);
        entries.set_hits(id, 0);
        self.insert(id, arrival, entries);
    }

    /// Names residents in the order in which they would leave if nothing else happened, the
    /// next victim first, until `f` says `false`.
    ///
    /// Every policy says how exact it is about that. One that cannot tell names none; the
    /// default is such.
    fn order(&self, entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        let _ = (entries, f);
    }

    /// Heap memory in use, in bytes; 0 from a policy that does not say.
    fn allocated_bytes(&self) -> usize {
        0
    }

    /// Walks the whole structure and says what is wrong with it.
    ///
    /// # Errors
    /// A sentence for people: the first contradiction found.
    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        let _ = entries;
        Ok(())
    }
}

/// What a policy may ask about the entries of its shard.
pub trait Entries {
    /// What the policy's entries may weigh together at this moment: what they weigh, what was
    /// just evicted for the newcomer, and what the whole tier has left. A tier of one shard
    /// always says its capacity; with several it moves, because shards borrow from each other.
    fn capacity(&self) -> u64;

    /// The weight of an entry.
    fn weight(&self, id: u32) -> u64;

    /// What it costs to get an entry again, in any unit; 1 if nobody knows.
    fn cost(&self, id: u32) -> u64 {
        let _ = id;
        1
    }

    /// The hash of an entry's key: well mixed in all bits.
    fn hash(&self, id: u32) -> u64;

    /// The hit counter of an entry.
    fn hits(&self, id: u32) -> u8;

    /// Sets the hit counter of an entry. Hits at the same time may be lost.
    fn set_hits(&self, id: u32, hits: u8);
}

/// The last step of SplitMix64: a bijection that mixes well.
#[inline]
pub(super) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Most ghosts beside so many residents, so that no load can make them cost more than the
/// entries do.
fn ghosts_max(residents: usize) -> usize {
    2 * residents.max(16)
}

/// Makes a column by id long enough for `id`; grows by an eighth, not to the double.
#[inline]
pub(in crate::memory) fn cover<T: Copy>(column: &mut Vec<T>, id: u32, fill: T) {
    if column.len() <= id as usize {
        lengthen(column, id, fill);
    }
}

#[cold]
fn lengthen<T: Copy>(column: &mut Vec<T>, id: u32, fill: T) {
    let len = id as usize + 1;
    if column.capacity() < len {
        column.reserve_exact(len - column.len() + len / 8 + 16);
    }
    column.resize(len, fill);
}

/// Hands ids to `f` until it has enough. Whether it wants more.
fn offer(mut ids: impl Iterator<Item = u32>, f: &mut dyn FnMut(u32) -> bool) -> bool {
    ids.all(f)
}

/// What a hit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnHit {
    /// Raises the entry's hit counter by 1, up to this; 0 for no counter.
    pub count_to: u8,
    /// Calls [`Policy::hit`] under the shard's lock.
    pub replay: bool,
}

impl OnHit {
    /// A hit changes nothing.
    pub const NOTHING: Self = Self { count_to: 0, replay: false };
    /// A hit is replayed.
    pub const REPLAY: Self = Self { count_to: 0, replay: true };

    /// A hit raises the counter up to `max`.
    #[must_use]
    pub const fn count_to(max: u8) -> Self {
        Self { count_to: max, replay: false }
    }

    /// The lock-free half of a hit.
    #[inline]
    pub(crate) fn count(self, hits: &AtomicU8) {
        // Relaxed, and not one atomic step: the counter guards no data and is an estimate. A
        // hit lost between two threads costs nothing; a locked instruction per hit would.
        let seen = hits.load(Ordering::Relaxed);
        if seen < self.count_to {
            hits.store(seen + 1, Ordering::Relaxed);
        }
    }
}

/// What a policy found out about a newcomer in [`Policy::arrive`]; the number is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival(pub u8);

impl Arrival {
    /// Nothing is known about it.
    pub const NEW: Self = Self(0);
    /// It was remembered as a ghost.
    pub const GHOST: Self = Self(1);
}

/// The policies that come with this crate.
///
/// ```
/// use larder_engine::memory::PolicyKind;
/// assert_eq!("s3fifo".parse::<PolicyKind>().unwrap(), PolicyKind::default());
/// assert_eq!(PolicyKind::Lru.to_string(), "lru");
/// assert!("lrru".parse::<PolicyKind>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PolicyKind {
    /// What came first leaves first: [`Fifo`].
    Fifo,
    /// All are equally likely to leave: [`Random`].
    Random,
    /// What was unused for longest leaves first: [`Lru`].
    Lru,
    /// What was used last leaves first: [`Mru`].
    Mru,
    /// What was used least often leaves first: [`Lfu`].
    Lfu,
    /// As FIFO, and what was used goes around again: [`Clock`].
    Clock,
    /// As CLOCK, and what was used keeps its place: [`Sieve`].
    Sieve,
    /// Two queues that drop one-hit wonders early: [`S3Fifo`].
    #[default]
    S3Fifo,
    /// A queue for the new, a list for what came back: [`TwoQ`].
    TwoQ,
    /// Two lists balanced by what was evicted wrongly: [`ArcPolicy`].
    Arc,
    /// What comes back at long distances leaves first: [`Lirs`].
    Lirs,
    /// LRU lists behind a sketch of who is popular: [`WTinyLfu`].
    WTinyLfu,
    /// What is worth least for its weight leaves first, by cost and uses: [`Gdsf`].
    Gdsf,
    /// What would leave by the policy that would have missed least of late: [`Adaptive`].
    Adaptive,
}

impl PolicyKind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Fifo,
        Self::Random,
        Self::Lru,
        Self::Mru,
        Self::Lfu,
        Self::Clock,
        Self::Sieve,
        Self::S3Fifo,
        Self::TwoQ,
        Self::Arc,
        Self::Lirs,
        Self::WTinyLfu,
        Self::Gdsf,
        Self::Adaptive,
    ];

    /// A new policy of this kind, for one shard.
    #[must_use]
    pub fn build(self) -> Box<dyn Policy> {
        match self {
            Self::Fifo => Box::<Fifo>::default(),
            Self::Random => Box::<Random>::default(),
            Self::Lru => Box::<Lru>::default(),
            Self::Mru => Box::<Mru>::default(),
            Self::Lfu => Box::<Lfu>::default(),
            Self::Clock => Box::<Clock>::default(),
            Self::Sieve => Box::<Sieve>::default(),
            Self::S3Fifo => Box::<S3Fifo>::default(),
            Self::TwoQ => Box::<TwoQ>::default(),
            Self::Arc => Box::<ArcPolicy>::default(),
            Self::Lirs => Box::<Lirs>::default(),
            Self::WTinyLfu => Box::<WTinyLfu>::default(),
            Self::Gdsf => Box::<Gdsf>::default(),
            Self::Adaptive => Box::<Adaptive>::default(),
        }
    }

    /// The name, as it is parsed and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Random => "random",
            Self::Lru => "lru",
            Self::Mru => "mru",
            Self::Lfu => "lfu",
            Self::Clock => "clock",
            Self::Sieve => "sieve",
            Self::S3Fifo => "s3fifo",
            Self::TwoQ => "2q",
            Self::Arc => "arc",
            Self::Lirs => "lirs",
            Self::WTinyLfu => "wtinylfu",
            Self::Gdsf => "gdsf",
            Self::Adaptive => "adaptive",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| Error::Config {
            option: "policy",
            value: name.to_owned(),
            accepted: "give one of fifo, random, lru, mru, lfu, clock, sieve, s3fifo, 2q, arc, lirs, wtinylfu, gdsf, adaptive",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saturated_counter_is_left_alone() {
        let hits = AtomicU8::new(0);
        for _ in 0..5 {
            OnHit::count_to(3).count(&hits);
        }
        assert_eq!(hits.load(Ordering::Relaxed), 3);
        OnHit::NOTHING.count(&hits);
        assert_eq!(hits.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn names_are_parsed_as_they_are_shown() {
        for &kind in PolicyKind::ALL {
            assert_eq!(kind.to_string().parse::<PolicyKind>().unwrap(), kind);
        }
    }
}
