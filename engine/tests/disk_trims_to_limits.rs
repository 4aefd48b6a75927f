//! The oldest go first, no more of them than a limit asks for, and they stay gone.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use larder_engine::{Disk, DiskBuilder, Engine, Limits, Maintenance, ManualClock, Put, Retain};
use tempfile::TempDir;

const KEYS: u32 = 4_000;

fn builder(dir: &TempDir, clock: &Arc<ManualClock>, retain: Retain) -> DiskBuilder {
    Disk::builder(dir.path().join("store"))
        .budget(8 << 20)
        .segment_len(128 << 10)
        .writers(1)
        .clock(clock.clone())
        .retain(retain)
        .maintenance(Maintenance::Manual)
}

/// One entry a second, of about half a kilobyte.
fn fill(disk: &Disk, clock: &ManualClock) {
    for key in 0..KEYS {
        let value = [key as u8; 500];
        assert!(disk.put(&key.to_le_bytes(), &value, &Put::default()).unwrap().is_admitted());
        clock.advance(1_000);
    }
    while disk.maintain().unwrap().more {}
}

/// The first key that is there; all after it are there as well.
fn first(disk: &Disk) -> u32 {
    let there = |key: &u32| disk.contains(&key.to_le_bytes()).unwrap();
    let first = (0..KEYS).find(there).unwrap_or(KEYS);
    assert!((first..KEYS).all(|key| there(&key)), "the oldest go first");
    assert_eq!(disk.len(), u64::from(KEYS - first));
    first
}

#[test]
fn the_oldest_go_by_number_age_and_size_and_stay_gone() {
    for retain in [Retain::Recent, Retain::All] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_000_000));
        let disk = builder(&dir, &clock, retain).open().unwrap();
        fill(&disk, &clock);
        let limits = Limits { items: Some(u64::from(KEYS)), ..Limits::default() };
        assert_eq!(disk.trim(Limits::default()).unwrap(), 0);
        assert_eq!(disk.trim(limits).unwrap(), 0);

        let limits = Limits { items: Some(3_456), ..Limits::default() };
        assert_eq!(disk.trim(limits).unwrap(), 544);
        assert_eq!(first(&disk), 544);

        // The youngest was written a second ago.
        let limits = Limits { age: Some(Duration::from_secs(3_001)), ..Limits::default() };
        assert_eq!(disk.trim(limits).unwrap(), 456);
        assert_eq!(first(&disk), 1_000);

        let limits = Limits { bytes: Some(1 << 20), ..Limits::default() };
        let gone = disk.trim(limits).unwrap();
        assert_eq!(u64::from(first(&disk)), 1_000 + gone);
        let stats = disk.stats();
        let used = stats.used_bytes - stats.retired_bytes;
        assert!(used <= 1 << 20 && used > (1 << 20) - (256 << 10), "{stats:?}");
        assert_eq!(stats.evictions, 0, "on request: {stats:?}");
        assert!(disk.verify().unwrap().is_clean());

        let left = first(&disk);
        drop(disk);
        let disk = builder(&dir, &clock, retain).distrust().open().unwrap();
        assert_eq!(first(&disk), left, "and they stay gone");
        let limits = Limits { age: Some(Duration::ZERO), ..Limits::default() };
        assert_eq!(disk.trim(limits).unwrap(), u64::from(KEYS - left));
        assert_eq!(first(&disk), KEYS);
        let limits = Limits { bytes: Some(0), ..Limits::default() };
        assert_eq!(disk.trim(limits).unwrap(), 0);
    }
}
