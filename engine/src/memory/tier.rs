//! The tier: lookups, removals, gauges. Inserts are in `insert.rs`.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::mem::needs_drop;
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use super::buckets::Tag;
use super::budget::{Budget, LIMIT_MAX};
use super::builder::{Capacity, Hooks, TierBuilder};
use super::departure::{Cause, Departures};
use super::entry::Entry;
use super::limbo::Limits;
use super::policy::{OnHit, Policy};
use super::readers::{self, Fences, Record};
use super::shard::{Cell, Locked};
use super::stripes::Lookups;
use super::table::{Found, Near};
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
/// - Operations on all keys (`clear`, `iter`, `len`, `stats`, `purge_expired`) go from shard
///   to shard. What is there from beginning to end is seen; what comes or goes meanwhile may
///   be seen or not.
/// - Lookups take no lock and wait for nobody. A closure that is passed to one may take its time,
///   and may call the tier.
/// - A closure that is passed to a conditional write, or to [`hold_with`](Self::hold_with), runs
///   under the lock of one shard. It must be quick and must not call the tier: that would
///   deadlock. The same goes for `Clone` of values in `take`, of keys in `iter`, of both in
///   `coldest`, `hottest` and `drain`, and for `Hash`, `Eq` and `Borrow` of keys.
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
    /// Draws the shard that gives; see `insert.rs`.
    pub(super) draws: AtomicU64,
    pub(super) rejected: AtomicU64,
    /// What a shard may weigh before others have to give instead.
    pub(super) share: u64,
    pub(super) hooks: Hooks<K, V>,
    capacity: Capacity,
    on_hit: OnHit,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    lookups: Lookups,
}

