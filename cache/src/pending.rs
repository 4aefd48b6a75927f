//! Values on their way from memory to the store.
//!
//! A value that only memory holds is **unflushed**. When the memory tier evicts one, it comes
//! here before it leaves the tier, so that a reader who looks in memory, here and in the store,
//! in this order, finds it. It leaves when the store has it, when its key changes, or when the
//! store has failed for so long that there is no more room: then it is lost, and counted.
//!
//! ```text
//! memory ──before_evict──► pending ──drain──► store
//!                             │
//!                             ├── insert, remove: dropped
//!                             └── too much for too long: lost
//! ```
//!
//! # Invariants
//! 1. A key can be barred while it changes: an eviction that happens meanwhile does not bring
//!    in the value that is being replaced. Only the incoming entry itself may enter.
//! 2. A value enters under the lock of its place in the tier, so before anyone can miss it
//!    there. (`Tier::before_evict` promises that.)
//! 3. Locks in here are leaves: nothing else is taken under them, but for a shard's under
//!    the queue's.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use crate::entry::Entry;
use crate::key::Key;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};

const SHARDS: usize = 16;

/// Keys that have left but may stay in the queue.
const QUEUE_SLACK: usize = 1024;

/// A key and the entry that waits under it.
pub(crate) type Waiting<V> = (Key, Arc<Entry<V>>);

pub(crate) struct Pending<V> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<V>>]>,
    /// In the order in which they came; those that have left already are skipped. Weak, so
    /// that what has left is freed.
    queue: Mutex<VecDeque<(Key, Weak<Entry<V>>)>>,
    len: AtomicUsize,
    weight: AtomicU64,
}

struct Shard<V> {
    waiting: HashMap<Key, Arc<Entry<V>>>,
    /// Keys that are being changed, with what is coming in.
    barred: Vec<(Key, Option<Arc<Entry<V>>>)>,
}

/// Keeps a key barred.
#[must_use = "the key is barred for as long as this lives"]
pub(crate) struct Bar<'a, V> {
    pending: &'a Pending<V>,
    key: &'a Key,
}

impl<V> Default for Pending<V> {
    fn default() -> Self {
        let shard = || Shard { waiting: HashMap::new(), barred: Vec::new() };
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            queue: Mutex::default(),
            len: AtomicUsize::new(0),
            weight: AtomicU64::new(0),
        }
    }
}

impl<V> Pending<V> {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn shard(&self, key: &[u8]) -> &Mutex<Shard<V>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// How many values wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        // Acquire: pairs with the Release in `insert`. Who missed a value in memory because
        // it was evicted sees that something is here.
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn weight(&self) -> u64 {
        // Relaxed: a figure.
        self.weight.load(Ordering::Relaxed)
    }

    /// Takes in what the tier evicts, unless its key is being changed.
    pub(crate) fn insert(&self, key: &Key, entry: &Arc<Entry<V>>) {
        let mut shard = self.shard(key).lock();
        let refused = |(barred, incoming): &(Key, Option<Arc<Entry<V>>>)| {
            barred == key && incoming.as_ref().is_none_or(|incoming| !Arc::ptr_eq(incoming, entry))
        };
        if shard.barred.iter().any(refused) {
            return;
        }
        // Relaxed: a figure.
        self.weight.fetch_add(entry.weight, Ordering::Relaxed);
        match shard.waiting.insert(key.clone(), Arc::clone(entry)) {
            Some(older) => self.left(&older),
            // Release: see `len`.
            None => drop(self.len.fetch_add(1, Ordering::Release)),
        }
        drop(shard);
        let mut queue = self.queue.lock();
        queue.push_back((key.clone(), Arc::downgrade(entry)));
        if queue.len() > 2 * self.len() + QUEUE_SLACK {
            queue.retain(|(_, entry)| entry.strong_count() != 0);
        }
    }

    /// Bars `key` until the result is dropped. Hold the stripe.
    pub(crate) fn bar<'a>(&'a self, key: &'a Key) -> Bar<'a, V> {
        self.shard(key).lock().barred.push((key.clone(), None));
        Bar { pending: self, key }
    }

