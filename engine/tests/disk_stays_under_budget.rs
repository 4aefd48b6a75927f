//! The directory holds what the store says it holds, and no more than it may: by the blocks
//! of its files, and what is unlinked but still mapped, all through ten times the budget,
//! with views held, files for large values, and an index that grows.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use larder_engine::{Disk, Engine, Maintenance, Put, Retain};

const BUDGET: u64 = 4 << 20;
const SEGMENT: u64 = 128 << 10;

/// Bytes of the blocks of all files in a directory. A file may go while it is looked at.
fn du(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() { du(&entry.path()) } else { meta.blocks() * 512 };
    }
    sum
}

/// Stores of one process share what tells when nobody looks at a file any more: one that
/// waits for the disk would hold back the others.
static ALONE: Mutex<()> = Mutex::new(());

fn run(maintenance: Maintenance, retain: Retain) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let disk = Disk::builder(&path)
        .budget(BUDGET)
        .segment_len(SEGMENT as u32)
        .writers(2)
        .maintenance(maintenance)
        .retain(retain)
        .open()
        .unwrap();
    let slots = disk.stats().index_slots;
    let mut views = VecDeque::new();
    let (mut written, mut number) = (0_u64, 0_u32);
    let most = BUDGET + SEGMENT + BUDGET / 50;
    while written < BUDGET * 10 {
        number += 1;
        let len = match number % 200 {
            0 => 50_000,
            n if n % 10 == 0 => 3_000,
            _ => 40,
        };
        let key = match retain {
            Retain::All => number % 1_500,
            _ => number,
        };
        let options = Put::default();
        let admitted = disk.put(&key.to_le_bytes(), &vec![1; len], &options).unwrap().is_admitted();
        written += len as u64;
        if admitted && number.is_multiple_of(50) {
            views.extend(disk.get(&key.to_le_bytes()).unwrap());
        }
        if views.len() > 12 {
            views.pop_front();
        }
        if maintenance == Maintenance::Manual && number.is_multiple_of(16) {
            let _ = disk.maintain().unwrap();
        }
        if number.is_multiple_of(100) {
            // The files are not all looked at in one moment: what goes or comes meanwhile may
            // count twice.
            let used = (0..3).map(|_| disk.stats().retired_bytes + du(&path)).min().unwrap();
            assert!(used <= most, "{used} of {most} are used: {:?}", disk.stats());
            if maintenance == Maintenance::Manual {
                let stats = disk.stats();
                assert_eq!(stats.used_bytes - stats.retired_bytes, du(&path), "{stats:?}");
            }
        }
    }
    let stats = disk.stats();
    assert!(stats.index_slots > slots || retain == Retain::All, "the index grew: {stats:?}");
    drop(views);
    assert!(disk.verify().unwrap().is_clean());
    drop(disk);
    let disk = Disk::builder(&path).budget(BUDGET).maintenance(Maintenance::Manual).open().unwrap();
    let stats = disk.stats();
    assert_eq!(stats.used_bytes - stats.retired_bytes, du(&path), "opened again: {stats:?}");
}

#[test]
fn a_cache_that_is_stepped_by_hand_stays_under_its_budget() {
    run(Maintenance::Manual, Retain::Recent);
}

#[test]
fn a_cache_with_a_thread_stays_under_its_budget() {
    run(Maintenance::Thread, Retain::Recent);
}

#[test]
fn a_store_that_keeps_everything_stays_under_its_budget() {
    run(Maintenance::Manual, Retain::All);
}

#[test]
fn a_store_that_keeps_everything_with_a_thread_stays_under_its_budget() {
    run(Maintenance::Thread, Retain::All);
}

/// Values that are a good part of the budget, each in a file of its own: what is evicted for the
/// next one is gone by the time that this one is there.
fn run_large(maintenance: Maintenance) {
    const BUDGET: u64 = 16 << 20;
    const SEGMENT: u64 = 512 << 10;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let builder = Disk::builder(&path).budget(BUDGET).segment_len(SEGMENT as u32).writers(2);
    let disk = builder.maintenance(maintenance).open().unwrap();
    let most = BUDGET + SEGMENT + BUDGET / 50;
    let value = vec![7; 3 << 20];
    let mut peak = 0;
    for number in 0..60_u32 {
        let key = (if number % 3 == 0 { 1 } else { number }).to_le_bytes();
        let put = match number % 2 {
            0 => disk.put(&key, &value, &Put::default()),
            _ => disk.put_reader(&key, &mut &value[..], None, &Put::default()),
        };
        assert!(put.unwrap().is_admitted());
        // A lookup, and a view that goes again.
        assert_eq!(disk.get(&key).unwrap().unwrap().len(), value.len());
        let stats = disk.stats();
        peak = peak.max(stats.used_bytes);
        assert!(stats.used_bytes <= most, "put {number}, {most} are allowed: {stats:?}");
        let used = (0..3).map(|_| disk.stats().retired_bytes + du(&path)).min().unwrap();
        assert!(used <= most, "put {number}: {used} of {most} are used");
    }
    assert!(peak > BUDGET / 2, "the budget is used: {peak}");
}

#[test]
fn large_values_stay_under_the_budget() {
    run_large(Maintenance::Manual);
}

#[test]
fn large_values_stay_under_the_budget_with_a_thread() {
    run_large(Maintenance::Thread);
}
