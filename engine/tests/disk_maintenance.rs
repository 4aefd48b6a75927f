//! What is done ahead of the writers is done in time, in order, and loses nothing. Mostly
//! stepped by hand with a clock that stands still, so that each step is known.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_engine::{Clock, Disk, DiskBuilder, Engine, Maintenance, ManualClock, Put, Stats};
use tempfile::TempDir;

const BUDGET: u64 = 4 << 20;
const SEGMENT: u32 = 128 << 10;

fn builder(dir: &TempDir) -> DiskBuilder {
    Disk::builder(dir.path().join("store")).budget(BUDGET).segment_len(SEGMENT).writers(1)
}

fn manual(dir: &TempDir) -> Disk {
    builder(dir).maintenance(Maintenance::Manual).open().unwrap()
}

fn put(disk: &Disk, number: u32, len: usize) {
    assert!(
        disk.put(&number.to_le_bytes(), &value(number, len), &Put::default())
            .unwrap()
            .is_admitted()
    );
}

fn value(number: u32, len: usize) -> Vec<u8> {
    (0..len).map(|i| (number as usize * 31 + i) as u8).collect()
}

/// Steps until nothing is due.
fn settle(disk: &Disk) {
    for _ in 0..10_000 {
        if !disk.maintain().unwrap().more {
            return;
        }
    }
    panic!("there is always more to do");
}

#[test]
fn writers_neither_create_nor_reclaim_while_the_maintenance_keeps_up() {
    let dir = tempfile::tempdir().unwrap();
    let disk = manual(&dir);
    put(&disk, 0, 1000);
    settle(&disk);
    let first = disk.stats();
    assert_eq!((first.spares, first.inline_rolls), (1, 1), "{first:?}");
    for number in 0..10_000 {
        put(&disk, number, 1000);
        if number % 50 == 0 {
            settle(&disk);
        }
        // Something is hot, so that records are moved.
        let _ = disk.get(&(number % 7 * 100).to_le_bytes()).unwrap();
    }
    let stats = disk.stats();
    assert_eq!(stats.inline_rolls, 1, "{stats:?}");
    // A reader elsewhere in this process may keep what was unlinked mapped for a moment.
    assert!(stats.inline_reclaims < 5, "{stats:?}");
    assert!(stats.evictions > 5_000 && stats.moved_bytes > 0, "{stats:?}");
    assert!(stats.used_bytes <= BUDGET, "{stats:?}");
    assert!(stats.used_bytes >= BUDGET - 4 * u64::from(SEGMENT), "{stats:?}");
    assert!(disk.verify().unwrap().is_clean());
    assert_eq!(disk.iter().count() as u64, disk.len());
}

#[test]
fn writers_help_themselves_while_nobody_steps() {
    let dir = tempfile::tempdir().unwrap();
    let disk = manual(&dir);
    for number in 0..10_000 {
        put(&disk, number, 1000);
    }
    let stats = disk.stats();
    assert!(stats.inline_reclaims > 40 && stats.inline_rolls > 40, "{stats:?}");
    assert!(stats.used_bytes <= BUDGET + u64::from(SEGMENT), "{stats:?}");
    // What a step began, the writers bring to an end, and the other way round.
    for number in 0..10_000 {
        put(&disk, number, 1000);
        if number % 16 == 0 {
            let _ = disk.maintain().unwrap();
        }
    }
    let stats = disk.stats();
    assert!(stats.used_bytes <= BUDGET + u64::from(SEGMENT), "{stats:?}");
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn a_spare_of_a_dead_process_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let disk = manual(&dir);
    put(&disk, 1, 1000);
    settle(&disk);
    let before = disk.stats();
    assert_eq!((before.spares, before.segments), (1, 2));
    drop(disk);
    let disk = manual(&dir);
    let after = disk.stats();
    assert_eq!((after.spares, after.segments), (1, 2), "{after:?}");
    assert_eq!(after.used_bytes, before.used_bytes);
    for number in 0..150 {
        put(&disk, number, 1000);
    }
    let stats = disk.stats();
    assert_eq!((stats.inline_rolls, stats.spares, stats.segments), (0, 0, 2), "{stats:?}");
    drop(disk);
    // One whose machine stopped as well.
    let disk = manual(&dir);
    for number in 0..150 {
        put(&disk, number, 1000);
    }
    settle(&disk);
    let stats = disk.stats();
    assert_eq!((stats.spares, stats.segments), (1, 4), "{stats:?}");
    drop(disk);
    let disk = builder(&dir).maintenance(Maintenance::Manual).distrust().open().unwrap();
    let stats = disk.stats();
    assert_eq!((stats.spares, stats.segments), (0, 3), "the spare is swept: {stats:?}");
    assert_eq!(disk.len(), 150);
}

#[test]
fn a_store_that_is_only_read_gets_no_spare() {
    let dir = tempfile::tempdir().unwrap();
    let disk = manual(&dir);
    settle(&disk);
    assert_eq!(disk.stats().segments, 0);
    assert!(disk.get(b"key").unwrap().is_none());
    settle(&disk);
    assert_eq!(disk.stats().segments, 0);
}

#[test]
fn everything_is_synced_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = builder(&dir)
        .maintenance(Maintenance::Manual)
        .sync_every(Duration::from_secs(5))
        .clock(clock.clone())
        .open()
        .unwrap();
    put(&disk, 1, 1000);
    settle(&disk);
    let mut synced = Vec::new();
    for second in 1..=20 {
        clock.advance(1_000);
        if disk.maintain().unwrap().synced {
            synced.push(second);
        }
    }
    assert_eq!(synced, [5, 10, 15, 20]);
}

