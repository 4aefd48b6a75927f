//! What goes on in a store, for the `metrics` facade: events are counted as they come, and what
//! the stats say is published on request (feature `metrics`).
//!
//! Counters of the stats count since the store was opened, those of a recorder for as long as
//! the process lives: what is published is by how much they have grown since the last time.
//! All names stand in `docs/observing.md`, which a test compares with the tables here.

use std::any::Any;
use std::time::Instant;

use metrics::{
    Label, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use parking_lot::Mutex;

use super::Disk;
use super::observer::{Event, Observer, Work};
use crate::engine::Engine as _;
#[cfg(feature = "histograms")]
use crate::latency::Latencies;
use crate::stats::Stats;

/// A figure of the stats: its name, its unit, what it says, and where it stands.
type Figure = (&'static str, Unit, &'static str, fn(&Stats) -> u64);

/// What only grows while a store is open.
const COUNTERS: &[Figure] = &[
    ("larder_hits_total", Unit::Count, "lookups that found a live value", |s| s.hits),
    ("larder_misses_total", Unit::Count, "lookups that did not", |s| s.misses),
    ("larder_inserts_total", Unit::Count, "values admitted", |s| s.inserts),
    ("larder_rejected_total", Unit::Count, "values refused", |s| s.rejected),
    ("larder_blocked_total", Unit::Count, "values blocked", |s| s.blocked),
    ("larder_removes_total", Unit::Count, "values removed on request", |s| s.removes),
    ("larder_evictions_total", Unit::Count, "values evicted", |s| s.evictions),
    ("larder_expired_total", Unit::Count, "values found expired", |s| s.expired),
    ("larder_corrupt_total", Unit::Count, "records that failed a check", |s| s.corrupt),
    ("larder_put_bytes_total", Unit::Bytes, "keys and values put", |s| s.put_bytes),
    ("larder_written_bytes_total", Unit::Bytes, "written to disk", |s| s.written_bytes),
    ("larder_moved_bytes_total", Unit::Bytes, "live records moved to keep them", |s| s.moved_bytes),
    ("larder_saved_bytes_total", Unit::Bytes, "not written thanks to compression", |s| {
        s.compressed_saved_bytes
    }),
    ("larder_syncs_total", Unit::Count, "syncs of segments and large values", |s| s.syncs),
    ("larder_synced_records_total", Unit::Count, "records made durable by them", |s| {
        s.synced_records
    }),
    ("larder_inline_rolls_total", Unit::Count, "segments a writer had to create", |s| {
        s.inline_rolls
    }),
    ("larder_inline_reclaims_total", Unit::Count, "segments a writer had to reclaim", |s| {
        s.inline_reclaims
    }),
];

/// What goes up and down.
const GAUGES: &[Figure] = &[
    ("larder_entries", Unit::Count, "values held", |s| s.entries),
    ("larder_used_bytes", Unit::Bytes, "everything in the directory", |s| s.used_bytes),
    ("larder_budget_bytes", Unit::Bytes, "the budget", |s| s.budget_bytes),
    ("larder_retired_bytes", Unit::Bytes, "unlinked, but still mapped", |s| s.retired_bytes),
    ("larder_segments", Unit::Count, "segments on disk", |s| s.segments),
    ("larder_spares", Unit::Count, "segments that are ready to be written to", |s| s.spares),
    ("larder_index_slots", Unit::Count, "slots in the index", |s| s.index_slots),
];

const AMPLIFICATION: &str = "larder_write_amplification";
const EVENTS: &str = "larder_events_total";
const MOVED: &str = "larder_reclaim_moved_total";
const DROPPED: &str = "larder_reclaim_dropped_total";
const WORK: &str = "larder_work_seconds";
#[cfg(feature = "histograms")]
const OPERATION: &str = "larder_operation_seconds";

/// Tells a `metrics` recorder what goes on in one store, with the label `store`.
///
/// As an [`Observer`] it counts events and times [`Work`] as they come. Figures of the stats,
/// and distributions of latencies where the store keeps them
/// ([`DiskBuilder::histograms`](crate::DiskBuilder::histograms)), are published by
/// [`publish`](Self::publish), which a program calls as often as it wants them to be fresh.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # use std::sync::Arc;
/// use larder_engine::{Disk, Metrics};
///
/// let metrics = Arc::new(Metrics::new("sessions"));
/// let observer = Arc::clone(&metrics);
/// let disk = Disk::builder(dir.path().join("store")).observer(observer).open()?;
/// // Now and then, or whenever figures are asked for:
/// metrics.publish(&disk);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Metrics {
    store: SharedString,
    published: Mutex<Published>,
}

