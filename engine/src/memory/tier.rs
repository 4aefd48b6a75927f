//! The tier: what it is made of, what it promises, its gauges, and the lookups and removals that
//! people call. What they do is in `lookup.rs`, inserts are in `insert.rs`.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use super::budget::{Budget, LIMIT_MAX};
use super::builder::{Capacity, Hooks, TierBuilder};
use super::departure::{Cause, Departures};
use super::limbo::Limits;
use super::names::Names;
use super::policy::{Chosen, OnHit};
use super::readers::{self, Fences};
use super::shard::{Cell, Locked};
use super::space::{Seek, Space, hash_in};
use super::stripes::Lookups;
use crate::clock::{Clock, NEVER};
use crate::stats::Stats;
use crate::sync::{AtomicU64, Ordering};

/// A cache of typed entries in memory, sharded and bounded by weight.
///
/// ```
/// use larder_engine::memory::{Capacity, Tier};
///
/// let tier = Tier::builder(Capacity::items(1_000)).build()?;
/// tier.insert("pear".to_owned(), 3, u64::MAX).unwrap();
/// assert_eq!(tier.get("pear"), Some(3));
/// assert_eq!(tier.get("plum"), None);
/// # Ok::<(), larder_engine::Error>(())
/// ```
///
/// # Capacity
/// One budget serves all shards. An entry that fits into the tier is held whichever shard it
/// belongs to; what weighs more than the whole tier is refused by name and changes nothing.
/// What is held never exceeds the budget, not even during an insert: room is made first.
///
/// An insert evicts from its own shard as long as that holds about its share, else from
/// others, heavy ones more often. So shards may be a little apart from what one queue over
/// all entries would do.
///
/// # Expiry
/// An entry is live while `now < expires_at_ms`, in ms since 1970; `u64::MAX` for never. With a
/// [time to idle](TierBuilder::time_to_idle) every use moves that moment, up to the deadline that
/// the insert gave. From then on it is not found: what one lookup has missed, no other finds.
///
/// It leaves when a `get`, a write of its key, an eviction or an [`iter`](Self::iter) notices it, and
/// before that when others are inserted into its shard: each insert removes some of what has expired, before
/// anything live has to make room. Where nothing is inserted,
/// [`purge_expired`](Self::purge_expired) does it. Until then it counts in [`len`](Self::len) and
/// [`weight`](Self::weight).
///
/// # Consistency
/// - Operations on one key are linearizable: each takes effect at one moment between call and
///   return, and whoever returns later sees it.
/// - Invalidating a [tag](Self::invalidate_tag) or a [namespace](Self::namespace) takes effect at
///   one moment, too, for all entries at once.
/// - Operations on all keys (`clear`, `iter`, `len`, `stats`, `purge`) go from shard to shard.
///   What is there from beginning to end is seen; what comes or goes meanwhile may be seen or
///   not.
/// - Lookups take no lock and wait for nobody. A closure that is passed to one may take its time,
///   and may call the tier.
/// - A closure that is passed to a conditional write, or to [`hold_with`](Self::hold_with), runs
///   under the lock of one shard. It must be quick and must not call the tier: that would
///   deadlock. The same goes for `Clone` of values in `take`, of keys in `iter` and `keys_of`, of
///   both in `coldest`, `hottest` and `drain`, and for `Hash`, `Eq` and `Borrow` of keys.
/// - A panic in a closure, or in the code of keys and values, reaches the caller, and leaves
///   the tier as if the operation had been made in full or not at all.
///
/// # Departure
/// What has left is found by no lookup that begins later, and the listener hears of it at once.
/// But lookups that are under way may still see it, so key and value are dropped some time after:
/// when enough has left its shard to ask who was reading, by a thread that writes there, outside
/// of all locks. Not counted in the weight, up to a 64th of the capacity may wait for that
/// (at least 8 entries in each shard), and what has left during a lookup that lost the processor.
/// A closure in [`get_with`](Self::get_with) holds back nothing but the entry that it looks at.
/// [`clear`](Self::clear) drops what nobody looks at, and so does the end of the tier.
pub struct Tier<K, V> {
    pub(super) cells: Box<[Cell<K, V>]>,
    pub(super) budget: Arc<Budget>,
    /// Held by an insert that found nothing to evict, so that of several only one goes on.
    pub(super) crowd: Mutex<()>,
    /// Draws the shard that gives; see `room.rs`.
    pub(super) draws: AtomicU64,
    pub(super) rejected: AtomicU64,
    /// What a shard may weigh before others have to give instead.
    pub(super) share: AtomicU64,
    /// Held by who changes the capacity.
    pub(super) resizing: Mutex<()>,
    pub(super) hooks: Hooks<K, V>,
    /// Nothing is said of entries for which their inserts say nothing.
    pub(super) is_bare: bool,
    capacity: Capacity,
    pub(super) on_hit: OnHit,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    pub(super) lookups: Lookups,
    pub(super) names: Names,
}

