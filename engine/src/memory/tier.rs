//! The tier: lookups, removals, gauges. Inserts are in `insert.rs`.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU64;
use std::sync::Arc;

use parking_lot::Mutex;

use super::budget::{Budget, LIMIT_MAX};
use super::builder::{Capacity, Hooks, TierBuilder};
use super::departure::{Cause, Departures};
use super::policy::{OnHit, Policy};
use super::shard::{Cell, Shard};
use super::table::Entry;
use crate::clock::Clock;
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
/// An entry is live while `now < expires_at_ms`, in ms since 1970; `u64::MAX` for never. From
/// then on it is not found, and it leaves when a `get`, a write of its key, an eviction or
/// [`purge_expired`](Self::purge_expired) notices it. Until then it counts in
/// [`len`](Self::len) and [`weight`](Self::weight).
///
/// # Consistency
/// - Operations on one key are linearizable: each takes effect at one moment between call and
///   return, and whoever returns later sees it.
/// - Operations on all keys (`clear`, `entries`, `len`, `stats`, `purge_expired`) go from shard
///   to shard. What is there from beginning to end is seen; what comes or goes meanwhile may
///   be seen or not.
/// - A closure that is passed to a lookup or to a conditional write runs under the lock of
///   one shard. It must be quick and must not call the tier: that would deadlock. The same
///   goes for `Clone` of values in `get` and `entries`, and for `Eq` and `Borrow` of keys.
/// - A panic in a closure, or in the code of keys and values, reaches the caller, and leaves
///   the tier as if the operation had been made in full or not at all.
pub struct Tier<K, V> {
    pub(super) cells: Box<[Cell<K, V>]>,
    pub(super) budget: Budget,
    /// Held by an insert that found nothing to evict, so that of several only one goes on.
    pub(super) crowd: Mutex<()>,
    /// Draws the shard that gives; see `insert.rs`.
    pub(super) draws: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) hooks: Hooks<K, V>,
    capacity: Capacity,
    on_hit: OnHit,
    hasher: foldhash::quality::RandomState,
    clock: Arc<dyn Clock>,
}

impl<K, V> Tier<K, V> {
    pub(super) fn new(
        capacity: Capacity,
        policies: impl Iterator<Item = Box<dyn Policy>>,
        clock: Arc<dyn Clock>,
        hooks: Hooks<K, V>,
    ) -> Self {
        let mut on_hit = OnHit::NOTHING;
        let cells = policies
            .map(|policy| {
                on_hit = policy.on_hit();
                Cell::new(policy)
            })
            .collect();
        Self {
            cells,
            budget: Budget::new(capacity.limit().unwrap_or(LIMIT_MAX)),
            crowd: Mutex::new(()),
            draws: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            hooks,
            capacity,
            on_hit,
            hasher: foldhash::quality::RandomState::default(),
            clock,
        }
    }

    /// Begins to set up a tier.
    #[must_use]
    pub fn builder(capacity: Capacity) -> TierBuilder<K, V> {
        TierBuilder::new(capacity)
    }

    /// What it was set up to hold.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        self.capacity
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
        let budget_bytes = self.capacity.limit().unwrap_or(u64::MAX);
        let mut stats = Stats { budget_bytes, used_bytes: self.weight(), ..Stats::default() };
        // Relaxed: a counter for people.
        stats.rejected = self.rejected.load(Ordering::Relaxed);
        for cell in &self.cells {
            let counts = {
                let shard = cell.lock();
                stats.entries += shard.table.len() as u64;
                shard.counts
            };
            stats.hits += counts.hits;
            stats.misses += counts.misses;
            stats.inserts += counts.inserts;
            stats.removes += counts.removes;
            stats.evictions += counts.evictions;
            stats.expired += counts.expired;
        }
        stats
    }

    /// Removes everything that was inserted before the call, and says how many entries that
    /// were, expired ones included.
    pub fn clear(&self) -> u64 {
        let mut total = 0;
        for cell in &self.cells {
            let mut departures = self.departures();
            let (count, weight) = cell.lock().clear(|| self.now_ms(), &mut departures);
            self.budget.give_back(weight);
            total += count;
        }
        total
    }

    /// Removes what has expired, and says how many entries that were.
    ///
    /// Looks at every entry of a shard in which something may have expired.
    pub fn purge_expired(&self) -> u64 {
        let mut total = 0;
        for cell in &self.cells {
            let mut departures = self.departures();
            let room = self.budget.free();
            let (count, weight) =
                cell.lock().purge_expired(|| self.now_ms(), room, &mut departures);
            self.budget.give_back(weight);
            total += count;
        }
        total
    }

    /// All live entries, in no order. Does not count as use.
    #[must_use]
    pub fn entries(&self) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        (0..self.cells.len()).flat_map(|at| self.entries_of(at)).collect()
    }

    /// The live entries of one shard.
    pub(super) fn entries_of(&self, cell: usize) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        let shard = self.cells[cell].lock();
        let live = shard.table.iter().filter(|(_, entry)| self.is_live(entry));
        live.map(|(_, entry)| (entry.key.clone(), entry.value.clone())).collect()
    }

    pub(super) fn departures(&self) -> Departures<'_, K, V> {
        Departures::new(self.hooks.listener.as_ref())
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    #[inline]
    pub(super) fn is_live(&self, entry: &Entry<K, V>) -> bool {
        entry.is_live(|| self.now_ms())
    }

    pub(super) fn cell_at(&self, hash: NonZeroU64) -> usize {
        // Bits that the tables use neither for buckets (the low ones) nor for tags (the top
        // seven), unless a shard has more than 2⁴⁰ of them.
        let bits = (hash.get() >> 40) as usize;
        bits & (self.cells.len() - 1)
    }
}

