//! One shard: a table, the policy over it, and counters, behind one lock.
//!
//! # Invariants
//! 1. The policy knows exactly the entries of the table, whenever the lock is free.
//! 2. `weight` is the sum of their weights; `published` shows it and their number outside the
//!    lock from when it was last free.
//! 3. No entry that can expire does so before `soonest_ms`.

use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};

use parking_lot::{Mutex, MutexGuard};

use super::departure::{Cause, Departures};
use super::policy::Policy;
use super::table::{Entry, Shelf, Table};
use crate::clock::{NEVER, is_live};
use crate::sync::{AtomicU64, Ordering};

/// What happened in one shard.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) inserts: u64,
    pub(super) removes: u64,
    pub(super) evictions: u64,
    pub(super) expired: u64,
}

#[derive(Debug)]
pub(super) struct Shard<K, V> {
    pub(super) table: Table<K, V>,
    pub(super) policy: Box<dyn Policy>,
    pub(super) weight: u64,
    pub(super) soonest_ms: u64,
    pub(super) counts: Counts,
}

impl<K, V> Shard<K, V> {
    /// What the policy may ask, given what the shard could get beyond what it holds.
    pub(super) const fn split(&mut self, room: u64) -> (&mut dyn Policy, Shelf<'_, K, V>) {
        let capacity = self.weight.saturating_add(room);
        (&mut *self.policy, Shelf { table: &self.table, capacity })
    }

    /// Links an entry that the policy will hear of next.
    pub(super) fn link(&mut self, entry: Entry<K, V>) -> Option<u32> {
        let (weight, expires_at_ms) = (entry.weight, entry.expires_at_ms);
        let id = self.table.insert(entry)?;
        self.weight += weight;
        self.soonest_ms = self.soonest_ms.min(expires_at_ms);
        Some(id)
    }

    /// Unlinks an entry that the policy has forgotten already, and says what it weighed.
    pub(super) fn unlink(
        &mut self,
        id: u32,
        cause: Cause,
        departures: &mut Departures<'_, K, V>,
    ) -> u64 {
        let Some(entry) = self.table.remove(id) else {
            return 0;
        };
        self.weight -= entry.weight;
        self.count(cause);
        departures.push(entry.key, entry.value, cause);
        entry.weight
    }

    /// Makes the policy forget an entry, and unlinks it.
    pub(super) fn remove(
        &mut self,
        id: u32,
        cause: Cause,
        room: u64,
        departures: &mut Departures<'_, K, V>,
    ) -> u64 {
        let (policy, shelf) = self.split(room);
        policy.remove(id, &shelf);
        self.unlink(id, cause, departures)
    }

    pub(super) const fn count(&mut self, cause: Cause) {
        match cause {
            Cause::Expired => self.counts.expired += 1,
            Cause::Capacity => self.counts.evictions += 1,
            Cause::Invalidated => self.counts.removes += 1,
            Cause::Replaced => {}
        }
    }

    /// Removes everything, and says how many entries that were and what they weighed.
    pub(super) fn clear(
        &mut self,
        now_ms: impl FnOnce() -> u64,
        departures: &mut Departures<'_, K, V>,
    ) -> (u64, u64) {
        let now_ms = if self.soonest_ms == NEVER { 0 } else { now_ms() };
        self.policy.clear();
        self.soonest_ms = NEVER;
        let mut count = 0;
        for entry in std::mem::take(&mut self.table).into_entries() {
            let cause = if entry.is_live(|| now_ms) { Cause::Invalidated } else { Cause::Expired };
            self.count(cause);
            departures.push(entry.key, entry.value, cause);
            count += 1;
        }
        (count, std::mem::take(&mut self.weight))
    }