impl<K, V> Tier<K, V> {
    pub(super) fn new(
        capacity: Capacity,
        policies: Vec<Chosen>,
        clock: Arc<dyn Clock>,
        hooks: Hooks<K, V>,
    ) -> Self {
        let on_hit = policies.first().map_or(OnHit::NOTHING, |policy| policy.any().on_hit());
        let budget = Arc::new(Budget::new(capacity.limit().unwrap_or(LIMIT_MAX)));
        let share = share(budget.limit(), policies.len() as u64);
        let limits = limits(budget.limit(), policies.len() as u64, hooks.weigher.is_some());
        let hasher = RandomState::default();
        let is_weighed = hooks.weigher.is_some();
        let cell =
            |policy| Cell::new(policy, limits, is_weighed, hasher.clone(), Arc::clone(&budget));
        let is_bare = hooks.expiry.is_none() && hooks.idle_ms == NEVER;
        Self {
            cells: policies.into_iter().map(cell).collect(),
            budget,
            crowd: Mutex::new(()),
            draws: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            share: AtomicU64::new(share),
            resizing: Mutex::new(()),
            hooks,
            is_bare,
            capacity,
            on_hit,
            hasher,
            clock,
            lookups: Lookups::default(),
            names: Names::default(),
        }
    }

    /// Begins to set up a tier.
    #[must_use]
    pub fn builder(capacity: Capacity) -> TierBuilder<K, V> {
        TierBuilder::new(capacity)
    }

    /// What it may hold: as it was set up, or [resized](Self::resize).
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        match self.capacity {
            Capacity::Weight(_) => Capacity::weight(self.budget.limit()),
            Capacity::Items(_) => Capacity::items(self.budget.limit()),
            fixed => fixed,
        }
    }

    /// Number of entries, expired ones included until they are noticed. Takes no lock.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.cells.iter().map(Cell::entries).sum()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that have left and are kept until no lookup can see them any more; see
    /// [Departure](Self#departure).
    #[must_use]
    pub fn leaving(&self) -> u64 {
        self.cells.iter().map(Cell::waiting).sum()
    }

    /// Weight in use, in the unit of the capacity: of all entries, and of what inserts that
    /// are under way have made room for. Never above the capacity. Takes no lock.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.budget.used()
    }

    /// Counters and gauges.
    ///
    /// `used_bytes` and `budget_bytes` are in the unit of the capacity.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let budget_bytes = self.capacity().limit().unwrap_or(u64::MAX);
        let mut stats = Stats { budget_bytes, used_bytes: self.weight(), ..Stats::default() };
        // Relaxed: a counter for people.
        stats.rejected = self.rejected.load(Ordering::Relaxed);
        (stats.hits, stats.misses) = self.lookups.sum();
        for cell in &self.cells {
            let (counts, entries) = cell.counts();
            stats.entries += entries;
            stats.inserts += counts.inserts;
            stats.removes += counts.removes;
            stats.evictions += counts.evictions;
            stats.expired += counts.expired;
        }
        stats
    }

    pub(super) fn departures(&self) -> Departures<'_, K, V> {
        Departures::new(self.hooks.listener.as_ref())
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    #[inline]
    pub(super) const fn cell_at(&self, hash: u64) -> usize {
        // The lowest bits of the upper half. Policies look at all of the lower one (ghosts, sketches
        // and samples), and would find the keys of a shard alike in it; tables begin at the top
        // of the upper one, and only compare the rest (`buckets.rs`).
        let bits = (hash >> 32) as usize;
        bits & (self.cells.len() - 1)
    }
}

impl<K: Hash + Eq, V> Tier<K, V> {
    /// What is looked for, in a namespace or not.
    #[inline]
    pub(super) fn seek<'a, Q>(&self, space: Space<'a>, key: &'a Q) -> Seek<'a, Q>
    where
        Q: Hash + ?Sized,
    {
        Seek { space, hash: hash_in(&self.hasher, space, key), key }
    }

