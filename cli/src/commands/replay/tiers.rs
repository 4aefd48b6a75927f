//! The cache as a replay sees it: bytes under bytes, in two tiers.

use std::path::Path;

use anyhow::bail;

use crate::args::{Mode, Policy};

/// What a replay drives. A trait, so that tests can put a broken cache in its place.
pub(super) trait Tiers: Sync {
    /// Shows the live value of `key` to `look`; whether there is one.
    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool>;

    /// Stores `value`; whether it was admitted.
    fn insert(&self, key: &[u8], value: &[u8]) -> anyhow::Result<bool>;

    /// Counters since the cache was opened, and gauges.
    fn gauge(&self) -> Gauge;
}

/// What the tiers say about themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gauge {
    /// Lookups that memory answered.
    pub(super) memory_hits: u64,
    /// Lookups that the disk answered.
    pub(super) disk_hits: u64,
    /// Values that memory evicted.
    pub(super) memory_evictions: u64,
    /// Values that the disk evicted.
    pub(super) disk_evictions: u64,
    /// Records that failed a check.
    pub(super) corrupt: u64,
    /// Bytes in use in memory.
    pub(super) memory_used: u64,
    /// Bytes in use on disk.
    pub(super) disk_used: u64,
    /// Bytes written to disk.
    pub(super) bytes_written: u64,
    /// Entries on disk.
    pub(super) disk_entries: u64,
}

/// How a cache is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) dir: &'a Path,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) policy: Policy,
    pub(super) mode: Mode,
}

/// The cache that a replay drives.
pub(super) struct Replayed;

impl Replayed {
    pub(super) fn open(_setup: &Setup<'_>) -> anyhow::Result<Self> {
        bail!("this build has no cache")
    }

    pub(super) fn health(&self) -> &'static str {
        "healthy"
    }

    pub(super) fn close(self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Tiers for Replayed {
    fn get(&self, _key: &[u8], _look: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn insert(&self, _key: &[u8], _value: &[u8]) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn gauge(&self) -> Gauge {
        Gauge::default()
    }
}

#[cfg(test)]
pub(in super::super) mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::collections::HashMap;

    /// A map that counts hits as memory's, and spoils what it is told to.
    #[derive(Default)]
    pub(in super::super) struct Map {
        pub(in super::super) entries: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
        pub(in super::super) gauge: Mutex<Gauge>,
        /// Key whose value comes back with its last byte changed.
        pub(in super::super) spoiled: Option<Vec<u8>>,
        /// Every `insert` fails.
        pub(in super::super) failing: bool,
        /// Every `insert` is refused.
        pub(in super::super) refusing: bool,
    }

    impl Map {
        pub(in super::super) fn remove(&self, key: &[u8]) {
            self.entries.lock().remove(key);
        }
    }

    impl Tiers for Map {
        fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
            let Some(mut value) = self.entries.lock().get(key).cloned() else { return Ok(false) };
            if self.spoiled.as_deref() == Some(key) {
                *value.last_mut().unwrap() ^= 1;
            }
            self.gauge.lock().memory_hits += 1;
            look(&value);
            Ok(true)
        }

        fn insert(&self, key: &[u8], value: &[u8]) -> anyhow::Result<bool> {
            anyhow::ensure!(!self.failing, "out of order");
            if self.refusing {
                return Ok(false);
            }
            self.entries.lock().insert(key.to_vec(), value.to_vec());
            self.gauge.lock().bytes_written += value.len() as u64;
            Ok(true)
        }

        fn gauge(&self) -> Gauge {
            *self.gauge.lock()
        }
    }
}
