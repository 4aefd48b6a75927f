//! foyer's in-memory cache. Settings: its defaults (8 shards, LRU), with foldhash as the others
//! have. What it hands out is a handle on its entry; the value is cloned out of that, or looked at
//! in place.

use std::fmt;

use ::foyer::{Cache, CacheBuilder, CacheProperties};

use super::MemoryRival;

/// foyer's concurrent cache.
pub struct Foyer<V: Send + Sync + 'static> {
    cache: Cache<u64, V, foldhash::quality::RandomState, CacheProperties>,
}

impl<V: Send + Sync + 'static> fmt::Debug for Foyer<V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Foyer").finish_non_exhaustive()
    }
}

impl<V: Clone + Send + Sync + 'static> MemoryRival<V> for Foyer<V> {
    const NAME: &'static str = "foyer";
    const SETTINGS: &'static str = "in memory, defaults, with foldhash";

    fn with_capacity(entries: u32) -> Self {
        let cache = CacheBuilder::new(entries as usize)
            .with_hash_builder(foldhash::quality::RandomState::default())
            .build();
        Self { cache }
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.cache.get(&key).map(|entry| entry.value().clone())
    }

    #[inline]
    fn get_with<R>(&self, key: u64, look: impl FnOnce(&V) -> R) -> Option<R> {
        self.cache.get(&key).map(|entry| look(entry.value()))
    }

    #[inline]
    fn insert(&self, key: u64, value: V) {
        self.cache.insert(key, value);
    }
}