    /// Removes what has expired, and says how many entries that were and what they weighed.
    pub(super) fn purge_expired(
        &mut self,
        now_ms: impl FnOnce() -> u64,
        room: u64,
        departures: &mut Departures<'_, K, V>,
    ) -> (u64, u64) {
        if self.soonest_ms == NEVER {
            return (0, 0);
        }
        let now_ms = now_ms();
        if is_live(self.soonest_ms, now_ms) {
            return (0, 0);
        }
        let mut dead = Vec::new();
        self.soonest_ms = NEVER;
        for (id, entry) in self.table.iter() {
            if entry.is_live(|| now_ms) {
                self.soonest_ms = self.soonest_ms.min(entry.expires_at_ms);
            } else {
                dead.push(id);
            }
        }
        let (mut count, mut weight) = (0, 0);
        for id in dead {
            weight += self.remove(id, Cause::Expired, room, departures);
            count += 1;
        }
        (count, weight)
    }

    /// Checks invariants 1 and 3 and the table's own.
    pub(super) fn validate(&mut self, hash_of: impl Fn(&K) -> NonZeroU64) -> Result<(), String> {
        self.table.validate(hash_of)?;
        let weight: u64 = self.table.iter().map(|(_, entry)| entry.weight).sum();
        if weight != self.weight {
            return Err(format!("entries weighing {weight} are counted as {}", self.weight));
        }
        if self.table.iter().any(|(_, entry)| entry.expires_at_ms < self.soonest_ms) {
            return Err(format!("an entry expires before {} ms", self.soonest_ms));
        }
        if self.policy.len() != self.table.len() {
            return Err(format!(
                "the policy knows {} entries of {}",
                self.policy.len(),
                self.table.len()
            ));
        }
        let (policy, shelf) = self.split(0);
        policy.validate(&shelf)
    }
}

/// A shard with its lock, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Cell<K, V> {
    shard: Mutex<Shard<K, V>>,
    published: Published,
}

#[derive(Debug, Default)]
struct Published {
    weight: AtomicU64,
    entries: AtomicU64,
}

impl<K, V> Cell<K, V> {
    pub(super) fn new(policy: Box<dyn Policy>) -> Self {
        let shard = Shard {
            table: Table::default(),
            policy,
            weight: 0,
            soonest_ms: NEVER,
            counts: Counts::default(),
        };
        Self { shard: Mutex::new(shard), published: Published::default() }
    }

    /// For everything that may change what the shard holds.
    pub(super) fn lock(&self) -> Locked<'_, K, V> {
        Locked { shard: self.shard.lock(), published: &self.published }
    }

    /// What the shard weighed when its lock was last free.
    pub(super) fn weight(&self) -> u64 {
        // Relaxed: a hint for choosing where to evict, and a gauge; it guards nothing.
        self.published.weight.load(Ordering::Relaxed)
    }

    /// How many entries it had then.
    pub(super) fn entries(&self) -> u64 {
        // Relaxed: as above.
        self.published.entries.load(Ordering::Relaxed)
    }
}

/// A locked shard, which publishes its gauges before it is unlocked.
#[derive(Debug)]
pub(super) struct Locked<'a, K, V> {
    shard: MutexGuard<'a, Shard<K, V>>,
    published: &'a Published,
}

impl<K, V> Deref for Locked<'_, K, V> {
    type Target = Shard<K, V>;

    fn deref(&self) -> &Shard<K, V> {
        &self.shard
    }
}

impl<K, V> DerefMut for Locked<'_, K, V> {
    fn deref_mut(&mut self) -> &mut Shard<K, V> {
        &mut self.shard
    }
}

impl<K, V> Drop for Locked<'_, K, V> {
    fn drop(&mut self) {
        // Relaxed: see `Cell::weight`. Hits change neither, and then write neither.
        let show = |gauge: &AtomicU64, now| {
            if gauge.load(Ordering::Relaxed) != now {
                gauge.store(now, Ordering::Relaxed);
            }
        };
        show(&self.published.weight, self.shard.weight);
        show(&self.published.entries, self.shard.table.len() as u64);
    }
}
