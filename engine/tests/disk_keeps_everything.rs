//! A store that is to keep everything does: it refuses what does not fit, gives nothing up,
//! and gets back what is dead. Against a plain map, stepped by hand.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{
    Disk, DiskBuilder, Engine, Maintenance, ManualClock, Outcome, Put, Rejection, Retain, Ttl,
};
use tempfile::TempDir;

const BUDGET: u64 = 4 << 20;
const SEGMENT: u64 = 128 << 10;

fn builder(dir: &TempDir) -> DiskBuilder {
    Disk::builder(dir.path().join("store"))
        .budget(BUDGET)
        .segment_len(SEGMENT as u32)
        .writers(2)
        .retain(Retain::All)
        .maintenance(Maintenance::Manual)
}

fn value(key: u32, round: u32, len: usize) -> Vec<u8> {
    (0..len).map(|i| (key as usize * 31 + round as usize * 7 + i) as u8).collect()
}

/// A small seeded generator: xorshift64*, Vigna 2016.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32;
        high % end
    }
}

type Model = BTreeMap<u32, Vec<u8>>;

fn check(disk: &Disk, model: &Model, when: &str) {
    assert_eq!(disk.len(), model.len() as u64, "{when}");
    for (key, expected) in model {
        let found = disk.get(&key.to_le_bytes()).unwrap();
        assert_eq!(found.as_deref(), Some(&**expected), "key {key} {when}");
    }
    let report = disk.verify().unwrap();
    assert!(report.is_clean(), "{when}: {:?}", report.findings);
    assert_eq!(disk.stats().evictions, 0, "{when}");
}

/// Bytes of the live records, with headers, padding and footer entries.
fn live_bytes(model: &Model) -> u64 {
    let record = |len: usize| (32 + 4 + len).next_multiple_of(16) + 16;
    model.values().map(|value| record(value.len()) as u64).sum()
}

#[test]
fn it_agrees_with_a_map_through_refusals_compaction_and_rebuilds() {
    for seed in 1..=2 {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let mut model = Model::new();
        let mut refused = 0;
        for life in 0..3 {
            let disk = match life {
                // As if the machine had stopped: what is dead must not come back.
                1 => builder(&dir).distrust().open().unwrap(),
                _ => builder(&dir).open().unwrap(),
            };
            check(&disk, &model, &format!("when life {life} of seed {seed} begins"));
            for round in 0..5_000 {
                let key = random.below(6_000);
                if random.below(4) == 0 {
                    let removed = disk.remove(&key.to_le_bytes()).unwrap();
                    assert_eq!(removed, model.remove(&key).is_some(), "key {key}");
                } else {
                    let value = value(key, round, random.below(2_000) as usize);
                    match disk.put(&key.to_le_bytes(), &value, &Put::default()).unwrap() {
                        Outcome::Admitted { .. } => drop(model.insert(key, value)),
                        other @ (Outcome::Conflict { .. } | Outcome::Blocked) => {
                            panic!("{other:?}")
                        }
                        Outcome::Rejected(why) => {
                            assert!(matches!(why, Rejection::Full { .. }), "{why:?}");
                            refused += 1;
                        }
                    }
                }
                if seed != 2 && random.below(4) == 0 {
                    let _ = disk.maintain().unwrap();
                }
                let stats = disk.stats();
                let used = stats.used_bytes - stats.retired_bytes;
                assert!(used <= BUDGET + SEGMENT, "{stats:?}");
            }
            check(&disk, &model, &format!("when life {life} of seed {seed} ends"));
            assert!(disk.stats().moved_bytes > 0);
        }
        assert!(refused > 50, "the budget was used up");
        // Refused at a live share that leaves no room to compact.
        assert!(live_bytes(&model) > BUDGET / 2, "{}", live_bytes(&model));
    }
}

#[test]
fn compaction_on_request_leaves_little_that_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let builder = || builder(&dir).budget(64 << 20);
    let disk = builder().open().unwrap();
    let mut model = Model::new();
    for round in 0..3 {
        for key in 0..10_000 {
            let value = value(key, round, 1_000);
            assert!(disk.put(&key.to_le_bytes(), &value, &Put::default()).unwrap().is_admitted());
            model.insert(key, value);
        }
    }
    for key in (0..10_000_u32).filter(|key| key % 3 == 0) {
        assert!(disk.remove(&key.to_le_bytes()).unwrap());
        model.remove(&key);
    }
    let index = disk.stats().index_slots * 8 + (2 << 12);
    let before = disk.stats().used_bytes - disk.stats().retired_bytes;
    let freed = disk.compact().unwrap();
    let stats = disk.stats();
    let used = stats.used_bytes - stats.retired_bytes;
    assert_eq!(used, before - freed);
    let live = live_bytes(&model) + index + 4096;
    assert!(used <= live * 115 / 100 + SEGMENT, "{used} for {live}: {stats:?}");
    check(&disk, &model, "compacted");
    drop(disk);
    let disk = builder().distrust().open().unwrap();
    check(&disk, &model, "compacted and rebuilt");
}

#[test]
fn a_refused_value_leaves_the_old_one_and_a_removal_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(&dir).open().unwrap();
    let put =
        |key: u32, len| disk.put(&key.to_le_bytes(), &value(key, 0, len), &Put::default()).unwrap();
    let mut keys = 0;
    while put(keys, 1_000).is_admitted() {
        keys += 1;
    }
    assert!(u64::from(keys) * 1_000 > BUDGET * 3 / 4, "{keys} values fit");
    assert!(!put(7, 3_000).is_admitted());
    assert_eq!(*disk.get(&7_u32.to_le_bytes()).unwrap().unwrap(), *value(7, 0, 1_000));
    assert!(!put(8, 300_000).is_admitted(), "nor in a file of its own");
    assert_eq!(*disk.get(&8_u32.to_le_bytes()).unwrap().unwrap(), *value(8, 0, 1_000));
    assert!(disk.stats().rejected >= 3);
    for key in 0..keys {
        assert!(disk.remove(&key.to_le_bytes()).unwrap(), "key {key}");
        let stats = disk.stats();
        assert!(stats.used_bytes - stats.retired_bytes <= BUDGET + SEGMENT, "{stats:?}");
    }
    for key in 0..keys * 9 / 10 {
        assert!(put(key, 1_000).is_admitted(), "there is room again for key {key}");
    }
}

#[test]
fn what_has_expired_is_dropped_by_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let disk = builder(&dir).clock(clock.clone()).open().unwrap();
    let minute = Put { ttl: Ttl::After(Duration::from_secs(60)), ..Put::default() };
    for key in 0..1_000_u32 {
        let options = if key % 2 == 0 { minute } else { Put::default() };
        assert!(disk.put(&key.to_le_bytes(), &[1; 1_000], &options).unwrap().is_admitted());
    }
    clock.advance(60_000);
    assert!(disk.compact().unwrap() > 3 * SEGMENT);
    assert_eq!(disk.len(), 500);
    assert_eq!((disk.stats().expired, disk.stats().evictions), (500, 0));
}
