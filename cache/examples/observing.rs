//! Watching a cache: events as they happen, and figures for a monitoring system, in the text format of
//! Prometheus.
//!
//! The store speaks to the `metrics` facade, so any recorder will do; the one here is the smallest that
//! can be asked for its figures. A program would install `metrics-exporter-prometheus`.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use larder::{Cache, Disk, Event, Metrics};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// What a scrape would be answered with.
fn exposition(recorder: &Snapshotter) -> String {
    let mut text = String::new();
    for (key, _, about, value) in recorder.snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count.to_string(),
            DebugValue::Gauge(value) => value.to_string(),
            // Left to real exporters, which have buckets.
            DebugValue::Histogram(_) => continue,
        };
        if let Some(about) = about {
            let _ = writeln!(text, "# HELP {} {about}", key.name());
        }
        let _ = writeln!(text, "{}{{{}}} {value}", key.name(), labels.join(","));
    }
    text
}

fn main() -> Result<(), Box<dyn Error>> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().map_err(|error| error.to_string())?;

    let home = tempfile::tempdir()?;
    let metrics = Arc::new(Metrics::new("pages"));
    let disk = Disk::builder(home.path().join("store")).observer(metrics.clone()).open()?;
    let disk = Arc::new(disk);
    let events = Arc::new(Mutex::new(Vec::<Event>::new()));
    let heard = Arc::clone(&events);
    let cache = Cache::<u32, String>::builder()
        .engine(disk.clone())
        .on_event(move |event| heard.lock().expect("no panic").push(event.clone()))
        .build()?;
    for page in 0..100 {
        cache.get_or_insert_with(&page, || format!("<h1>{page}</h1>"))?;
    }

    // Whenever somebody asks.
    metrics.publish(&disk);
    let text = exposition(&snapshotter);
    eprintln!("{text}");
    assert!(text.contains("larder_inserts_total{store=\"pages\"} 100"), "{text}");
    assert!(text.contains("larder_entries{store=\"pages\"} 100"), "{text}");
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.loads), (100, 100));
    assert!(events.lock().expect("no panic").is_empty(), "nothing went wrong");
    Ok(())
}
