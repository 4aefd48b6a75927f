//! What expires gives its space back: in whole segments where values expire about as soon,
//! without anything being moved or evicted for it. Stepped by hand, by a clock that is set.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use larder_engine::{Disk, DiskBuilder, Engine, Maintenance, ManualClock, Put, Retain, Ttl};
use tempfile::TempDir;

const SEGMENT: u64 = 64 << 10;

fn builder(dir: &TempDir, clock: &Arc<ManualClock>) -> DiskBuilder {
    Disk::builder(dir.path().join("store"))
        .budget(4 << 20)
        .segment_len(SEGMENT as u32)
        .writers(1)
        .clock(clock.clone())
        .maintenance(Maintenance::Manual)
}

fn put(disk: &Disk, key: u32, ttl: Ttl) {
    let options = Put { ttl, ..Put::default() };
    assert!(disk.put(&key.to_le_bytes(), &[key as u8; 500], &options).unwrap().is_admitted());
}

fn seconds(seconds: u64) -> Ttl {
    Ttl::After(Duration::from_secs(seconds))
}

fn settle(disk: &Disk) -> u64 {
    let mut reclaimed = 0;
    loop {
        let done = disk.maintain().unwrap();
        reclaimed += done.reclaimed;
        if !done.more {
            return reclaimed;
        }
    }
}

#[test]
fn values_of_one_class_die_in_whole_segments() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = builder(&dir, &clock).open().unwrap();
    for key in 0..2_000 {
        put(&disk, key, if key % 2 == 0 { seconds(30) } else { Ttl::Never });
    }
    assert_eq!(settle(&disk), 0);
    let used = || disk.stats().used_bytes - disk.stats().retired_bytes;
    let before = used();
    clock.advance(29_999);
    assert_eq!(settle(&disk), 0);
    clock.advance(1);
    // 1000 values of more than 500 bytes each, and the segment that is still open.
    assert!(settle(&disk) > 500_000 / SEGMENT);
    assert!(used() <= before - 500_000, "{} of {before}", used());
    let stats = disk.stats();
    assert_eq!((stats.expired, stats.evictions, stats.moved_bytes), (1_000, 0, 0), "{stats:?}");
    assert_eq!(disk.len(), 1_000);
    assert!((0..2_000_u32).all(|key| disk.contains(&key.to_le_bytes()).unwrap() == (key % 2 == 1)));
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn a_later_opening_learns_the_deadlines() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = builder(&dir, &clock).open().unwrap();
    for key in 0..1_000 {
        put(&disk, key, seconds(30));
    }
    disk.close().unwrap();
    drop(disk);
    let disk = builder(&dir, &clock).open().unwrap();
    clock.advance(30_000);
    // It is written to, so that it is worth while to look.
    for key in 1_000..1_200 {
        put(&disk, key, Ttl::Never);
    }
    assert!(settle(&disk) >= 7, "{:?}", disk.stats());
    assert!((1_000..1_200_u32).all(|key| disk.contains(&key.to_le_bytes()).unwrap()));
}

#[test]
fn what_expired_over_an_old_value_does_not_uncover_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = builder(&dir, &clock).open().unwrap();
    for key in 0..500 {
        put(&disk, key, Ttl::Never);
    }
    for key in 0..500 {
        put(&disk, key, seconds(30));
    }
    clock.advance(30_000);
    assert!(settle(&disk) >= 4);
    drop(disk);
    let disk = builder(&dir, &clock).distrust().open().unwrap();
    assert!((0..500_u32).all(|key| !disk.contains(&key.to_le_bytes()).unwrap()));
    assert!(disk.is_empty());
}

#[test]
fn purge_removes_everything_that_has_expired_and_says_how_much() {
    for retain in [Retain::Recent, Retain::All] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_000_000));
        let disk = builder(&dir, &clock).retain(retain).open().unwrap();
        for key in 0..1_500 {
            // Beyond the classes, and in two of them.
            put(&disk, key, seconds([30, 1_800, 1_000_000][key as usize % 3]));
        }
        let large = Put { ttl: seconds(30), ..Put::default() };
        assert!(disk.put(b"large", &[1; 100_000], &large).unwrap().is_admitted());
        assert_eq!(disk.purge().unwrap(), 0);
        let used = disk.stats().used_bytes - disk.stats().retired_bytes;
        clock.advance(30_000);
        assert_eq!(disk.purge().unwrap(), 501);
        assert_eq!(disk.purge().unwrap(), 0);
        assert_eq!(disk.len(), 1_000);
        let now = disk.stats().used_bytes - disk.stats().retired_bytes;
        assert!(now < used - 300_000, "{now} of {used}");
        clock.advance(1_000_000_000);
        assert_eq!(disk.purge().unwrap(), 1_000);
        assert!(disk.is_empty() && disk.iter().next().is_none());
        let now = disk.stats().used_bytes - disk.stats().retired_bytes;
        assert!(now <= 2 * SEGMENT + (64 << 10), "{now}");
    }
}