impl<K, V> Tier<K, V> {
    pub(super) fn new(
        capacity: Capacity,
        policies: Vec<Box<dyn Policy>>,
        clock: Arc<dyn Clock>,
        hooks: Hooks<K, V>,
    ) -> Self {
        let on_hit = policies.first().map_or(OnHit::NOTHING, |policy| policy.on_hit());
        let budget = Arc::new(Budget::new(capacity.limit().unwrap_or(LIMIT_MAX)));
        let share = share(budget.limit(), policies.len() as u64);
        let limits = limits(budget.limit(), policies.len() as u64, hooks.weigher.is_some());
        let hasher = RandomState::default();
        let is_weighed = hooks.weigher.is_some();
        let cell =
            |policy| Cell::new(policy, limits, is_weighed, hasher.clone(), Arc::clone(&budget));
        Self {
            cells: policies.into_iter().map(cell).collect(),
            budget,
            crowd: Mutex::new(()),
            draws: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            share,
            hooks,
            capacity,
            on_hit,
            hasher,
            clock,
            lookups: Lookups::default(),
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
        let budget_bytes = self.capacity.limit().unwrap_or(u64::MAX);
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

    /// Whether an entry of a shard is live.
    #[inline]
    fn is_live(&self, cell: &Cell<K, V>, entry: &Entry<K, V>) -> bool {
        entry.packed.is_plain() || cell.table().terms(entry).is_live(|| self.now_ms())
    }

    /// Whether it is, as a use of it; for one that a glance does not tell.
    #[inline(never)]
    fn is_live_for_use(&self, cell: &Cell<K, V>, entry: &Entry<K, V>) -> bool {
        cell.table().terms(entry).check_use(|| self.now_ms()).is_ok()
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
    #[inline]
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The value of `key`. Counts as a use.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let clone = |found: Found<'_, K, V>| {
            if needs_drop::<V>() { found.settle().value.clone() } else { found.value.clone() }
        };
        self.look_up(key, clone)
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
        self.look_up(key, |found| look(&found.settle().value))
    }

    /// What `look` makes of the live entry of a key. Counts as a use.
    ///
    /// What is usual goes straight through, without a call, and so without saving registers; what
    /// is not begins again in [`look_up_anyhow`](Self::look_up_anyhow).
    #[inline(always)]
    fn look_up<Q, R>(&self, key: &Q, look: impl FnOnce(Found<'_, K, V>) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (hash, cell) = self.home(key);
        if !cell.has_replay()
            && let Some(mut pin) = readers::enter_first(cell.table().fences())
        {
            let index = pin.record().index();
            match cell.table().find_near(&mut pin, Tag::of(hash), key) {
                Near::Found(found) if found.packed.is_plain() => {
                    self.lookups.hit(index);
                    self.on_hit.count(&found.hits);
                    return Some(look(found));
                }
                Near::Absent => {
                    self.lookups.miss(index);
                    return None;
                }
                Near::Found(_) | Near::Further => {}
            }
        }
        self.look_up_anyhow(cell, hash, key, look)
    }

    /// The same, whatever it takes. What is dead, and was not replaced meanwhile, is removed, unless
    /// a writer is at work there.
    #[inline(never)]
    fn look_up_anyhow<Q, R>(
        &self,
        cell: &Cell<K, V>,
        hash: u64,
        key: &Q,
        look: impl FnOnce(Found<'_, K, V>) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        loop {
            let mut pin = readers::enter(cell.table().fences());
            let record = pin.record();
            let Some(found) = cell.table().find(&mut pin, Tag::of(hash), key) else {
                self.lookups.miss(record.index());
                return None;
            };
            if found.packed.is_plain() || self.is_live_for_use(cell, &found) {
                self.note_use(cell, record, &found, hash);
                return Some(look(found));
            }
            if is_still_there(cell, &found, hash, key) {
                self.lookups.miss(record.index());
                break;
            }
        }
        let mut departures = self.departures();
        let mut shard = cell.try_lock()?;
        let (place, entry) = shard.find(hash, key)?;
        if let Err(dead) = shard.terms(entry).check(|| self.now_ms()) {
            self.drop_entry(&mut shard, place, dead.into(), &mut departures);
        }
        None
    }

    /// The hash of a key, and its shard.
    #[inline]
    fn home<Q: Hash + ?Sized>(&self, key: &Q) -> (u64, &Cell<K, V>) {
        let hash = self.hash(key);
        (hash, &self.cells[self.cell_at(hash)])
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
        let (hash, cell) = self.home(key);
        loop {
            let mut pin = readers::enter(cell.table().fences());
            let found = cell.table().find(&mut pin, Tag::of(hash), key)?;
            if self.is_live(cell, &found) {
                return Some(look(&found.settle().value));
            }
            if is_still_there(cell, &found, hash, key) {
                return None;
            }
        }
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
        let hash = self.hash(key);
        let shard = self.cells[self.cell_at(hash)].lock();
        let (_, entry) = shard.find(hash, key)?;
        let is_live = shard.terms(entry).is_live(|| self.now_ms());
        is_live.then(|| look(&entry.value))
    }

    /// Counts a hit, and tells the policy if it wants to hear of it.
    fn note_use(&self, cell: &Cell<K, V>, record: &Record, found: &Found<'_, K, V>, hash: u64) {
        self.lookups.hit(record.index());
        self.on_hit.count(&found.hits);
        if let Some(replay) = cell.replay_of(hash)
            && !replay.push(record, found.id())
            // Locking tells the policy of all of them.
            && cell.try_lock().is_some()
        {
            replay.push(record, found.id());
        }
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
        let mut taken = None;
        self.remove_if(key, |value| {
            taken = Some(value.clone());
            true
        });
        taken
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
        let hash = self.hash(key);
        let mut departures = self.departures();
        let mut shard = self.cells[self.cell_at(hash)].lock();
        let Some((place, entry)) = shard.find(hash, key) else { return false };
        let state = shard.terms(entry).check(|| self.now_ms());
        if state.is_ok() && !decide(&entry.value) {
            return false;
        }
        let cause = state.map_or_else(Cause::from, |()| Cause::Invalidated);
        self.drop_entry(&mut shard, place, cause, &mut departures);
        state.is_ok()
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
        for (at, shard) in shards.iter_mut().enumerate() {
            shard.validate().map_err(|why| format!("shard {at}: {why}"))?;
            let stray = |key| self.cell_at(self.hash(key)) != at;
            if shard.iter().any(|(_, entry)| stray(&entry.key)) {
                return Err(format!("shard {at}: an entry belongs to another shard"));
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

/// Whether a key still has the entry that was found under it. A dead one was replaced by a live one
/// otherwise, maybe before it died, and then the key was never without a live value.
fn is_still_there<K, V, Q>(cell: &Cell<K, V>, found: &Found<'_, K, V>, hash: u64, key: &Q) -> bool
where
    K: Borrow<Q>,
    Q: Eq + ?Sized,
{
    // Its id is not used again as long as it is held.
    let mut pin = readers::enter(cell.table().fences());
    let now = cell.table().find(&mut pin, Tag::of(hash), key);
    now.is_none_or(|now| now.id() == found.id())
}

/// What a shard may weigh before others have to give instead: seven eighths of a fair share.
const fn share(limit: u64, shards: u64) -> u64 {
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