    /// What waits under `key`.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        if self.len() == 0 {
            return None;
        }
        self.shard(key).lock().waiting.get(key).cloned()
    }

    /// Whether this very entry waits under `key`.
    pub(crate) fn holds(&self, key: &[u8], entry: &Arc<Entry<V>>) -> bool {
        self.get(key).is_some_and(|waiting| Arc::ptr_eq(&waiting, entry))
    }

    /// Takes out this very entry. Whether it was there.
    pub(crate) fn remove(&self, key: &[u8], entry: &Arc<Entry<V>>) -> bool {
        let mut shard = self.shard(key).lock();
        let is_it = shard.waiting.get(key).is_some_and(|waiting| Arc::ptr_eq(waiting, entry));
        if is_it {
            self.take_from(&mut shard, key);
        }
        is_it
    }

    /// Takes out what waits under `key`. Hold the stripe.
    pub(crate) fn take(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        if self.len() == 0 {
            return None;
        }
        self.take_from(&mut self.shard(key).lock(), key)
    }

    fn take_from(&self, shard: &mut Shard<V>, key: &[u8]) -> Option<Arc<Entry<V>>> {
        let entry = shard.waiting.remove(key)?;
        // Release: as in `insert`.
        self.len.fetch_sub(1, Ordering::Release);
        self.left(&entry);
        Some(entry)
    }

    /// The next to be written.
    pub(crate) fn next(&self) -> Option<Waiting<V>> {
        loop {
            let (key, entry) = self.queue.lock().pop_front()?;
            if let Some(entry) = entry.upgrade()
                && self.holds(&key, &entry)
            {
                return Some((key, entry));
            }
        }
    }

    /// Queues again what could not be written.
    pub(crate) fn again(&self, (key, entry): &Waiting<V>) {
        self.queue.lock().push_front((key.clone(), Arc::downgrade(entry)));
    }

    /// How many are queued, those that have left included.
    pub(crate) fn queued(&self) -> usize {
        self.queue.lock().len()
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let keys =
            |shard: &Mutex<Shard<V>>| shard.lock().waiting.keys().cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(keys).collect()
    }

    /// Forgets everything, and says how much that was.
    pub(crate) fn clear(&self) -> u64 {
        let mut count = 0;
        for shard in &self.shards {
            let gone = std::mem::take(&mut shard.lock().waiting);
            // Release: as in `insert`.
            self.len.fetch_sub(gone.len(), Ordering::Release);
            gone.values().for_each(|entry| self.left(entry));
            count += gone.len() as u64;
        }
        count
    }

    fn left(&self, entry: &Entry<V>) {
        // Relaxed: a figure.
        self.weight.fetch_sub(entry.weight, Ordering::Relaxed);
    }
}

impl<V> Bar<'_, V> {
    /// Lets `entry` in, should it be evicted at once.
    pub(crate) fn admit(&self, entry: &Arc<Entry<V>>) {
        let mut shard = self.pending.shard(self.key).lock();
        if let Some((_, incoming)) = shard.barred.iter_mut().find(|(key, _)| key == self.key) {
            *incoming = Some(Arc::clone(entry));
        }
    }
}

impl<V> Drop for Bar<'_, V> {
    fn drop(&mut self) {
        let mut shard = self.pending.shard(self.key).lock();
        let barred = shard.barred.iter().position(|(key, _)| key == self.key);
        let barred = barred.map(|at| shard.barred.swap_remove(at));
        // What it let in may be the last reference to a value of the user.
        drop(shard);
        drop(barred);
    }
}

impl<V> fmt::Debug for Pending<V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pending").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Bar<'_, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Bar").field(self.key).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Life;

    fn entry(version: u64) -> Arc<Entry<()>> {
        Entry::new((), Life::default(), version, 10, None, true)
    }

    #[test]
    fn an_eviction_during_a_change_is_let_in_only_if_it_is_the_incoming_value() {
        let pending = Pending::default();
        let [k, other] = [&b"k"[..], b"other"].map(Key::from);
        pending.insert(&k, &entry(1));
        let incoming = entry(3);
        let bar = pending.bar(&k);
        assert_eq!(pending.take(&k).unwrap().version, 1);
        pending.insert(&k, &entry(2));
        pending.insert(&other, &entry(2));
        assert!(pending.get(&k).is_none());
        bar.admit(&incoming);
        pending.insert(&k, &entry(2));
        assert!(pending.get(&k).is_none());
        pending.insert(&k, &incoming);
        drop(bar);
        assert!(pending.holds(&k, &incoming));
        assert_eq!((pending.len(), pending.weight()), (2, 20));
    }

    #[test]
    fn the_queue_skips_what_has_left_or_was_replaced() {
        let pending = Pending::default();
        let [a, b] = [&b"a"[..], b"b"].map(Key::from);
        let [first, second, third] = [1, 2, 3].map(entry);
        pending.insert(&a, &first);
        pending.insert(&b, &second);
        pending.insert(&a, &third);
        assert!(!pending.remove(&b, &third));
        assert!(pending.remove(&b, &second));
        let next = pending.next().unwrap();
        assert_eq!(next.1.version, 3);
        pending.again(&next);
        assert_eq!(pending.next().unwrap().1.version, 3);
        assert!(pending.next().is_none());
        assert_eq!(pending.clear(), 1);
        assert_eq!((pending.len(), pending.weight()), (0, 0));
    }

    #[test]
    fn a_queue_that_nobody_drains_stays_short() {
        let pending = Pending::default();
        let key = Key::from(&b"k"[..]);
        for version in 0..10_000 {
            pending.insert(&key, &entry(version));
        }
        assert!(pending.queued() < 2 * QUEUE_SLACK);
        assert_eq!(pending.next().unwrap().1.version, 9_999);
    }
}
