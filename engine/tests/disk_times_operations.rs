//! Promise: with histograms, every operation is timed, once, by what it was; the counters of the
//! stats say how much was written, and how many records share a sync.
//! Method: a small store, step by step, whose operations are counted beside it.

use std::sync::Barrier;
use std::time::Duration;

use larder_engine::{Disk, DiskBuilder, Durability, Engine, Latencies, Maintenance, Put};

fn builder(dir: &tempfile::TempDir) -> DiskBuilder {
    let builder = Disk::builder(dir.path().join("store")).budget(2 << 20).segment_len(64 << 10);
    builder.maintenance(Maintenance::Manual).writers(1)
}

fn counts(latencies: &Latencies) -> Vec<(&'static str, u64)> {
    latencies.iter().map(|(name, latency)| (name, latency.count())).collect()
}

#[test]
fn nothing_is_timed_unless_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let _ = disk.put(b"key", b"value", &Put::default()).unwrap();
    assert!(disk.latencies().is_none());
}

#[test]
fn each_operation_is_timed_as_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).histograms().open().unwrap();
    for number in 0..3_u8 {
        let _ = disk.put(&[number], b"value", &Put::default()).unwrap();
    }
    assert!(disk.get(&[0]).unwrap().is_some());
    assert_eq!(disk.get_with(&[1], |value, _| value.len()).unwrap(), Some(5));
    assert!(disk.get(b"nothing").unwrap().is_none());
    assert!(disk.remove(&[0]).unwrap());
    disk.sync().unwrap();
    let _ = disk.maintain().unwrap();
    let latencies = disk.latencies().unwrap();
    // The first segment was begun by the first put.
    let right =
        [("get_hit", 2), ("get_miss", 1), ("put", 3), ("remove", 1), ("sync", 1), ("stall", 1)];
    assert_eq!(counts(&latencies)[..6], right);
    assert_eq!(latencies.step.count(), 1);
    for (name, latency) in latencies.iter() {
        assert!(latency.max() > Duration::ZERO, "{name}");
        assert!(latency.quantile(0.5) <= latency.quantile(1.0), "{name}");
    }
}

#[test]
fn a_put_stalls_where_it_begins_a_segment_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).histograms().open().unwrap();
    for number in 0..400_u64 {
        let _ = disk.put(&number.to_le_bytes(), &[7; 4_000], &Put::default()).unwrap();
    }
    let (stats, latencies) = (disk.stats(), disk.latencies().unwrap());
    assert!(stats.inline_rolls > 20, "{stats:?}");
    assert_eq!(latencies.stall.count(), stats.inline_rolls);
    assert_eq!(latencies.put.count(), 400);
    // What is a part of a put is no longer than the longest put.
    assert!(latencies.stall.max() <= latencies.put.max());
    assert!(latencies.put.max() > Duration::from_micros(10), "a file was created meanwhile");
}

#[test]
fn nothing_that_threads_do_at_once_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::builder(dir.path().join("store")).histograms().open().unwrap();
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (disk, barrier) = (&disk, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..500_u64 {
                    let key = (thread << 32 | number).to_le_bytes();
                    let _ = disk.put(&key, b"value", &Put::default()).unwrap();
                    assert!(disk.get(&key).unwrap().is_some());
                }
            });
        }
    });
    let latencies = disk.latencies().unwrap();
    assert_eq!((latencies.put.count(), latencies.get_hit.count()), (2_000, 2_000));
}

#[test]
fn the_stats_say_how_many_records_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    assert_eq!(disk.stats().records_per_sync(), None);
    for number in 0..9_u8 {
        let _ = disk.put(&[number], &[7; 1_000], &Put::default()).unwrap();
    }
    let durable = Put { durability: Durability::Sync, ..Put::default() };
    let _ = disk.put(b"durable", b"value", &durable).unwrap();
    let stats = disk.stats();
    assert_eq!((stats.syncs, stats.synced_records), (1, 10));
    disk.sync().unwrap();
    assert_eq!(disk.stats().syncs, 1, "there was nothing left to sync");
    // Of its own file, which has no record in a segment before it is named there.
    let _ = disk.put(b"large", &[7; 100_000], &durable).unwrap();
    let stats = disk.stats();
    assert_eq!((stats.syncs, stats.synced_records), (2, 11));
    assert!(stats.write_amplification().unwrap() < 1.1, "{stats:?}");
}
