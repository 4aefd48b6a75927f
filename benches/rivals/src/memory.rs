//! Concurrent caches in memory.

mod foyer;
mod larder;
mod moka;
mod papaya;
mod quick_cache;
mod scc;

pub use foyer::Foyer;
pub use larder::Larder;
pub use moka::Moka;
pub use papaya::Papaya;
pub use quick_cache::QuickCache;
pub use scc::Scc;

/// A bounded cache with keys of 8 bytes, shared by threads.
///
/// A generic trait, never an object: a hit costs so little that an indirect call would show.
pub trait MemoryRival<V>: Sync + Sized {
    /// Its name in tables.
    const NAME: &'static str;
    /// Its settings, in a few words.
    const SETTINGS: &'static str;
    /// Whether it is bounded; else it is no peer where something has to leave.
    const EVICTS: bool = true;

    /// A cache of so many entries.
    fn with_capacity(entries: u32) -> Self;

    /// The value of a key, cloned; a use for the policy.
    fn get(&self, key: u64) -> Option<V>;

    /// What `look` makes of the value of a key: in place, if the cache can do that, else of a clone.
    fn get_with<R>(&self, key: u64, look: impl FnOnce(&V) -> R) -> Option<R> {
        self.get(key).map(|value| look(&value))
    }

    /// Inserts a value, evicting as the policy says.
    fn insert(&self, key: u64, value: V);

    /// The value of a key, made and inserted if it is absent, and whether it was there.
    ///
    /// Looks and then inserts, without the promise to make each value only once: that is what
    /// all caches have in common.
    fn get_or_insert_with(&self, key: u64, make: impl FnOnce() -> V) -> (V, bool)
    where
        V: Clone,
    {
        if let Some(value) = self.get(key) {
            return (value, true);
        }
        let value = make();
        self.insert(key, value.clone());
        (value, false)
    }

    /// Does the work that the cache has put off.
    fn settle(&self) {}
}
