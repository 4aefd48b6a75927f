//! moka, the synchronous cache.
//!
//! Settings: the defaults (W-TinyLFU), except for the hasher. moka's documentation advises
//! another one than the default SipHash for integers (`sync::Cache`, "Hashing Algorithm"); it
//! gets foldhash, as the other two have.

use std::fmt;

use ::moka::sync::Cache;

use super::MemoryRival;

/// moka's concurrent cache.
pub struct Moka<V> {
    cache: Cache<u64, V, foldhash::quality::RandomState>,
}

impl<V> fmt::Debug for Moka<V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Moka").finish_non_exhaustive()
    }
}

impl<V: Clone + Send + Sync + 'static> MemoryRival<V> for Moka<V> {
    const NAME: &'static str = "moka";
    const SETTINGS: &'static str = "defaults, with foldhash";

    fn with_capacity(entries: u32) -> Self {
        let cache = Cache::builder()
            .max_capacity(entries.into())
            .initial_capacity(entries as usize)
            .build_with_hasher(foldhash::quality::RandomState::default());
        Self { cache }
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.cache.get(&key)
    }

    #[inline]
    fn insert(&self, key: u64, value: V) {
        self.cache.insert(key, value);
    }

    fn settle(&self) {
        self.cache.run_pending_tasks();
    }
}
