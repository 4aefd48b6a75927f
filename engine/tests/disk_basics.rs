//! What the disk store does on its own, before anything goes wrong.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use larder_engine::{Disk, Engine, Error, ManualClock, Outcome, Put, Recovery, Rejection, Ttl};
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn put(disk: &Disk, key: &[u8], value: &[u8]) {
    assert!(disk.put(key, value, &Put::default()).unwrap().is_admitted());
}

fn value_of(number: u32, len: usize) -> Vec<u8> {
    (0..len).map(|i| (number as usize * 31 + i) as u8).collect()
}

#[test]
fn what_is_put_is_got_and_survives_reopening() {
    let dir = scratch();
    let disk = Disk::builder(dir.path()).budget(16 << 20).open().unwrap();
    assert_eq!(disk.stats().recovery, Recovery::Created);
    for number in 0..5_000_u32 {
        put(&disk, &number.to_le_bytes(), &value_of(number, number as usize % 300));
    }
    assert_eq!(disk.len(), 5_000);
    let second = Disk::builder(dir.path()).open();
    let pid = std::process::id();
    assert!(matches!(second, Err(Error::Locked { pid: owner, .. }) if owner == pid), "{second:?}");
    drop(disk);
    let disk = Disk::builder(dir.path()).budget(16 << 20).open().unwrap();
    assert_eq!(disk.stats().recovery, Recovery::ProcessDied);
    for number in 0..5_000_u32 {
        let value = disk.get(&number.to_le_bytes()).unwrap().expect("still there");
        assert_eq!(*value, *value_of(number, number as usize % 300));
    }
    assert_eq!(disk.len(), 5_000);
    disk.close().unwrap();
    drop(disk);
    let disk = Disk::builder(dir.path()).budget(16 << 20).open().unwrap();
    assert_eq!(disk.stats().recovery, Recovery::Clean);
    assert_eq!(disk.len(), 5_000);
    assert!(disk.verify().unwrap().is_clean(), "{:?}", disk.verify().unwrap());
    assert_eq!(disk.iter().count(), 5_000);
}

