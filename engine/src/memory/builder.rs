//! How a tier is set up.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::budget::LIMIT_MAX;
use super::departure::{Cause, Listener};
use super::keep::idle_ms;
use super::policy::{Chosen, Policy, PolicyKind};
use super::tier::Tier;
use crate::clock::{Clock, NEVER, SystemClock};
use crate::error::{Error, Result};

/// Most shards that can be asked for.
const SHARDS_MAX: usize = 1024;
/// Most shards that a tier has if nothing is asked for.
const SHARDS_DEFAULT_MAX: usize = 64;
/// A tier of so little capacity per shard gets fewer shards: queues of a few entries make
/// poor choices.
pub(super) const SHARD_CAPACITY_MIN: u64 = 256;

/// How much a tier may hold.
///
/// ```
/// use larder_engine::memory::Capacity;
/// assert_eq!(Capacity::items(100).limit(), Some(100));
/// assert_eq!(Capacity::weight(0), Capacity::Disabled);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// Nothing: every insert is refused, every lookup is a miss.
    Disabled,
    /// This many entries, whatever they weigh.
    Items(NonZeroU64),
    /// Entries of this weight in total, as the weigher says; above 2⁵⁶ counts as 2⁵⁶.
    Weight(NonZeroU64),
    /// Everything. Nothing is ever evicted.
    Unbounded,
}

impl Capacity {
    /// So many entries; 0 for [`Disabled`](Self::Disabled).
    #[must_use]
    pub fn items(count: u64) -> Self {
        NonZeroU64::new(count).map_or(Self::Disabled, Self::Items)
    }

    /// So much weight; 0 for [`Disabled`](Self::Disabled).
    #[must_use]
    pub fn weight(weight: u64) -> Self {
        NonZeroU64::new(weight).map_or(Self::Disabled, Self::Weight)
    }

    /// The limit in its own unit; `None` for no limit.
    #[must_use]
    pub const fn limit(self) -> Option<u64> {
        match self {
            Self::Disabled => Some(0),
            Self::Items(limit) | Self::Weight(limit) => Some(limit.get()),
            Self::Unbounded => None,
        }
    }
}

pub(super) type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;
pub(super) type Expiry<K, V> = Box<dyn Fn(&K, &V, u64) -> u64 + Send + Sync>;
type Factory = Box<dyn Fn() -> Chosen>;

/// What a tier calls on its way.
pub(super) struct Hooks<K, V> {
    pub(super) weigher: Option<Weigher<K, V>>,
    pub(super) expiry: Option<Expiry<K, V>>,
    /// How long an entry lives after a use, if its insert does not say; `NEVER` for ever.
    pub(super) idle_ms: u64,
    pub(super) before_evict: Option<Listener<K, V>>,
    pub(super) listener: Option<Listener<K, V>>,
}

/// Sets up a [`Tier`].
///
/// ```
/// use larder_engine::memory::{Capacity, PolicyKind, Tier};
/// let tier = Tier::<String, Vec<u8>>::builder(Capacity::weight(1 << 20))
///     .weigher(|key, value| (key.len() + value.len()) as u64)
///     .policy(PolicyKind::Lru)
///     .listener(|key, _, cause| println!("{key} left: {cause:?}"))
///     .build()?;
/// # Ok::<(), larder_engine::Error>(())
/// ```
pub struct TierBuilder<K, V> {
    capacity: Capacity,
    policy: Factory,
    shards: Option<usize>,
    clock: Arc<dyn Clock>,
    hooks: Hooks<K, V>,
}

