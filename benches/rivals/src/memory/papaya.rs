//! papaya's `HashMap`: a bare map without a bound, which shows what a lookup costs that has
//! nothing to evict. Settings: its defaults, with foldhash as the others have.

use ::papaya::HashMap;

use super::MemoryRival;

/// papaya's concurrent map.
#[derive(Debug)]
pub struct Papaya<V> {
    map: HashMap<u64, V, foldhash::quality::RandomState>,
}

impl<V: Clone + Send + Sync + 'static> MemoryRival<V> for Papaya<V> {
    const NAME: &'static str = "papaya";
    const SETTINGS: &'static str = "a bare map, defaults, with foldhash";
    const EVICTS: bool = false;

    fn with_capacity(_entries: u32) -> Self {
        let hasher = foldhash::quality::RandomState::default();
        Self { map: HashMap::builder().hasher(hasher).build() }
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.map.pin().get(&key).cloned()
    }

    #[inline]
    fn get_with<R>(&self, key: u64, look: impl FnOnce(&V) -> R) -> Option<R> {
        self.map.pin().get(&key).map(look)
    }

    #[inline]
    fn insert(&self, key: u64, value: V) {
        self.map.pin().insert(key, value);
    }
}
