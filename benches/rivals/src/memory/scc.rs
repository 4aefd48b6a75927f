//! scc's `HashCache`. Settings: its defaults, with foldhash as the others have, and all of its places
//! from the beginning: while it grows, it evicts much of what would have room.
//!
//! 32-way associative: what is used least leaves its bucket, not the whole cache, and the number of
//! entries is rounded up to a power of two. `read_sync` is no use for its policy, so a hit is
//! `get_sync`, which has the bucket to itself; a look at the value in place is `read_sync`, as
//! its documentation advises.

use ::scc::HashCache;

use super::MemoryRival;

/// scc's concurrent cache.
#[derive(Debug)]
pub struct Scc<V> {
    cache: HashCache<u64, V, foldhash::quality::RandomState>,
}

impl<V: Clone + Send + Sync + 'static> MemoryRival<V> for Scc<V> {
    const NAME: &'static str = "scc";
    const SETTINGS: &'static str = "HashCache at full size, with foldhash";

    fn with_capacity(entries: u32) -> Self {
        let hasher = foldhash::quality::RandomState::default();
        let entries = entries as usize;
        Self { cache: HashCache::with_capacity_and_hasher(entries, entries, hasher) }
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.cache.get_sync(&key).map(|entry| entry.get().clone())
    }

    #[inline]
    fn get_with<R>(&self, key: u64, look: impl FnOnce(&V) -> R) -> Option<R> {
        self.cache.read_sync(&key, |_, value| look(value))
    }

    #[inline]
    fn insert(&self, key: u64, value: V) {
        self.cache.entry_sync(key).put_entry(value);
    }
}
