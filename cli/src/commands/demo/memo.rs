//! The cache of the demo.

use std::path::Path;

use anyhow::Context as _;
use larder::{Cache, LoadError};

use super::Memo;
use super::findings::{Fault, Findings, Fingerprint, VERSION};
use crate::open::as_typed;
use crate::troubles::Troubles;

/// The version of the computation, and the content that it is about.
type Key = (u32, [u8; 32]);

/// What the demo remembers its findings with.
pub(super) struct Memoised(Cache<Key, Findings>);

impl Memoised {
    pub(super) fn open(
        dir: &Path,
        memory_bytes: u64,
        disk_bytes: u64,
        troubles: Troubles,
    ) -> anyhow::Result<Self> {
        let cache = Cache::builder().disk(dir).disk_budget(disk_bytes);
        let cache = if memory_bytes == 0 { cache.no_memory() } else { cache.memory(memory_bytes) };
        let cache = cache.on_event(move |event| troubles.note(event)).build();
        let cache = cache.map_err(as_typed);
        Ok(Self(cache.with_context(|| format!("cannot keep results in {}", dir.display()))?))
    }

    pub(super) fn close(&self) -> anyhow::Result<()> {
        Ok(self.0.close()?)
    }
}

impl Memo for Memoised {
    fn get_or_compute(
        &self,
        key: &Fingerprint,
        compute: impl FnOnce() -> Result<Findings, Fault>,
    ) -> Result<Findings, Fault> {
        self.0.try_get_or_insert_with(&(VERSION, key.0), compute).map_err(|error| match error {
            LoadError::Load(fault) => fault,
            LoadError::Cache(error) => Fault::Cache(error),
        })
    }

    fn disk_hits(&self) -> u64 {
        self.0.stats().disk_hits
    }
}
