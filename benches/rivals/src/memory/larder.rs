//! larder's memory tier. Settings: the defaults, with a capacity in entries.

use larder_engine::memory::{Capacity, Tier};

use super::MemoryRival;

/// larder's [`Tier`].
#[derive(Debug)]
pub struct Larder<V> {
    tier: Tier<u64, V>,
}

impl<V: Clone + Send + Sync> MemoryRival<V> for Larder<V> {
    const NAME: &'static str = "larder";
    const SETTINGS: &'static str = "defaults";

    fn with_capacity(entries: u32) -> Self {
        let tier = Tier::builder(Capacity::items(entries.into())).build();
        Self { tier: tier.expect("the defaults are valid") }
    }

    #[inline]
    fn get(&self, key: u64) -> Option<V> {
        self.tier.get(&key)
    }

    #[inline]
    fn get_with<R>(&self, key: u64, look: impl FnOnce(&V) -> R) -> Option<R> {
        self.tier.get_with(&key, look)
    }

    #[inline]
    fn insert(&self, key: u64, value: V) {
        let inserted = self.tier.insert(key, value, u64::MAX);
        assert!(inserted.is_ok(), "an entry of weight 1 fits");
    }
}