impl<K: Hash + Eq, V> Tier<K, V> {
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> NonZeroU64 {
        NonZeroU64::new(self.hasher.hash_one(key)).unwrap_or(NonZeroU64::MIN)
    }

    /// The value of `key`. Counts as a use.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.get_with(key, V::clone)
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
    /// `look` runs under the lock of one shard: it must be quick and must not call the tier.
    pub fn get_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let mut departures = self.departures();
        let mut locked = self.cells[self.cell_at(hash)].lock();
        let shard = &mut *locked;
        let found = shard.table.find(hash, key).and_then(|id| Some((id, shard.table.get(id)?)));
        let Some((id, entry)) = found else {
            shard.counts.misses += 1;
            return None;
        };
        if !self.is_live(entry) {
            shard.counts.misses += 1;
            self.drop_entry(shard, id, Cause::Expired, &mut departures);
            return None;
        }
        shard.counts.hits += 1;
        self.on_hit.count(&entry.hits);
        if self.on_hit.replay {
            let (policy, shelf) = shard.split(0);
            policy.hit(id, &shelf);
        }
        Some(look(&shard.table.get(id)?.value))
    }

    /// What `look` makes of the value of `key`. Not a use, and counted neither as a hit nor
    /// as a miss.
    ///
    /// `look` runs under the lock of one shard: it must be quick and must not call the tier.
    pub fn peek_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let shard = self.cells[self.cell_at(hash)].lock();
        let entry = shard.table.get(shard.table.find(hash, key)?)?;
        self.is_live(entry).then(|| look(&entry.value))
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

    /// Removes `key` and hands out its live value. The listener is told first.
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
    {
        let mut departures = self.departures();
        let removed = self.remove_into(key, |_| true, &mut departures);
        if removed { departures.tell_and_take() } else { None }
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
        self.remove_into(key, decide, &mut self.departures())
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
        let mut linked = 0;
        for (at, shard) in shards.iter_mut().enumerate() {
            shard.validate(|key| self.hash(key)).map_err(|why| format!("shard {at}: {why}"))?;
            let stray = |key| self.cell_at(self.hash(key)) != at;
            if shard.table.iter().any(|(_, entry)| stray(&entry.key)) {
                return Err(format!("shard {at}: an entry belongs to another shard"));
            }
            linked += shard.weight;
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

    fn remove_into<Q>(
        &self,
        key: &Q,
        decide: impl FnOnce(&V) -> bool,
        departures: &mut Departures<'_, K, V>,
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let mut locked = self.cells[self.cell_at(hash)].lock();
        let shard = &mut *locked;
        let found = shard.table.find(hash, key).and_then(|id| Some((id, shard.table.get(id)?)));
        let Some((id, entry)) = found else {
            return false;
        };
        let live = self.is_live(entry);
        if live && !decide(&entry.value) {
            return false;
        }
        let cause = if live { Cause::Invalidated } else { Cause::Expired };
        self.drop_entry(shard, id, cause, departures);
        live
    }

    pub(super) fn drop_entry(
        &self,
        shard: &mut Shard<K, V>,
        id: u32,
        cause: Cause,
        departures: &mut Departures<'_, K, V>,
    ) {
        let weight = shard.remove(id, cause, self.budget.free(), departures);
        self.budget.give_back(weight);
    }
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