/// What was published last.
#[derive(Debug, Default)]
struct Published {
    stats: Stats,
    #[cfg(feature = "histograms")]
    latencies: Option<Latencies>,
}

impl Metrics {
    /// For a store of this name. Describes all figures to the recorder that is installed.
    pub fn new(store: impl Into<SharedString>) -> Self {
        for (name, unit, what, _) in COUNTERS {
            describe_counter!(*name, *unit, *what);
        }
        for (name, unit, what, _) in GAUGES {
            describe_gauge!(*name, *unit, *what);
        }
        describe_gauge!(AMPLIFICATION, "bytes written to disk for each byte put");
        describe_counter!(EVENTS, Unit::Count, "events, by name");
        describe_counter!(MOVED, Unit::Count, "values moved when their segment went");
        describe_counter!(DROPPED, Unit::Count, "values that went with their segment");
        describe_histogram!(WORK, Unit::Seconds, "work that may take its time, by name");
        #[cfg(feature = "histograms")]
        describe_histogram!(OPERATION, Unit::Seconds, "operations, by name");
        Self { store: store.into(), published: Mutex::default() }
    }

    /// Publishes what the stats of the store say now. Always of the same store, which is told
    /// what it has published already.
    pub fn publish(&self, disk: &Disk) {
        let mut published = self.published.lock();
        let stats = disk.stats();
        for (name, _, _, of) in COUNTERS {
            let grown = of(&stats).saturating_sub(of(&published.stats));
            counter!(*name, self.labels()).increment(grown);
        }
        for (name, _, _, of) in GAUGES {
            gauge!(*name, self.labels()).set(as_f64(of(&stats)));
        }
        if let Some(times) = stats.write_amplification() {
            gauge!(AMPLIFICATION, self.labels()).set(times);
        }
        published.stats = stats;
        #[cfg(feature = "histograms")]
        if let Some(latencies) = disk.latencies() {
            let before = published.latencies.as_ref();
            for (number, (name, latency)) in latencies.iter().enumerate() {
                let before = before.and_then(|before| before.iter().nth(number));
                let histogram = histogram!(OPERATION, self.labels_with("operation", name));
                latency.for_each_since(before.map(|(_, latency)| latency), |took, count| {
                    histogram.record_many(took.as_secs_f64(), count);
                });
            }
            published.latencies = Some(latencies);
        }
    }

    fn labels(&self) -> Vec<Label> {
        vec![Label::new("store", self.store.clone())]
    }

    fn labels_with(&self, name: &'static str, value: &'static str) -> Vec<Label> {
        vec![Label::new("store", self.store.clone()), Label::new(name, value)]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge, for people")]
const fn as_f64(figure: u64) -> f64 {
    figure as f64
}

impl Observer for Metrics {
    fn event(&self, event: &Event) {
        counter!(EVENTS, self.labels_with("event", event.name())).increment(1);
        if let Event::Reclaimed { moved, dropped, .. } = event {
            counter!(MOVED, self.labels()).increment(*moved);
            counter!(DROPPED, self.labels()).increment(*dropped);
        }
    }

    fn enter(&self, work: Work) -> Option<Box<dyn Any>> {
        let histogram = histogram!(WORK, self.labels_with("work", work.name()));
        Some(Box::new(Timed { histogram, began: Instant::now() }))
    }
}

/// Records how long it lived.
struct Timed {
    histogram: metrics::Histogram,
    began: Instant,
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.histogram.record(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_documented_and_every_documented_name_exists() {
        let document = include_str!("../../../docs/observing.md");
        let told: std::collections::BTreeSet<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `larder_"))
            .filter_map(|line| line.split('`').next())
            .collect();
        let mut names: std::collections::BTreeSet<&str> =
            COUNTERS.iter().chain(GAUGES).map(|(name, ..)| *name).collect();
        names.extend([AMPLIFICATION, EVENTS, MOVED, DROPPED, WORK, "larder_operation_seconds"]);
        let names = names.iter().map(|name| name.trim_start_matches("larder_")).collect();
        assert_eq!(told, names);
    }
}