impl<K, V> TierBuilder<K, V> {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            policy: Box::new(|| Chosen::of(PolicyKind::default())),
            shards: None,
            clock: Arc::new(SystemClock),
            hooks: Hooks {
                weigher: None,
                expiry: None,
                idle_ms: NEVER,
                before_evict: None,
                listener: None,
            },
        }
    }

    /// What chooses victims; [`PolicyKind::S3Fifo`] if nothing is said.
    #[must_use]
    pub fn policy(mut self, kind: PolicyKind) -> Self {
        self.policy = Box::new(move || Chosen::of(kind));
        self
    }

    /// A policy of your own: `make` is called once per shard.
    #[must_use]
    pub fn policy_with(mut self, make: impl Fn() -> Box<dyn Policy> + 'static) -> Self {
        self.policy = Box::new(move || Chosen::Other(make()));
        self
    }

    /// The number of shards: a power of two, at most 1024.
    ///
    /// If nothing is said, four for each core that the process may use, at most 64, and fewer
    /// when the capacity is small. With one shard the policy sees every entry, and chooses
    /// exactly as its paper says.
    #[must_use]
    pub const fn shards(mut self, count: usize) -> Self {
        self.shards = Some(count);
        self
    }

    /// What an entry weighs. Needed with [`Capacity::Weight`]; with [`Capacity::Items`] it is
    /// not asked. Called once per insert, outside of all locks.
    #[must_use]
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.hooks.weigher = Some(Box::new(weigher));
        self
    }

    /// How long an entry lives after it was inserted or used last, in whole ms: by
    /// [`get`](Tier::get), [`get_with`](Tier::get_with) or [`get_many`](Tier::get_many), not by
    /// lookups that are no uses. What [`Keep`](super::Keep) says of an entry counts instead.
    ///
    /// Never past the deadline of an entry. Costs 64 bytes per entry; a hit stores the new
    /// deadline, at most once a millisecond.
    ///
    /// ```
    /// use larder_engine::memory::{Capacity, Tier};
    /// use larder_engine::ManualClock;
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let clock = Arc::new(ManualClock::at(0));
    /// let tier = Tier::builder(Capacity::items(100)).clock(clock.clone());
    /// let tier = tier.time_to_idle(Duration::from_millis(10)).build()?;
    /// tier.insert("key", "value", u64::MAX).unwrap();
    /// clock.advance(9);
    /// assert!(tier.get("key").is_some());
    /// clock.advance(9);
    /// assert!(tier.get("key").is_some());
    /// clock.advance(10);
    /// assert!(tier.get("key").is_none());
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    #[must_use]
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.hooks.idle_ms = idle_ms(idle);
        self
    }

    /// A deadline for each entry, by what it is: `expiry` gets key, value and the time, and
    /// returns the deadline, all in ms since 1970 (`u64::MAX` for never). The earlier of that and
    /// of what the insert says counts.
    ///
    /// Called once per insert, replacements included, outside of all locks.
    ///
    /// ```
    /// use larder_engine::memory::{Capacity, Tier};
    /// use larder_engine::ManualClock;
    /// use std::sync::Arc;
    ///
    /// let clock = Arc::new(ManualClock::at(0));
    /// let tier = Tier::builder(Capacity::items(100)).clock(clock.clone());
    /// let short = |_: &&str, value: &Option<u32>, now_ms| match value {
    ///     None => now_ms + 100,
    ///     Some(_) => u64::MAX,
    /// };
    /// let tier = tier.expiry(short).build()?;
    /// tier.insert("there", Some(1), u64::MAX).unwrap();
    /// tier.insert("missing", None, u64::MAX).unwrap();
    /// clock.advance(100);
    /// assert!(tier.contains("there") && !tier.contains("missing"));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    #[must_use]
    pub fn expiry(mut self, expiry: impl Fn(&K, &V, u64) -> u64 + Send + Sync + 'static) -> Self {
        self.hooks.expiry = Some(Box::new(expiry));
        self
    }

    /// Where time comes from. Not asked about entries that never expire.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Called with what is about to be evicted, while lookups still find it: whoever hands it
    /// on to another place from here leaves no moment in which it is in neither.
    ///
    /// The cause is [`Cause::Capacity`]. It runs under the lock of a shard, so it must be
    /// quick, and must not call the tier: that would deadlock. If it panics, the entry is
    /// evicted all the same, and the insert that caused it passes the panic on.
    #[must_use]
    pub fn before_evict(mut self, hook: impl Fn(&K, &V, Cause) + Send + Sync + 'static) -> Self {
        self.hooks.before_evict = Some(Box::new(hook));
        self
    }

    /// Called exactly once with every entry that has left, outside of all locks, by the
    /// thread that caused it. It may call the tier.
    ///
    /// By the time it is called, the key may have another value already, and departures of
    /// one key may be told out of order by different threads. What is left when the tier is
    /// dropped is not told.
    #[must_use]
    pub fn listener(mut self, listener: impl Fn(&K, &V, Cause) + Send + Sync + 'static) -> Self {
        self.hooks.listener = Some(Box::new(listener));
        self
    }

    /// Builds the tier.
    ///
    /// # Errors
    /// [`Error::Config`] for a number of shards that is not a power of two up to 1024, and for
    /// [`Capacity::Weight`] without a weigher.
    pub fn build(mut self) -> Result<Tier<K, V>> {
        let shards = self.shards.unwrap_or_else(|| default_shards(self.capacity));
        if !shards.is_power_of_two() || shards > SHARDS_MAX {
            return Err(Error::Config {
                option: "shards",
                value: shards.to_string(),
                accepted: "give a power of two from 1 to 1024",
            });
        }
        if matches!(self.capacity, Capacity::Weight(_)) && self.hooks.weigher.is_none() {
            return Err(Error::Config {
                option: "weigher",
                value: "missing".to_owned(),
                accepted: "say what an entry weighs, or give the capacity in items",
            });
        }
        if matches!(self.capacity, Capacity::Items(_)) {
            self.hooks.weigher = None;
        }
        let policies = (0..shards).map(|_| (self.policy)()).collect();
        Ok(Tier::new(self.capacity, policies, self.clock, self.hooks))
    }
}

impl<K, V> fmt::Debug for TierBuilder<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TierBuilder")
            .field("capacity", &self.capacity)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

pub(super) fn default_shards(capacity: Capacity) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let wanted = cores.saturating_mul(4).next_power_of_two().min(SHARDS_DEFAULT_MAX);
    let affordable = capacity.limit().unwrap_or(LIMIT_MAX) / SHARD_CAPACITY_MIN;
    let affordable = usize::try_from(affordable).unwrap_or(SHARDS_DEFAULT_MAX).max(1);
    // The largest power of two that is not larger than both.
    1 << wanted.min(affordable).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tiers_get_few_shards() {
        assert_eq!(default_shards(Capacity::items(10)), 1);
        assert_eq!(default_shards(Capacity::items(1_000)), 2);
        assert!(default_shards(Capacity::Unbounded) >= 4);
        assert!(default_shards(Capacity::weight(u64::MAX)) <= 64);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for shards in [0, 3, 2_048] {
            let refused = TierBuilder::<u8, u8>::new(Capacity::Unbounded).shards(shards).build();
            assert!(
                refused.is_err_and(|why| why.to_string().starts_with("option shards")),
                "{shards} shards"
            );
        }
        let refused = TierBuilder::<u8, u8>::new(Capacity::weight(1)).build();
        assert!(refused.is_err_and(|why| why.to_string().starts_with("option weigher")));
    }
}
