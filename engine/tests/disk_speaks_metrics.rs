//! Promise: a `metrics` recorder sees the figures of the stats, each growth once, the events as
//! they come, and the latencies of all operations.
//! Method: a debugging recorder, compared with the stats.

use std::sync::Arc;

use larder_engine::{Disk, DiskBuilder, Engine, Maintenance, Metrics, Put};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

fn builder(dir: &tempfile::TempDir, metrics: &Arc<Metrics>) -> DiskBuilder {
    let builder = Disk::builder(dir.path().join("store")).budget(2 << 20).segment_len(64 << 10);
    let builder = builder.writers(1).maintenance(Maintenance::Manual).histograms();
    builder.observer(Arc::clone(metrics) as _)
}

/// What was recorded since the last look, by name and the label that is not `store`.
struct Seen(Vec<(String, Option<String>, DebugValue)>);

impl Seen {
    fn look(snapshotter: &Snapshotter) -> Self {
        let all = snapshotter.snapshot().into_vec().into_iter();
        Self(
            all.map(|(key, _, _, value)| {
                let (_, key) = key.into_parts();
                let mut labels = key.labels();
                assert!(labels.any(|label| (label.key(), label.value()) == ("store", "test")));
                let other = key.labels().find(|label| label.key() != "store");
                (key.name().to_owned(), other.map(|label| label.value().to_owned()), value)
            })
            .collect(),
        )
    }

    fn value(&self, name: &str, label: Option<&str>) -> &DebugValue {
        let mut found = self.0.iter().filter(|(n, l, _)| n == name && l.as_deref() == label);
        let (_, _, value) = found.next().unwrap_or_else(|| panic!("no {name} {label:?}"));
        assert!(found.next().is_none(), "{name} {label:?} is there twice");
        value
    }

    fn counter(&self, name: &str, label: Option<&str>) -> u64 {
        match self.value(name, label) {
            DebugValue::Counter(count) => *count,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn gauge(&self, name: &str) -> f64 {
        match self.value(name, None) {
            DebugValue::Gauge(value) => value.0,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn samples(&self, name: &str, label: &str) -> Vec<f64> {
        match self.value(name, Some(label)) {
            DebugValue::Histogram(samples) => samples.iter().map(|sample| sample.0).collect(),
            other => panic!("{name} is {other:?}"),
        }
    }
}

#[test]
fn a_recorder_sees_what_the_stats_say_and_each_growth_once() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let metrics = Arc::new(Metrics::new("test"));
        let disk = builder(&dir, &metrics).open().unwrap();
        for number in 0..600_u64 {
            let _ = disk.put(&number.to_le_bytes(), &[7; 6_000], &Put::default()).unwrap();
            disk.get(&number.to_le_bytes()).unwrap();
        }
        disk.get(b"nothing").unwrap();
        metrics.publish(&disk);
        let (seen, stats) = (Seen::look(&snapshotter), disk.stats());
        assert!(stats.evictions > 0, "{stats:?}");
        for (name, value) in [
            ("larder_hits_total", 600),
            ("larder_misses_total", 1),
            ("larder_inserts_total", 600),
            ("larder_evictions_total", stats.evictions),
            ("larder_written_bytes_total", stats.written_bytes),
            ("larder_inline_rolls_total", stats.inline_rolls),
            ("larder_reclaim_dropped_total", stats.evictions),
        ] {
            assert_eq!(seen.counter(name, None), value, "{name}");
        }
        assert_eq!(seen.gauge("larder_budget_bytes"), f64::from(2 << 20));
        assert_eq!(seen.gauge("larder_write_amplification"), stats.write_amplification().unwrap());
        assert_eq!(seen.counter("larder_events_total", Some("recovered")), 1);
        let rolled = seen.counter("larder_events_total", Some("rolled"));
        assert_eq!(rolled, stats.inline_rolls);
        assert_eq!(seen.samples("larder_work_seconds", "open").len(), 1);
        assert_eq!(seen.samples("larder_operation_seconds", "get_hit").len(), 600);
        let puts = seen.samples("larder_operation_seconds", "put");
        assert_eq!(puts.len(), 600);
        assert!(puts.iter().all(|took| (0.0..60.0).contains(took)));

        let _ = disk.put(b"one more", b"value", &Put::default()).unwrap();
        metrics.publish(&disk);
        let seen = Seen::look(&snapshotter);
        // A look takes what is there, so that this is what came since.
        assert_eq!(seen.counter("larder_inserts_total", None), 1);
        assert_eq!(seen.counter("larder_hits_total", None), 0);
        assert_eq!(seen.samples("larder_operation_seconds", "put").len(), 1);
        assert_eq!(seen.samples("larder_operation_seconds", "get_hit").len(), 0);
    });
}
