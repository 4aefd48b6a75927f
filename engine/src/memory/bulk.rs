//! Operations on many entries, shard by shard.

use std::borrow::Borrow;
use std::hash::Hash;
use std::thread;

use super::departure::{Cause, Departures};
use super::shard::Cell;
use super::tier::Tier;

/// How often clearing lets other threads on while lookups are in the way.
const CLEAR_PATIENCE: usize = 64;

impl<K: Hash + Eq, V> Tier<K, V> {
    /// The values of several keys, in their order. Each counts as a use, as with
    /// [`get`](Self::get); together they are not one step.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// tier.insert("pear", 3, u64::MAX).unwrap();
    /// assert_eq!(tier.get_many(["plum", "pear"]), [None, Some(3)]);
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    pub fn get_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Vec<Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized + 'a,
        V: Clone,
    {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Removes every live entry under a plain key of which `keep` says no, and says how many those
    /// were. What is dead leaves as well; `keep` is not asked about it.
    ///
    /// `keep` runs under the lock of one shard: it must be quick and must not call the tier. If
    /// it panics, what it has refused in that shard before stays.
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) -> u64 {
        let mut removed = 0;
        for cell in &self.cells {
            let mut departures = self.departures();
            let mut shard = cell.lock();
            let mut leaving = Vec::new();
            for (place, entry) in shard.iter() {
                match shard.terms(entry).check(|| self.now_ms()) {
                    Err(dead) => leaving.push((place, dead.into(), false)),
                    Ok(()) if entry.packed.is_spaced() || keep(&entry.key, &entry.value) => {}
                    Ok(()) => leaving.push((place, Cause::Invalidated, true)),
                }
            }
            for (place, cause, was_live) in leaving {
                self.drop_entry(&mut shard, place, cause, &mut departures);
                removed += u64::from(was_live);
            }
        }
        removed
    }

    /// Removes everything that was inserted before the call, and says how many entries that
    /// were, expired ones included.
    pub fn clear(&self) -> u64 {
        let mut total = 0;
        for cell in &self.cells {
            {
                let mut departures = self.departures();
                let (count, weight) = cell.lock().clear(|| self.now_ms(), &mut departures);
                self.budget.give_back(weight);
                total += count;
            }
            // Once the listener has been told. A lookup that is under way takes no time, unless it
            // has lost the processor.
            for _ in 0..CLEAR_PATIENCE {
                if !cell.collect_all(self.departures().trash()) {
                    break;
                }
                thread::yield_now();
            }
        }
        total
    }

    /// Removes what has expired, and says how many entries that were.
    ///
    /// Takes time in proportion to that, and to the entries whose deadlines were moved by uses;
    /// inserts need not wait for long meanwhile.
    pub fn purge_expired(&self) -> u64 {
        let purge = |cell| {
            let mut total = 0;
            loop {
                let mut departures = self.departures();
                let (count, is_done) = self.purge_some(cell, &mut departures);
                total += count;
                if is_done {
                    return total;
                }
                // Tells of these before it goes on.
            }
        };
        self.cells.iter().map(purge).sum()
    }

    /// Removes everything that is dead, expired or invalidated, and says how many entries that
    /// were.
    ///
    /// Where something was invalidated since the last time, looks at every entry that has tags or
    /// belongs to a namespace.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Keep, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// tier.insert_as("page", 1, &Keep::default().tags(&["pages"])).unwrap();
    /// tier.invalidate_tag("pages");
    /// assert_eq!((tier.len(), tier.purge(), tier.len()), (1, 1, 0));
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    pub fn purge(&self) -> u64 {
        let expired = self.purge_expired();
        let sweep = |cell| self.sweep(cell, &mut self.departures());
        expired + self.cells.iter().map(sweep).sum::<u64>()
    }

    /// Removes what is dead in one shard.
    pub(super) fn purge_dead<'a>(
        &'a self,
        cell: &'a Cell<K, V>,
        departures: &mut Departures<'a, K, V>,
    ) {
        while !self.purge_some(cell, departures).1 {}
        self.sweep(cell, departures);
    }

    /// Removes what was invalidated in one shard, and says how many entries that were.
    fn sweep<'a>(&'a self, cell: &'a Cell<K, V>, departures: &mut Departures<'a, K, V>) -> u64 {
        let (room, invalidations) = (self.budget.free(), self.names.invalidations());
        let (count, weight) = cell.lock().sweep(invalidations, || self.now_ms(), room, departures);
        self.budget.give_back(weight);
        count
    }
}
