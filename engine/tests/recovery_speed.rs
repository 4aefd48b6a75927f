//! How long recovery and closing take. Run by hand:
//! `cargo test --release -p larder-engine --test recovery_speed -- --ignored --nocapture`

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::time::Instant;

use larder_engine::{Disk, DiskBuilder, Engine, Put, Recovery};

fn builder(dir: &Path, budget: u64) -> DiskBuilder {
    Disk::builder(dir).budget(budget).writers(2)
}

fn fill(disk: &Disk, records: u64, value: &[u8]) {
    let mut key = *b"a key of 16 byte";
    for number in 0..records {
        key[8..].copy_from_slice(&number.to_le_bytes());
        assert!(disk.put(&key, value, &Put::default()).unwrap().is_admitted());
    }
}

#[test]
#[ignore = "a measurement"]
fn rebuilding_a_million_records() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let disk = builder(&dir, 1 << 30).open().unwrap();
    fill(&disk, 1_000_000, &[7; 100]);
    drop(disk);
    for _ in 0..3 {
        let begin = Instant::now();
        let disk = builder(&dir, 1 << 30).distrust().open().unwrap();
        let took = begin.elapsed();
        let stats = disk.stats();
        assert_eq!(stats.recovery, Recovery::Rebuilt);
        assert_eq!(disk.len(), 1_000_000);
        println!("rebuilt in {took:?}, {} slots, {} segments", stats.index_slots, stats.segments);
    }
}

#[test]
#[ignore = "a measurement"]
fn closing_five_million_entries() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let disk = builder(&dir, 4 << 30).open().unwrap();
    fill(&disk, 5_000_000, &[7; 16]);
    disk.sync().unwrap();
    let slots = disk.stats().index_slots;
    let begin = Instant::now();
    disk.close().unwrap();
    println!("{slots} slots; closed, all pages touched, after a sync: {:?}", begin.elapsed());
    drop(disk);
    let begin = Instant::now();
    let disk = builder(&dir, 4 << 30).open().unwrap();
    println!("opened: {:?}", begin.elapsed());
    assert_eq!(disk.stats().recovery, Recovery::Clean);
    let begin = Instant::now();
    fill(&disk, 1000, &[8; 16]);
    println!("1000 puts after opening: {:?}", begin.elapsed());
    let begin = Instant::now();
    disk.close().unwrap();
    println!("closed, 1000 pages touched: {:?}", begin.elapsed());
}