    /// The value of `key`. Counts as a use.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_at(self.seek(None, key))
    }

    /// What `look` makes of the value of `key`, without a clone. Counts as a use.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// tier.insert(7, "seven".to_owned(), u64::MAX).unwrap();
    /// assert_eq!(tier.get_with(&7, |name| name.len()), Some(5));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    ///
    /// `look` may take its time, and may call the tier. What it looks at may leave the tier
    /// meanwhile, but stays as it is until `look` returns.
    #[inline]
    pub fn get_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get_with_at(self.seek(None, key), look)
    }

    /// What `look` makes of the value of `key`. Not a use, and counted neither as a hit nor
    /// as a miss.
    ///
    /// `look` may do what it may do in [`get_with`](Self::get_with).
    #[inline]
    pub fn peek_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.peek_at(self.seek(None, key), look)
    }

    /// What `look` makes of the value of `key`, while nothing can replace, remove or evict it.
    /// Not a use, and not counted.
    ///
    /// `look` runs under the lock of one shard: it must be quick and must not call the tier.
    pub fn hold_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.hold_at(self.seek(None, key), look)
    }

    /// The value of `key`. Not a use, and not counted.
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.peek_with(key, V::clone)
    }

    /// Whether `key` has a live value. Not a use, and not counted.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.peek_with(key, |_| ()).is_some()
    }

    /// Removes `key`, and says whether it had a live value.
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_if(key, |_| true)
    }

    /// Removes `key` and hands out a clone of its live value. The listener is told first.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// tier.insert(7, "seven", u64::MAX).unwrap();
    /// assert_eq!(tier.take(&7), Some("seven"));
    /// assert_eq!(tier.take(&7), None);
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    pub fn take<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.take_at(self.seek(None, key))
    }

    /// Removes `key` if it has a live value and `decide` says so of it, in one step with
    /// respect to this key. Whether it was removed.
    ///
    /// `decide` runs under the lock of one shard: it must be quick and must not call the tier.
    pub fn remove_if<Q>(&self, key: &Q, decide: impl FnOnce(&V) -> bool) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_at(self.seek(None, key), decide)
    }

    /// Walks the whole structure and says what is wrong with it. For tests and fuzzing.
    ///
    /// Holds the locks of all shards at once, so that it may be called at any time.
    ///
    /// # Errors
    /// A sentence for people: the first contradiction found.
    pub fn validate(&self) -> Result<(), String> {
        // In the order of the shards. Nothing else ever holds two locks, so nothing can wait
        // for us in a circle.
        let mut shards: Vec<_> = self.cells.iter().map(Cell::lock).collect();
        let (mut linked, mut pinned) = (0, 0);
        let known = self.names.known();
        for (at, shard) in shards.iter_mut().enumerate() {
            shard.validate().map_err(|why| format!("shard {at}: {why}"))?;
            for (_, entry) in shard.iter() {
                if self.cell_at(shard.cell.hash_of(entry)) != at {
                    return Err(format!("shard {at}: an entry belongs to another shard"));
                }
                known.validate(shard.terms(entry).marks())?;
            }
            linked += shard.weight;
            pinned += shard.pins.weight();
        }
        if pinned != self.budget.pinned() {
            let counted = self.budget.pinned();
            return Err(format!("{pinned} is pinned, and {counted} is counted"));
        }
        let used = self.budget.used();
        if linked > used || used > self.budget.limit() {
            return Err(format!(
                "entries weigh {linked}, {used} is in use, and the limit is {}",
                self.budget.limit()
            ));
        }
        Ok(())
    }

    pub(super) fn drop_entry<'a>(
        &'a self,
        shard: &mut Locked<'a, K, V>,
        place: u32,
        cause: Cause,
        departures: &mut Departures<'a, K, V>,
    ) {
        let weight = shard.remove(place, cause, self.budget.free(), departures);
        self.budget.give_back(weight);
    }
}

/// What a shard may weigh before others have to give instead: seven eighths of a fair share.
pub(super) const fn share(limit: u64, shards: u64) -> u64 {
    match shards {
        0 | 1 => 0,
        shards => {
            let fair = limit / shards;
            fair - fair / 8
        }
    }
}

/// How much may wait in each shard until nobody reads it: together a 64th of what the tier may
/// hold, but some entries at least, where entries are what is counted.
fn limits(limit: u64, shards: u64, is_weighed: bool) -> Limits {
    const ENTRIES_MIN: u64 = 8;
    const ENTRIES_MAX: usize = 256;
    /// Where less may wait, every few inserts would need a barrier.
    const BARRIERS_FROM: u64 = 64;
    let share = (limit / 64 / shards.max(1)).max(1);
    let fences = if share < BARRIERS_FROM { Fences::Own } else { readers::fences() };
    if is_weighed {
        return Limits { entries: ENTRIES_MAX, weight: share, fences };
    }
    let entries = usize::try_from(share.max(ENTRIES_MIN)).unwrap_or(ENTRIES_MAX);
    Limits { entries: entries.min(ENTRIES_MAX), weight: u64::MAX, fences }
}

impl<K, V> fmt::Debug for Tier<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tier")
            .field("capacity", &self.capacity)
            .field("shards", &self.cells.len())
            .field("len", &self.len())
            .field("weight", &self.weight())
            .finish_non_exhaustive()
    }
}
