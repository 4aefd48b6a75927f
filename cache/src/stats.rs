//! Figures, by tier.

use std::time::Duration;

use larder_engine::{Health, Stats};

use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::sync::{AtomicU64, Ordering};

/// What a cache has done since it was built, and how it is.
///
/// `gets` that find a value are `memory_hits + disk_hits`; those that do not are `misses`.
/// A [`get_or_insert_with`](crate::Cache::get_or_insert_with) counts as one get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Gets answered from memory, values on their way to disk included.
    pub memory_hits: u64,
    /// Gets answered from the store.
    pub disk_hits: u64,
    /// Gets answered by neither.
    pub misses: u64,
    /// Values that a loader made.
    pub loads: u64,
    /// Loaders that returned an error or panicked.
    pub load_failures: u64,
    /// Calls that waited for the loader of another thread.
    pub load_waits: u64,
    /// How long all loaders together took that returned a value.
    pub load_time: Duration,
    /// Loads of values that were there: before their time was over, or soon after.
    pub refreshes: u64,
    /// Gets answered with a value past its time: while another caller loaded it anew, or because
    /// that failed. Those that came from memory or the store count as misses as well.
    pub stale_hits: u64,
    /// Values put into memory because they were found in the store.
    pub promotions: u64,
    /// Values written to the store because memory had to let them go, or by a flush.
    pub flushed: u64,
    /// Values that only memory held and that were lost, because the store failed for too long
    /// or would not take them.
    pub flush_losses: u64,
    /// Values that only memory, or the way to disk, holds now.
    pub unflushed: u64,
    /// Stored values that another codec, or another version of it, had written: misses.
    pub codec_changed: u64,
    /// Stored values that could not be decoded: misses, unless the cache is strict.
    pub undecodable: u64,
    /// Operations of the store that failed. Answered as misses, unless the cache is strict.
    pub disk_errors: u64,
    /// Operations of the store that were not tried, because it was offline.
    pub disk_skipped: u64,
    /// Keys that are not read from the store, because it may still hold an older value.
    pub masked_keys: u64,
    /// Whether the store can be relied on.
    pub health: Health,
    /// What the memory tier says about itself.
    pub memory: Stats,
    /// What the store says about itself; all zero without one.
    pub disk: Stats,
}

impl CacheStats {
    /// The share of gets that found a value, from 0 to 1; 0 before the first.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
    pub fn hit_ratio(&self) -> f64 {
        let hits = self.memory_hits + self.disk_hits;
        let gets = hits + self.misses;
        if gets == 0 { 0.0 } else { hits as f64 / gets as f64 }
    }
}

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        // Relaxed: a figure orders nothing.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        // Relaxed: as above.
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        // Relaxed: as above.
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What the cache itself counts. Memory hits are counted by the tier, without a shared word.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) pending_hits: Counter,
    pub(crate) disk_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) load_waits: Counter,
    pub(crate) load_ns: Counter,
    pub(crate) refreshes: Counter,
    pub(crate) stale_hits: Counter,
    /// Hits of the memory tier that were past their time.
    pub(crate) past: Counter,
    pub(crate) promotions: Counter,
    pub(crate) flushed: Counter,
    pub(crate) flush_losses: Counter,
    pub(crate) codec_changed: Counter,
    pub(crate) undecodable: Counter,
}

impl Counters {
    /// What a load takes on average, in ms.
    pub(crate) fn usual_load_ms(&self) -> u64 {
        self.load_ns.get().checked_div(self.loads.get()).unwrap_or(0) / 1_000_000
    }
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    pub(crate) fn stats(&self) -> CacheStats {
        let memory = self.memory.stats();
        let counters = &self.counters;
        let lower = self.lower.as_ref();
        let past = counters.past.get();
        CacheStats {
            memory_hits: (memory.hits + counters.pending_hits.get()).saturating_sub(past),
            disk_hits: counters.disk_hits.get(),
            misses: counters.misses.get() + past,
            loads: counters.loads.get(),
            load_failures: counters.load_failures.get(),
            load_waits: counters.load_waits.get(),
            load_time: Duration::from_nanos(counters.load_ns.get()),
            refreshes: counters.refreshes.get(),
            stale_hits: counters.stale_hits.get(),
            promotions: counters.promotions.get(),
            flushed: counters.flushed.get(),
            flush_losses: counters.flush_losses.get(),
            unflushed: self.unflushed_len(),
            codec_changed: counters.codec_changed.get(),
            undecodable: counters.undecodable.get(),
            disk_errors: lower.map_or(0, |lower| lower.failures.get()),
            disk_skipped: lower.map_or(0, |lower| lower.skipped.get()),
            masked_keys: lower.map_or(0, |lower| lower.stale.len() as u64),
            health: self.health(),
            memory,
            disk: lower.map(|lower| lower.engine.stats()).unwrap_or_default(),
        }
    }

    /// How many values only memory and pending hold.
    pub(crate) fn unflushed_len(&self) -> u64 {
        // Relaxed: a figure.
        (self.unflushed.load(Ordering::Relaxed) + self.pending.len()) as u64
    }
}