#[test]
fn the_index_grows_while_in_use() {
    let dir = scratch();
    let disk = Disk::builder(dir.path()).budget(256 << 20).open().unwrap();
    let slots = disk.stats().index_slots;
    let count = u32::try_from(slots * 3).unwrap();
    for number in 0..count {
        put(&disk, &number.to_le_bytes(), b"v");
    }
    assert!(disk.stats().index_slots > slots);
    assert_eq!(disk.len(), u64::from(count));
    assert_eq!(disk.stats().evictions, 0);
    for number in 0..count {
        assert!(disk.contains(&number.to_le_bytes()).unwrap(), "{number}");
    }
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn a_bounded_store_keeps_within_its_budget_and_keeps_what_is_read() {
    let dir = scratch();
    let budget = 8 << 20;
    let disk = Disk::builder(dir.path())
        .budget(budget)
        .maintenance(larder_engine::Maintenance::Manual)
        .open()
        .unwrap();
    for number in 0..100_u32 {
        put(&disk, format!("hot{number}").as_bytes(), &value_of(number, 500));
    }
    for number in 0..60_000_u32 {
        put(&disk, &number.to_le_bytes(), &value_of(number, 700));
        let hot = number % 100;
        let value = disk.get(format!("hot{hot}").as_bytes()).unwrap();
        assert_eq!(value.as_deref(), Some(&*value_of(hot, 500)), "hot {hot} at {number}");
    }
    let stats = disk.stats();
    assert!(stats.evictions > 10_000, "{stats:?}");
    assert!(stats.moved_bytes > 0);
    assert!(stats.used_bytes <= budget + (256 << 10), "{stats:?}");
    assert!(stats.used_bytes > budget / 4 * 3, "evicts no more than it must: {stats:?}");
    assert!(stats.written_bytes * 3 < stats.put_bytes * 4 + stats.put_bytes / 2, "{stats:?}");
    assert!(disk.verify().unwrap().is_clean());
    let found = disk.iter().map(Result::unwrap).count() as u64;
    assert_eq!(found, disk.len());
}

#[test]
fn removed_and_cleared_entries_are_gone() {
    let dir = scratch();
    let disk = Disk::builder(dir.path()).budget(16 << 20).open().unwrap();
    for number in 0..1_000_u32 {
        put(&disk, &number.to_le_bytes(), b"value");
    }
    for number in (0..1_000_u32).step_by(2) {
        assert!(disk.remove(&number.to_le_bytes()).unwrap());
        assert!(!disk.remove(&number.to_le_bytes()).unwrap());
    }
    assert_eq!(disk.len(), 500);
    drop(disk);
    let disk = Disk::builder(dir.path()).budget(16 << 20).open().unwrap();
    for number in 0..1_000_u32 {
        assert_eq!(disk.contains(&number.to_le_bytes()).unwrap(), number % 2 == 1);
    }
    assert_eq!(disk.clear().unwrap(), 500);
    assert!(disk.is_empty());
    put(&disk, b"again", b"value");
    assert_eq!(disk.iter().count(), 1);
}

#[test]
fn values_of_all_sizes_come_back() {
    let dir = scratch();
    let disk = Disk::builder(dir.path()).budget(64 << 20).segment_len(1 << 20).open().unwrap();
    let sizes = [
        0, 1, 15, 16, 17, 1024, 1025, 32_767, 32_768, 32_769, 65_536, 65_537, 131_072, 262_144,
        1_048_576, 5_000_000,
    ];
    for (number, size) in (0_u32..).zip(sizes) {
        put(&disk, &number.to_le_bytes(), &value_of(number, size));
    }
    let check = |disk: &Disk| {
        for (number, size) in (0_u32..).zip(sizes) {
            let value = disk.get(&number.to_le_bytes()).unwrap().expect("there");
            assert_eq!(*value, *value_of(number, size), "size {size}");
        }
    };
    check(&disk);
    check(&disk);
    drop(disk);
    let disk = Disk::builder(dir.path()).budget(64 << 20).open().unwrap();
    check(&disk);
    let view = disk.get(&15_u32.to_le_bytes()).unwrap().unwrap();
    put(&disk, &15_u32.to_le_bytes(), b"smaller");
    disk.sync().unwrap();
    assert_eq!(*view, *value_of(15, 5_000_000));
    assert!(disk.stats().retired_bytes > 4_000_000);
    drop(view);
    let too_large = vec![0; 70 << 20];
    let refused = disk.put(b"large", &too_large, &Put::default()).unwrap();
    assert!(matches!(refused, Outcome::Rejected(Rejection::TooLarge { .. })));
}

#[test]
fn values_expire_at_their_deadline() {
    let dir = scratch();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = Disk::builder(dir.path()).clock(clock.clone()).open().unwrap();
    let minute = Put { ttl: Ttl::After(Duration::from_secs(60)), ..Put::default() };
    let _ = disk.put(b"key", b"value", &minute).unwrap();
    clock.advance(59_999);
    assert!(disk.contains(b"key").unwrap());
    clock.advance(1);
    assert!(!disk.contains(b"key").unwrap());
    assert!(disk.get(b"key").unwrap().is_none());
    assert!(!disk.remove(b"key").unwrap());
    assert_eq!(disk.len(), 0);
}

#[test]
fn a_budget_too_small_for_the_segments_is_refused() {
    let dir = scratch();
    drop(Disk::builder(dir.path()).budget(64 << 20).open().unwrap());
    let refused = Disk::builder(dir.path()).budget(4 << 20).open();
    assert!(matches!(refused, Err(Error::Config { option: "budget", .. })), "{refused:?}");
    drop(Disk::builder(dir.path()).budget(8 << 20).open().unwrap());
}
