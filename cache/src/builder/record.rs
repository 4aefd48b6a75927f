//! What a builder was told, as settings that can be written down.

use std::time::Duration;

use larder_engine::memory::Capacity;

use super::Builder;
use crate::config::{Config, MemoryLimit};

impl<K, V, C> Builder<K, V, C> {
    /// All settings, those that were left out as well, but for what has no value then.
    pub(super) fn as_config(&self) -> Config {
        let freshness = &self.freshness;
        let names = &self.selection.names;
        Config {
            enabled: Some(self.enabled),
            engine: (!names.is_empty()).then(|| names.clone()),
            memory: Some(match self.memory {
                Capacity::Weight(bytes) => MemoryLimit::Bytes(bytes.get()),
                Capacity::Items(items) => MemoryLimit::Items(items.get()),
                Capacity::Unbounded => MemoryLimit::Unlimited,
                Capacity::Disabled => MemoryLimit::Off,
            }),
            policy: Some(self.policy),
            dir: self.disk.clone(),
            app: None,
            disk: self.disk.as_ref().map(|_| self.disk_budget.unwrap_or(1 << 30)),
            mode: Some(self.mode),
            namespace: self.namespace.clone(),
            ttl: self.ttl,
            serve_stale: Some(Duration::from_millis(freshness.stale_ms)),
            serve_stale_on_error: Some(Duration::from_millis(freshness.last_resort_ms)),
            refresh_ahead: Some(Duration::from_millis(freshness.ahead_ms)),
            refresh_early: Some(freshness.beta),
            jitter: Some(freshness.jitter),
            strict: Some(self.strict),
            offline_after: Some(self.patience.limit),
            backoff_first: Some(self.patience.first),
            backoff_longest: Some(self.patience.longest),
        }
    }
}
