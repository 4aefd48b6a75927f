//! The cache as a replay sees it: values under numbers, in two tiers.

use std::path::Path;

use larder::{Cache, Health, Mode, PolicyKind, Raw, Value};

use crate::open::as_typed;
use crate::troubles::Troubles;

/// What a replay drives. A trait, so that tests can put a broken cache in its place.
pub(super) trait Tiers: Sync {
    /// Shows the live value of `id` to `look`; whether there is one.
    fn get(&self, id: u64, look: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool>;

    /// Stores `value`; whether it was admitted.
    fn insert(&self, id: u64, value: &[u8]) -> anyhow::Result<bool>;

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
    /// Operations of the disk tier that failed.
    pub(super) disk_errors: u64,
    /// Operations of the disk tier that were not tried after others had failed.
    pub(super) disk_skipped: u64,
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
    /// 0: no memory tier.
    pub(super) memory_bytes: u64,
    /// 0: no disk tier.
    pub(super) disk_bytes: u64,
    pub(super) policy: PolicyKind,
    pub(super) mode: Mode,
}

/// The cache that a replay drives. Large values from disk are views of the mapped files.
pub(super) struct Replayed(Cache<u64, Value, Raw>);

impl Replayed {
    pub(super) fn open(setup: &Setup<'_>, troubles: Troubles) -> anyhow::Result<Self> {
        let mut cache = Cache::with_codec(Raw).policy(setup.policy).mode(setup.mode);
        cache = match setup.memory_bytes {
            0 => cache.no_memory(),
            bytes => cache.memory(bytes),
        };
        if setup.disk_bytes > 0 {
            cache = cache.disk(setup.dir).disk_budget(setup.disk_bytes);
        }
        let cache = cache.on_event(move |event| troubles.note(event)).build();
        Ok(Self(cache.map_err(as_typed)?))
    }

    pub(super) fn health(&self) -> &'static str {
        match self.0.health() {
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Offline => "offline",
            _ => "unknown",
        }
    }

    pub(super) fn close(&self) -> anyhow::Result<()> {
        Ok(self.0.close()?)
    }
}

impl Tiers for Replayed {
    fn get(&self, id: u64, look: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
        Ok(self.0.get_with(&id, |value| look(value))?.is_some())
    }

    fn insert(&self, id: u64, value: &[u8]) -> anyhow::Result<bool> {
        Ok(self.0.insert(id, Value::new(value, larder_engine::Meta::default()))?.is_admitted())
    }

    fn gauge(&self) -> Gauge {
        let stats = self.0.stats();
        Gauge {
            memory_hits: stats.memory_hits,
            disk_hits: stats.disk_hits,
            memory_evictions: stats.memory.evictions,
            disk_evictions: stats.disk.evictions,
            corrupt: stats.disk.corrupt + stats.undecodable,
            disk_errors: stats.disk_errors,
            disk_skipped: stats.disk_skipped,
            memory_used: stats.memory.used_bytes,
            disk_used: stats.disk.used_bytes,
            bytes_written: stats.disk.written_bytes,
            disk_entries: stats.disk.entries,
        }
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
        pub(in super::super) entries: Mutex<HashMap<u64, Vec<u8>>>,
        pub(in super::super) gauge: Mutex<Gauge>,
        /// Object whose value comes back with its last byte changed.
        pub(in super::super) spoiled: Option<u64>,
        /// Every `insert` fails.
        pub(in super::super) failing: bool,
        /// Every `insert` is refused.
        pub(in super::super) refusing: bool,
    }

    impl Map {
        pub(in super::super) fn remove(&self, id: u64) {
            self.entries.lock().remove(&id);
        }
    }

    impl Tiers for Map {
        fn get(&self, id: u64, look: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
            let Some(mut value) = self.entries.lock().get(&id).cloned() else { return Ok(false) };
            if self.spoiled == Some(id) {
                *value.last_mut().unwrap() ^= 1;
            }
            self.gauge.lock().memory_hits += 1;
            look(&value);
            Ok(true)
        }

        fn insert(&self, id: u64, value: &[u8]) -> anyhow::Result<bool> {
            anyhow::ensure!(!self.failing, "out of order");
            if self.refusing {
                return Ok(false);
            }
            self.entries.lock().insert(id, value.to_vec());
            self.gauge.lock().bytes_written += value.len() as u64;
            Ok(true)
        }

        fn gauge(&self) -> Gauge {
            *self.gauge.lock()
        }
    }
}
