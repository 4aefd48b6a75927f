//! quick_cache. Settings: `Cache::new`, which its README begins with; its hasher is foldhash.

use ::quick_cache::sync::Cache;

use super::MemoryRival;

/// quick_cache's concurrent cache.
#[derive(Debug)]
pub struct QuickCache<V> {
    cache: Cache<u64, V>,
}

impl<V: Clone + Send + Sync> MemoryRival<V> for QuickCache<V> {
    const NAME: &'static str = "quick_cache";
    const SETTINGS: &'static str = "defaults (foldhash)";

    fn with_capacity(entries: u32) -> Self {
        Self { cache: Cache::new(entries as usize) }
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.cache.get(&key)
    }

    #[inline]
    fn insert(&self, key: u64, value: V) {
        self.cache.insert(key, value);
    }
}