#[test]
fn files_of_replaced_values_are_freed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = manual(&dir);
    put(&disk, 1, 500_000);
    put(&disk, 1, 400_000);
    // Files that nobody can open any more, but that are still mapped, go in their own time.
    let used = || disk.stats().used_bytes - disk.stats().retired_bytes;
    let before = used();
    let mut freed = 0;
    loop {
        let done = disk.maintain().unwrap();
        freed += done.freed;
        if !done.more {
            break;
        }
    }
    assert_eq!(freed, 1);
    assert!(used() <= before + u64::from(SEGMENT) - 500_000);
    assert_eq!(*disk.get(&1_u32.to_le_bytes()).unwrap().unwrap(), *value(1, 400_000));
}

/// Records move while the walk goes on, into segments that began before the walk as well.
#[test]
fn a_walk_meets_what_stays_exactly_once_while_records_move() {
    let dir = tempfile::tempdir().unwrap();
    let disk = manual(&dir);
    let hot = 0..60_u32;
    let touch = || hot.clone().for_each(|n| drop(disk.get(&n.to_le_bytes()).unwrap()));
    hot.clone().for_each(|number| put(&disk, number, 300));
    let mut next = 1_000;
    let mut fill = |count: u32| {
        for _ in 0..count {
            put(&disk, next, 1000);
            next += 1;
            if next.is_multiple_of(20) {
                touch();
                settle(&disk);
            }
        }
    };
    fill(4_000);
    for round in 0..6 {
        let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
        // Some are moved next to where others were moved to before.
        hot.clone().step_by(2).for_each(|number| put(&disk, number, 300));
        // At any point of a segment's way out.
        fill(round * 7);
        let mut walk = disk.iter();
        for _ in 0..round * 30 {
            let Some(item) = walk.next() else { break };
            *seen.entry(item.unwrap().0).or_default() += 1;
        }
        fill(3_000);
        for item in walk {
            *seen.entry(item.unwrap().0).or_default() += 1;
        }
        for number in hot.clone() {
            assert!(disk.contains(&number.to_le_bytes()).unwrap(), "hot {number} is kept");
            assert_eq!(seen.get(number.to_le_bytes().as_slice()), Some(&1), "{number}, {round}");
        }
        assert!(seen.values().all(|count| *count == 1), "round {round}");
    }
}

#[test]
fn a_walk_that_begins_while_records_move_meets_them_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::builder(dir.path().join("store"))
        .budget(8 << 20)
        .segment_len(512 << 10)
        .writers(1)
        .maintenance(Maintenance::Manual)
        .open()
        .unwrap();
    // A segment takes more of these than are looked at in one step.
    let put = |key: u32| {
        assert!(disk.put(&key.to_le_bytes(), b"v", &Put::default()).unwrap().is_admitted());
    };
    (0..1_000).for_each(put);
    let mut next = 1_000;
    while disk.stats().moved_bytes == 0 {
        assert!(next < 1_000_000, "{:?}", disk.stats());
        (next..next + 500).for_each(put);
        next += 500;
        (0..1_000_u32).for_each(|key| drop(disk.get(&key.to_le_bytes()).unwrap()));
        while disk.stats().moved_bytes == 0 && disk.maintain().unwrap().more {}
    }
    let walk = disk.iter();
    // They move once more, from where they just were moved to.
    let _ = disk.compact().unwrap();
    let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
    walk.for_each(|item| *seen.entry(item.unwrap().0).or_default() += 1);
    assert!(seen.values().all(|count| *count == 1), "nothing comes twice");
    for key in 0..1_000_u32 {
        assert!(disk.contains(&key.to_le_bytes()).unwrap());
        assert!(seen.contains_key(key.to_le_bytes().as_slice()), "key {key} came");
    }
}

/// A clock that panics for the maintenance's thread.
#[derive(Debug)]
struct Broken;

impl Clock for Broken {
    fn now_ms(&self) -> u64 {
        assert!(std::thread::current().name() != Some("larder"), "on purpose");
        1_000_000
    }
}

fn wait_for(disk: &Disk, what: &str, holds: impl Fn(&Stats) -> bool) {
    let begun = Instant::now();
    while !holds(&disk.stats()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "no {what}: {:?}", disk.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_thread_that_panics_is_counted_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).clock(Arc::new(Broken)).open().unwrap();
    wait_for(&disk, "panic", |stats| stats.maintenance_errors > 0);
    for number in 0..10_000 {
        put(&disk, number, 1000);
    }
    assert!(disk.stats().used_bytes <= BUDGET + u64::from(SEGMENT));
    assert!(disk.verify().unwrap().is_clean());
    disk.close().unwrap();
}

#[test]
fn the_thread_keeps_a_spare_and_ends_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let disk = builder(&dir).open().unwrap();
        for number in 0..10_000 {
            put(&disk, number, 1000);
        }
        wait_for(&disk, "spare", |stats| stats.spares == 1);
        wait_for(&disk, "room", |stats| stats.used_bytes <= BUDGET);
        assert_eq!(disk.stats().maintenance_errors, 0, "{:?}", disk.maintenance_error());
        if round % 2 == 0 {
            disk.close().unwrap();
            assert!(disk.maintain().is_err(), "closed");
        }
        // The lock of the directory goes with the store, and that with its last holder.
    }
}
